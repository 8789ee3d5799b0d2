"""Makes inputs that are nearly right: with damage as in real databases, and with hostile values.

A mutation keeps the structure of a JSON seed, so most inputs get past the parser. Some then lose a few bytes. The
same number gives the same input on every machine.
"""

import json
import random
from collections.abc import Sequence
from typing import Any

TEXTS = (
    *(
        "",
        " ",
        "\0",
        "Data anonymised",
        "..",
        "../../etc/passwd",
        "/",
        "-rf",
        "not-x",
        "by-view",
        "CI",
        "N",
        "M",
        "Y",
    ),
    *("2012-05-01", "20120501", "2012-13-41", "0000-00-00", "9999-12-31", "2012", "064Y", "000Y", "999Y", "780M"),
    *(
        "1,2",
        "1,,2",
        "UNLINKED",
        "\u202egnp",
        "\x1b[31m",
        "\u2028",
        "\ud800",
        "é" * 150,
        "x" * 300,
        "漢字",
        "1" * 5000,
    ),
    *(
        "R-10242",
        "399162004",
        "MLO",
        "L",
        "R",
        "HOLOGIC, Inc.",
        "<a&b>",
        "=1+1",
        "%s%n",
        "{}",
        "\r\n",
        "٣",
        "1e9",
        "0x1",
    ),
)
NUMBERS = (
    0,
    1,
    -1,
    5,
    2012,
    1 << 31,
    1 << 63,
    1 << 64,
    -(1 << 70),
    10**400,
    1.5,
    -0.0,
    1e308,
    float("inf"),
    float("nan"),
)
PIECES = (
    *(
        b"",
        b"\0",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b"\\",
        b"\\u",
        b",",
    ),
    *(
        b":",
        b"\n",
        b"'''",
        b'"""',
        b"[[",
        b"=",
        b".",
        b"-",
        b"not-",
        b"~",
        b"%_",
        b"1e999",
        b"NaN",
        b"null",
        b"\\ud800",
    ),
    *(
        b"[" * 2000,
        b'{"a":' * 2000,
        b"a = [" * 500,
        b"9" * 5000,
        b" " * 1000,
        b"\xff\xff\xff\xff",
        b"\0" * 8,
        b"UN",
        b"SQ",
    ),
    *(
        b"\xfe\xff\x0d\xe0",
        b"\xfe\xff\x00\xe0",
        b"1.2.840.10008.1.2.1.99",
        b"1.2.840.10008.1.2.2",
        b"by-view/",
        b"/",
    ),
)


def mutated(number: int, seeds: Sequence[bytes], form: str) -> bytes:
    """Return input ``number``; ``form`` says what the seeds are: ``json`` or ``bytes``."""
    chance = random.Random(number)
    content = chance.choice(seeds)
    if form == "json" and chance.random() < 0.8:
        content = _json(chance, content, seeds)
        if chance.random() < 0.8:
            return content
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        content = _bytes(chance, content, seeds)
    return content


def _bytes(chance: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    place = chance.randint(0, len(content))
    end = min(len(content), place + chance.choice((1, 2, 4, 8, 64, 1000)))
    match chance.randrange(9):
        case 0:  # cut off
            return content[:place]
        case 1:  # a piece is lost
            return content[:place] + content[end:]
        case 2:  # a piece twice
            return content[:end] + content[place:]
        case 3:  # another file goes on here
            other = chance.choice(seeds)
            return content[:place] + other[chance.randint(0, len(other)) :]
        case 4:
            return content[:place] + chance.choice(PIECES) + content[place:]
        case 5:
            return content[:place] + chance.choice(PIECES) + content[end:]
        case 6:
            return content[:place] + chance.randbytes(end - place) + content[end:]
        case 7:  # a page that never reached the disk
            return content[:place] + bytes(end - place) + content[end:]
        case _:
            if place == len(content):
                return content
            return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def _json(chance: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    document = json.loads(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 12))):
        document = _changed(chance, document, seeds)
    text = json.dumps(document, ensure_ascii=chance.random() < 0.5)
    if chance.random() < 0.02:
        return text.encode(chance.choice(("utf-16", "utf-8-sig", "latin-1", "utf-32")), "backslashreplace")
    return text.encode("utf-8", "surrogatepass" if chance.random() < 0.5 else "backslashreplace")


def _changed(chance: random.Random, document: Any, seeds: Sequence[bytes]) -> Any:
    """Change a random place in a document."""
    places = _places(document)
    if not places:
        return _value(chance, seeds)
    holder, key = chance.choice(places)
    match chance.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):  # under another name
            holder[chance.choice((*TEXTS, *(str(known) for inner, known in places)))] = holder[key]
        case 2:  # a value from another place
            other, name = chance.choice(places)
            holder[key] = json.loads(json.dumps(other[name]))
        case 3:
            holder[key] = [holder[key]] if chance.random() < 0.5 else {chance.choice(TEXTS): holder[key]}
        case _:
            holder[key] = _value(chance, seeds)
    return document


def _value(chance: random.Random, seeds: Sequence[bytes]) -> Any:
    match chance.randrange(8):
        case 0:
            return chance.choice((None, True, False, [], {}))
        case 1 | 2:
            return chance.choice(NUMBERS)
        case 3:
            value: Any = chance.choice(TEXTS)
            for _ in range(chance.choice((1, 5, 200))):
                value = [value] if chance.random() < 0.5 else {"Value": value}
            return value
        case 4:
            return [chance.choice(TEXTS) for _ in range(chance.randrange(4))]
        case 5:
            return json.loads(chance.choice(seeds))
        case _:
            return chance.choice(TEXTS)


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Return every (object or list, key) of a document."""
    found, todo = [], [document]
    while todo:
        holder = todo.pop()
        keys: Any = (
            holder.keys() if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        )
        for key in keys:
            found.append((holder, key))
            todo.append(holder[key])
    return found
