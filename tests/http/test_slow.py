"""Slow clients, in the loop of a test whose clock jumps: they lose their connection, and nobody else notices."""

import errno
from collections.abc import AsyncGenerator

import pytest
import trio
import trio.testing

from omidbfs.http import server as module
from omidbfs.http.messages import Request, Response
from omidbfs.http.server import Server

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Told:
    """What a server answers, and what became of it."""

    def __init__(self, parts: int = 1000) -> None:
        self.parts, self.sent, self.closed = parts, 0, 0
        self.statuses: list[int] = []

    async def __call__(self, request: Request) -> Response:
        async def body() -> AsyncGenerator[bytes, None]:
            for _ in range(self.parts):
                self.sent += 1
                yield bytes(1 << 16)

        async def close() -> None:
            self.closed += 1

        return Response(200, {}, body(), None, close)

    def server(self, most: int = 10) -> Server:
        return Server(self, lambda _, status: self.statuses.append(status), most)


async def connected(server: Server, nursery: trio.Nursery) -> trio.SocketStream:
    """Return the client's end of a connection over real sockets."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = await trio.testing.open_stream_to_socket_listener(listener)
    stream = await listener.accept()
    await listener.aclose()
    nursery.start_soon(server.serve, stream)
    return client


def test_a_client_that_sends_nothing_or_only_half_a_request_is_dropped() -> None:
    told = Told()

    async def run() -> None:
        server = told.server()
        async with trio.open_nursery() as nursery:
            for sent in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n"):
                client = await connected(server, nursery)
                await client.send_all(sent)
                started = trio.current_time()
                assert await client.receive_some() == b""
                assert 29 < trio.current_time() - started < 40
                await client.aclose()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0.2))
    assert told.statuses == []


def test_clients_whose_bodies_never_arrive_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_REQUESTS", 1)
    half = b"PROPFIND / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n<"
    told = Told(parts=0)

    async def run() -> None:
        server = told.server(most=3)
        async with trio.open_nursery() as nursery:
            clients = []
            for _ in range(3):
                clients.append(await connected(server, nursery))
                await clients[-1].send_all(half)
            await trio.testing.wait_all_tasks_blocked(0.05)
            with trio.fail_after(120):
                client = await connected(server, nursery)
                await client.send_all(REQUEST)
                assert (await client.receive_some()).startswith(b"HTTP/1.1 200 OK")
                assert await clients[0].receive_some() == b"", "it made room"
            for one in (*clients, client):
                await one.aclose()

    trio.run(run)


def test_a_client_that_does_not_read_is_dropped_and_its_file_closed() -> None:
    told = Told()

    async def run() -> None:
        server = told.server()
        async with trio.open_nursery() as nursery:
            client = await connected(server, nursery)
            await client.send_all(REQUEST)
            started = trio.current_time()
            while not told.closed:
                await trio.sleep(1)
            assert 59 < trio.current_time() - started < 70
            assert told.sent < told.parts
            assert server.requests == 0
            await client.aclose()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0.2))


def test_a_response_that_cannot_be_completed_ends_too_early() -> None:
    closed = []

    async def answer(request: Request) -> Response:
        async def body() -> AsyncGenerator[bytes, None]:
            yield b"12345"
            raise OSError(errno.ESTALE, "the file has changed")

        async def close() -> None:
            closed.append(True)

        return Response(200, {}, body(), 10, close)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            client = await connected(Server(answer, lambda *_: None, 10), nursery)
            await client.send_all(REQUEST)
            answered = b"".join([part async for part in client])
            head, _, content = answered.partition(b"\r\n\r\n")
            assert b"Content-Length: 10" in head
            assert content == b"12345"
            await client.aclose()

    trio.run(run)
    assert closed == [True]


def test_the_oldest_idle_connection_makes_room_for_a_new_one() -> None:
    told = Told(parts=0)

    async def run() -> None:
        server = told.server(most=2)
        async with trio.open_nursery() as nursery:
            first, second, third = [await connected(server, nursery) for _ in range(3)]
            with trio.fail_after(120):
                assert await first.receive_some() == b""
            for client in (second, third):
                await client.send_all(REQUEST)
                assert (await client.receive_some()).startswith(b"HTTP/1.1 200 OK")
            for client in (first, second, third):
                await client.aclose()

    trio.run(run)


async def refusal(client: trio.SocketStream) -> bytes:
    """Return a whole response that says "try again"."""
    answer = b""
    while b"try again\n" not in answer:
        part = await client.receive_some()
        assert part, answer
        answer += part
    return answer


def test_slow_clients_lose_their_place_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_REQUESTS", 2)
    told = Told()

    async def run() -> None:
        server = told.server()
        async with trio.open_nursery() as nursery:
            slow = [await connected(server, nursery) for _ in range(2)]
            for client in slow:
                await client.send_all(REQUEST)
                await trio.sleep(1)
            other = await connected(server, nursery)
            await other.send_all(REQUEST)
            assert (await refusal(other)).startswith(b"HTTP/1.1 503"), "they may only be far away"
            await trio.sleep(4)
            told.parts = 0
            await other.send_all(REQUEST)
            assert (await other.receive_some()).startswith(b"HTTP/1.1 200 OK")
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert (told.closed, server.requests) == (2, 1), "that of the slowest, and that of the new one"
            for client in (*slow, other):
                await client.aclose()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0.2))


def test_more_requests_than_can_be_answered_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_REQUESTS", 1)
    told = Told()

    async def run() -> None:
        server = told.server()
        async with trio.open_nursery() as nursery:
            slow, other = await connected(server, nursery), await connected(server, nursery)
            await slow.send_all(REQUEST)
            while not told.sent:
                await trio.sleep(0.01)
            await other.send_all(REQUEST)
            answer = await refusal(other)
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"Retry-After: 1" in answer
            for client in (slow, other):
                await client.aclose()

    trio.run(run)
    assert told.closed == 1
