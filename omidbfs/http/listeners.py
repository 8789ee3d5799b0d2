"""The sockets of a server: where it listens, and whether other machines can reach it.

Used by ``omidbfs serve``, in the main thread, before the drive is opened: a port that is taken is found at once.
"""

import errno
import ipaddress
import os
import socket
import ssl
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from omidbfs.base.errors import UserError

_BACKLOG = 1024
UNIX = "unix:"


@dataclass(slots=True)
class Address:
    """Where to listen: a host and a port (0: any free port), or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: Path | None = None
    sockets: list[socket.socket] = field(default_factory=list)
    is_local: bool = True
    """Whether only this machine can reach it."""
    file: os.stat_result | None = None
    """The file of the Unix socket, as it was made."""

    def url(self, scheme: str) -> str:
        """Return the address for a browser, or for a client that knows Unix sockets."""
        if self.path is not None:
            return f"{UNIX}{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}/"

    def close(self) -> None:
        """Close the sockets, and remove the Unix socket, unless that of another server is at its path by now."""
        if self.path is not None and self.file is not None:
            with suppress(OSError):
                if os.path.samestat(self.file, os.lstat(self.path)):
                    self.path.unlink()
        while self.sockets:  # last: while they are open, no other file gets this inode
            self.sockets.pop().close()
        self.file = None


def address_of(text: str) -> Address:
    """Return the address that ``HOST:PORT``, ``PORT`` or ``unix:PATH`` names, with no sockets.

    Raises
    ------
    UserError
        It is none of these, or the host is unknown.
    """
    if text.startswith(UNIX):
        if not text.removeprefix(UNIX):
            raise UserError("names no socket", "unix:/run/user/1000/omidbfs.socket does", f"--http {text}")
        return Address(path=Path(text.removeprefix(UNIX)).absolute())
    host, colon, port = text.rpartition(":")
    host = (host if colon else "127.0.0.1").removeprefix("[").removesuffix("]")
    if not port.isdecimal() or int(port) > 65535 or (colon and not host):
        raise UserError("is no HOST:PORT and no unix:PATH", "127.0.0.1:8080 is one", f"--http {text}")
    address = Address(host, int(port))
    address.is_local = all(ipaddress.ip_address(one[4][0]).is_loopback for one in _resolved(address))
    return address


def _resolved(
    address: Address,
) -> list[tuple[socket.AddressFamily, tuple[str, int], object, object, tuple[str, int]]]:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no name of a host"
        raise UserError(
            f"the host is unknown ({reason})", "127.0.0.1 is this machine", f"--http {address.host}"
        ) from None
    return found  # type: ignore[return-value]


def take(address: Address) -> None:
    """Take the address, without listening yet.

    Raises
    ------
    UserError
        Another program has it, or the system refuses it.
    """
    try:
        if address.path is not None:
            address.sockets.append(_unix(address.path))
            address.file = os.lstat(address.path)
            return
        for family, _, _, _, place in _resolved(address):
            one = socket.socket(family, socket.SOCK_STREAM)
            address.sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((place[0], address.port, *place[2:]))
            address.port = one.getsockname()[1]
    except OSError as error:
        address.close()
        raise _refused(address, error) from None


def listen(address: Address) -> None:
    """Listen at an address that was taken. Until then, clients of a port are refused, and those of a path wait.

    Raises
    ------
    UserError
        Another program has taken the address in the meantime, and listens.
    """
    try:
        for one in address.sockets:
            one.listen(_BACKLOG)
    except OSError as error:
        raise _refused(address, error) from None


def _refused(address: Address, error: OSError) -> UserError:
    remedy = "another program has it; choose another port" if error.errno == errno.EADDRINUSE else ""
    return UserError(error.strerror or str(error), remedy, f"--http {address.url('http')}")


def _unix(path: Path) -> socket.socket:
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
                one.connect(str(path))
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    except FileNotFoundError:
        pass
    except ConnectionRefusedError:  # its server was killed
        path.unlink()
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        one.bind(str(path))
        one.listen(_BACKLOG)  # at once: a socket that refuses connections is taken for one whose server was killed
    except BaseException:
        one.close()
        raise
    finally:
        os.umask(before)
    return one


def encryption(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Return what TLS needs: TLS 1.2 or newer, with a certificate and its key, both PEM.

    Raises
    ------
    UserError
        A file cannot be read, or they do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        reason = error.reason or "it is no PEM"
        raise UserError(f"no certificate with its key ({reason})", "--key names the key", certificate) from None
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", place=error.filename or certificate) from None
    return context


def _no_password() -> str:
    raise UserError("the key has a password", "a server needs a key without", "--key")


def listeners(address: Address, context: ssl.SSLContext | None) -> list[trio.abc.Listener[trio.abc.Stream]]:
    """Return what accepts the connections of an address, which listens. Called in the loop."""
    found: list[trio.abc.Listener[trio.abc.Stream]] = []
    for one in address.sockets:
        one.setblocking(False)
        plain = trio.SocketListener(trio.socket.from_stdlib_socket(one))
        found.append(plain if context is None else trio.SSLListener(plain, context, https_compatible=True))
    return found
