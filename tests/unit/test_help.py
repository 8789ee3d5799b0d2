"""The help of commands: an example first, then the options of the command, then those that commands share."""

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from omidbfs.cli.command import Command
from omidbfs.cli.main import main
from omidbfs.facets import FACETS
from omidbfs.serving.configuration import read_config, read_definitions


def said(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", sorted(main.commands))
def test_each_command_has_an_example_that_it_accepts(name: str) -> None:
    command = main.commands[name]
    assert isinstance(command, Command)
    program, *arguments = shlex.split(command.example)
    assert (program, arguments[0]) == ("omidbfs", name)
    with click.Context(main, help_option_names=["-h", "--help"]) as parent:
        command.make_context(name, arguments[1:], parent=parent)
    lines = [line.strip() for line in said(name, "--help").splitlines()]
    assert lines.index(f"$ {command.example}") < lines.index("Options:")


def test_the_example_of_a_configuration_is_understood(tmp_path: Path) -> None:
    lines = [line[2:] for line in said("help", "configuration").splitlines() if line.startswith("  ") or not line]
    path = tmp_path / "omidbfs.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "bad.txt").touch()
    definitions = read_definitions(path)
    assert [facet.name for facet in definitions.facets] == ["kvp"]
    assert definitions.renditions
    assert read_config(path, {"mount": {"readahead"}, "facets": set()})["mount"] == {"readahead": 0}


def test_options_that_commands_share_stand_last() -> None:
    lines = said("export", "--help").splitlines()
    order = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert order == ["Options:", "Windows and links:", "Source and index:"]
    own, shared = lines.index("Options:"), lines.index("Windows and links:")
    assert any("--layout" in line for line in lines[own:shared])
    assert any("--num-months-ci-prior" in line for line in lines[shared:])
    assert [line for line in said("version", "--help").splitlines() if line.endswith(":")] == ["Options:"]


def test_help_explains_a_command_or_a_topic() -> None:
    assert said("help", "export") == said("export", "--help")
    assert said("help") == said("--help")
    assert all(f"by-{facet.name}" in said("help", "path") for facet in FACETS[:3])
    assert "[cohorts." in said("help", "configuration")
    wrong = CliRunner().invoke(main, ["help", "exportt"])
    assert (wrong.exit_code, wrong.stderr) == (
        1,
        "omidbfs: exportt: no command and no topic; did you mean export?\n",
    )


def test_help_lists_each_command_whole_and_the_topics() -> None:
    listed = said("--help")
    rows = {
        words[0]: words[1:] for line in listed.splitlines() if line.startswith("  ") and (words := line.split())
    }
    for name, command in main.commands.items():
        assert command.hidden == (name not in rows), name
    assert "..." not in listed.partition("\nDrives:")[2]
    assert "Compare MANIFEST, a manifest.json of a cohort, with the cohort as it is now." in " ".join(
        listed.split()
    )
    topics = re.findall(r"^  help (\S+)", listed.partition("\nTopics:\n")[2], re.MULTILINE)
    assert topics == ["path", "configuration"]
    assert all(said("help", topic) for topic in topics)
    nothing = CliRunner().invoke(main, ["help", "nosuch"])
    assert (nothing.exit_code, nothing.stderr) == (
        1,
        "omidbfs: nosuch: no command and no topic; omidbfs --help lists both\n",
    )


def test_what_people_type_is_understood() -> None:
    assert said("version") == said("--version")
    assert said("unmount", "--help").partition("\n")[2] == said("umount", "--help").partition("\n")[2]
    assert "--foreground" in said("mount", "--help")
