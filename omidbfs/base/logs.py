"""The form of log lines: a traceback without the messages of its errors, which may quote the source.

The command line and the logs of drives use it, in any thread.
"""

import logging
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import TypeAlias

_SysExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LogFormatter(logging.Formatter):
    """Formats lines as its base class does. Only with ``--debug`` does a traceback have the messages of errors."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, with the traceback below."""
        record.exc_text = None  # another handler may have kept a text with messages there
        return super().format(record)

    def formatException(self, ei: _SysExcInfo) -> str:  # noqa: N802
        """Return the text for an error, with all errors that led to it."""
        if ei[1] is None or logging.getLogger().isEnabledFor(logging.DEBUG):
            return super().formatException(ei)
        return "\n".join(_without_messages(ei[1], set())).rstrip()


def _without_messages(error: BaseException, seen: set[int]) -> Iterator[str]:
    if id(error) in seen:
        return
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _without_messages(before, seen)
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _without_messages(part, seen)
    yield "Traceback (most recent call last):"
    yield "".join(traceback.format_tb(error.__traceback__)) + type(error).__qualname__
