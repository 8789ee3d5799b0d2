"""Names on the drive: nothing that a file says can become a separator, ``..``, an over-long name or a clash."""

import os
import re
import unicodedata
from hashlib import blake2b

LONGEST = 200
"""Longest identifier or value on the drive, in bytes: with a suffix and a client it stays below NAME_MAX."""

_MEANING = (b".", b"-", b"by-", b"not-", b"nbss_", b"imagedb_", b"NBSS_", b"IMAGEDB_")
_SAFE = re.compile(rb"(?!%s)[A-Za-z0-9._+-]+" % b"|".join(map(re.escape, _MEANING)))
_UNSAFE_BYTE = re.compile(rb"[^A-Za-z0-9._+-]")
_SLUG_BREAK = re.compile(r"[^a-z0-9.+_]+")


def safe_name(raw: str) -> bytes:
    """Return the name on the drive of an identifier on disk: verbatim, or percent-escaped where it is not safe.

    The mapping is one to one; names over :data:`LONGEST` bytes end in a hash instead of their tail. A leading
    ``.``, ``-``, ``by-``, ``not-``, ``nbss_`` or ``imagedb_`` is escaped too: it would mean something else.
    """
    return safe_bytes(os.fsencode(raw))


def safe_bytes(name: bytes) -> bytes:
    """Return :func:`safe_name` of an identifier as bytes; the very same object if it is safe."""
    if len(name) <= LONGEST and _SAFE.fullmatch(name):
        return name
    escaped = _UNSAFE_BYTE.sub(lambda match: b"%%%02X" % match[0][0], name)
    if escaped.startswith(_MEANING):
        escaped = b"%%%02X" % escaped[0] + escaped[1:]
    if len(escaped) > LONGEST:
        escaped = escaped[: LONGEST - 34] + b"%_" + digest(name)
    return escaped


def digest(name: bytes) -> bytes:
    """Return 32 hexadecimal digits that stand for ``name``."""
    return blake2b(name, digest_size=16).hexdigest().encode()


def slug(text: str) -> str:
    """Return free text as the name of a value: lower case, in ``[a-z0-9._+-]``, at most :data:`LONGEST` long.

    Text without a single such character is named by a hash.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    name = _SLUG_BREAK.sub("-", plain).lstrip("-.").rstrip("-")
    if not name:
        return f"text-{digest(text.encode('utf-8', 'replace')).decode()[:8]}"
    if len(name) > LONGEST:
        return f"{name[: LONGEST - 9]}-{digest(text.encode('utf-8', 'replace')).decode()[:8]}"
    return name


def printable(text: str) -> str:
    """Return text of the source that can be written anywhere, to a terminal too, as one line.

    Whatever does not print is escaped: what is no Unicode, control characters, marks that turn text around.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
