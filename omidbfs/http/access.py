"""Decides whether a request is let in, and as whom: its Host header, its credential, the identity that applies.

Used by ``application``, in the loop of the drive. Any process of the machine can reach a port on loopback. So
every request needs a credential: the token of this server, or a name and its password. A Unix socket of mode 0600
needs none. Credentials are compared in constant time, and appear in no log.
"""

import base64
import hmac
import ipaddress
import math
import secrets
import socket
from collections import Counter
from urllib.parse import urlencode

import trio

from omidbfs.http.messages import RefusedError, Request, Response
from omidbfs.http.passwords import Passwords
from omidbfs.serving.rights import Identity, own_identity

_MOST_GUESSES = 128
"""The most passwords that wait to be compared, one after the other. A comparison takes 32 MB and some 0.1 s."""
_MOST_OF_A_PEER = 16
"""The most of these that come from one address, so that who guesses there keeps out nobody elsewhere."""
_RENEWING = 5.0
"""Seconds for which a request waits for the file of passwords, whose disk or whose users may not answer."""
_FRESH = 1.0
"""Seconds for which a password that was let in counts without another look at the file, which takes a thread."""
_ASK = {"WWW-Authenticate": 'Basic realm="omidbfs", charset="UTF-8"'}
_REFUSED = "a credential is needed: open the address with ?token= that the server printed, or give the password"
_MISDIRECTED = "this server has another name; omidbfs serve --name NAME adds one"


class Door:
    """The door of one server.

    ``passwords`` replaces the token. ``is_private`` says that all connections come over a Unix socket.
    ``names`` are the names by which clients may call the server, besides numeric addresses. ``port`` tells its
    cookie from those of other servers on the machine.
    """

    def __init__(
        self,
        port: int,
        names: frozenset[str],
        passwords: Passwords | None = None,
        *,
        is_private: bool = False,
        is_encrypted: bool = False,
    ) -> None:
        self.token = None if passwords or is_private else secrets.token_hex(20)  # begins with no hyphen
        self._names = {name.lower().rstrip(".") for name in names}
        self._passwords = passwords
        self._is_private = is_private
        self._is_encrypted = is_encrypted
        self._cookie = f"omidbfs-{port}"
        self._own = own_identity()
        self._guesses = Counter[str]()
        self._comparing = trio.CapacityLimiter(1)
        self._renewing = trio.CapacityLimiter(1)
        self._fresh_until = -math.inf

    def check(self, request: Request) -> None:
        """Refuse requests that a page of another site makes a browser send.

        Raises
        ------
        RefusedError
            421: the Host header has another name than those of this server. A page whose own name leads here
            (DNS rebinding) could otherwise read the drive, also through a Unix socket to which ssh -L leads. Or
            the target is one of https, and came without TLS (RFC 9110, section 7.4). 403: the request comes from a
            page of another site.
        """
        if request.scheme == "https" and not self._is_encrypted:
            raise RefusedError(421, "this connection has no TLS")
        if not self._is_ours(request.headers.get("host", "")):
            raise RefusedError(421, _MISDIRECTED)
        fetched = request.headers.get("sec-fetch-site"), request.headers.get("sec-fetch-mode")
        if fetched[0] == "cross-site" and fetched[1] != "navigate":
            raise RefusedError(403, "a page of another site may not use this server")

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
        name = name.lower().rstrip(".")
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True

    def welcome(self, request: Request) -> Response | None:
        """Return the response to ``?token=``: it sets a cookie and leads to the same page without the token."""
        given = request.query.get("token")
        if given is None or self.token is None or request.method not in ("GET", "HEAD"):
            return None
        if not _same(given, self.token):
            raise RefusedError(401, _REFUSED, _ASK)
        left = {name: value for name, value in request.query.items() if name != "token"}
        cookie = f"{self._cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
        headers = {
            "Location": request.path + (f"?{urlencode(left)}" if left else ""),
            "Set-Cookie": cookie + ("; Secure" if self._is_encrypted else ""),
        }
        return Response(303, headers)

    async def identity(self, request: Request) -> Identity:
        """Return the identity whose rights apply to a request.

        Raises
        ------
        RefusedError
            401: there is no credential, or a wrong one. 503: too many passwords are being compared, or the file of
            passwords has changed and cannot be read now.
        """
        if self._is_private:
            if request.user in (0, self._own.uid):
                return self._own
            raise RefusedError(403, "the socket is that of another user")
        if self._passwords is not None:
            return await self._by_password(self._passwords, request)
        assert self.token is not None
        if any(_same(given, self.token) for given in self._given(request)):
            return self._own
        raise RefusedError(401, _REFUSED, _ASK)

    def _given(self, request: Request) -> list[str]:
        """Return what a request gives as the token: its cookie, a bearer token, the password of Basic."""
        found = [given[1]] if (given := _basic(request)) is not None else []
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            found.append(bearer.strip())
        # Not http.cookies, which gives up at a cookie of another server that it does not understand.
        cookies = (one.strip().partition("=") for one in request.headers.get("cookie", "").split(";"))
        return [*found, *(value for name, _, value in cookies if name == self._cookie)]

    async def _by_password(self, passwords: Passwords, request: Request) -> Identity:
        given = _basic(request)
        if given is None:
            raise RefusedError(401, "a name and its password are needed", _ASK)
        identity = passwords.remembered(*given) if trio.current_time() < self._fresh_until else None
        if identity is None:
            await self._renewed(passwords)
            identity = passwords.remembered(*given)
        if identity is not None:
            return identity
        if self._guesses.total() >= _MOST_GUESSES or self._guesses[request.peer] >= _MOST_OF_A_PEER:
            raise RefusedError(503, "too many passwords are being compared; try again", {"Retry-After": "5"})
        self._guesses[request.peer] += 1
        try:
            identity = await trio.to_thread.run_sync(passwords.verified, *given, limiter=self._comparing)
        finally:
            self._guesses -= Counter((request.peer,))  # which drops what is zero
        if identity is None:
            raise RefusedError(401, "the name or the password is wrong", _ASK)
        return identity

    async def _renewed(self, passwords: Passwords) -> None:
        started = trio.current_time()
        with trio.move_on_after(_RENEWING):
            await trio.to_thread.run_sync(passwords.renew, limiter=self._renewing, abandon_on_cancel=True)
            self._fresh_until = started + _FRESH
            return
        raise RefusedError(503, "the file of passwords cannot be read now; try again", {"Retry-After": "5"})


def names_of(host: str) -> frozenset[str]:
    """Return the names by which clients may call a server at a host."""
    local = {"localhost", socket.gethostname(), socket.getfqdn()}
    return frozenset(name for name in (*local, host) if name)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode())


def _basic(request: Request) -> tuple[str, str] | None:
    """Return the name and the password of HTTP Basic authentication (RFC 7617), if a request has them."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(text.strip(), validate=True).decode()
    except ValueError:  # no Base64, or no UTF-8
        return None
    name, colon, password = decoded.partition(":")
    return (name, password) if colon else None
