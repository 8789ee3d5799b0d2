"""The file of passwords: who may use a server, with which password, and as which user of this machine.

Used by ``access``, and by ``omidbfs password``. A line is ``NAME:HASH`` or ``NAME:HASH:USER``. HASH is that of
scrypt (RFC 7914) in the PHC string format. The rights of USER of this machine apply, or those of the user called
NAME. Reading the file may wait for its disk, and for the service that knows the users (nsswitch.conf(5)). So
``access`` does it in a thread.
"""

import base64
import binascii
import hashlib
import hmac
import logging
import os
import pwd
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from omidbfs.base.errors import UserError
from omidbfs.base.names import printable
from omidbfs.serving.rights import Identity

log = logging.getLogger(__name__)

_COST, _BLOCK, _PARALLEL = 15, 8, 1
"""Parameters of scrypt for new lines: 2 ** 15 rounds of 8 blocks take 32 MB, and some 0.1 s."""
_HIGHEST_COST = 17
_LENGTH = 32
_LARGEST = 1 << 20
_HASH = re.compile(
    r"\$scrypt\$ln=(\d{1,2}),r=([1-9]|[12]\d|3[0-2]),p=([1-9])\$([A-Za-z0-9+/]{11,64})\$([A-Za-z0-9+/]{43})"
)
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")


@dataclass(frozen=True, slots=True)
class _Line:
    cost: int
    block: int
    parallel: int
    salt: bytes
    hash: bytes
    identity: Identity


_NOBODY = _Line(_COST, _BLOCK, _PARALLEL, bytes(16), bytes(_LENGTH), Identity(-1, -1))
"""Stands for a name that the file lacks, so that the time of an answer does not tell whether it has the name."""


def new_line(name: str, password: str, user: str | None = None) -> str:
    """Return a line for a file of passwords, without a newline.

    Raises
    ------
    UserError
        The name, the user or the password cannot be used.
    """
    if not _NAME.fullmatch(name):
        raise UserError("a name has letters, digits and . _ @ - only", place=printable(name))
    if len(password) < 8:
        raise UserError("the password is shorter than 8 characters", "choose a longer one")
    identity_of(user or name)
    salt = secrets.token_bytes(16)
    found = _scrypt(password, _COST, _BLOCK, _PARALLEL, salt)
    text = f"$scrypt$ln={_COST},r={_BLOCK},p={_PARALLEL}${_encoded(salt)}${_encoded(found)}"
    return f"{name}:{text}" + (f":{user}" if user else "")


def identity_of(user: str) -> Identity:
    """Return the identity of a user of this machine, with all its groups.

    Raises
    ------
    UserError
        There is no such user, or it is root, who may read everything.
    """
    try:
        known = pwd.getpwnam(user)
    except (KeyError, ValueError):
        raise UserError(
            "there is no such user on this machine", "NAME:HASH:USER names one", printable(user)
        ) from None
    if known.pw_uid == 0:
        raise UserError("root may read everything", "name another user of this machine", user)
    return Identity(known.pw_uid, known.pw_gid, frozenset(os.getgrouplist(user, known.pw_gid)))


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe without a writer must not be waited for


class Passwords:
    """The lines of a file, which :meth:`renew` reads again if it has changed."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises
        ------
        UserError
            The file cannot be read, is open to others, or has a line that is not understood.
        """
        self._path = path
        self._key = secrets.token_bytes(32)
        self._verified: dict[bytes, _Line] = {}
        self._facts, self._lines = self._read()

    def _read(self) -> tuple[tuple[int, ...], dict[str, _Line]]:
        try:
            with open(self._path, encoding="utf-8", errors="backslashreplace", opener=_opened) as stream:
                facts = os.fstat(stream.fileno())
                if not stat.S_ISREG(facts.st_mode):
                    raise UserError("is no regular file", place=self._path)
                if facts.st_mode & 0o077 or facts.st_uid not in (0, os.geteuid()):
                    raise UserError("other users can read it", f"chmod 600 {self._path}", self._path)
                lines = stream.read(_LARGEST).splitlines()
        except OSError as error:
            raise UserError(f"cannot be read ({error.strerror})", place=self._path) from None
        found = {}
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.startswith("#"):
                name, parsed = self._line(line.strip(), f"{self._path}:{number}")
                found[name] = parsed
        if not found:
            raise UserError("has no line", "`omidbfs password NAME` prints one", self._path)
        return _version(facts), found

    def _line(self, line: str, place: str) -> tuple[str, _Line]:
        name, _, rest = line.partition(":")
        text, _, user = rest.partition(":")
        match = _HASH.fullmatch(text)
        if not _NAME.fullmatch(name) or match is None or not 10 <= int(match[1]) <= _HIGHEST_COST:
            raise UserError("is no NAME:HASH or NAME:HASH:USER", "`omidbfs password NAME` prints one", place)
        try:
            salt, known = _decoded(match[4]), _decoded(match[5])
            identity = identity_of(user or name)
        except binascii.Error:
            raise UserError(
                "is no NAME:HASH or NAME:HASH:USER", "`omidbfs password NAME` prints one", place
            ) from None
        except UserError as error:
            raise UserError(f"{error.place}: {error.what}", error.remedy, place) from None
        return name, _Line(int(match[1]), int(match[2]), int(match[3]), salt, known, identity)

    def renew(self) -> None:
        """Read the file again if it has changed. If it cannot be read, nobody is let in until it can.

        One thread at a time calls this. Others may compare passwords meanwhile.
        """
        try:
            if _version(os.stat(self._path)) == self._facts:
                return
            self._facts, self._lines = self._read()
        except (OSError, UserError):
            if self._lines:  # once, and not for each request
                log.error("the file of passwords cannot be used: nobody is let in until it can. A start says why")
            self._facts, self._lines = (), {}
        self._verified.clear()

    def remembered(self, name: str, password: str) -> Identity | None:
        """Return the identity for a pair that :meth:`verified` has let in before; ``None`` for any other."""
        line = self._verified.get(self._digest(name, password))
        # A thread may have verified the password while the file was read again.
        return None if line is None or self._lines.get(name) is not line else line.identity

    def verified(self, name: str, password: str) -> Identity | None:
        """Return the identity for a name and its password, ``None`` if they are wrong.

        This takes some 0.1 s, unless the pair has been let in meanwhile: clients begin with several connections.
        """
        known = self.remembered(name, password)
        if known is not None:
            return known
        line = self._lines.get(name, _NOBODY)
        found = _scrypt(password, line.cost, line.block, line.parallel, line.salt)
        if not hmac.compare_digest(found, line.hash) or line is _NOBODY or self._lines.get(name) is not line:
            return None
        self._verified[self._digest(name, password)] = line
        return line.identity

    def _digest(self, name: str, password: str) -> bytes:
        text = f"{name}\0{password}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, "sha256")


def _version(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _scrypt(password: str, cost: int, block: int, parallel: int, salt: bytes) -> bytes:
    memory = 256 * block * (1 << cost)
    text = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(text, salt=salt, n=1 << cost, r=block, p=parallel, maxmem=memory, dklen=_LENGTH)


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
