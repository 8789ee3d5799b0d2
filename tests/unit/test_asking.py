"""Commands that only query: the age of their answer, what they save, and what they do not change."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from trees import Tree

from omidbfs.cli.main import main
from omidbfs.index import fingerprint, store

Run = Callable[..., Result]

AGE = (
    r"omidbfs: as of \d{4}-\d\d-\d\d \d\d:\d\d \S+, when the index was written; "
    r"--verify-first looks for changes since then\n"
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A function that runs ``omidbfs`` on ``db`` with its index in ``i``, without a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)

    def invoke(command: str, *arguments: str, config: str = "/dev/null") -> Result:
        words = ["--config", config, *command.split(), "--index", "i", "db", *arguments]
        return CliRunner().invoke(main, words, prog_name="omidbfs")

    return invoke


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A database of one image."""
    tree = Tree(tmp_path / "db")
    tree.client().episode("1").study("1.1", "1").image("1", ViewPosition="CC")
    (tmp_path / "kvp.toml").write_text('[facets.kvp]\ntag = "KVP"\n')
    return tree


def answer(result: Result) -> str:
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def written(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_ino, facts.st_mtime_ns


# Age of an answer --------------------------------------------------------------------------------------------


def test_check_looks_at_the_source_as_it_is(run: Run, tree: Tree) -> None:
    answer(run("count"))
    (tree.data / "stray.txt").touch()
    result = run("check")
    assert (result.exit_code, result.stdout) == (1, "data/stray.txt: unexpected-entry: not a client directory\n")
    (tree.data / "stray.txt").unlink()
    result = run("check")
    assert (result.exit_code, result.stdout) == (0, "")


@pytest.mark.parametrize("command", ["export --format paths", "export -o paths.txt", "report -o page.html"])
def test_an_export_from_a_saved_index_comes_with_its_age(run: Run, tree: Tree, command: str) -> None:
    assert "as of" not in run(command).stderr  # the command has built the index
    assert re.fullmatch(rf"(\S+: 1 image\n)?{AGE}", run(command).stderr)
    assert "as of" not in run(f"{command} --verify-first").stderr


def test_an_answer_comes_without_the_age_of_the_index(run: Run, tree: Tree) -> None:
    for command in ("count", "ls", "facets", "count"):
        answer(run(command))


# Saving ------------------------------------------------------------------------------------------------------


def test_a_query_saves_what_it_has_read_of_the_source(run: Run, tree: Tree, tmp_path: Path) -> None:
    assert answer(run("count")) == "1\n"
    before = written(tmp_path / "i")
    assert answer(run("count --verify-first")) == "1\n"
    assert written(tmp_path / "i") == before
    tree.client("demd2").study("2.1").image("2")
    assert answer(run("count")) == "1\n"
    assert answer(run("count --verify-first")) == answer(run("count")) == "2\n"
    assert written(tmp_path / "i") != before


def test_a_query_leaves_the_facets_of_an_index_as_they_are(run: Run, tree: Tree, tmp_path: Path) -> None:
    answer(run("index", config="kvp.toml"))
    before = written(tmp_path / "i")
    assert "by-kvp" not in answer(run("ls"))
    tree.client("demd2").study("2.1").image("2")
    assert answer(run("count --verify-first")) == "2\n"
    assert written(tmp_path / "i") == before
    assert answer(run("count", "by-kvp/unknown", config="kvp.toml")) == "1\n"
    answer(run("index"))
    assert written(tmp_path / "i") != before


def test_facets_missing_in_an_index_are_made_for_one_command_with_a_warning(
    run: Run, tree: Tree, tmp_path: Path
) -> None:
    answer(run("count"))
    before = written(tmp_path / "i")
    for command, images in (("count", "1\n"), ("count --verify-first", "1\n")):
        result = run(command, "by-kvp/unknown", config="kvp.toml")
        assert (result.exit_code, result.stdout) == (0, images)
        assert "lacks facets of the configuration (kvp); they are made for this command alone" in result.stderr
        assert result.stderr.count("\n") == 1
    assert written(tmp_path / "i") == before
    answer(run("index", config="kvp.toml"))
    assert answer(run("count", "by-kvp/unknown", config="kvp.toml")) == "1\n"


def test_a_command_answers_although_it_cannot_read_the_index(
    run: Run, tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "i").write_bytes(b"closed")
    opened = os.open

    def refused(path: str, *args: Any, **kwargs: Any) -> int:  # root can read everything
        if os.path.abspath(path) == str(tmp_path / "i"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refused)
    result = run("count")
    assert (result.exit_code, result.stdout) == (0, "1\n")
    assert result.stderr.endswith(
        "the index cannot be kept there (Permission denied); name another place with --index FILE; "
        "this command goes on without\n"
    )
    assert result.stderr.count("\n") == 1
    assert run("index").exit_code == 1
    assert (tmp_path / "i").read_bytes() == b"closed"


def test_a_command_answers_without_a_place_for_the_index(run: Run, tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "i").symlink_to(tmp_path / "none" / "i")
    result = run("count")
    assert (result.exit_code, result.stdout) == (0, "1\n")
    assert "the index cannot be kept there (No such file or directory); name another place" in result.stderr
    assert result.stderr.endswith("; this command goes on without\n")
    assert result.stderr.count("\n") == 1
    result = run("index")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("; name another place with --index FILE\n")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, to which the place of the index is a link."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=False).returncode != 0:
        pytest.skip("a small disk cannot be mounted here")
    (tmp_path / "i").symlink_to(place / "i")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_command_answers_on_a_full_disk(run: Run, tree: Tree, small_disk: Path) -> None:
    (small_disk / "other").write_bytes(bytes(56 << 10))
    result = run("count")
    assert (result.exit_code, result.stdout) == (0, "1\n")
    assert "the index cannot be kept there (No space left on device)" in result.stderr
    assert result.stderr.count("\n") == 1
    assert os.listdir(small_disk) == ["other"]


def test_a_query_warns_of_an_unwritable_index_only_if_it_has_changes_to_save(
    run: Run, tree: Tree, small_disk: Path
) -> None:
    answer(run("index"))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert answer(run("count --verify-first")) == "1\n"
    tree.client("demd2").study("2.1").image("2")
    result = run("count --verify-first")
    assert (result.exit_code, result.stdout) == (0, "2\n")
    assert "the index cannot be kept there (Read-only file system)" in result.stderr
    assert result.stderr.count("\n") == 1
    assert answer(run("count")) == "1\n"


# No change ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["count", "index", "index --rebuild"])
@pytest.mark.parametrize("content", [b"omidbfs index /data/omidb\n", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_that_is_no_index_is_refused_in_one_line(
    run: Run, tree: Tree, tmp_path: Path, command: str, content: bytes
) -> None:
    (tmp_path / "i").write_bytes(content)
    result = run(command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(
        r"omidbfs: \S+/i: is not known to be an index of omidbfs, and is left alone; .*\n", result.stderr
    )
    assert (tmp_path / "i").read_bytes() == content


def test_a_truncated_index_is_built_again(run: Run, tree: Tree, tmp_path: Path) -> None:
    answer(run("index"))
    os.truncate(tmp_path / "i", (tmp_path / "i").stat().st_size - 1)
    result = run("count")
    assert (result.exit_code, result.stdout) == (0, "1\n")
    assert result.stderr.endswith("damaged: cut off or too long; building it anew\n")
    assert answer(run("count")) == "1\n"


def test_an_index_that_is_a_link_stays_one(run: Run, tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "file").touch()
    (tmp_path / "i").symlink_to("large/file")
    assert run("index").exit_code == 0
    assert (tmp_path / "i").is_symlink()
    assert answer(run("count")) == "1\n"
    assert os.listdir(tmp_path / "large") == ["file"]


def test_where_no_disk_tells_its_age_an_index_without_any_client_of_the_source_is_of_another(
    run: Run, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "born", lambda _: None)
    answer(run("index"))
    tree.client("demd2").study("2.1").image("2")
    assert answer(run("count")) == "1\n"
    for side in (tree.images, tree.data):
        shutil.rmtree(side / "demd1")
    result = run("count", "--json")
    assert json.loads(result.stdout) == {"clients": 1, "episodes": 0, "studies": 1, "images": 1}
    assert result.stderr.endswith("of another source, as none of its clients is there; building it anew\n")


# Links that are not followed ---------------------------------------------------------------------------------


def test_links_that_are_not_followed_are_counted_if_no_image_is_shown(
    run: Run, tree: Tree, tmp_path: Path
) -> None:
    (tree.images / "demd1").rename(tmp_path / "store")
    (tree.images / "demd1").symlink_to(tmp_path / "store")
    result = run("index")
    assert result.stderr == "omidbfs: 1 images; symbolic links that are not followed: 1, see --follow-symlinks\n"
    answer(run("count"))  # the JSON is there
    shutil.rmtree(tree.data / "demd1")
    for command in ("index", "count", "ls"):
        result = run(command)
        assert result.exit_code == 0
        line = "omidbfs: 0 images; symbolic links that are not followed: 1, see --follow-symlinks\n"
        assert result.stderr == line, command


def test_a_source_that_shows_no_image_says_where_its_problems_are(run: Run, tree: Tree) -> None:
    for top in (tree.images, tree.data):
        (top / "demd1").rename(top / "patient 1")
    for command in ("index", "count"):
        assert run(command).stderr == "omidbfs: 0 images; `omidbfs check SOURCE` lists 2 problems\n"


# Interrupts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("children", "delay"), [(0, 0.3), (2, 0.0), (3, 0.05), (4, 0.0), (4, 0.5)])
def test_an_interrupt_from_the_terminal_is_one_line_and_leaves_no_process(
    demo_database: Path, tmp_path: Path, children: int, delay: float
) -> None:
    words = ["index", "--workers", "3", "--index", str(tmp_path / "i"), str(demo_database)]
    command, pipe = [sys.executable, "-m", "omidbfs", *words], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        while process.poll() is None and children_of(process.pid) < children:
            time.sleep(0.002)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert errors in ("omidbfs: interrupted\n", "")
    assert process.returncode in (0, 130, -signal.SIGINT)
    if output:  # its work was done before
        assert os.listdir(tmp_path) == ["i"]
    else:
        assert errors or process.returncode == -signal.SIGINT  # the command had not begun
        assert os.listdir(tmp_path) == []
    deadline = time.monotonic() + 120
    while group_exists(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not group_exists(process.pid)


def children_of(process: int) -> int:
    try:
        return len(Path(f"/proc/{process}/task/{process}/children").read_text().split())
    except FileNotFoundError:
        return 0


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_facets_missing_in_an_index_of_another_version_are_made_for_one_command(
    run: Run, tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store, "definition_of", lambda facet: f"older {facet.name}")
        answer(run("count"))
    before = written(tmp_path / "i")
    for command in ("count", "count --verify-first"):
        result = run(command, "by-view/CC")
        assert (result.exit_code, result.stdout) == (0, "1\n")
        assert "lacks facets of this version (age, " in result.stderr
        assert result.stderr.count("\n") == 1
    assert written(tmp_path / "i") == before
    answer(run("index"))
    assert written(tmp_path / "i") != before
    assert answer(run("count", "by-view/CC")) == "1\n"
