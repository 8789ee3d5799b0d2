"""Names on the drive. No text of the source becomes a separator, ``..``, an over-long name or a duplicate.

Every part that shows names uses these functions. They are pure: any thread may call them.
"""

import re
from hashlib import blake2b
from unicodedata import combining, normalize

LONGEST = 200
"""Longest identifier or value on the drive, in bytes. With a suffix and a client it still fits into NAME_MAX."""

_MEANING = (b".", b"-", b"by-", b"as-", b"not-", b"nbss_", b"imagedb_", b"NBSS_", b"IMAGEDB_")
_SAFE = re.compile(rb"(?!%s)[A-Za-z0-9._+-]+" % b"|".join(map(re.escape, _MEANING)))
_UNSAFE_BYTE = re.compile(rb"[^A-Za-z0-9._+-]")

_LONGEST_FOLDED = 10240
"""Most characters of a text that :func:`folded` normalises: the length of a DICOM LT. To sort n accents, Unicode
normalisation takes n * n steps."""

RESERVED_WORDS = ("unknown", "other", "none", "unlinked")
"""Values that every facet has (:data:`omidbfs.facets.model.RESERVED`). No free text gets one of these names."""

_AS_IT_IS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.+")
_WORDS: dict[str, str] = dict(
    re.findall(
        r"(\S) (\S+)",
        """
    - minus   < less   > more   ≤ at-most   ≥ at-least   = equals   ≠ unequal   ≈ about   ± plus-minus   ~ tilde
    ( open   ) close   [ open-square   ] close-square   { open-curly   } close-curly   / slash   \\ backslash
    % percent   & and   * star   × times   ? question   ! exclamation   # number   @ at   | bar   _ blank
    , comma   : colon   ; semicolon   ' apostrophe   " quote   ` backtick   ^ caret
    $ dollar   £ pound   € euro   ° degree   µ micro   ² squared   ³ cubed   ß eszett   ø o-stroke   æ ae   œ oe
    α alpha   β beta   γ gamma   δ delta   ε epsilon   ζ zeta   η eta   θ theta   ι iota   κ kappa   λ lambda
    μ mu   ν nu   ξ xi   ο omicron   π pi   ρ rho   σ sigma   ς final-sigma   τ tau   υ upsilon   φ phi   χ chi
    ψ psi   ω omega   \u0300 grave   \u0301 acute   \u0302 circumflex   \u0303 tilde-accent   \u0308 diaeresis
    \u030a ring   \u0327 cedilla   \u030c caron
    """,
    )
)
"""Sign or letter -> the word that spells it out in the name of a value; each word stands for one of them only."""

_SIGNS = "".join(sign for sign in _WORDS if not sign.isalnum() and not combining(sign) and sign not in "-,_")
_BLANKS = re.compile(r"[\s_\0]+")
_DASHES = re.compile("[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
_FULL_STOPS = re.compile(r"(?<=[^. ])[. ]+$")
_BESIDE_A_SIGN = re.compile(rf" ?([{re.escape(_SIGNS)}]) ?")
_LETTER = r"[^\W_]|[\u0300-\u036f]"
_HYPHEN = re.compile(rf"(?<={_LETTER})(?:-| - )(?={_LETTER})")


def safe_bytes(name: bytes) -> bytes:
    """Return the name on the drive of an identifier on disk: the same object if it is safe, else percent-escaped.

    The mapping is one to one. A name of more than :data:`LONGEST` bytes ends in a hash instead of its tail. A
    leading ``.``, ``-``, ``by-``, ``as-``, ``not-``, ``nbss_`` or ``imagedb_`` is escaped: it has a meaning on the
    drive.
    """
    if len(name) <= LONGEST and _SAFE.fullmatch(name):
        return name
    escaped = _UNSAFE_BYTE.sub(lambda match: b"%%%02X" % match[0][0], name)
    if escaped.startswith(_MEANING):
        escaped = b"%%%02X" % escaped[0] + escaped[1:]
    if len(escaped) > LONGEST:
        escaped = escaped[: LONGEST - 34] + b"%_" + digest(name)
    return escaped


def digest(name: bytes) -> bytes:
    """Return a hash of ``name`` as 32 hexadecimal digits."""
    return blake2b(name, digest_size=16).hexdigest().encode()


def slug(text: str) -> str:
    """Return free text as the name of a value: characters of ``[a-z0-9._+-]``, :data:`LONGEST` at most.

    The name depends on the text alone. Two texts get one name if and only if :func:`folded` makes them equal.
    ASCII letters, in lower case, ASCII digits, ``.`` and ``+`` stay. A blank becomes a hyphen. Any other character
    becomes a word between underscores (``<50``: ``_less_50``) or its code point (``_u4e73_``). A word of
    :data:`RESERVED_WORDS` and a text that begins with ``not-`` get an underscore in front. A name that would be
    too long ends in an underscore and 16 hexadecimal digits, a hash of the whole text.
    """
    plain = folded(text) or "_"
    parts = ["_"] if plain in RESERVED_WORDS or plain.startswith("not ") else []
    parts += ["_dot_" if plain[0] == "." else _spelled(plain[0]), *map(_spelled, plain[1 : LONGEST + 1])]
    if len(plain) <= LONGEST and sum(map(len, parts)) <= LONGEST:
        return "".join(parts)
    # Only whole parts are dropped. An unclosed underscore then marks a shortened name and no other.
    while sum(map(len, parts)) > LONGEST - 17:
        del parts[-1]
    return f"{''.join(parts)}_{blake2b(plain.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"


def table_label(text: str) -> str:
    """Return the words of a text from a table of codes, joined by hyphens. No two texts of a table are similar."""
    return "-".join(re.findall("[a-z0-9]+", text.lower()))


def folded(text: str) -> str:
    """Return free text without differences of spelling. Texts with equal results are one value.

    These differences do not count: case; the kind and number of blanks and underscores; the kind of hyphen; a
    blank instead of a hyphen between two words (the minus signs of ``-1.5``, ``ER-`` and ``ER- PR+`` stay); full
    stops at the end; blanks beside a sign such as ``<``, ``%`` or ``(``, but not beside ``. , + -``; the Unicode
    composition of accented letters. After :data:`_LONGEST_FOLDED` characters every difference counts.
    """
    text, rest = text[:_LONGEST_FOLDED], text[_LONGEST_FOLDED:]
    plain = normalize("NFC", normalize("NFC", text).lower())
    plain = _DASHES.sub("-", _BLANKS.sub(" ", plain)).strip()
    plain = _FULL_STOPS.sub("", plain)
    plain = _BESIDE_A_SIGN.sub(r"\1", plain)
    return normalize("NFC", _HYPHEN.sub(" ", plain)) + rest


def _spelled(character: str) -> str:
    """Return the spelling of one character of folded text in a name; every character has its own."""
    if character in _AS_IT_IS:
        return character
    if character == " ":
        return "-"
    if character in _WORDS:
        return f"_{_WORDS[character]}_"
    decomposed = normalize("NFD", character)
    if len(decomposed) > 1:
        return "".join(map(_spelled, decomposed))
    return f"_u{ord(character):x}_"


def printable(text: str) -> str:
    """Return text of the source as one line that is safe to print, on a terminal too.

    Characters that do not print are escaped: invalid Unicode, control characters, direction marks.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
