"""The connections of the server: reads requests, sends responses, and bounds what any client can take.

Used by ``daemon``, in the loop of the drive. h11 parses HTTP/1.1 (RFC 9112). Each connection is one task, so a
slow client delays nobody. No line of the log names a path, a user or a credential.
"""

import ipaddress
import logging
import math
import socket
import struct
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from http import HTTPStatus
from typing import TypeVar

import h11
import trio

from omidbfs.http.messages import LONGEST_TARGET, Chunk, RefusedError, Request, Response, parsed, plain, refusal
from omidbfs.index.sections import DamagedError

log = logging.getLogger(__name__)
_Read = TypeVar("_Read")

_MOST_REQUESTS = 256
"""The most requests that are answered at the same time, until their clients have the response.

A further request takes the place of a response whose client is slow, if there is one, and else gets 503.
"""
_LONGEST_BODY = 64 << 10
"""The most bytes of the body of a request. Only PROPFIND has one that is read."""
_RECEIVED = 64 << 10
_IDLE = 30.0
"""Seconds within which the whole of a request has to arrive. Then the connection is closed."""
_SENDING = 60.0
"""Seconds within which a client has to take one part of a response. Then the connection is closed."""
_SLOW = 5.0
"""Seconds within which a client has to take one part of a response, to keep its place when others want it."""
_LINGERING = 1.0
"""Seconds for which the rest of a refused request is read and dropped, so that its client sees the response."""
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}
"""Headers of every response, unless it has others of these names. A file that a browser shows can do nothing."""

Answer = Callable[[Request], Awaitable[Response]]


class _LostError(Exception):
    """The connection cannot be used any more."""


class Server:
    """Serves any number of listeners. ``answer`` answers requests; ``count`` is told each method and status."""

    def __init__(self, answer: Answer, count: Callable[[str, int], None], most_connections: int) -> None:
        self.answer = answer
        self.count = count
        self.requests = 0
        self.connections = 0
        self.idle: OrderedDict[object, trio.CancelScope] = OrderedDict()
        """The connections that wait for a request, those that wait for longest first."""
        self.sending: OrderedDict[object, tuple[float, trio.CancelScope]] = OrderedDict()
        """The connections that send, and since when they wait for the client to take a part, the longest first."""
        self._most = most_connections

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end. If there are too many, end the one that is idle for longest."""
        self.connections += 1
        try:
            if self.connections > self._most:
                if not self.idle:
                    with trio.move_on_after(1):
                        await stream.send_all(_BUSY)
                    return
                _, waiting = self.idle.popitem(last=False)
                waiting.cancel()
            await _Connection(self, stream).run()
        except (_LostError, trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # the client went away, or is too slow
        except Exception:  # a defect must not end the server
            log.exception("a connection failed")
        finally:
            self.connections -= 1
            with trio.move_on_after(_LINGERING, shield=True):
                with suppress(trio.BrokenResourceError):
                    await stream.aclose()

    def has_room(self) -> bool:
        """Return whether another request can be answered. If need be, end a response whose client is slow."""
        if self.requests < _MOST_REQUESTS:
            return True
        since, waiting = next(iter(self.sending.values()), (math.inf, None))
        if waiting is None or trio.current_time() - since < _SLOW:
            return False
        self.sending.popitem(last=False)
        waiting.cancel()
        return True


class _Connection:
    def __init__(self, server: Server, stream: trio.abc.Stream) -> None:
        self._server = server
        self._stream = stream
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_TARGET)
        self._user, self._peer = _user_of(stream), _peer_of(stream)

    async def run(self) -> None:
        while await self._serve_one():
            try:
                self._http.start_next_cycle()
            except h11.LocalProtocolError:
                break
        await self._linger()

    async def _serve_one(self) -> bool:
        """Serve one request; return whether another may follow."""
        method = ""
        try:
            event = await self._in_time(self._event)
            if not isinstance(event, h11.Request):
                return False
            method = event.method.decode("ascii")
            response = await self._response(event, method)
        except h11.RemoteProtocolError as error:
            if self._http.our_state is not h11.IDLE and self._http.our_state is not h11.SEND_RESPONSE:
                return False
            status = error.error_status_hint
            response = plain(status, "the request is no HTTP/1.1 that this server understands")
        self._server.count(method, response.status)
        self._server.requests += 1
        try:
            await self._send(method, response)
        finally:
            self._server.requests -= 1
            if response.close is not None:
                with trio.move_on_after(_LINGERING, shield=True):
                    await response.close()
        return self._http.our_state is not h11.MUST_CLOSE and self._http.their_state is h11.DONE

    async def _in_time(self, read: Callable[[], Awaitable[_Read]]) -> _Read:
        """Return what is read from the client, who loses the connection if that takes too long."""
        with trio.move_on_after(_IDLE) as scope:
            self._server.idle[self] = scope
            try:
                return await read()
            finally:
                self._server.idle.pop(self, None)
        raise _LostError

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._put(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
            self._http.receive_data(bytes(await self._stream.receive_some(_RECEIVED)))
        return event

    async def _response(self, event: h11.Request, method: str) -> Response:
        try:
            if event.http_version not in (b"1.0", b"1.1"):
                raise RefusedError(505, "this server speaks HTTP/1.1")
            if (
                len(event.target) + sum(len(name) + len(value) + 4 for name, value in event.headers)
                > LONGEST_TARGET
            ):
                raise RefusedError(431, f"a request with its headers has at most {LONGEST_TARGET} bytes")
            headers: dict[str, str] = {}
            for name, value in event.headers:
                headers.setdefault(name.decode("ascii"), value.decode("latin-1"))
            if "transfer-encoding" in headers and "content-length" in headers:
                raise RefusedError(
                    400, "a request has one length"
                )  # RFC 9112, section 6.3: requests are smuggled so
            request = replace(parsed(method, event.target, headers), user=self._user, peer=self._peer)
            if method == "PROPFIND":
                request = replace(request, body=await self._in_time(self._body))
            elif "transfer-encoding" not in headers and headers.get("content-length", "0") == "0":
                await self._in_time(self._body)
            return await self._answered(request)
        except RefusedError as error:
            return plain(error.status, error.text, error.headers)
        except OSError as error:
            said = refusal(error)
            return plain(said.status, said.text, said.headers)
        except DamagedError:  # the refresher has said so, and makes a new index
            return plain(503, "the index is damaged, and is built anew", {"Retry-After": "30"})
        except MemoryError:
            return plain(503, "the server has no memory for this; try again", {"Retry-After": "5"})
        except (h11.RemoteProtocolError, _LostError, trio.BrokenResourceError, trio.ClosedResourceError):
            raise
        except Exception:  # a defect must not end the server
            log.exception("a request failed; the client got 500")
            return plain(500, "a defect: please report it, with what the log of the server says")

    async def _answered(self, request: Request) -> Response:
        """Return the response to a request that has arrived as a whole: slow clients take no place of others."""
        if not self._server.has_room():
            said = "the server answers as many requests as it can; try again"
            raise RefusedError(503, said, {"Retry-After": "1"})
        self._server.requests += 1
        try:
            return await self._server.answer(request)
        finally:
            self._server.requests -= 1

    async def _body(self) -> bytes:
        body = bytearray()
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise _LostError
            body += event.data
            if len(body) > _LONGEST_BODY:
                raise RefusedError(413, f"the body of a request has at most {_LONGEST_BODY} bytes")
        return bytes(body)

    async def _send(self, method: str, response: Response) -> None:
        headers = {**_HEADERS, **response.headers}
        body = response.body
        length = len(body) if response.length is None and isinstance(body, bytes) else response.length
        if response.status != 304 and length is not None:
            headers["Content-Length"] = str(length)
        if self._http.their_state is not h11.DONE:
            headers["Connection"] = "close"  # the rest of the request is not read
        reason = HTTPStatus(response.status).phrase.encode()
        start = h11.Response(status_code=response.status, headers=[*headers.items()], reason=reason)
        await self._put(self._http.send(start))
        if method != "HEAD" and response.status != 304:
            if isinstance(body, bytes):
                await self._put(self._http.send(h11.Data(data=body)))
            else:
                await self._send_parts(body)
        await self._put(self._http.send(h11.EndOfMessage()))

    async def _send_parts(self, body: AsyncGenerator[Chunk, None]) -> None:
        try:
            async with aclosing(body) as parts:
                async for part in parts:
                    for piece in self._http.send_with_data_passthrough(h11.Data(data=part)) or ():  # type: ignore[arg-type]
                        await self._put(piece)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise
        except (OSError, DamagedError, RefusedError):
            # The status is sent already. A body that ends too early tells the client.
            self._server.count("", 500)
            raise _LostError from None

    async def _put(self, data: Chunk | None) -> None:
        if not data:
            return
        with trio.move_on_after(_SENDING) as scope:
            self._server.sending[self] = trio.current_time(), scope
            try:
                await self._stream.send_all(data)
                return
            finally:
                self._server.sending.pop(self, None)
        raise _LostError

    async def _linger(self) -> None:
        """Read what the client still sends: to close a connection before would take the response from it."""
        if self._http.their_state is h11.CLOSED or self._http.their_state is h11.DONE:
            return
        with trio.move_on_after(_LINGERING):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                if isinstance(self._stream, trio.SocketStream):
                    await self._stream.send_eof()
                while await self._stream.receive_some(_RECEIVED):
                    pass


def _user_of(stream: trio.abc.Stream) -> int | None:
    """Return the user at the other end of a Unix socket (unix(7), SO_PEERCRED); ``None`` for any other stream."""
    if not isinstance(stream, trio.SocketStream) or stream.socket.family != socket.AF_UNIX:
        return None
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(user)


def _peer_of(stream: trio.abc.Stream) -> str:
    """Return the address at the other end of a stream; of IPv6 its network, whose hosts are countless."""
    if isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if not isinstance(stream, trio.SocketStream) or stream.socket.family == socket.AF_UNIX:
        return ""
    try:
        host = str(stream.socket.getpeername()[0]).partition("%")[0]
    except OSError:  # it is gone already
        return ""
    address = ipaddress.ip_address(host)
    return host if address.version == 4 else str(ipaddress.ip_network((host, 64), strict=False))
