"""The frame of a page: its head, the path that a user can edit, and the links to the directories above.

Used by the modules of pages. Pure functions: any thread may call them. Every text is escaped here or by
:func:`text`, because names and values of a source may hold anything.
"""

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from omidbfs.http.messages import Response, quoted

STATIC = b".page"
"""The first component of the paths of the style sheet and the script. No name on a drive begins so."""

_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_TYPES = {b"page.css": "text/css; charset=utf-8", b"page.js": "text/javascript; charset=utf-8"}


def text(value: object) -> str:
    """Return text for HTML, also for the value of an attribute."""
    shown = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return escape(shown.encode("utf-8", "backslashreplace").decode())


def link(names: Sequence[bytes], query: str = "", *, is_file: bool = False) -> str:
    """Return the address of a path for an attribute ``href`` or ``src``."""
    path = quoted(tuple(names))
    return text(path + ("" if is_file or not names else "/") + (f"?{query}" if query else ""))


def static(name: bytes) -> Response | None:
    """Return the style sheet or the script of the pages; ``None`` if there is no file of this name."""
    if name not in _TYPES:
        return None
    return Response(200, {"Content-Type": _TYPES[name]}, Path(__file__).with_name(os.fsdecode(name)).read_bytes())


def page(title: str, names: Sequence[bytes], parts: Sequence[str]) -> Response:
    """Return a page about a path."""
    shown = b"/".join(names)
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n"
        '<link rel="icon" href="data:,">\n'
        '<link rel="stylesheet" href="/.page/page.css">\n<script src="/.page/page.js" defer></script>\n</head>\n'
        '<body>\n<a class="skip" href="#main">Skip to the images</a>\n<header>\n'
        '<form action="/" method="get" role="search">\n<label for="path">Path</label>\n'
        f'<input id="path" name="go" value="{text(shown)}" spellcheck="false" autocomplete="off">\n'
        '<button type="submit">Go</button>\n<button type="button" id="copy" hidden>Copy</button>\n'
        '<span id="said" role="status"></span>\n</form>\n'
        f"{_crumbs(names)}\n</header>\n"
    )
    content = (head + "\n".join(parts) + "\n</body>\n</html>\n").encode()
    return Response(200, {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": _POLICY}, content)


def _crumbs(names: Sequence[bytes]) -> str:
    """Return links to the directories above, each facet with its value, and a link that takes the pair away."""
    items = ['<li><a href="/">all images</a></li>']
    position = 0
    while position < len(names):
        is_pair = names[position].startswith(b"by-") and position + 1 < len(names)
        end = position + (2 if is_pair else 1)
        label = text(b"/".join(names[position:end]))
        current = ' aria-current="page"' if end == len(names) else ""
        item = f'<a href="{link(names[:end])}"{current}>{label}</a>'
        rest = [*names[:position], *names[end:]]
        if names[position].startswith((b"by-", b"as-")):
            item += f' <a class="away" href="{link(rest)}" aria-label="Take {label} away">×</a>'
        items.append(f"<li>{item}</li>")
        position = end
    return f'<nav aria-label="Conditions"><ol class="crumbs">{"".join(items)}</ol></nav>'
