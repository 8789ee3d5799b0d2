"""Words for users: counts of things, times, and suggestions for misspelt names.

Every command that prints uses it. Pure functions: any thread may call them. It imports small modules only, since
every command loads it.
"""

import re
import time
from collections.abc import Iterable, Mapping

_PLURALS = {"study": "studies", "directory": "directories", "entry": "entries"}
_MOST = 3
_SHORTEST_BEGINNING = 3


def counted(number: int, what: str, form: str = "") -> str:
    """Return a number of things: ``1 image``, ``2 images``; ``form`` is the format of the number."""
    return f"{number:{form}} {what if number == 1 else _PLURALS.get(what, what + 's')}"


def moment(seconds: float) -> str:
    """Return a time, given in seconds since 1970, as the clock of this machine: ``2026-11-26 16:40 GMT``.

    A zone without a name is its difference from UTC: ``+0000``.
    """
    local = time.localtime(seconds)
    zone = time.strftime("%Z", local).strip() or time.strftime("%z", local)
    return f"{time.strftime('%Y-%m-%d %H:%M', local)} {zone}"


def did_you_mean(names: Iterable[str]) -> str:
    """Return the remedy of an error about an unknown name: ``did you mean ...?``, nothing without ``names``."""
    close = list(names)
    return f"did you mean {' or '.join(close)}?" if close else ""


def meant(word: str, names: Iterable[str]) -> str:
    """Return the question whether the user meant one of ``names`` by a word, nothing where none is close."""
    return did_you_mean(closest(word, {name: name for name in names}))


def closest(word: str, known: Mapping[str, str]) -> list[str]:
    """Return the few names that are closest to a misspelt word.

    ``known`` maps each accepted text to the name that it stands for. The best of three grades counts. First: the
    text differs from the word in case and in ``_`` or a blank for ``-`` only. Second: the word has one slip (a
    letter too many, too few or wrong, or two in the wrong order), or it is a part of the text between hyphens, or
    the beginning of such a part. Third: the word has few slips. A word of three letters may have one slip, one of
    eight two, one of twelve three.
    """
    wanted = _folded(word)
    texts = [(_folded(text), name) for text, name in known.items()]
    found = [name for text, name in texts if text == wanted]
    if not found and wanted:
        allowed = sum(len(wanted) >= length for length in (3, 8, 12))
        slips = [(_slips(wanted, text, allowed), name) for text, name in texts] if allowed else []
        part = re.compile(f"(^|-){re.escape(wanted)}" + ("" if len(wanted) >= _SHORTEST_BEGINNING else "(-|$)"))
        found = [name for number, name in slips if number <= 1]
        found += [name for text, name in texts if part.search(text)]
        if not found:
            fewest = min((number for number, _ in slips), default=0)
            found = [name for number, name in slips if number == fewest <= allowed]
    return list(dict.fromkeys(found))[:_MOST]


def _folded(text: str) -> str:
    return re.sub(r"[\s_]+", "-", text.strip()).casefold()


def _slips(one: str, other: str, most: int) -> int:
    """Return how many slips lie between two texts (optimal string alignment), more than ``most`` if it is more."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        earlier, before, row = before, row, [i]
        for j, its in enumerate(other, 1):
            fewest = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != its))
            if i > 1 and j > 1 and letter == other[j - 2] and its == one[i - 2]:
                fewest = min(fewest, earlier[j - 2] + 1)
            row.append(fewest)
    return row[-1]
