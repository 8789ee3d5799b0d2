"""The documentation says what the program does: names, options, messages and kinds are compared with the code."""

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from omidbfs.cli.main import main
from omidbfs.database.problems import KINDS
from omidbfs.facets import BY_NAME, COHORT_FACET
from omidbfs.index.store import SCHEMA
from omidbfs.pixels import errors as pixel_errors
from omidbfs.serving.configuration import Definitions, read_config, read_definitions

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = (*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md")))
CODE = sorted((ROOT / "omidbfs").rglob("*.py"))
SCRIPT_VARIABLES = {"OMIDBFS_PYTHON", "OMIDBFS_VENV", "OMIDBFS_REQUIRE_FUSE"}

TESTED_BY = {
    "S1": "test_half_an_image_is_an_image_and_the_other_half_is_reported "
    "test_what_only_imagedb_mentions_is_reported",
    "S2": "test_a_value_directory_lists_the_pairs_of_its_images",
    "S3": "test_every_file_is_its_source_to_the_byte test_real_files_mount_and_read_back_byte_for_byte",
    "S4": "test_every_file_is_shown_but_those_reported_as_not_shown",
    "S5": "test_a_damaged_sidecar_costs_no_file test_what_stands_before_an_error_counts "
    "test_a_document_that_cannot_be_read_is_reported_and_its_file_is_shown "
    "test_the_dicom_header_speaks_where_there_is_no_sidecar",
    "S6": "test_ls_of_the_root_lists_every_facet test_the_mounted_tree_is_what_the_model_says "
    "test_the_root_lists_the_facets_and_cohorts_that_it_is_to_list_and_links_count_them",
    "S7": "test_every_listed_path_of_a_random_database_is_what_the_model_says",
    "S8": "test_each_facet_lists_the_counts_that_facets_json_gives "
    "test_a_cohort_lists_the_values_of_the_root_too_where_that_is_asked_for",
    "S9": "test_a_value_directory_lists_the_pairs_of_its_images",
    "S10": "test_every_nested_path_of_a_random_database_is_what_the_model_says",
    "S11": "test_find_ends_and_meets_as_many_files_as_the_drive_promises "
    "test_ls_recursive_says_what_find_would_meet test_the_paths_of_ls_can_be_given_to_other_programs "
    "test_nested_facets_are_found_and_not_listed",
    "S12": "test_nested_facets_can_be_listed test_nested_facets_are_found_and_not_listed_unless_asked_for",
    "S13": "test_the_order_of_terms_and_their_repetition_change_nothing",
    "S14": "test_the_laws_of_sets_hold_for_paths test_a_component_names_values "
    "test_every_nested_path_of_a_random_database_is_what_the_model_says",
    "S15": "test_the_laws_of_sets_hold_for_paths test_a_component_names_values",
    "S16": "test_ages_have_bands_and_ranges_go_by_the_exact_age test_a_component_names_values "
    "test_a_listed_band_is_the_range_that_it_names",
    "S17": "test_codes_names_and_meanings_are_the_same_cohort "
    "test_the_name_of_a_text_wins_over_the_raw_text_of_another "
    "test_opposite_texts_are_two_values_and_none_is_a_reserved_word test_a_component_names_values "
    "test_anything_else_names_nothing",
    "S18": "test_a_literal_value_wins_over_a_complement_a_union_and_a_range test_a_component_names_values",
    "S19": "test_an_unknown_facet_or_value_does_not_exist test_what_is_not_there_is_not_found "
    "test_a_path_that_is_not_listed_is_found_in_a_fresh_drive test_anything_else_names_nothing",
    "S20": "test_the_rows_of_a_cohort_are_those_that_satisfy_it_one_by_one "
    "test_the_laws_of_sets_hold_for_paths "
    "test_every_nested_path_of_a_random_database_is_what_the_model_says",
    "S21": "test_file_type_narrows_the_files_and_not_the_images test_file_type_is_no_term_of_images "
    "test_the_counts_of_a_cohort_are_the_sizes_of_its_value_directories",
    "S22": "test_an_image_without_any_header_is_unknown_in_every_facet_of_the_image "
    "test_a_study_without_episode_is_unlinked test_texts_of_the_header test_view_modifiers test_year",
    "S23": "test_a_single_valued_facet_puts_every_image_in_exactly_one_directory",
    "S24": "test_texts_that_share_a_slug_are_one_value_that_knows_them_all "
    "test_two_texts_have_one_name_exactly_if_they_differ_in_spelling_only test_what_is_mere_spelling "
    "test_a_slug_is_a_short_safe_name_that_says_nothing_that_the_drive_understands "
    "test_free_text_becomes_a_slug test_a_text_that_reads_like_a_reserved_word_is_not_that_word "
    "test_opposite_texts_are_two_values_and_none_is_a_reserved_word "
    "test_code_strings_are_in_capitals test_a_name_of_a_text_cannot_be_read_as_anything_else "
    "test_a_name_that_is_too_long_ends_in_digits_that_stand_for_the_whole "
    "test_code_strings_of_these_facets_are_in_capitals test_texts_of_the_header",
    "S25": "test_the_fold_of_a_client_never_changes test_folds_are_equal_parts",
    "S26": "test_a_client_without_images_is_in_by_client_and_in_no_cohort",
    "S27": "test_the_real_tree_of_a_client_is_that_of_the_source",
    "S28": "test_by_client_inside_a_cohort_is_pruned_to_it "
    "test_a_client_without_images_is_in_by_client_and_in_no_cohort "
    "test_a_directory_of_a_study_without_images_has_no_row",
    "S29": "test_omidb_reads_a_cohort_as_a_database test_omidb_summarises_a_cohort_as_we_do",
    "S30": "test_a_union_or_complement_of_clients_is_flat_and_one_client_is_its_real_tree",
    "S31": "test_by_client_inside_a_cohort_is_pruned_to_it",
    "S32": "test_a_sidecar_named_after_the_file_is_shown_under_the_name_of_its_image "
    "test_both_spellings_of_a_sidecar_are_shown",
    "S33": "test_a_uid_that_occurs_twice_is_never_under_its_bare_name "
    "test_long_names_of_duplicates_fit_into_a_name",
    "S34": "test_what_is_not_safe_is_percent_escaped test_a_study_named_like_a_document_does_not_clash_with_it",
    "S35": "test_a_name_stays_a_file_name_with_everything_that_the_drive_appends "
    "test_two_names_on_disk_are_two_names_on_the_drive "
    "test_a_name_that_is_too_long_ends_in_digits_that_stand_for_the_whole",
    "S36": "test_no_name_moves_to_another_file_as_the_database_grows "
    "test_a_uid_that_occurs_twice_is_never_under_its_bare_name",
    "S37": "test_du_counts_a_file_once test_rsync_keeps_hard_links_between_views "
    "test_the_mounted_tree_is_what_the_model_says",
    "S38": "test_every_listed_path_of_a_random_database_is_what_the_model_says "
    "test_the_mounted_tree_is_what_the_model_says "
    "test_the_root_lists_the_facets_and_cohorts_that_it_is_to_list_and_links_count_them",
    "S39": "test_rows_say_what_stat_says test_cp_copies_a_cohort_with_its_times "
    "test_a_time_that_64_bits_do_not_hold_is_shown_as_the_nearest_that_they_do "
    "test_a_file_from_after_2262_can_be_opened_again_and_again "
    "test_the_mounted_tree_is_what_the_model_says "
    "test_files_and_directories_have_the_modes_that_the_source_gives_to_each_class",
    "S40": "test_a_front_end_permits_what_the_kernel_permits "
    "test_with_allow_other_a_user_reads_what_the_source_permits "
    "test_no_caller_has_more_rights_to_a_file_than_in_the_source "
    "test_files_and_directories_have_the_modes_that_the_source_gives_to_each_class "
    "test_a_caller_that_cannot_search_a_directory_loses_the_bits_of_files_below "
    "test_write_bits_are_cleared_and_private_directories_make_private_files",
    "S41": "test_a_front_end_permits_what_the_kernel_permits "
    "test_what_the_drive_adds_has_the_access_that_both_roots_have_in_common "
    "test_texts_that_quote_the_source_need_access_to_all_of_it "
    "test_a_closed_root_of_the_source_closes_the_drive",
    "S42": "test_inodes_survive_refreshes_and_a_remount "
    "test_a_changed_ctime_alone_puts_only_pages_in_doubt "
    "test_an_index_that_is_lost_is_made_anew_and_no_inode_changes_hands "
    "test_a_directory_has_the_inode_of_its_path_and_no_other_has_it",
    "S43": "test_files_can_be_symbolic_links_to_the_source "
    "test_renditions_are_regular_files_where_files_are_symbolic_links",
    "S44": "test_a_change_is_refused test_no_change_reached_the_source",
    "S45": "test_without_allow_other_no_other_user_can_enter "
    "test_a_drive_answers_as_soon_as_the_command_returns "
    "test_with_allow_other_a_user_reads_what_the_source_permits",
    "S46": "test_files_can_be_mapped_into_memory test_files_of_unchanged_clients_keep_their_cached_pages",
    "S47": "test_after_each_refresh_every_view_is_what_the_model_says test_refresh_every_needs_no_asking "
    "test_the_command_returns_when_the_change_is_shown "
    "test_a_new_file_is_not_shown_before_the_next_mount "
    "test_an_edit_that_size_and_time_do_not_show_is_read_by_the_same_inode",
    "S48": "test_an_open_gives_the_current_file test_a_change_that_keeps_the_size_is_seen_by_its_time "
    "test_a_file_that_changes_again_and_again_is_served_as_it_is_by_every_path "
    "test_a_handle_never_gets_the_bytes_of_another_file",
    "S49": "test_what_is_gone_is_stale test_what_comes_back_is_served_again",
    "S50": "test_a_handle_never_gets_the_bytes_of_another_file "
    "test_a_handle_outlives_the_deletion_of_its_file "
    "test_a_handle_reads_on_in_the_file_that_was_replaced "
    "test_an_open_file_reads_on_or_is_stale_and_never_gives_other_bytes "
    "test_an_edit_that_size_and_time_do_not_show_is_read_by_the_same_inode",
    "S51": "test_a_link_that_leaves_the_source_is_not_followed test_a_link_is_followed_where_that_is_asked_for",
    "S52": "test_extended_attributes_are_not_supported",
    "S53": "test_statvfs_says_what_the_drive_holds_and_that_nothing_is_free",
    "S54": "test_dot_and_dot_dot_lead_where_they_do_everywhere "
    "test_dot_and_dot_dot_are_listed_with_their_own_inodes",
    "S55": "test_a_signal_ends_a_drive_in_the_background_even_in_use test_systemd_learns_the_state_of_a_drive",
    "S56": "test_a_drive_is_there_with_a_saved_index_and_then_shows_what_changed "
    "test_the_source_is_not_needed_to_classify_again "
    "test_verify_first_shows_what_changed_before_the_first_answer "
    "test_with_a_saved_index_a_drive_answers_before_the_source_has_been_looked_at "
    "test_to_link_all_changes_the_events_and_nothing_else "
    "test_a_part_of_an_index_is_the_index_of_those_clients",
    "S57": "test_a_source_that_is_away_leaves_the_drive_as_it_was "
    "test_a_source_that_vanishes_during_a_refresh_leaves_the_drive_as_it_was "
    "test_processes_stuck_in_a_disk_are_few_and_stop_no_later_refresh "
    "test_a_directory_that_hangs_is_a_problem_and_all_else_is_indexed "
    "test_the_numbers_of_a_promise_are_those_of_the_code",
    "S58": "test_open_directories_keep_the_entries_they_started_with",
    "S59": "test_a_flipped_bit_anywhere_is_found test_a_command_never_answers_from_a_damaged_section "
    "test_a_drive_shows_nothing_from_a_damaged_section "
    "test_a_drive_with_a_damaged_index_makes_a_new_one_at_once_and_no_inode_changes_hands "
    "test_only_its_owner_can_read_an_index_under_any_umask "
    "test_one_that_is_killed_while_it_saves_leaves_a_whole_file "
    "test_an_index_of_another_source_is_refused "
    "test_two_disks_that_were_filled_alike_are_two_sources_at_one_place "
    "test_a_file_that_is_no_index_is_not_overwritten "
    "test_a_signal_that_ends_the_writer_leaves_what_was_there_and_nothing_else "
    "test_the_next_writer_removes_the_rest_of_a_killed_one_and_no_other_file "
    "test_a_file_cut_off_anywhere_is_refused test_an_index_of_another_version_is_named_as_such "
    "test_the_output_is_for_its_owner_only_and_appears_whole",
    "S60": "test_the_readme_names_every_facet_and_fits_a_screen",
    "S61": "test_the_status_says_what_is_served_and_how "
    "test_a_refresh_says_that_a_drive_does_not_read_a_configuration_from_after_the_mount "
    "test_the_status_of_a_drive_is_complete "
    "test_the_status_counts_the_problems_by_kind "
    "test_find_ends_and_meets_as_many_files_as_the_drive_promises",
    "S62": "test_the_facets_promise_the_same_number test_each_facet_lists_the_counts_that_facets_json_gives "
    "test_each_facet_comes_with_what_it_is_and_its_values_or_their_number",
    "S63": "test_a_problem_is_a_line_of_json test_the_drive_itself_lists_the_same_problems "
    "test_texts_that_quote_the_source_need_access_to_all_of_it "
    "test_what_is_odd_in_a_header_is_one_problem",
    "S64": "test_every_nested_path_of_a_random_database_is_what_the_model_says "
    "test_an_episode_is_found_by_client_and_number",
    "S65": "test_a_facet_is_what_its_definition_finds "
    "test_a_definition_that_changes_re_reads_only_what_it_needs "
    "test_the_drive_shows_what_the_configuration_says",
    "S66": "test_a_cohort_is_a_path_lists_or_both_without_its_exclusions "
    "test_a_row_of_a_table_is_understood_or_a_problem "
    "test_one_line_counts_the_rest_of_many_missing_names "
    "test_a_list_names_images_as_the_source_and_the_drive_do "
    "test_only_the_clients_of_a_file_are_read test_the_drive_shows_what_the_configuration_says "
    "test_the_numbers_of_a_promise_are_those_of_the_code",
    "S67": "test_an_edited_configuration_changes_the_drive_at_the_next_refresh "
    "test_a_changed_definition_invalidates_only_its_facet",
    "S68": "test_facets_say_what_the_json_says test_a_lesion_of_the_other_side_is_not_the_marks "
    "test_the_lesions_of_a_mark_are_numbers_however_they_are_written",
    "S69": "test_a_directory_is_whole_whatever_the_size_of_the_buffer "
    "test_seekdir_continues_at_any_entry_and_rewinddir_at_the_first "
    "test_a_drive_does_what_its_model_does_whatever_the_steps "
    "test_the_inodes_of_a_listing_are_those_of_stat "
    "test_pages_of_a_listing_at_any_position_are_the_listing",
    "S70": "test_a_drive_does_what_its_model_does_whatever_the_steps "
    "test_open_files_of_other_programs_do_not_change_what_a_path_shows "
    "test_a_listing_that_is_under_way_tells_of_the_file_as_it_was_found_meanwhile",
    "S71": "test_with_allow_other_a_user_loses_access_that_the_source_withdraws "
    "test_with_allow_other_a_replaced_file_gains_no_access_before_a_refresh "
    "test_no_caller_has_more_rights_to_a_file_than_to_the_one_that_it_replaced "
    "test_a_file_found_changed_gains_no_access_after_a_refresh",
    "S72": "test_texts_of_the_drive_have_no_control_characters test_output_of_commands_has_no_control_characters",
    "S73": "test_a_json_of_100_mb_hides_nothing_and_fills_no_memory "
    "test_a_deflated_header_is_inflated_so_far_and_no_farther test_a_bomb_is_read_or_refused "
    "test_nothing_is_read_behind_the_last_attribute_that_is_wanted "
    "test_the_numbers_of_a_promise_are_those_of_the_code test_what_stands_before_an_error_counts",
    "S74": "test_a_caller_gets_an_error_of_the_disk_until_it_is_gone "
    "test_a_file_that_hangs_stops_no_other_read "
    "test_files_that_hang_on_open_stop_no_other_read "
    "test_a_disk_that_went_away_and_came_back_is_used_again",
    "S75": "test_a_mapped_file_that_is_cut_off_or_grows_gives_no_wrong_byte "
    "test_a_handle_never_mixes_old_and_new_bytes_of_a_file",
    "S76": "test_at_the_limit_of_descriptors_no_more_is_opened_and_all_else_goes_on "
    "test_what_is_on_disk_takes_a_bounded_number_of_descriptors "
    "test_the_numbers_of_a_promise_are_those_of_the_code "
    "test_any_number_of_files_is_made_and_closed_where_few_can_be_open "
    "test_no_more_renditions_have_a_descriptor_than_workers_make",
    "S77": "test_files_are_found_by_handles_that_the_kernel_has_forgotten_and_directories_are_stale",
    "S78": "test_a_drive_answers_as_soon_as_the_command_returns "
    "test_a_drive_that_ends_before_it_is_ready_gives_its_status "
    "test_a_starter_that_is_ended_takes_the_drive_along "
    "test_a_drive_keeps_no_file_of_its_starter_open",
    "S79": "test_replace_clears_a_dead_mount_even_in_use_and_mounts test_replace_leaves_a_drive_that_lives "
    "test_replace_leaves_a_drive_that_hangs test_status_marks_what_is_dead",
    "S80": "test_only_the_named_owner_and_group_gain_access test_root_sets_owner_and_group_of_all_files "
    "test_only_root_may_set_the_owner test_the_mask_takes_bits_away",
    "S81": "test_a_line_of_fstab_mounts test_mount_of_our_type_mounts_with_the_options_of_omidbfs_mount "
    "test_an_unknown_option_fails_with_one_line",
    "S82": "test_status_shows_each_drive_with_counters test_the_counters_in_the_status_change_only_on_request",
    "S83": "test_sigusr1_writes_stacks_and_counters_to_the_log_and_names_no_client "
    "test_a_log_stays_private_and_bounded "
    "test_drives_that_share_a_log_lose_no_line",
    "S84": "test_systemd_learns_the_state_of_a_drive",
    "S85": "test_the_numbers_of_the_page_are_those_of_the_index test_the_page_shows_every_number "
    "test_a_client_has_one_age_for_each_outcome",
    "S86": "test_a_page_names_no_client_study_or_image "
    "test_a_browser_reports_errors_and_the_page_loads_nothing "
    "test_two_reports_differ_in_their_date_only",
    "S87": "test_a_page_stands_alone_and_every_plot_has_an_alternative",
    "S88": "test_a_page_is_for_its_owner_only_and_appears_whole",
    "S89": "test_an_outcome_comes_with_the_rule_and_the_episode_that_decided "
    "test_the_facets_are_those_by_which_the_image_is_found "
    "test_what_the_index_knows_is_told_without_the_source "
    "test_the_renditions_of_an_image_and_why_it_lacks_one",
    "S90": "test_without_an_index_nothing_is_completed_built_or_said",
    "S91": "test_a_generated_file_is_what_the_command_writes_and_has_the_size_it_says "
    "test_generated_files_are_found_in_every_directory_of_images_and_listed_in_none "
    "test_without_pyarrow_there_is_no_parquet_and_the_command_says_how_to_get_it "
    "test_the_command_writes_the_bytes_of_the_drive "
    "test_an_archive_of_renditions_has_the_files_that_the_directory_lists",
    "S92": "test_listing_makes_no_file_and_asking_for_a_size_makes_only_its_file "
    "test_a_file_that_takes_long_holds_up_no_other_name_in_its_directory "
    "test_a_file_that_cannot_be_made_fails_for_all_waiting_callers "
    "test_many_callers_at_once_get_one_file_that_is_made_once "
    "test_other_requests_are_answered_while_a_file_is_made "
    "test_a_caller_without_read_access_cannot_make_a_file",
    "S93": "test_a_generated_file_can_be_mapped_and_read_anywhere "
    "test_every_way_to_read_a_file_that_is_not_made_yet_gives_all_of_it "
    "test_a_listing_leaves_mapped_files_as_they_are "
    "test_a_caller_that_the_kernel_lets_open_a_file_gets_its_size "
    "test_a_caller_without_read_access_cannot_make_a_file",
    "S94": "test_a_refresh_gives_new_content_and_leaves_open_files_alone "
    "test_a_generated_file_has_another_inode_in_every_view_and_at_every_path "
    "test_a_caller_never_gets_the_table_of_another_client "
    "test_a_view_refuses_what_another_has_made "
    "test_generated_files_of_a_cohort_are_forgotten_after_any_change",
    "S95": "test_on_a_full_disk_asking_fails_and_the_drive_goes_on "
    "test_the_spool_is_where_the_user_says_and_nothing_of_it_remains test_on_a_full_disk_what_is_kept_makes_room "
    "test_as_many_files_are_kept_as_leave_descriptors_for_the_rest "
    "test_the_least_recently_used_is_let_go_first test_what_is_kept_has_no_name_and_is_private "
    "test_a_thousand_small_ones_take_no_descriptor_and_bounded_memory "
    "test_any_number_of_files_is_made_and_closed_where_few_can_be_open "
    "test_the_numbers_of_a_promise_are_those_of_the_code",
    "S96": "test_a_front_end_permits_what_the_kernel_permits "
    "test_other_users_can_read_generated_files_only_with_access_to_everything "
    "test_with_allow_other_texts_that_quote_the_source_need_access_to_all_of_it "
    "test_texts_that_quote_the_source_need_access_to_all_of_it "
    "test_a_group_that_is_not_that_of_every_file_gains_nothing",
    "S97": "test_the_facets_of_a_file_are_extended_attributes test_a_cohort_says_its_number_and_definition "
    "test_the_json_of_a_client_has_the_facets_of_the_client",
    "S98": "test_what_we_start_imports_nothing_from_the_current_directory "
    "test_workers_import_nothing_from_the_current_directory "
    "test_a_drive_takes_nothing_from_where_it_is_started "
    "test_the_index_of_a_drive_takes_nothing_that_is_meant_for_the_command",
    "S99": "test_a_configuration_that_others_wrote_or_can_write_is_ignored_with_a_warning "
    "test_a_command_warns_once_of_an_ignored_configuration_and_reads_a_named_one",
    "S100": "test_another_process_gets_none test_no_process_gets_a_signal_because_a_foreign_file_system_names_it "
    "test_a_status_that_is_not_understood_hides_no_other_drive "
    "test_root_may_ask_a_drive_that_lets_only_its_user_in "
    "test_root_unmounts_nothing_that_a_link_put_in_the_way_leads_to",
    "S101": "test_a_file_is_written_whole_although_streams_are_closed "
    "test_an_answer_that_cannot_be_written_is_an_error",
    "S102": "test_a_place_is_the_one_named_if_that_is_absolute_else_below_the_home "
    "test_a_home_that_is_no_absolute_name_is_that_of_the_system "
    "test_a_user_without_a_home_is_told_what_to_name",
    "S103": "test_check_looks_at_the_source_as_it_is "
    "test_an_export_from_a_saved_index_comes_with_its_age "
    "test_a_query_leaves_the_facets_of_an_index_as_they_are "
    "test_a_command_answers_without_a_place_for_the_index "
    "test_a_command_answers_although_it_cannot_read_the_index "
    "test_a_command_answers_on_a_full_disk",
    "S104": "test_an_interrupt_from_the_terminal_is_one_line_and_leaves_no_process "
    "test_cancelled_work_ends_at_once test_workers_end_with_their_parent_process "
    "test_a_decoder_at_work_does_not_outlive_a_check_that_is_killed "
    "test_a_process_that_reads_for_a_drive_ends_with_it_even_if_that_is_killed",
    "S105": "test_a_cell_is_quoted_where_it_must_be_and_never_calculated "
    "test_a_text_that_a_spreadsheet_would_calculate_is_a_text_in_the_summary "
    "test_names_that_a_spreadsheet_would_calculate_are_texts",
    "S106": "test_a_path_has_a_greatest_depth test_a_path_that_goes_too_deep_for_facets_shows_all_that_is_below "
    "test_a_path_with_repeated_terms_is_the_same_cohort "
    "test_the_numbers_of_a_promise_are_those_of_the_code",
    "S107": "test_a_long_listing_delays_no_other_request test_open_directories_of_one_cohort_share_its_files "
    "test_listing_a_facet_does_not_go_through_all_values_for_each",
    "S108": "test_a_dicom_header_says_what_its_sidecar_says test_both_decoders_read_alike test_laterality "
    "test_view test_functional_groups_fill_in_missing_attributes "
    "test_modifiers_in_the_view_position test_what_is_odd_in_a_header_is_one_problem "
    "test_a_file_of_another_image_is_reported test_position_and_code_that_disagree_are_a_conflict "
    "test_sides_conflict_only_where_two_are_named",
    "S109": "test_all_values_of_the_image_type_say_what_an_image_is",
    "S110": "test_every_nested_path_of_a_random_database_is_what_the_model_says "
    "test_a_cohort_is_narrowed_to_the_images_that_have_the_rendition "
    "test_in_the_root_it_lists_all_images_facets_and_cohorts test_a_client_shows_studies_only "
    "test_a_file_type_keeps_all_of_dcm_and_nothing_of_json test_nothing_else_is_found "
    "test_renditions_are_not_listed_and_not_found_below_a_path_that_is_too_long",
    "S111": "test_a_name_is_one_of_every_drive_or_with_a_size_or_of_the_configuration "
    "test_any_other_name_is_no_rendition test_a_size_has_numbers_from_16_to_8192 "
    "test_a_table_defines_a_rendition "
    "test_the_numbers_of_a_promise_are_those_of_the_code",
    "S112": "test_an_image_has_the_renditions_that_its_pixel_format_allows "
    "test_an_image_whose_identity_has_no_room_in_an_inode_has_no_rendition "
    "test_of_two_renditions_with_one_hash_the_second_is_not_found "
    "test_the_numbers_of_a_promise_are_those_of_the_code",
    "S113": "test_the_size_of_a_png_is_that_of_a_file_with_stored_blocks test_an_npy_file_is_that_of_numpy "
    "test_a_tiff_file_has_256_bytes_for_each_frame_beside_the_array "
    "test_attributes_are_those_of_the_dicom_file_but_for_the_size "
    "test_extended_attributes_are_those_of_the_dicom_file "
    "test_a_configured_rendition_has_the_later_time_and_another_inode_for_each_definition",
    "S114": "test_an_image_has_one_inode_for_each_rendition_under_all_paths "
    "test_a_source_that_is_found_changed_gives_all_its_renditions_other_inodes "
    "test_a_configured_rendition_has_the_later_time_and_another_inode_for_each_definition "
    "test_the_kernel_is_told_of_every_name_that_leads_elsewhere "
    "test_the_kernel_is_told_of_a_changed_definition "
    "test_the_kernel_is_told_of_renditions_if_an_index_says_other_things_of_the_same_files",
    "S115": "test_neither_a_lookup_nor_a_stat_nor_a_listing_starts_a_worker "
    "test_a_rendition_is_made_once_for_all_who_ask_and_kept_on_every_path "
    "test_another_user_reads_the_renditions_of_the_files_that_the_user_may_read "
    "test_a_rendition_that_is_the_files_own_bytes_is_not_kept",
    "S116": "test_every_rendition_of_every_file_has_the_size_that_it_says "
    "test_a_file_that_contradicts_its_sidecar_has_the_right_size test_a_file_that_contradicts_the_index "
    "test_a_source_replaced_while_its_rendition_is_open "
    "test_a_file_that_is_written_to_while_its_rendition_is_made",
    "S117": "test_a_decoder_that_fails_fails_its_file_only test_what_cannot_be_made_is_eio_and_counted "
    "test_a_drive_that_is_killed_while_a_worker_hangs test_a_drive_that_ends_while_a_worker_hangs "
    "test_a_drive_that_is_unmounted_while_a_worker_hangs "
    "test_a_worker_has_no_other_files_and_is_limited "
    "test_a_worker_does_not_outlive_a_drive_that_is_killed "
    "test_a_failure_is_an_answer_and_the_next_request_succeeds "
    "test_the_kinds_of_pixel_errors_are_known_and_on_the_page_of_problems",
    "S118": "test_an_archive_of_renditions_has_the_files_that_the_directory_lists "
    "test_an_archive_is_what_tarfile_makes_of_what_the_directory_lists "
    "test_archives_of_a_database_with_every_oddity_and_of_real_directories "
    "test_tar_lists_and_extracts_what_the_directory_shows "
    "test_two_drives_and_the_command_give_the_same_archive_with_the_size_that_stat_gives "
    "test_any_part_of_an_archive_is_that_part_of_the_whole "
    "test_a_drive_reads_any_part_with_few_descriptors_from_many_tasks "
    "test_the_numbers_of_a_promise_are_those_of_the_code",
    "S119": "test_a_rendition_that_cannot_be_made_is_eio_in_its_archive "
    "test_a_member_that_was_replaced_fails_with_eio_until_a_refresh "
    "test_a_member_that_was_replaced_is_eio_and_all_others_are_read "
    "test_a_file_that_has_changed_ends_the_export_and_leaves_nothing "
    "test_shards_hold_all_files_of_an_image_together_and_keep_their_order "
    "test_an_image_that_is_larger_than_a_shard_has_one_of_its_own",
    "S120": "test_a_crop_is_the_same_with_a_record_and_without "
    "test_a_crop_follows_an_edit_that_leaves_size_and_time_of_the_file "
    "test_a_name_with_crop_needs_rows_and_columns_and_ends_with_it "
    "test_the_breast_of_every_demo_image_is_found test_the_breast_in_a_drawing_is_found",
    "S121": "test_only_new_and_changed_images_are_measured test_each_of_two_commands_keeps_what_the_other_finds "
    "test_the_geometry_is_the_same_wherever_it_is_measured "
    "test_what_was_measured_is_kept_when_it_is_interrupted test_records_are_read_as_they_were_written",
    "S122": "test_a_damaged_file_is_measured_anew_and_told test_a_file_that_omidbfs_did_not_write_stays "
    "test_records_are_read_as_they_were_written test_a_drive_takes_new_records_with_its_next_refresh",
    "S123": "test_a_chest_wall_at_the_other_side_is_found_and_moves_nothing",
    "S124": "test_planted_boxes_are_found_and_nothing_else_is test_a_box_lies_in_the_image_and_on_the_breast",
    "S125": "test_the_columns_of_a_table_lead_back_to_the_image "
    "test_a_bright_part_of_an_image_is_where_its_box_is "
    "test_a_table_leads_from_renditions_to_images_and_back test_parquet_says_what_csv_says "
    "test_marks_are_where_the_boxes_of_their_images_are "
    "test_pycocotools_reads_the_boxes_of_renditions test_files_are_named_as_in_their_directory",
    "S126": "test_a_plain_parser_reads_the_boxes_of_coco test_a_data_set_follows_the_source_when_it_is_made_again "
    "test_boxes_follow_what_is_cropped test_marks_that_are_left_out_are_counted_in_one_line",
    "S127": "test_cropped_images_have_tables_where_the_whole_cohort_is_measured "
    "test_the_command_says_what_is_missing_for_cropped_images",
    "S128": "test_each_value_has_as_many_members_as_pandas_counts "
    "test_each_pair_of_values_has_as_many_members_as_pandas_counts "
    "test_the_numbers_of_the_page_are_those_of_the_index",
    "S129": "test_each_part_of_a_path_leaves_and_takes_what_pandas_says "
    "test_named_cohorts_and_lists_have_a_step_for_each_part",
    "S130": "test_cohorts_side_by_side_have_the_numbers_of_the_index "
    "test_a_standardised_difference_is_that_of_yang_and_dalton",
    "S131": "test_named_cohorts_nest_join_and_complement_in_paths "
    "test_cohorts_are_counted_and_listed_like_other_facets test_cohorts_are_what_their_definitions_say "
    "test_the_drive_follows_cohorts_that_use_each_other test_looking_up_finds_the_rows_of_no_cohort",
    "S132": "test_a_cohort_is_made_of_other_cohorts test_a_broken_cohort_breaks_no_other_cohort_and_no_command "
    "test_the_drive_follows_cohorts_that_use_each_other "
    "test_cohorts_that_use_each_other_in_a_long_row_are_refused",
    "S133": "test_the_latest_image_of_a_view_is_one test_each_side_view_and_intent_has_its_own_latest_image "
    "test_the_order_of_images_does_not_matter test_the_demo_has_one_latest_image_of_each_view",
    "S134": "test_a_manifest_has_the_definition_the_counts_and_the_digest_of_the_page "
    "test_a_manifest_is_reproducible_and_names_nobody test_an_unchanged_cohort_is_the_same "
    "test_verify_finds_added_removed_and_changed_files_and_names_their_clients "
    "test_other_times_alone_are_told_apart test_verify_finds_a_changed_definition "
    "test_the_drive_follows_cohorts_that_use_each_other",
    "S135": "test_the_directory_of_a_client_has_the_timeline_of_its_images "
    "test_a_client_that_changed_since_the_index_is_an_error test_what_cannot_be_read_is_left_out "
    "test_every_odd_client_is_described",
    "S136": "test_the_pairs_are_those_that_pandas_finds "
    "test_a_prior_needs_a_date_an_episode_of_its_own_and_a_screening",
    "S137": "test_each_client_study_and_episode_has_what_pandas_finds "
    "test_csv_and_parquet_of_a_table_agree_and_are_typed "
    "test_the_same_cohort_gives_the_same_bytes_in_any_size_of_page test_the_columns_of_a_table_are_documented",
    "S138": "test_each_mark_has_its_box_and_its_lesion_as_in_the_json "
    "test_a_mark_is_linked_in_the_table_as_in_the_facet test_a_mark_of_several_lesions_has_the_values_of_each",
    "S139": "test_absolute_paths_in_the_source_are_those_of_files "
    "test_absolute_paths_on_a_drive_are_below_its_mount_point test_a_path_in_the_source_is_one_line_and_a_cell",
    "S140": "test_a_path_is_the_cohort_that_commands_count test_a_condition_is_a_component_of_a_path "
    "test_cohorts_combine_as_sets_of_images test_tables_are_those_of_the_drive "
    "test_pixels_are_those_of_the_files_of_the_drive test_options_and_configuration_are_those_of_commands "
    "test_a_name_that_does_not_exist_is_a_key_error_with_a_suggestion",
    "S141": "test_the_file_system_is_what_the_model_says "
    "test_the_file_system_does_what_its_model_does_whatever_the_steps "
    "test_the_file_system_of_an_odd_database_is_what_the_model_says "
    "test_a_pattern_goes_through_facets_and_renditions_that_are_not_listed "
    "test_another_user_is_refused_what_the_source_refuses test_nothing_can_be_changed",
    "S142": "test_a_changed_file_is_read_as_it_is test_a_changed_file_is_served_as_it_is_and_never_as_it_was "
    "test_damaged_pixels_are_one_line_and_the_program_goes_on",
    "S143": "test_workers_get_the_items_that_their_parent_gets test_workers_read_what_their_parent_reads "
    "test_a_pickled_cohort_is_refused_by_another_index",
    "S144": "test_what_is_served_is_what_the_model_says test_paths_that_are_not_listed_are_found "
    "test_a_server_does_what_its_model_does_whatever_the_steps "
    "test_renditions_and_generated_files_have_their_exact_sizes "
    "test_an_infinite_depth_and_every_method_that_writes_are_refused",
    "S145": "test_every_request_needs_a_credential_also_on_loopback test_a_unix_socket_is_only_for_its_owner "
    "test_each_user_sees_what_the_source_lets_this_user_see "
    "test_passwords_are_compared_and_a_changed_file_counts test_password_refuses_what_it_cannot_use",
    "S146": "test_what_other_machines_could_reach_needs_tls_and_passwords "
    "test_a_page_of_another_site_gets_nothing test_an_absolute_target_of_another_server_is_refused "
    "test_the_log_names_no_client_and_no_path "
    "test_every_response_keeps_the_data_out_of_caches_and_other_sites",
    "S147": "test_a_refresh_shows_what_is_new_and_changes_the_tag_of_what_was_edited test_conditions "
    "test_a_server_does_what_its_model_does_whatever_the_steps "
    "test_a_response_that_cannot_be_completed_ends_too_early",
    "S148": "test_ten_thousand_connections_do_not_keep_a_user_out "
    "test_a_client_that_sends_nothing_or_only_half_a_request_is_dropped "
    "test_a_client_that_does_not_read_is_dropped_and_its_file_closed "
    "test_the_oldest_idle_connection_makes_room_for_a_new_one test_slow_clients_lose_their_place_to_others "
    "test_passwords_from_one_address_leave_others_their_turn "
    "test_more_requests_than_can_be_answered_are_told_so test_a_listing_that_is_too_large_is_refused "
    "test_the_numbers_of_a_promise_are_those_of_the_code",
    "S149": "test_hostile_texts_are_shown_as_text test_a_browser_shows_the_pages_without_a_warning "
    "test_each_user_sees_what_the_source_lets_this_user_see",
}
"""Promises of ``semantics.md`` -> the tests that would fail if they were broken."""


def text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def plain(page: Path) -> str:
    """A page as its reader sees it: one space between words."""
    return re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))


def code_blocks(page: Path) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def section(page: str, title: str) -> str:
    match = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text(page), re.M | re.S)
    assert match is not None, f"{page} has no section {title}"
    return match[1]


def options_of(command: click.Command) -> Iterator[click.Option]:
    return (parameter for parameter in command.params if isinstance(parameter, click.Option))


def option_names(command: click.Command) -> set[str]:
    return {name for option in options_of(command) for name in option.opts}


def shown_options(part: str) -> set[str]:
    """The options in the first cells of a part's tables."""
    cells = re.findall(r"^\| (`-.*?) \| ", part, re.M)
    return {name for cell in cells for name in re.findall(r"`(--?[A-Za-z0-9][a-z-]*)", cell)}


def test_the_page_of_facets_is_what_the_registry_gives() -> None:
    script = ROOT / "scripts" / "facets-doc"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert text("facets.md") == done.stdout, "run: scripts/facets-doc > docs/facets.md"


def test_the_page_of_problems_has_every_kind_with_its_meaning_and_a_remedy() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \| (.+) \|$", text("problems.md"), re.M)
    assert {kind: meaning.replace("`", "") for kind, meaning, _ in rows} == KINDS
    assert len(rows) == len(KINDS)


def kinds_of_pixel_errors() -> set[str]:
    """The texts of all these errors in the code. They are literals, or constants of their module."""
    found = set()
    for file in sorted((ROOT / "omidbfs" / "pixels").glob("*.py")):
        module = ast.parse(file.read_text(encoding="utf-8"))
        constants = {
            ast.unparse(node.targets[0]): node.value for node in module.body if isinstance(node, ast.Assign)
        }
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("PixelError", "ContradictionError"):
                text = constants.get(ast.unparse(node.args[0]), node.args[0])
                assert isinstance(text, ast.Constant), f"{file}:{node.lineno}: not a fixed text"
                found.add(text.value)
    return found


def test_the_kinds_of_pixel_errors_are_known_and_on_the_page_of_problems() -> None:
    assert kinds_of_pixel_errors() == pixel_errors.KINDS
    for kind in {*pixel_errors.KINDS, pixel_errors.ANOTHER}:
        assert f"`{kind}`" in text("problems.md"), kind


@pytest.mark.parametrize("name", sorted(main.commands))
def test_the_page_of_commands_has_exactly_the_options_of(name: str) -> None:
    part = section("cli.md", f"omidbfs {name}")
    shown = shown_options(part)
    if "[mount options](#omidbfs-mount)" in part:
        shown |= shown_options(section("cli.md", "omidbfs mount")) - {"--foreground", "-f", "--replace"}
    if re.search(r"\[(source|mount) options\]", part):
        shown |= shown_options(section("cli.md", "Source options"))
    assert shown == option_names(main.commands[name])
    assert "```console" in part, "each command has an example"


def test_the_page_of_commands_has_exactly_the_commands_and_their_common_options() -> None:
    page = text("cli.md")
    assert set(re.findall(r"^## omidbfs (\w+)$", page, re.M)) == set(main.commands)
    common = shown_options(page[: page.index("## Source options")])
    assert common == option_names(main) | {"--version", "--help", "-h"}


def test_commands_in_the_documentation_exist_with_the_options_they_are_given() -> None:
    calls = [
        (page.name, line)
        for page in PAGES
        for _, block in code_blocks(page)
        for line in re.findall(r"(?:^\$ |^|/bin/|-- |&& )(omidbfs(?: [^\n|;#\[]*)?)", block, re.M)
    ]
    assert len(calls) > 20
    for page, line in calls:
        words = line.split()[1:]
        while words and words[0].startswith("-"):
            words = words[1:]
        if not words or words[0] == "COMMAND" or words[0].startswith("["):
            continue
        assert words[0] in main.commands, f"{page}: {line}"
        given = {word for word in words if re.fullmatch(r"--[a-z-]+|-[a-z]", word)}
        assert given <= option_names(main.commands[words[0]]), f"{page}: {line}"


def test_facets_in_the_documentation_exist() -> None:
    for page in set(PAGES) - {ROOT / "CHANGELOG.md"}:  # which tells of facets that are gone, or that users defined
        text = page.read_text(encoding="utf-8")
        names = re.findall(r"\bby-([a-z]+(?:-[a-z]+)*)/", text)
        defined = re.findall(r"^\[facets\.([a-z-]+)\]", text, re.MULTILINE)
        assert set(names) <= {*BY_NAME, COHORT_FACET.name, *defined}, page.name


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
            file = page.parent / target if target else page
            assert file.exists(), f"{page.name}: {target}"
            if anchor:
                titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M)
                anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
                assert anchor in anchors, f"{page.name}: {target}#{anchor}"


SAID_BY = {
    **dict.fromkeys(
        (
            "UserError",
            "NotFoundError",
            "ConditionError",
            "_NotKeptError",
            "DemoError",
            "IndexFileError",
            "NoIndexError",
            "BadParameter",
            "warn",
        ),
        0,
    ),
    **dict.fromkeys(("log.info", "log.warning", "log.error", "log.exception", "logging.exception"), 0),
    **dict.fromkeys(("complaints.info", "complaints.warning"), 0),
    "Finding": 2,
}
"""The functions that print or log messages, and the position of the text in their arguments."""


def messages() -> list[tuple[str, int, str]]:
    """File, line and longest literal part of every message in the code: errors, warnings, the log, the doctor.

    A remedy is a message of its own.
    """
    found = []
    for file in CODE:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (name := said_by(node.func)) is not None:
                assert len(node.args) > SAID_BY[name], f"{file}:{node.lineno}: {name} without a message"
                if name == "Finding" and ast.unparse(node.args[1]) == "'ok'":
                    continue
                said = (
                    node.args[:2]
                    if name in ("UserError", "NotFoundError", "ConditionError")
                    else node.args[SAID_BY[name] :][:1]
                )
                for text in map(longest_literal, said):
                    if text:  # else it is another's, or put together from others
                        found.append((str(file.relative_to(ROOT)), node.lineno, text))
    return found


def said_by(function: ast.expr) -> str | None:
    names = (ast.unparse(function), ast.unparse(function).rpartition(".")[2])
    return next((name for name in names if name in SAID_BY), None)


def longest_literal(message: ast.expr) -> str:
    constants = [node.value for node in ast.walk(message) if isinstance(node, ast.Constant)]
    parts = [part for text in constants if isinstance(text, str) for part in re.split(r"%[srd]", text)]
    return max((part.strip().removeprefix(": ") for part in parts), key=len, default="")


@pytest.mark.parametrize(("file", "line", "message"), messages())
def test_troubleshooting_has_every_message_of(file: str, line: int, message: str) -> None:
    assert message in plain(DOCS / "troubleshooting.md"), f"{file}:{line}"


def test_the_configuration_in_the_documentation_is_understood(tmp_path: Path) -> None:
    options = {
        name: {option.name or "" for option in options_of(command)} for name, command in main.commands.items()
    }
    blocks = [block for page in PAGES for language, block in code_blocks(page) if language == "toml"]
    assert blocks
    for number, block in enumerate(blocks):
        path = tmp_path / f"{number}.toml"
        path.write_text(block, encoding="utf-8")
        (tmp_path / "density.csv").write_text("client,density\n")
        (tmp_path / "split.csv").write_text("uid,x\n")
        (tmp_path / "parts.csv").write_text("client,part\n")
        for name in ("train.txt", "wrong-boxes.txt"):
            (tmp_path / name).write_text("")
        assert any(read_config(path, options).values()) or read_definitions(path) != Definitions()


def test_environment_variables_in_the_documentation_exist() -> None:
    known = {f"OMIDBFS_{(option.name or '').upper()}" for option in options_of(main)}
    for name, command in main.commands.items():
        known |= {f"OMIDBFS_{name}_{option.name or ''}".upper() for option in options_of(command)}
    for page in PAGES:
        used = set(re.findall(r"\bOMIDBFS_[A-Z][A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8")))
        assert used <= known | SCRIPT_VARIABLES, page.name


def test_options_that_have_another_name_in_the_configuration_are_named() -> None:
    part = section("operations.md", "Configuration")
    for command in main.commands.values():
        for option in options_of(command):
            key = (option.name or "").replace("_", "-")
            if f"--{key}" not in option.opts:
                assert f"`{option.opts[0]}` is `{key}`" in part, f"omidbfs {command.name} {option.opts[0]}"


_COMMAND = re.compile(r"""((?:\\\n|"[^"]*"|[^"\n])*)\n?(.*)""", re.S)
"""A command, which goes on after a backslash and inside of quotes, and its output."""


def examples(page: Path) -> list[tuple[str, str]]:
    """The commands of a page that need no mount, and what they print."""
    found = []
    for language, block in code_blocks(page):
        if language == "console":
            for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
                command, output = _COMMAND.fullmatch(part).groups()  # type: ignore[union-attr]
                if re.match(r"omidbfs (?!u?mount|refresh|status)", command):
                    found.append((command, output))
    return found


RUN_ON_A_DRIVE = {ROOT / page for page in ("README.md", "docs/tutorial.md", "docs/cli.md", "docs/operations.md")}
"""Pages of which ``tests/mount/test_pages.py`` runs every example."""


@pytest.mark.unmeasured
def test_examples_that_need_no_mount_print_what_the_documentation_shows(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "80"}
    environment |= {name: str(tmp_path / "user") for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
    environment.pop("COVERAGE_PROCESS_START", None)  # smaller tests measure the coverage of this code
    first = {
        "omidbfs demo db --clients 100": "db: a synthetic OMI-DB of 100 clients\n",
        "omidbfs index db >/dev/null 2>&1": "",
    }
    shown: dict[str, str] = {}
    shown |= dict(example for page in PAGES if page not in RUN_ON_A_DRIVE for example in examples(page))
    assert len(shown) > 5
    for command, output in (first | shown).items():
        done = subprocess.run(
            command,
            shell=True,
            check=False,
            cwd=tmp_path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said = re.sub(r"^\w+ clients: \d+ of .*\n", "", done.stdout, flags=re.M)  # progress, where that is slow
        assert undated(said) == undated(output), command


def undated(text: str) -> str:
    return re.sub(r"as of \d{4}-\d\d-\d\d \d\d:\d\d [^\s,;]+", "as of some day", text)


def test_the_hooks_before_a_commit_are_the_checks_of_the_test_script() -> None:
    entries = re.findall(r"^ +entry: (.*)$", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"), re.M)
    script = (ROOT / "scripts" / "test").read_text(encoding="utf-8")
    checks = re.findall(r"^    stage (?:'.*?'|\w+) (.*)$", script, re.M)
    for name, value in (("$python", "$venv/bin/python"), ("$venv", ".venv"), ('"', "")):
        checks = [check.replace(name, value) for check in checks]
    assert len(checks) > 5
    assert entries == [*checks, "scripts/test"]


def test_the_change_log_has_the_versions_of_the_index_format_and_of_the_semantics() -> None:
    last = list(TESTED_BY)[-1]
    newest = re.search(r"## \[(\S+)\] Index format (\d+)\. Semantics (S\d+)\.", plain(ROOT / "CHANGELOG.md"))
    assert newest is not None
    assert newest.groups() == (project()["version"], SCHEMA, last)


def test_contributors_see_the_floors_in_the_order_of_the_contract() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    floors = [
        layer.split(" | ") for layer in tools["importlinter"]["contracts"][0]["layers"] if layer != "__main__"
    ]
    rows = re.findall(r"^\d+\. (.*): ", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M)
    assert [re.findall(r"`(\w+)/`", row) for row in rows] == floors[::-1]


def project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"])


def test_the_version_is_that_of_the_citation() -> None:
    assert f"\nversion: {project()['version']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_page_of_what_stays_names_the_versions_of_python_that_the_package_takes() -> None:
    [row] = re.findall(r"^\| Python \| (\S+) to (\S+) \| ", text("stability.md"), re.M)
    assert project()["requires-python"] == f">={row[0]}"
    classified = re.findall(r"'Programming Language :: Python :: (\d\.\d+)'", str(project()["classifiers"]))
    assert (classified[0], classified[-1]) == row


def promise(number: str) -> str:
    match = re.search(rf"^- \*\*{number}\*\* (.*?)(?=^- \*\*S|^#|\Z)", text("semantics.md"), re.M | re.S)
    assert match is not None, number
    return re.sub(r"\s+", " ", match[1])


@pytest.mark.parametrize(
    ("number", "module", "name", "value", "said"),
    [
        ("S24", "base.names", "LONGEST", 200, "more than 200 characters"),
        ("S35", "base.names", "LONGEST", 200, "more than 200 bytes"),
        ("S57", "serving.patience", "_STUCK", 120, "two minutes without a sign of life"),
        ("S57", "serving.patience", "_MOST_LEFT", 3, "At most three processes"),
        ("S66", "facets.lists", "_MOST", 1000, "beyond 1,000 of one list or table"),
        ("S73", "database.study", "MAX_JSON", 64 << 20, "is not read if it has more than 64 MB"),
        ("S73", "database.header", "MAX_DOCUMENT", 16 << 20, "ImageDB file is not read if it has more than 16 MB"),
        ("S73", "database.dicom", "MAX_DICOM", 16 << 20, "omidbfs reads no more than 16 MB"),
        ("S73", "database.dicom", "MAX_READS", 200_000, "in no more than 200,000 pieces"),
        ("S76", "serving.disks", "_RESERVE", 64, "less 64"),
        ("S76", "serving.workers", "DESCRIPTORS", 6, "less 6 for each processor"),
        ("S95", "serving.spool", "FEWEST_FILES", 32, "between 32"),
        ("S95", "serving.spool", "MOST_FILES", 16384, "and 16,384 files"),
        ("S95", "serving.spool", "LIMIT", 2 << 30, "up to 2 GB"),
        ("S95", "serving.spool", "MEMORY", 8 << 20, "up to 8 MB"),
        ("S106", "view.images", "LONGEST_PATH", 3072, "more than 3,072 bytes"),
        ("S111", "pixels.rendition", "SMALLEST", 16, "16 to"),
        ("S111", "pixels.rendition", "LARGEST", 8192, "to 8192"),
        ("S117", "serving.renditions", "_SILENCE", 60.0, "tries again after a minute"),
        ("S148", "http.dav", "LARGEST_LISTING", 256 << 20, "at most 256 MB"),
        ("S148", "http.server", "_MOST_REQUESTS", 256, "At most 256 requests"),
        ("S148", "http.server", "_SLOW", 5.0, "for 5 s"),
        ("S118", "serving.archives", "_MOST_OPEN", 4, "at most four files"),
        ("S112", "pixels.sizes", "RENDITION_IDENTITIES", 16_777_216, "first 16,777,216 images"),
    ],
)
def test_the_numbers_of_a_promise_are_those_of_the_code(
    number: str, module: str, name: str, value: int, said: str
) -> None:
    assert getattr(importlib.import_module(f"omidbfs.{module}"), name) == value
    assert said in promise(number)


def test_the_promises_are_numbered_without_gaps() -> None:
    numbers = [int(number) for number in re.findall(r"^- \*\*S(\d+)\*\* ", text("semantics.md"), re.M)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_each_promise_has_a_test_that_exists() -> None:
    assert list(TESTED_BY) == re.findall(r"^- \*\*(S\d+)\*\* ", text("semantics.md"), re.M)
    tests = {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    for promise, names in TESTED_BY.items():
        assert names, promise
        assert set(names.split()) <= tests, promise
