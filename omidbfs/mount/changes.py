"""What the kernel has to be told when one view takes the place of another.

The kernel keeps names and attributes for a day. Names that were not found it does not keep, so what is new needs
no word; what is gone, or leads elsewhere, does.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from omidbfs.cohort import IMAGES, Cohort, Term
from omidbfs.export.formats import BY_FILE
from omidbfs.facets import Kind
from omidbfs.files import SUFFIXES, directory_inode, parent_inode
from omidbfs.index.columns import Index
from omidbfs.nodes import Directory, Shape
from omidbfs.view import View

MOST_COMPARISONS = 1_000_000
"""Files times directories that are looked at, about two seconds; beyond that the kernel forgets every name."""

_Names = Mapping[int, list[tuple[int, bytes, int]]]
"""For each row the kind, name in flat cohorts and inode of its files."""


@dataclass(slots=True)
class Changes:
    """Entries to forget, as (inode of the directory, name), and inodes whose attributes to forget."""

    entries: list[tuple[int, bytes]] = field(default_factory=list)
    attributes: list[int] = field(default_factory=list)


def changed_file(view: View, inode: int, known: Iterable[Directory]) -> Changes:
    """Return what the kernel must forget of a file of the source that was found changed when it was opened.

    It may know it by any path, and would say of each, as long as somebody has the old version open, what that is.
    ``known`` are the directories that it knows, as they are in the view: those that hold the file are told.
    """
    flat, real = view.files.names(inode)
    place = view.files.place_of_any_version(inode)
    assert place is not None, "what was opened is of this view"
    row, kind = place
    found = Changes(attributes=[inode])
    for directory in known:
        shape, cohort = directory.shape, directory.cohort
        if kind is None:
            is_hers = shape is Shape.CLIENT and directory.client == row
            is_there = is_hers and view.lookup(directory, real) is not None
        else:
            is_place = shape is Shape.COHORT or (
                shape is Shape.STUDY and directory.study == view.index.study_of[row]
            )
            is_there = is_place and cohort.files[kind] and view.cohorts.contains(cohort, row)
        if is_there:
            found.entries.append((directory.inode, flat if shape is Shape.COHORT else real))
    return found


def changed_clients(old: Index, new: Index) -> set[bytes]:
    """Return the names of the clients that are new, gone, or not as they were."""
    before = dict(zip(old.clients, old.client_digest.tolist(), strict=True))
    after = dict(zip(new.clients, new.client_digest.tolist(), strict=True))
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def changes(old: View, new: View, known: Iterable[bytes], held: Collection[int] = ()) -> Changes:
    """Return what changed between two views.

    ``known`` are the paths of the directories that the kernel knows, without the root; ``held`` the inodes of
    files that are open.
    """
    clients = changed_clients(old.index, new.index) | old.files.clients_found_changed()
    names = {row: _file_names(old, row) for row in _affected_rows(old.index, new.index, clients)}
    directories = [old.root, *(there for path in known if (there := old.resolve(path)) is not None)]
    found = Changes(attributes=[directory.inode for directory in directories])
    found.attributes += (inode for files in names.values() for _, _, inode in files)
    found.attributes += _documents(old, clients)
    found.entries += ((directory_inode(b".omidbfs"), name) for name in old.files.texts())
    found.entries.append((old.root.inode, b"README.txt"))
    flat = [directory for directory in directories if _may_hold(directory, old.index, names)]
    if len(flat) * len(names) > MOST_COMPARISONS:
        # What is not in use the kernel then forgets at all depths; what is open stays, and is told one by one.
        found.entries += ((old.root.inode, entry.name) for entry in old.listing(old.root).page(0, 1000))
        names = {row: kept for row, files in names.items() if (kept := [f for f in files if f[2] in held])}
    if _root(old) != _root(new):  # then the link count of any file may differ: every name is to be looked up again
        found.entries += ((old.root.inode, entry.name) for entry in old.listing(old.root).page(0, 1000))
    for directory in directories:
        if directory.shape is Shape.EXPORTS:  # made of whatever there is: all of it is another file now
            found.entries += ((directory.inode, name) for name in BY_FILE)
        after = new.resolve(directory.path)
        if after is None:
            found.entries.append((parent_inode(directory.path), directory.path.rpartition(b"/")[2]))
        is_same = after is not None and _meaning(old, directory.cohort) == _meaning(new, after.cohort)
        if directory.shape is Shape.COHORT and is_same:
            found.entries += _differing(old, new, directory, after, _names_in(old, directory, names))
        elif directory.shape is Shape.COHORT or (
            directory.shape in (Shape.CLIENT, Shape.STUDY)
            and not (is_same and old.index.clients[directory.client] not in clients)
        ):
            listing = old.listing(directory)
            listed = [(entry.name, entry.inode) for entry in listing.page(0, listing.length)]
            found.entries += _differing(old, new, directory, after, listed)
    return found


def _affected_rows(old: Index, new: Index, clients: Iterable[bytes]) -> list[int]:
    """Return the rows of the clients in the old index, and those that share a UID with one of theirs, ever.

    The name of the latter in flat cohorts may change.
    """
    rows = set(_rows(old, clients))
    names = {old.images[row] for row in rows} | {new.images[row] for row in _rows(new, clients)}
    for name in names:
        rows.update(old.image_table.find(name))
    return sorted(rows)


def _rows(index: Index, clients: Iterable[bytes]) -> Iterator[int]:
    for name in clients:
        for client in index.client_table.find(name):
            yield from range(int(index.client_rows[client]), int(index.client_rows[client + 1]))


def _file_names(view: View, row: int) -> list[tuple[int, bytes, int]]:
    index = view.index
    stem = view.files.flat_name(row) if row in index.duplicates else index.images[row]
    inodes = ((kind, view.files.image(row, kind)) for kind in range(len(SUFFIXES)))
    return [(kind, stem + SUFFIXES[kind], inode) for kind, inode in inodes if inode is not None]


def _documents(view: View, clients: Iterable[bytes]) -> Iterator[int]:
    index = view.index
    for name in clients:
        for client in index.client_table.find(name):
            for slot in range(index.documents.access.shape[1]):
                inode = view.files.document(client, slot)
                if inode is not None:
                    yield inode


def _may_hold(directory: Directory, index: Index, rows: Iterable[int]) -> bool:
    """Return whether a flat cohort may hold one of the rows: those of other clients and studies do not."""
    if directory.shape is not Shape.COHORT:
        return False
    columns = {"client": index.client_of, "study": index.study_of}
    named = [term for term in directory.cohort.terms if term.facet in columns and not term.negated]
    return not named or any(all(int(columns[term.facet][row]) in term.codes for term in named) for row in rows)


def _meaning(view: View, cohort: Cohort) -> list[tuple[str, bool, frozenset[int | bytes | str]]]:
    """Return the terms of a cohort in words that mean the same in every index.

    A text that contains a comma, say, may take the place of a union: who is in it then changes for everybody.
    """
    return [(term.facet, term.negated, _words(view, term)) for term in cohort.terms]


def _words(view: View, term: Term) -> frozenset[int | bytes | str]:
    if term.facet == IMAGES:
        identities = np.sort(view.index.identity[np.fromiter(term.codes, np.intp, len(term.codes))])
        return frozenset([identities.tobytes()])
    if term.facet == "episode":
        linked = [code for code in term.codes if code >= 0]
        names = view.cohorts.episode_names(np.array(linked, np.intp))
        return frozenset([*names, *(["unlinked"] if len(linked) < len(term.codes) else [])])
    return frozenset(_word(view, term.facet, code) for code in term.codes)


def _root(view: View) -> object:
    """Return what the root lists, in words that mean the same in every index."""
    lists = view.lists
    return [facet.name for facet in lists.facets], {
        name: _meaning(view, named) for name, named in lists.named.items()
    }


def _word(view: View, facet: str, code: int) -> int | bytes | str:
    if facet == "client":
        return view.index.clients[code]
    if facet == "study":
        return view.index.studies[code]
    known = view.index.registry.by_name[facet]
    return view.cohorts.label(known, code) if known.kind is Kind.TEXT else code


def _names_in(view: View, directory: Directory, names: _Names) -> Iterator[tuple[bytes, int]]:
    cohort = directory.cohort
    for row, files in names.items():
        if view.cohorts.contains(cohort, row):
            yield from ((name, inode) for kind, name, inode in files if cohort.files[kind])


def _differing(
    old: View, new: View, directory: Directory, after: Directory | None, names: Iterable[tuple[bytes, int]]
) -> Iterator[tuple[int, bytes]]:
    for name, inode in names:
        there = new.lookup(after, name) if after is not None else None
        # Of a file that was found changed, the kernel may know each version by a different path.
        if (
            there if isinstance(there, int) or there is None else there.inode
        ) != inode or old.files.is_found_changed(inode):
            yield directory.inode, name
