"""The door of a server in the loop of a test: passwords that take long, and targets in absolute form."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from servers import basic

from omidbfs.http import access, passwords
from omidbfs.http.access import Door
from omidbfs.http.messages import RefusedError, Request, parsed
from omidbfs.http.passwords import Passwords, new_line
from omidbfs.serving.rights import Identity

NAMES = frozenset({"localhost"})
WORD = "a long password"


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Passwords:
    """A file with the user anna, on a machine that has such a user."""
    monkeypatch.setattr(passwords, "identity_of", lambda _: Identity(4001, 4001))
    path = tmp_path / "passwords"
    path.write_text(new_line("anna", WORD) + "\n")
    path.chmod(0o600)
    return Passwords(path)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """An event for which a method of the file of passwords can wait."""
    event = threading.Event()
    yield event
    event.set()


def asked(peer: str, word: str = WORD, name: str = "anna") -> Request:
    return Request("GET", (), True, {}, {"authorization": basic(name, word)}, peer=peer)


def test_passwords_from_one_address_leave_others_their_turn(
    known: Passwords, hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = known.verified
    monkeypatch.setattr(access, "_MOST_OF_A_PEER", 3)
    monkeypatch.setattr(access, "_MOST_GUESSES", 5)
    monkeypatch.setattr(known, "verified", lambda *given: hanging.wait(120) and verify(*given))
    door = Door(0, NAMES, known)
    said: list[tuple[str, int]] = []

    async def ask(peer: str, word: str) -> None:
        try:
            await door.identity(asked(peer, word))
            said.append((peer, 200))
        except RefusedError as error:
            said.append((peer, error.status))

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            for peer, word in ((peer, word) for peer in "aaaabbcd" for word in ("a wrong password",)):
                nursery.start_soon(ask, peer, WORD if peer == "b" else word)
                await trio.testing.wait_all_tasks_blocked(0.05)
            assert said == [("a", 503), ("c", 503), ("d", 503)], "three of a, two of b, and then none"
            hanging.set()

    trio.run(run)
    assert sorted(said[3:]) == [("a", 401)] * 3 + [("b", 200)] * 2
    assert door._guesses.total() == len(door._guesses) == 0


def test_a_pair_that_many_connections_give_at_once_is_compared_once(
    known: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    scrypt = passwords._scrypt

    def counted(*given: object) -> bytes:
        compared.append(given)
        return scrypt(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(passwords, "_scrypt", counted)
    door = Door(0, NAMES, known)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(door.identity, asked("a"))

    trio.run(run)
    assert len(compared) == 1


def test_a_password_that_was_let_in_takes_a_look_at_the_file_once_a_second(
    known: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew, looks = known.renew, list[float]()
    monkeypatch.setattr(known, "renew", lambda: (looks.append(1), renew())[1])
    door, clock, ben = Door(0, NAMES, known), trio.testing.MockClock(), "another password"

    async def status(name: str, word: str) -> int:
        try:
            await door.identity(asked("a", word, name))
        except RefusedError as error:
            return error.status
        return 200

    async def run() -> None:
        assert [await status("anna", WORD) for _ in range(5)] == [200] * 5
        assert len(looks) == 1
        known._path.write_text(known._path.read_text() + new_line("ben", ben) + "\n")
        assert await status("ben", ben) == 200, "a new line counts at once"
        known._path.write_text(new_line("carl", WORD) + "\n")
        clock.jump(access._FRESH)
        assert [await status("anna", WORD), await status("ben", ben)] == [401, 401], "nobody a second later"

    trio.run(run, clock=clock)


@pytest.mark.parametrize("where", ["its disk", "the users of the machine"])
def test_a_file_of_passwords_that_cannot_be_read_now_stops_nothing_else(
    known: Passwords, hanging: threading.Event, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(access, "_RENEWING", 0.1)
    door = Door(0, NAMES, known)
    if where == "its disk":
        version = passwords._version
        monkeypatch.setattr(passwords, "_version", lambda facts: hanging.wait(120) and version(facts))
    else:
        monkeypatch.setattr(passwords, "identity_of", lambda _: hanging.wait(120) and Identity(4002, 4002))
        os.utime(known._path, ns=(1, 1))

    async def run() -> None:
        for _ in range(2):  # a second request waits for the thread of the first, and starts none
            with trio.fail_after(120), pytest.raises(RefusedError) as refused:
                await door.identity(asked("a"))
            assert refused.value.status == 503
        hanging.set()
        with trio.fail_after(120):
            while True:
                try:
                    found = await door.identity(asked("a"))
                    break
                except RefusedError:
                    await trio.sleep(0.01)
        assert found.uid == (4001 if where == "its disk" else 4002)

    trio.run(run)


@pytest.mark.parametrize(
    ("target", "names", "host"),
    [
        (b"http://localhost:8080/by-view/CC/?page=2", (b"by-view", b"CC"), "localhost:8080"),
        (b"HTTP://LOCALHOST/all/x%20y.dcm", (b"all", b"x y.dcm"), "LOCALHOST"),
        (b"http://[::1]:80", (), "[::1]:80"),
        (b"http://localhost?page=2", (), "localhost"),
        (b"/by-view/", (b"by-view",), "evil.example"),
    ],
)
def test_the_host_of_an_absolute_target_takes_the_place_of_the_header(
    target: bytes, names: tuple[bytes, ...], host: str
) -> None:
    request = parsed("GET", target, {"host": "evil.example"})
    assert (request.names, request.headers["host"]) == (names, host)
    assert request.query == ({"page": "2"} if b"?" in target else {})
    door = Door(0, NAMES)
    if host == "evil.example":
        with pytest.raises(RefusedError):
            door.check(request)
    else:
        door.check(request)


def test_an_absolute_target_of_another_server_is_refused() -> None:
    for target, status in (
        (b"http://evil.example/", 421),
        (b"http://localhost.evil.example/", 421),
        (b"https://localhost/", 421),
        (b"http://evil.example@localhost/", 400),
        (b"http:///all/", 400),
        (b"http://localhost/all/#x", 400),
        (b"ftp://localhost/", 400),
    ):
        with pytest.raises(RefusedError) as refused:
            Door(0, NAMES).check(parsed("GET", target, {"host": "localhost"}))
        assert refused.value.status == status, target
    Door(0, NAMES, is_encrypted=True).check(parsed("GET", b"https://localhost/", {}))
