"""omidbfs agrees with omidb 0.13.1 on random clients. ``scripts/oracle`` compares many more."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from compare import COMPARED, OurClient, csv_lines, missing, omidb_client, omidb_summary, run
from loguru import logger
from omidb.commands import summarise
from randomdb import RandomClient

from omidbfs.clinical import summary
from omidbfs.clinical.outcomes import Windows


@pytest.mark.unmeasured
def test_random_clients_are_read_linked_classified_and_summarised_as_omidb_does(tmp_path: Path) -> None:
    tally: Counter[str] = Counter()
    run(1, range(1600), tmp_path, tally)
    assert tally[COMPARED] >= 1000
    assert missing(tally) == set()


def test_where_omidb_stops_at_a_sidecar_the_cells_are_empty(tmp_path: Path) -> None:
    nbss = {"1": {"SCREENING": {"L": {"DateTaken": "20120501"}}}}
    study = {"StudyDate": "20120501", "EpisodeID": "1", "1.3": {"1.4": None, "1.5": None}}
    imagedb = {"Site": "stge", "STUDIES": {"1.2": study}}
    sidecars: dict[tuple[str, str], object] = {
        ("1.2", "1.4"): {"00080070": {"vr": "LO", "Value": []}, "00185101": {"vr": "CS", "Value": ["CC"]}}
    }
    RandomClient("demd1", nbss, imagedb, ("1.2",), sidecars).write(tmp_path)
    with pytest.raises(IndexError):
        omidb_summary([omidb_client(tmp_path, "demd1", False)], Windows())

    empty_value, no_sidecar = OurClient(tmp_path, "demd1").summary(Windows(), False)
    view = summary.HEADER.index("ViewPosition")
    assert (empty_value[view - 4], empty_value[view]) == (None, "CC")
    assert set(no_sidecar[view - 4 :]) == {None}


@pytest.mark.parametrize("link_all", [False, True])
def test_the_summary_is_the_text_that_the_omidb_command_writes(link_all: bool, tmp_path: Path) -> None:
    clients = run(2, range(200), tmp_path, Counter())
    windows = Windows(ci_prior=36, cancer_prior=39, normal_follow_up=12, benign_follow_up=0)
    (tmp_path / "clients.txt").write_text("\n".join(clients))
    arguments = [str(tmp_path / "data"), str(tmp_path / "omidb.csv"), *(["--link-all"] if link_all else [])]
    arguments += ["--clients-file", str(tmp_path / "clients.txt"), "--log-file", str(tmp_path / "log")]
    arguments += ["--num-months-ci-prior", "36", "--num-months-cancer-prior", "39"]
    arguments += ["--num-months-normal-follow-up", "12", "--num-months-benign-follow-up", "0"]
    try:
        result = CliRunner().invoke(summarise.cli, arguments, catch_exceptions=False)
    finally:
        # The command turns the log of the whole process on.
        logger.remove()
        logger.add(sys.stderr)
        logger.disable("omidb")

    assert result.exit_code == 0
    header, *expected = (tmp_path / "omidb.csv").read_bytes().decode().splitlines(keepends=True)
    assert header == csv_lines([summary.HEADER])[0]
    assert len(expected) > 300
    ours = [
        line
        for name, data in clients.items()
        for line in csv_lines(OurClient(data, name).summary(windows, link_all))
    ]
    assert Counter(ours) == Counter(expected)
