"""Units of systemd: systemd accepts them, and they hold the options of ``mount``."""

import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from programs import needs

from omidbfs.cli.commands.systemd import escaped
from omidbfs.cli.main import main

PLACES = [
    "/srv/omidb",
    "/srv/my dri-ve 100%",
    "/",
    "//srv//x/",
    "/.hidden/.x",
    "/ü/a:b_c",
    '/quo"te',
    "/back\\slash",
]


def units(*arguments: object) -> Result:
    done = CliRunner().invoke(main, ["systemd", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done


def value(text: str, name: str) -> str:
    [found] = re.findall(rf"^{name}=(.*)$", text, re.M)
    return str(found)


@needs("systemd-analyze")
@pytest.mark.parametrize("place", PLACES)
def test_a_unit_is_named_as_systemd_names_it(place: str) -> None:
    done = subprocess.run(["systemd-escape", "--path", place], capture_output=True, text=True, check=True)
    assert escaped(place) == done.stdout.rstrip("\n")


@needs("systemd-analyze")
@pytest.mark.parametrize("place", ["/srv/omidb", '/srv/a "dri-ve" 100% $x'])
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path, place: str) -> None:
    source = tmp_path / "a db"
    source.mkdir()
    units(source, place, "--link-all", "--umask", "027", "--refresh-every", "60", "--install", tmp_path)
    written = sorted(path for path in tmp_path.iterdir() if path.is_file())
    assert {path.suffix for path in written} == {".service", ".mount"}
    command = ["systemd-analyze", "verify", "--man=no", *written]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    about_ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert about_ours == []


@needs("systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_unit_of_a_server(tmp_path: Path) -> None:
    options = ["--http", "unix:/run/omidb/socket", "--spool", '/srv/a "dir" 100% $x', "--unit"]
    done = CliRunner().invoke(main, ["serve", str(tmp_path), *options])
    unit = tmp_path / "omidbfs-http.service"
    unit.write_text(done.stdout)
    assert value(done.stdout, "RuntimeDirectory") == "omidb"
    command = ["systemd-analyze", "verify", "--man=no", unit]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert [line for line in said.splitlines() if unit.name in line and "User" not in line] == []


def test_the_units_have_the_configuration_that_was_read(tmp_path: Path) -> None:
    config = tmp_path / "omidbfs.toml"
    config.write_text("[cohorts.left]\npath = 'by-laterality/L'\n")
    done = CliRunner().invoke(main, ["--config", str(config), "systemd", "/db", "/srv/omidb"])
    service, unit = done.stdout.split("# srv-omidb.mount\n")
    assert f" --config={config} mount --foreground " in value(service, "ExecStart")
    assert value(unit, "Options").startswith(f"config={config},")


def test_the_units_have_the_given_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = units("db", "/srv/omidb", "--allow-other", "--index", "an.index", "--refresh-every", "3600").stdout
    service, unit = text.split("# srv-omidb.mount\n")
    assert service.startswith("# omidbfs-srv-omidb.service\n")
    expected = f"--index={tmp_path}/an.index --allow-other --refresh-every=3600 -- {tmp_path}/db /srv/omidb"
    assert value(service, "ExecStart").endswith(f" mount --foreground --replace {expected}")
    assert value(service, "Type") == "notify"
    assert "User=" not in service
    assert value(unit, "Options") == f"index={tmp_path}/an.index,allow-other,refresh-every=3600,nosuid,nodev"
    assert value(unit, "What") == f"{tmp_path}/db"
    assert value(unit, "Where") == "/srv/omidb"
    assert value(unit, "Type") == "fuse.omidbfs"
    for part in (service, unit):
        assert value(part, "RequiresMountsFor") == f"{tmp_path}/db"


def test_mount_understands_the_options_of_the_units(tmp_path: Path) -> None:
    text = units(
        "-", "/srv/omidb", "--images", "/i", "--data", "/d d", "--user", "omidb", "--links", "symlink"
    ).stdout
    assert re.findall("^RequiresMountsFor=(.*)$", text, re.M) == ["/i", '"/d d"'] * 2
    assert value(text, "User") == "omidb"
    done = CliRunner().invoke(main, ["-", str(tmp_path), "-o", value(text, "Options")])
    assert done.output == "omidbfs: /i: no such directory (given as --images)\n"


def test_a_comma_cannot_be_in_an_option_of_mount(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["systemd", "/db", "/srv/omidb", "--index", f"{tmp_path}/a,b"])
    assert done.exit_code == 1
    assert done.output == (
        f"omidbfs: --index: {tmp_path}/a,b: a comma ends an option of mount(8); name it without one\n"
    )


def test_a_line_break_cannot_be_in_a_unit() -> None:
    done = CliRunner().invoke(main, ["systemd", "/db", "/srv/two\nlines"])
    assert done.exit_code == 1
    assert "has characters that no unit of systemd can hold" in done.output
