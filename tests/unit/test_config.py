"""``omidbfs.toml``: a key is the name of an option, and any other key is an error."""

import grp
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from omidbfs.base.definitions import Lines
from omidbfs.base.errors import UserError
from omidbfs.cli.main import main
from omidbfs.serving.configuration import Definitions, config_file, read_config, trusted_definitions

OPTIONS = {"mount": {"allow_other", "link_all", "links"}, "ls": {"link_all"}, "umount": set[str]()}
Defaults = dict[str, dict[str, object]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a current directory without a configuration."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def read(text: str) -> Defaults:
    path = Path("some.toml")
    path.write_text(text, encoding="utf-8")
    return {command: values for command, values in read_config(path, OPTIONS).items() if values}


@pytest.mark.parametrize(
    ("text", "defaults"),
    [
        ("", {}),
        ("link-all = true", {"mount": {"link_all": True}, "ls": {"link_all": True}}),
        ("link_all = true", {"mount": {"link_all": True}, "ls": {"link_all": True}}),
        ("[mount]\nallow-other = true", {"mount": {"allow_other": True}}),
        ('[mount]\nlinks = "symlink"', {"mount": {"links": "symlink"}}),
        ("link-all = true\n[ls]\nlink-all = false", {"mount": {"link_all": True}, "ls": {"link_all": False}}),
        ("[ls]", {}),
        ("\ufefflink-all = true\r\n", {"mount": {"link_all": True}, "ls": {"link_all": True}}),
    ],
)
def test_an_option_holds_for_every_command_that_has_it_or_for_the_one_named(text: str, defaults: Defaults) -> None:
    assert read(text) == defaults


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("link-al = true", r"some.toml:1: link-al is no option of any command; did you mean link-all\?$"),
        ("#\n[mont]\nlink-all = true", r"some.toml:2: \[mont\] is no command of omidbfs; did you mean mount\?$"),
        ("[cohort.x]\npath = 1", r"some.toml:1: \[cohort\] is no command of omidbfs; did you mean cohorts\?$"),
        ("[ls]\nallow-other = true", "some.toml:2: allow-other is no option of omidbfs ls$"),
        (
            "[mount]\n\n allow_othr = true",
            r"some.toml:3: allow_othr is no option of omidbfs mount; did you mean allow-other\?$",
        ),
        (
            "mount.link = true",
            r"some.toml:1: link is no option of .* mount; did you mean links or link-all\?$",
        ),
        (
            "mount = { link = true }",
            r"some.toml:1: link is no option of .* mount; did you mean links or link-all\?$",
        ),
        ("link-all = ", "some.toml: not valid TOML: "),
        ("link-all = true\nlink-all = true", "some.toml: not valid TOML: "),
    ],
)
def test_a_mistake_is_one_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}") as caught:
        read(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "keys", "line"),
    [
        ("a = 1\nb.c = 2\n", ("b", "c"), 2),
        ("[a]\n'x y' = 1\n[a.b] # here\nc=1", ("a", "b", "c"), 4),
        ('[ a . "b" ]\nc = "d = 1"', ("a", "b", "d"), 1),
        ("[a]\nb = { c = 1 }\n", ("a", "b", "c"), 2),
        ('[a]\n"b=c" = 1\nd = 1', ("a", "d"), 3),
        ("[[a]]\nb = 1", ("z",), 1),
    ],
)
def test_a_key_has_its_line_or_that_of_its_table(text: str, keys: tuple[str, ...], line: int) -> None:
    assert Lines(text).of(*keys) == line


def test_a_file_that_is_no_text_is_not_valid() -> None:
    Path("some.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"^some.toml: not valid TOML"):
        read_config(Path("some.toml"), OPTIONS)


@pytest.mark.parametrize("path", ["none.toml", "."])
def test_a_file_that_was_named_has_to_be_there(path: str) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_config(Path(path), OPTIONS)


def test_no_file_at_all_is_fine() -> None:
    assert config_file() is None
    assert read_config(None, OPTIONS) == {}


def of_another_user(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(path, 54321, -1, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 54321)


def in_the_way(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write an untrusted configuration to the current directory."""
    path = Path("omidbfs.toml")
    if how == "link":
        Path("own.toml").write_text("")
        path.symlink_to("own.toml")
    else:
        path.write_text("link-all = true")
    if how in ("file", "link"):
        of_another_user(path, monkeypatch)
    elif how == "mode":
        path.chmod(0o646)
    elif how == "group":
        path.chmod(0o664)
        if os.geteuid() == 0:
            os.chown(path, -1, 54321)
        monkeypatch.setattr("grp.getgrgid", lambda gid: grp.struct_group(("shared", "x", gid, [])))
    else:
        Path().chmod(0o777)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("file", "belongs to another user"),
        ("link", "belongs to another user"),
        ("mode", "can be written by other users"),
        ("group", "can be written by other users"),
        ("directory", "can be written by other users"),
    ],
)
def test_a_configuration_that_others_wrote_or_can_write_is_ignored_with_a_warning(
    home: Path, monkeypatch: pytest.MonkeyPatch, how: str, reason: str
) -> None:
    users = home / ".config/omidbfs/omidbfs.toml"
    users.parent.mkdir(parents=True)
    users.write_text("")
    in_the_way(how, monkeypatch)
    said: list[str] = []
    found = config_file(said.append)
    if os.geteuid() == users.stat().st_uid:
        assert found == users
    [line] = [line for line in said if str(home / "here") in line]
    assert line == (
        f"{home / 'here/omidbfs.toml'}: {reason}, and is ignored; if you trust it, name it with --config"
    )


def test_a_file_of_ones_own_in_a_place_like_tmp_is_taken() -> None:
    Path("omidbfs.toml").write_text("")
    Path("omidbfs.toml").chmod(0o664)
    Path().chmod(0o1777)
    assert config_file(pytest.fail) == Path("omidbfs.toml")


def test_a_command_warns_once_of_an_ignored_configuration_and_reads_a_named_one(
    demo_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_way("mode", monkeypatch)
    Path("omidbfs.toml").write_text("no-option = 1")
    command = [sys.executable, "-m", "omidbfs"]
    for options, status, said in (
        ([], 0, "can be written by other users"),
        (["--config", "omidbfs.toml"], 1, "no-option is no option of any command"),
    ):
        done = subprocess.run(
            [*command, *options, "count", demo_database, "all"], capture_output=True, text=True, check=False
        )
        assert done.returncode == status
        [line] = done.stderr.splitlines()
        assert said in line


def test_the_file_of_the_current_directory_comes_before_that_of_the_user(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = home / ".config/omidbfs/omidbfs.toml"
    users.parent.mkdir(parents=True)
    users.write_text("link-all = true")
    assert config_file() == users
    assert read_config(users, OPTIONS)["ls"] == {"link_all": True}
    Path("omidbfs.toml").write_text("")
    assert config_file() == Path("omidbfs.toml")
    Path("omidbfs.toml").unlink()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "xdg"))
    assert config_file() is None


def test_a_user_without_a_home_has_no_configuration() -> None:
    code = (
        "import os; from omidbfs.serving.configuration import config_file; "
        "os.geteuid() or os.setuid(54321); print(config_file())"
    )
    # Coverage would be kept in a place that this user may not write to.
    left_out = ("HOME", "COVERAGE_PROCESS_START")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    if os.geteuid() == 0:  # other users have a home
        assert done.stdout == "None\n"


def test_a_configuration_that_others_can_write_defines_nothing_unless_named() -> None:
    path = Path("omidbfs.toml")
    path.write_text("")
    assert trusted_definitions(path, is_named=False) == Definitions()
    path.chmod(0o666)
    with pytest.raises(UserError, match="can be written by other users; if you trust it, mount"):
        trusted_definitions(path, is_named=False)
    assert trusted_definitions(path, is_named=True) == trusted_definitions(None, is_named=False) == Definitions()


@pytest.mark.parametrize("value", ["1.5", "inf", "1e400", "true", "[1]", "2020-01-01", '"x"'])
def test_a_number_of_a_wrong_type_is_refused_as_if_it_were_typed(value: str) -> None:
    Path("some.toml").write_text(f"workers = {value}\n")
    done = CliRunner().invoke(main, ["--config", "some.toml", "count", "none"])
    assert done.exit_code == 1
    assert re.fullmatch(r"omidbfs: some.toml:1: workers: '.*' is not a valid integer range\n", done.stderr), (
        done.stderr
    )


def test_a_path_of_a_wrong_type_is_no_such_path() -> None:
    Path("some.toml").write_text("images = 5\n")
    done = CliRunner().invoke(main, ["--config", "some.toml", "count", "none"])
    assert done.stderr == "omidbfs: 5: no such directory (given as --images)\n"
