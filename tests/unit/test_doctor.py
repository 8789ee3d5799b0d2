"""The doctor makes all its checks, whatever is missing, and gives remedies."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from click.testing import CliRunner
from trees import Tree

from omidbfs.cli.commands.doctor import (
    _EXTRAS,
    Finding,
    allow_other,
    app_armor,
    cache,
    device,
    extra,
    fusermount,
    kernel,
    package,
    system,
    updatedb,
)
from omidbfs.cli.main import main


def findings(*arguments: object) -> dict[str, dict[str, str]]:
    done = CliRunner().invoke(main, ["doctor", *map(str, arguments), "--json"])
    found = json.loads(done.output)
    assert done.exit_code == int(any(finding["level"] == "fail" for finding in found))
    return {finding["check"]: finding for finding in found}


def test_every_finding_that_is_not_ok_has_a_remedy(tmp_path: Path) -> None:
    for finding in [*system(), *system(tmp_path), package("no.such"), kernel("3.2"), device(tmp_path)]:
        assert finding.level in ("ok", "none", "warn", "fail")
        assert finding.level == "ok" or finding.remedy


@pytest.mark.parametrize(
    ("release", "level"), [("6.18.1-x", "ok"), ("5.6.0", "ok"), ("5.5", "warn"), ("4.13", "warn"), ("odd", "warn")]
)
def test_a_kernel_is_judged_by_its_number(release: str, level: str) -> None:
    assert kernel(release).level == level


def test_a_device_that_is_missing_fails(tmp_path: Path) -> None:
    assert device(tmp_path / "fuse").level == "fail"
    assert "modprobe fuse" in device(tmp_path / "fuse").remedy
    assert device(Path("/dev/null")).level == "ok"


def test_a_fusermount3_without_its_bit_is_no_use_to_users(tmp_path: Path) -> None:
    tool = tmp_path / "fusermount3"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert fusermount(str(tmp_path)).level in ("warn", "fail")
    assert fusermount(str(tmp_path)).remedy == f"sudo chmod u+s {tool}"


def test_updatedb_is_to_leave_drives_out(tmp_path: Path) -> None:
    configuration = tmp_path / "updatedb.conf"
    assert updatedb(configuration).level == "ok"
    configuration.write_text('PRUNEFS="nfs fuse.sshfs"\n')
    assert updatedb(configuration).level == "warn"
    configuration.write_text('PRUNEPATHS="/tmp"\n PRUNEFS = "nfs fuse.omidbfs"\n')
    assert updatedb(configuration).level == "ok"


def test_app_armor_may_limit_where_users_mount(tmp_path: Path) -> None:
    assert app_armor(tmp_path).level == "ok"
    (tmp_path / "module/apparmor/parameters").mkdir(parents=True)
    (tmp_path / "kernel/security/apparmor").mkdir(parents=True)
    (tmp_path / "module/apparmor/parameters/enabled").write_text("Y\n")
    profiles = tmp_path / "kernel/security/apparmor/profiles"
    profiles.write_text("man_filter (enforce)\n")
    assert app_armor(tmp_path).level == "ok"
    profiles.write_text("fusermount3 (enforce)\n")
    assert app_armor(tmp_path).level == "warn"
    (tmp_path / "module/apparmor/parameters/enabled").write_text("N\n")
    assert app_armor(tmp_path).level == "ok"


def test_user_allow_other_is_reported(tmp_path: Path) -> None:
    assert "for root only" in allow_other(tmp_path / "fuse.conf").found
    (tmp_path / "fuse.conf").write_text("user_allow_other\n")
    assert allow_other(tmp_path / "fuse.conf").found == "for users, too"


def test_a_cache_that_cannot_be_written_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache().level == "ok"
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/self")
    assert cache().level in ("ok", "warn")  # root may write anywhere
    monkeypatch.setenv("XDG_CACHE_HOME", f"/{'x' * 300}")  # a path that is too long fails like a closed one
    assert cache().level in ("ok", "warn")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert cache() == Finding(
        "cache", "warn", "this user has no home", "name a place for the index with --index FILE"
    )


def test_a_source_and_its_index_are_looked_at(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "db")
    tree.client().study().image("1.1.1", dcm=b"pixels")
    index = tmp_path / "an.index"
    found = findings(tree.root, "--index", index)
    assert (found["source"]["level"], found["index"]["level"]) == ("ok", "warn")
    assert found["index"]["found"] == f"{index}: missing"
    CliRunner().invoke(main, ["index", str(tree.root), "--index", str(index)])
    assert findings(tree.root, "--index", index)["index"]["found"].startswith(f"{index}: 1 image, written ")
    os.truncate(index, index.stat().st_size - 1)
    assert findings(tree.root, "--index", index)["index"]["level"] == "warn"
    index.write_bytes(b"something else")
    assert findings(tree.root, "--index", index)["index"]["level"] == "fail"
    (tree.root / "data").rename(tmp_path / "data")
    assert findings(tree.root)["source"]["level"] == "warn"
    found = findings("-", "--images", tree.root / "images", "--data", tmp_path / "data", "--index", index)
    assert found["source"]["level"] == "ok"


def test_a_source_that_is_none_fails_with_the_line_of_mount(tmp_path: Path) -> None:
    found = findings(tmp_path / "nothing")
    assert found["source"]["level"] == "fail"
    assert "no such directory" in found["source"]["found"]
    assert "index" not in found


@pytest.mark.parametrize("missing", ["pyfuse3", "numpy", "msgspec", "trio", "rich", "orjson"])
def test_a_package_that_cannot_be_loaded_is_reported_and_stops_nothing(demo_database: Path, missing: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None; from omidbfs.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "doctor", str(demo_database)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    assert f"fail  {missing}: cannot be loaded (" in done.stdout
    assert "updatedb: " in done.stdout


def test_every_extra_of_a_user_is_looked_for_with_all_its_packages() -> None:
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    [everything] = extras["all"]
    assert sorted(_EXTRAS) == re.findall(r"\w+", everything)[1:]
    of_module = packages_distributions()
    for name, (modules, adds) in _EXTRAS.items():
        required = {re.split("[<>=]", one)[0] for one in extras[name]}
        assert {distribution for module in modules for distribution in of_module[module]} >= required
        assert len(modules) == len(required)
        assert extra(name) == Finding(f"extra {name}", "ok", f"installed: {adds}")


def test_an_extra_that_is_not_installed_is_no_failure_and_comes_with_what_it_adds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "gdcm", None)
    assert extra("report") == Finding(
        "extra report", "none", "not installed", "pip install 'omidbfs[report]' adds omidbfs report"
    )
    assert (extra("pixels").level, extra("pixels").found) == ("none", "without gdcm")
    assert CliRunner().invoke(main, ["doctor"]).exit_code == int(any(one.level == "fail" for one in system()))


def test_an_extra_that_is_broken_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "h11.py").write_text("raise ImportError('libx.so: no such file')")
    monkeypatch.delitem(sys.modules, "h11", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    found = extra("serve")
    assert (found.level, found.found) == ("warn", "h11 cannot be loaded (libx.so: no such file)")
    assert found.remedy == "pip install 'omidbfs[serve]' adds omidbfs serve"
