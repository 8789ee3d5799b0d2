"""Names on the drive: nothing that a file says can become a separator, ``..``, an over-long name or a clash. Used
by every part that shows names; pure functions, for any thread.
"""

import re
from hashlib import blake2b
from unicodedata import combining, normalize

LONGEST = 200
"""Longest identifier or value on the drive, in bytes: with a suffix and a client it stays below NAME_MAX."""

_MEANING = (b".", b"-", b"by-", b"not-", b"nbss_", b"imagedb_", b"NBSS_", b"IMAGEDB_")
_SAFE = re.compile(rb"(?!%s)[A-Za-z0-9._+-]+" % b"|".join(map(re.escape, _MEANING)))
_UNSAFE_BYTE = re.compile(rb"[^A-Za-z0-9._+-]")

_LONGEST_FOLDED = 10240
"""Longest text whose spelling is looked at, that of a DICOM LT: Unicode puts n accents in order in n * n steps."""

RESERVED_WORDS = ("unknown", "other", "none", "unlinked")
"""Values that every facet shares (:data:`omidbfs.facets.model.RESERVED`): no text is called so."""

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
"""Signs and letters -> the words that spell them out in the names of values, other ones for each."""

_SIGNS = "".join(sign for sign in _WORDS if not sign.isalnum() and not combining(sign) and sign not in "-,_")
_BLANKS = re.compile(r"[\s_\0]+")
_DASHES = re.compile("[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
_FULL_STOPS = re.compile(r"(?<=[^. ])[. ]+$")
_BESIDE_A_SIGN = re.compile(rf" ?([{re.escape(_SIGNS)}]) ?")
_LETTER = r"[^\W_]|[\u0300-\u036f]"
_HYPHEN = re.compile(rf"(?<={_LETTER})(?:-| - )(?={_LETTER})")


def safe_bytes(name: bytes) -> bytes:
    """Return the name on the drive of an identifier on disk: the very same object, or percent-escaped if not safe.

    The mapping is one to one; names over :data:`LONGEST` bytes end in a hash instead of their tail. A leading
    ``.``, ``-``, ``by-``, ``not-``, ``nbss_`` or ``imagedb_`` is escaped too: it would mean something else.
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
    """Return 32 hexadecimal digits that stand for ``name``."""
    return blake2b(name, digest_size=16).hexdigest().encode()


def slug(text: str) -> str:
    """Return free text as the name of a value, in ``[a-z0-9._+-]``, at most :data:`LONGEST` long.

    The name depends on the text alone. Two texts have one name if :func:`folded` makes them the same, and only
    then. What no letter, digit, ``.`` or ``+`` of ASCII stands for is spelled out between two underscores
    (``<50``: ``_less_50``), or given by its code point (``_u4e73_``). A word of :data:`RESERVED_WORDS`, and what
    begins with ``not-``, has an underscore in front. A name that would be too long ends in an underscore and 16
    hexadecimal digits that stand for the whole.
    """
    plain = folded(text) or "_"
    parts = ["_"] if plain in RESERVED_WORDS or plain.startswith("not ") else []
    parts += ["_dot_" if plain[0] == "." else _spelled(plain[0]), *map(_spelled, plain[1 : LONGEST + 1])]
    if len(plain) <= LONGEST and sum(map(len, parts)) <= LONGEST:
        return "".join(parts)
    # Whole parts only: no name that was not cut has an underscore that nothing closes.
    while sum(map(len, parts)) > LONGEST - 17:
        del parts[-1]
    return f"{''.join(parts)}_{blake2b(plain.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"


def table_label(text: str) -> str:
    """Return the words of a text of a table of codes. Unlike with free text, it is known that no two are alike."""
    return "-".join(re.findall("[a-z0-9]+", text.lower()))


def folded(text: str) -> str:
    """Return free text without what is mere spelling: texts that are the same then are one value.

    That is: upper or lower case; the kind and number of blanks and underscores; a blank in the place of a hyphen
    between two words (``-1.5``, ``ER-`` and ``ER- PR+`` hold minus signs, and keep them); the kind of the hyphen;
    full stops at the end; blanks beside a sign such as ``<``, ``%`` or ``(``, not beside ``. , + -``; and how
    Unicode composes an accented letter. Behind :data:`_LONGEST_FOLDED` characters every character counts.
    """
    text, rest = text[:_LONGEST_FOLDED], text[_LONGEST_FOLDED:]
    plain = normalize("NFC", normalize("NFC", text).lower())
    plain = _DASHES.sub("-", _BLANKS.sub(" ", plain)).strip()
    plain = _FULL_STOPS.sub("", plain)
    plain = _BESIDE_A_SIGN.sub(r"\1", plain)
    return normalize("NFC", _HYPHEN.sub(" ", plain)) + rest


def _spelled(character: str) -> str:
    """Return what stands for one character of folded text in a name; no other character has the same."""
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
    """Return text of the source that can be written anywhere, to a terminal too, as one line.

    Whatever does not print is escaped: what is no Unicode, control characters, marks that turn text around.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
