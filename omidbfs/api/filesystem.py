"""The drive as a read-only file system of fsspec: ``omidbfs://`` with the source in ``storage_options``.

fsspec loads this module by its entry point, and programs that use fsspec call it, from any thread. A file system
opens its database at its first use, and again in a process that inherits it by fork(2) or gets a pickled one.
"""

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar, NoReturn

from fsspec import AbstractFileSystem
from fsspec.utils import glob_translate

from omidbfs.api.database import Database, Name
from omidbfs.api.database import open as open_database
from omidbfs.api.files import RawFile, Stream, read_only
from omidbfs.api.opened import Opened
from omidbfs.base.errors import UserError
from omidbfs.base.names import digest
from omidbfs.base.words import meant
from omidbfs.view.inode import is_export
from omidbfs.view.nodes import Attributes, Directory, Entry, Export, Node

_MAGIC = re.compile(r"[*?[]")
_PAGE = 1024
_NO_SIZE = None
"""The size of a generated file in a listing, which makes none."""

Info = dict[str, Any]


class OmidbFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The paths of the drive over a source.

    ``ls``, ``find``, ``walk`` and ``**`` meet what the drive lists. Every other path works where it is named: in
    ``by-outcome/*/by-view/MLO/*.dcm`` the nested facet is entered although it is not listed. Everything that would
    change a file raises EROFS.

    Parameters
    ----------
    source
        The directory that holds ``images/`` and ``data/``.
    options
        The other parameters of ``omidbfs.open``. Others are left to fsspec.

    Raises
    ------
    UserError
        An option is misspelt.
    """

    protocol = "omidbfs"
    root_marker = ""
    _options: ClassVar[tuple[str, ...]] = tuple(
        name for name in open_database.__annotations__ if name not in ("source", "return")
    )

    def __init__(self, source: Name | None = None, **options: Any) -> None:
        for name in sorted(options.keys() - {*self._options}):  # others are of fsspec, and of programs above it
            if remedy := meant(name, self._options):
                raise UserError("is no storage option of omidbfs", remedy, name)
        super().__init__(**{name: value for name, value in options.items() if name not in self._options})
        known = {name: value for name, value in options.items() if name in self._options}
        self._database: Database | None = None
        self._open_database: Callable[[], Database] = lambda: open_database(source, **known)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        """Return a path, or each path of a list, without ``omidbfs://`` and without slashes around it."""
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        bare = os.fsdecode(path).removeprefix(f"{cls.protocol}://")
        return "/".join(part for part in bare.split("/") if part)

    def invalidate_cache(self, path: str | None = None) -> None:
        """Open the database again at the next use, to see an index that has been brought up to date."""
        self._database = None

    def _now(self) -> Opened:
        database = self._database
        if database is None:
            database = self._database = self._open_database()
        return database._connection.now()

    # Nodes

    def _find(self, path: str, opened: Opened) -> Node:
        """Return the node at a path."""
        node: Node | None = opened.view.root
        opened.check_search()
        for name in self._strip_protocol(path).split("/"):
            if not name:
                continue
            if not isinstance(node, Directory):
                raise _error(errno.ENOENT if node is None else errno.ENOTDIR, path)
            node = opened.view.lookup(node, os.fsencode(name))
        if node is None:
            raise _error(errno.ENOENT, path)
        return node

    def _found(self, path: str) -> Node | None:
        try:
            return self._find(path, self._now())
        except OSError:
            return None

    def info(self, path: str, **kwargs: Any) -> Info:
        """Return name, type, size and attributes. A generated file is made, unless it is an archive."""
        opened, path = self._now(), self._strip_protocol(path)
        node = self._find(path, opened)
        if isinstance(node, Directory):
            return _info(path, opened.view.directory_attributes(node), is_directory=True)
        if isinstance(node, Export):
            if not opened.drive.may_read(opened.identity, node):
                return _info(path, opened.view.export_attributes(node, 0), is_directory=False)
            size = opened.loop.call(opened.drive.generated.size, node)
            return _info(path, opened.view.export_attributes(node, size), is_directory=False)
        attributes = opened.view.attributes(node)
        assert attributes is not None, "a node that was just found is current"
        return _info(path, attributes, is_directory=False)

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Return whether a path leads to something. It makes nothing."""
        return self._found(path) is not None

    def isdir(self, path: str) -> bool:
        """Return whether a path leads to a directory."""
        return isinstance(self._found(path), Directory)

    def isfile(self, path: str) -> bool:
        """Return whether a path leads to a file."""
        node = self._found(path)
        return node is not None and not isinstance(node, Directory)

    def modified(self, path: str) -> datetime:
        """Return the modification time."""
        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)

    def ukey(self, path: str) -> str:
        """Return a text that differs for another version of a file. It is the same in all processes."""
        opened = self._now()
        node = self._find(path, opened)
        if isinstance(node, int):
            known = opened.view.attributes(node)
            return f"{node:x}-{0 if known is None else known.mtime:x}"
        return digest(os.fsencode(f"{opened.stored.written!r} {self._strip_protocol(path)}")).decode()

    def checksum(self, path: str) -> int:
        """Return :meth:`ukey` as a number."""
        return int(digest(self.ukey(path).encode())[:16], 16)

    # Directories

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """Return the entries of a directory, or the entry of a file. The size of a generated file is ``None``."""
        opened, path = self._now(), self._strip_protocol(path)
        node = self._find(path, opened)
        if not isinstance(node, Directory):
            return [self.info(path)] if detail else [path]
        opened.check_list(node)
        above = f"{path}/" if path else ""
        if not detail:
            return [above + os.fsdecode(entry.name) for entry in _entries(opened, node)]
        return [
            _info(
                above + os.fsdecode(entry.name),
                entry,
                is_directory=entry.directory is not None,
                size_is_known=not is_export(entry.inode),
            )
            for entry in _entries(opened, node)
        ]

    def glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> Any:
        """Return the paths that a pattern matches, or with ``detail`` a dictionary of them.

        A name without ``*``, ``?`` or ``[`` need not be listed. ``**`` meets what is listed.
        """
        detail = kwargs.pop("detail", False)
        parts = self._strip_protocol(path).split("/")
        deep = next((number for number, part in enumerate(parts) if "**" in part), None)
        found = self._matching(parts[:deep])
        if deep is not None:
            rest = "/".join(parts[deep:]) + ("/" if path.endswith("/") else "")
            below = (super(OmidbFileSystem, self).glob(f"{one}/{rest}".lstrip("/"), maxdepth) for one in found)
            found = [one for some in below for one in some]
        elif path.endswith("/"):
            found = [one for one in found if self.isdir(one)]
        found = sorted(set(found))
        return {one: self.info(one) for one in found} if detail else found

    def _matching(self, parts: Iterable[str]) -> list[str]:
        """Return the paths that a pattern without ``**`` matches."""
        found = [""]
        for part in parts:
            if _MAGIC.search(part):
                matches = re.compile(glob_translate(part)).match
                names = ((one, name) for one in found if self.isdir(one) for name in self._names(one))
                found = [f"{one}/{name}".lstrip("/") for one, name in names if matches(name)]
            else:
                found = [one for one in (f"{above}/{part}".strip("/") for above in found) if self.exists(one)]
        return found

    def _names(self, path: str) -> list[str]:
        return [name.rpartition("/")[2] for name in self.ls(path, detail=False)]

    # Files

    def _opened(self, path: str) -> RawFile:
        opened, path = self._now(), self._strip_protocol(path)
        node = self._find(path, opened)
        if isinstance(node, Directory):
            raise _error(errno.EISDIR, path)
        return opened.open(node, path)

    def _open(self, path: str, mode: str = "rb", *args: Any, **kwargs: Any) -> Any:
        if mode != "rb":
            raise read_only()
        return Stream(self._opened(path))

    def open(self, path: str, mode: str = "rb", *args: Any, **kwargs: Any) -> Any:
        """Open a file to read it, as bytes (``rb``) or text (``r``)."""
        if set(mode) & set("wax+"):
            raise read_only()
        return super().open(path, mode, *args, **kwargs)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """Return the bytes of a file from ``start`` to before ``end``. Negative numbers count from its end."""
        with self._opened(path) as file:
            first, last, _ = slice(start, end).indices(file.size)
            return file.part(first, max(first, last))

    def get(self, rpath: Any, lpath: Any, *args: Any, **kwargs: Any) -> None:
        """Copy files to the disk, as fsspec describes it: into ``lpath`` if that is a directory."""
        # fsspec finds the name of what is copied behind a slash, which top-level paths do not have.
        if isinstance(rpath, str) and isinstance(lpath, str) and not rpath.endswith("/"):
            name = self._strip_protocol(rpath)
            is_into = lpath.endswith("/") or os.path.isdir(os.path.expanduser(lpath))
            if is_into and name and "/" not in name and not _MAGIC.search(name):
                lpath = os.path.join(lpath, name)
        super().get(rpath, lpath, *args, **kwargs)

    # Change

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse to change the drive (EROFS)."""
        raise read_only()

    mkdir = rmdir = rm = rm_file = _rm = cp_file = mv = put_file = pipe_file = touch = _refuse

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Refuse to change the drive (EROFS), unless there is nothing to do."""
        if not (exist_ok and self.isdir(path)):
            raise read_only()


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def _entries(opened: Opened, directory: Directory) -> Iterator[Entry]:
    listing = opened.view.listing(directory)
    for start in range(0, listing.length, _PAGE):
        yield from listing.page(start, _PAGE)


def _info(name: str, of: Attributes | Entry, *, is_directory: bool, size_is_known: bool = True) -> Info:
    return {
        "name": name,
        "size": of.size if size_is_known else _NO_SIZE,
        "type": "directory" if is_directory else "file",
        "mtime": of.mtime / 1e9,
        "mtime_ns": of.mtime,
        "mode": of.mode,
        "uid": of.uid,
        "gid": of.gid,
        "ino": of.inode,
        "nlink": of.nlink,
    }
