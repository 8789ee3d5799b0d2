"""A call by mount.fuse3 is ``omidbfs mount`` with the same options."""

import os

import click
import pytest
from click.testing import CliRunner

from omidbfs.base.errors import UserError
from omidbfs.cli.commands.fstab import arguments
from omidbfs.cli.main import main


def translated(*options: str) -> list[str]:
    """The options of ``mount`` for those of a line of fstab."""
    result = arguments(["/db", "/mnt", "-o", ",".join(options)], main)
    assert result[:2] == [f"--config={os.devnull}", "mount"]
    assert result[-3:] == ["--", "/db", "/mnt"]
    return result[2:-3]


@pytest.mark.parametrize(
    "call",
    [
        ["mount", "/db", "/mnt"],
        ["ls", "/db", "by-view", "--json"],
        ["mount", "/mnt", "-o", "rw"],
        ["/db", "/mnt"],
        ["--debug", "ls", "/db"],
        ["nonsense"],
        [],
    ],
)
def test_other_command_lines_stay_as_they_are(call: list[str]) -> None:
    assert arguments(call, main) == call


def test_options_keep_their_names() -> None:
    assert translated("rw", "link-all", "index=/a/b", "dev", "suid") == ["--link-all", "--index=/a/b"]
    assert translated("allow_other", "link_all", "uid=5") == ["--allow-other", "--link-all", "--uid=5"]


def test_every_option_of_mount_is_one_of_fstab() -> None:
    for option in main.commands["mount"].params:
        if isinstance(option, click.Option):
            name = option.opts[0].removeprefix("--")
            assert translated(name if option.is_flag else f"{name}=1") == [
                option.opts[0] if option.is_flag else f"{option.opts[0]}=1"
            ]


def test_options_of_mount_itself_are_ignored() -> None:
    assert (
        translated("defaults", "ro", "nosuid", "nodev", "noexec", "exec", "_netdev", "nofail", "auto", "noauto")
        == []
    )
    assert (
        translated("user", "user=omidb", "nouser", "x-systemd.automount", "X-mount.mkdir", "comment=x", "") == []
    )


def test_several_lists_of_options_are_one() -> None:
    assert arguments(["-", "/mnt", "-o", "rw", "-o", "images=/i,data=/d"], main)[2:] == [
        *("--images=/i", "--data=/d", "--", "-", "/mnt")
    ]


def test_a_configuration_is_read_where_it_is_named() -> None:
    result = arguments(["/db", "/mnt", "-o", "config=/etc/omidbfs.toml,debug"], main)
    assert result == ["--config=/etc/omidbfs.toml", "--debug", "mount", "--", "/db", "/mnt"]


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("colour=red", "-o colour: no option of a drive; `omidbfs mount --help` shows them"),
        ("help", "-o help: no option of a drive; `omidbfs mount --help` shows them"),
        ("link-all=yes", "-o link-all: takes no value"),
        ("index", "-o index: needs a value, index=..."),
        ("index=", "-o index: needs a value, index=..."),
        ("remount", "-o remount: a drive cannot be changed while it is mounted; unmount it, then mount it"),
    ],
)
def test_an_unknown_option_is_one_clear_line(option: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        translated(option)
    assert str(caught.value) == says
    done = CliRunner().invoke(main, ["/db", "/mnt", "-o", option])
    assert (done.exit_code, done.output) == (1, f"omidbfs: {says}\n")


def test_a_wrong_value_gives_the_error_of_mount() -> None:
    done = CliRunner().invoke(main, ["/db", "/mnt", "-o", "umask=99"])
    assert done.exit_code == 2
    assert "Invalid value for '--umask': 99 is no octal number up to 777" in done.output
    done = CliRunner().invoke(main, ["/db", "/mnt", "-o", "uid=nobody-at-all"])
    assert "there is no user nobody-at-all" in done.output


def test_another_user_gets_its_own_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    arguments(["/db", "/mnt", "-o", "rw"], main)
    assert os.environ["HOME"] == "/nonexistent"


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("123", 123), ("4K", 4096), ("3m", 3 << 20), ("20G", 20 << 30), ("1T", 1 << 40)]
)
def test_a_size_is_a_number_of_bytes_or_has_a_unit(text: str, size: int) -> None:
    assert (
        main.commands["mount"]
        .make_context("mount", ["/db", "/mnt", "--spool-size", text], resilient_parsing=False)
        .params["spool_size"]
        == size
    )


@pytest.mark.parametrize("text", ["", "-1", "1.5G", "20X", "G", "1 G", "9" * 20])
def test_any_other_size_is_refused(text: str) -> None:
    done = CliRunner().invoke(main, ["mount", "/db", "/mnt", f"--spool-size={text}"])
    assert done.exit_code == 2
    assert "is no size such as 500M, 20G or 1T" in done.output
