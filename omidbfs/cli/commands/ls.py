"""``omidbfs ls``: lists what a drive would show, for people and for scripts. The command line uses it, in the
main thread.
"""

from collections.abc import Iterable, Iterator
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs.cli.command import command
from omidbfs.cli.options import facets_option, session_of, source_options
from omidbfs.cli.selection import asked, cohort_argument, directory_at, json_option, opened_view

if TYPE_CHECKING:
    from omidbfs.view.nodes import Directory, Entry
    from omidbfs.view.view import View

_PAGE = 4096


@command(example="omidbfs ls db by-outcome")
@source_options
@cohort_argument
@json_option
@click.option("--recursive", "-R", is_flag=True, help="List every file below COHORT, as its path on the drive.")
@click.option("--null", "-0", is_flag=True, help="End each name with a null character, as for xargs -0.")
@facets_option
def ls(source: Path, cohort: str, json: bool, recursive: bool, null: bool, **options: Any) -> None:
    """List what the drive would show at COHORT.

    With -R, list all files below COHORT as paths from the root of the drive. find -type f would meet the same
    files there.
    """
    session = session_of(source, options)

    def printed(page: "Iterable[tuple[bytes, Entry]]") -> bytes:
        lines = [_object(name, entry) if json else _name(name, entry) for name, entry in page]
        return b"".join(line + (b"\0" if null else b"\n") for line in lines)

    def ask(view: "View") -> bytes | None:
        """Return a short listing; ``None`` for any other, which is printed in pages."""
        listing = view.listing(directory_at(view, cohort))
        if listing.length > _PAGE:
            return None
        return printed((entry.name, entry) for entry in listing.page(0, _PAGE))

    short = None if recursive else asked(session, options, ask)
    if short is not None:
        click.echo(short, nl=False)
        return
    view = opened_view(session, options)
    directory = directory_at(view, cohort)
    for page in _files_below(view, directory) if recursive else _entries_of(view, directory):
        click.echo(printed(page), nl=False)


def _entries_of(view: "View", directory: "Directory") -> "Iterator[list[tuple[bytes, Entry]]]":
    """Yield the names and entries of a directory in pages."""
    listing = view.listing(directory)
    for start in range(0, listing.length, _PAGE):
        yield [(entry.name, entry) for entry in listing.page(start, _PAGE)]


def _files_below(view: "View", directory: "Directory") -> "Iterator[list[tuple[bytes, Entry]]]":
    """Yield the paths and entries of all files below a directory in pages."""
    for page in _entries_of(view, directory):
        before = directory.path + b"/" if directory.path else b""
        yield [(before + name, entry) for name, entry in page if entry.directory is None]
        for _, entry in page:
            if entry.directory is not None:
                yield from _files_below(view, entry.directory)


def _name(name: bytes, entry: "Entry") -> bytes:
    return name if entry.directory is None else name + b"/"


def _object(name: bytes, entry: "Entry") -> bytes:
    kind = "file" if entry.directory is None else "directory"
    text = name.decode("utf-8", "surrogateescape")
    return dumps({"name": text, "type": kind, "size": entry.attributes.size}).encode()
