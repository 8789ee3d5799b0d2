"""Errors for people."""

from collections.abc import Iterable


class UserError(Exception):
    """Something that its user or administrator can mend; the message is one line: what, where, what to do."""


def meant(word: str, words: Iterable[str]) -> str:
    """Return the end of a message about ``word``: which of ``words`` is close to it, nothing if none is."""
    from difflib import get_close_matches  # here: only mistakes need it

    known = {one.lower(): one for one in words}
    close = get_close_matches(word[:100].lower(), known, 1)
    return f"; did you mean {known[close[0]]}?" if close else ""
