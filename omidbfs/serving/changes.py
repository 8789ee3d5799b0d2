"""Finds out what observers must forget when one view replaces another.

Used by ``observers``, in threads, because comparing takes seconds. It reads views, and copies of what belongs to
the loop. The most demanding observer is the kernel, which keeps names and attributes for a day. It does not keep
names that were not found. So observers are told of names that are gone or lead elsewhere, but not of new names.
"""

from collections.abc import Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.cohort import COHORT, FORMATS, IMAGES, Cohort, Term
from omidbfs.exports.formats import BY_FILE
from omidbfs.facets import COHORT_FACET, Kind
from omidbfs.index.columns import blocks
from omidbfs.index.levels import Runs
from omidbfs.index.sections import DamagedError
from omidbfs.serving.differences import differences
from omidbfs.view.file_keys import FileKeys
from omidbfs.view.generated import ExportsDirectory
from omidbfs.view.images import ClientDirectory, CohortDirectory, StudyDirectory
from omidbfs.view.inode import all_keys, directory_inode, is_rendition, parent_inode
from omidbfs.view.nodes import Directory
from omidbfs.view.view import View

MOST_COMPARISONS = 1_000_000
"""The largest number of files, summed over directories, to compare: about two seconds.

If there are more, the kernel forgets every name.
"""


@dataclass(slots=True)
class Changes:
    """What an observer, such as the kernel, must forget.

    ``entries`` are names, as (inode of the directory, name). The name of a directory stands for everything below
    it, too. ``attributes`` are inodes whose attributes to forget. Both are iterables, as there may be millions.
    ``touched`` are the keys of files. The observer may have pages of these files from before an edit.
    """

    entries: Iterable[tuple[int, bytes]] = ()
    attributes: Iterable[int] = ()
    touched: FileKeys = field(default_factory=FileKeys)


def changed_file(view: View, inode: int, known: Iterable[Directory]) -> Changes:
    """Return what the kernel must forget of a file of the source that was found changed when it was opened.

    The kernel may know the file by several paths. While the old version is open, it would give the old attributes
    for each of them. ``known`` are the directories that the kernel knows, as they are in the view. The result has
    the name of the file in each directory that contains it.
    """
    flat, real = view.files.names(inode)
    place = view.files.place_of_any_version(inode)
    assert place is not None, "what was opened is of this view"
    row, kind = place
    entries = []
    for directory in known:
        cohort, is_flat = directory.cohort, isinstance(directory, CohortDirectory)
        name = flat if is_flat else real
        if kind is not None and cohort.rendition is not None:
            name = name.removesuffix(kind.suffix) + cohort.rendition.suffix
        if kind is None:
            is_of_client = isinstance(directory, ClientDirectory) and directory.client == row
            is_there = is_of_client and view.lookup(directory, real) is not None
        else:
            is_place = is_flat or (
                isinstance(directory, StudyDirectory) and directory.study == view.index.study_of[row]
            )
            is_there = is_place and kind in cohort.files and view.cohorts.contains(cohort, row)
        if is_there:
            entries.append((directory.inode, name))
    return Changes(entries, [inode])


def changes(old: View, new: View, known: Iterable[bytes], held: Collection[int] = ()) -> Changes:
    """Return what changed between two views.

    ``known`` are the paths of the directories that the kernel knows, without the root. ``held`` are the inodes of
    open files.
    """
    same_lists = _root(old) == _root(new)
    found = differences(old, new, same_lists=same_lists)
    directories = [old.root, *(there for path in known if (there := old.resolve(path)) is not None)]
    renditions = {shown for directory in directories if (shown := directory.cohort.rendition) is not None}
    entries: list[tuple[int, bytes]] = [(directory_inode(b".omidbfs"), name) for name in old.files.texts.names]
    entries.append((old.root.inode, b"README.txt"))
    attributes = [directory.inode for directory in directories]
    flat, whole = [], []
    for directory in directories:
        if isinstance(directory, ExportsDirectory):  # in a new view every generated file has another inode
            entries += ((directory.inode, name) for name in BY_FILE)
        after = new.resolve(directory.path)
        if after is None:
            entries.append(_place_of(directory.path))
        is_same = after is not None and _meaning(old, directory.cohort) == _meaning(new, after.cohort)
        if any(term.facet == COHORT for term in directory.cohort.terms):
            is_same = is_same and same_lists  # the names of cohorts mean the same
        if isinstance(directory, CohortDirectory):
            flat.append((directory, after, is_same))
        elif isinstance(directory, ClientDirectory | StudyDirectory) and not (
            is_same and not found.clients[directory.client]
        ):
            whole.append((directory, after))
    comparisons = sum(len(_candidates(old, place, found.rows)) for place, _, is_same in flat if is_same)
    comparisons += sum(len(old.cohorts.rows(place.cohort)) for place, _, is_same in flat if not is_same)
    is_open = _open_images(old, held) if comparisons > MOST_COMPARISONS else None
    if is_open is not None or not same_lists:
        # Then the kernel forgets all names below that are not in use. Names of open files are told one by one.
        entries += _names_in_root(old, known)
    if not same_lists:  # the link count of any file may have changed
        attributes += held
    for directory, after, is_same in flat:
        rows = found.rows if is_same else old.cohorts.rows(directory.cohort) if is_open is None else is_open
        if is_open is not None:
            rows = np.intersect1d(rows, is_open)
        names = _names_in(old, directory, _candidates(old, directory, rows))
        entries += _differing(old, new, directory, after, names)
    for directory, after in whole:
        listing = old.listing(directory)
        listed = ((entry.name, entry.inode) for entry in listing.page(0, listing.length))
        entries += _differing(old, new, directory, after, listed)
    return Changes(entries, chain(attributes, found.inodes(old, renditions)), found.touched)


def all_that_is_known(views: Collection[View], known: Collection[bytes], held: Collection[int]) -> Changes:
    """Return all that the kernel may know, for use if the changes cannot be found out.

    ``views`` are the views that it may know, ending with the current one. The other parameters are those of
    :func:`changes`.
    """
    *_, shown = views
    directories = [directory_inode(path) for path in known]
    entries = [_place_of(path) for path in known]
    entries += ((directory_inode(b".omidbfs"), name) for name in shown.files.texts.names)
    entries.append((shown.root.inode, b"README.txt"))
    of_held = {name for view in views for inode in held for name in _names_of(view, inode)}
    everywhere = ((inode, name) for inode in directories for name in (*of_held, *BY_FILE))
    touched = FileKeys()
    for keys in all_keys(shown.index):
        touched.add(np.arange(keys.start, keys.stop, dtype=np.uint64))
    return Changes(chain(entries, everywhere), [shown.root.inode, *directories, *held], touched)


def _names_of(view: View, inode: int) -> tuple[bytes, ...]:
    try:
        if is_rendition(inode):
            return view.renditions.names(inode)
        return () if view.files.current(inode) is None else view.files.names(inode)[:2]
    except DamagedError:  # an open file of a view whose index is damaged: opened again, it is found to be stale
        return ()


def _place_of(path: bytes) -> tuple[int, bytes]:
    return parent_inode(path), path.rpartition(b"/")[2]


def _names_in_root(view: View, known: Iterable[bytes]) -> list[tuple[int, bytes]]:
    """Return the names in the root: all that are listed, and those that begin a known path."""
    names = [entry.name for entry in view.listing(view.root).page(0, 1000)]
    return [(view.root.inode, name) for name in dict.fromkeys([*names, *(path.split(b"/")[0] for path in known)])]


def _open_images(view: View, held: Iterable[int]) -> NDArray[np.uint32]:
    """Return the rows of the images that have an open file."""
    places = (view.place(inode) for inode in held)
    return np.array(sorted({place[0] for place in places if place and place[1] is not None}), np.uint32)


def _candidates(view: View, directory: Directory, rows: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the rows, of some ascending ones, that a flat cohort may contain, by its clients and studies."""
    for term in directory.cohort.terms:
        members = view.cohorts.identified.get(term.facet)
        if isinstance(members, Runs) and not term.negated:
            of = members.bounds
            ends = ((of[code], of[code + 1]) for code in sorted(term.codes))
            parts = [rows[np.searchsorted(rows, first) : np.searchsorted(rows, end)] for first, end in ends]
            rows = np.concatenate([rows[:0], *parts])
    return rows


def _meaning(view: View, cohort: Cohort) -> Hashable:
    """Return a cohort in words that mean the same in every index.

    The meaning of a path can change although no image does. For example, a new value may contain a comma, and its
    name may be that of a union.
    """
    terms = ((term.facet, term.negated, _words(view, term)) for term in cohort.terms if term.facet != FORMATS)
    return tuple(terms), cohort.rendition and view.renditions.definition(cohort.rendition)


def _words(view: View, term: Term) -> frozenset[Hashable]:
    if term.facet == IMAGES:
        identities = np.sort(view.index.identity[np.fromiter(term.codes, np.intp, len(term.codes))])
        return frozenset([identities.tobytes()])
    members = view.cohorts.identified.get(term.facet)
    if members is not None:
        return frozenset(members.names(np.fromiter(term.codes, np.intp, len(term.codes))))
    if term.facet == COHORT:
        cohorts, facet = view.cohorts, COHORT_FACET
        return frozenset(cohorts.label(facet, code) or _meaning(view, cohorts.named[code]) for code in term.codes)
    return frozenset(_word(view, term.facet, code) for code in term.codes)


def _root(view: View) -> object:
    """Return the facets and cohorts that the root lists, in words that mean the same in every index."""
    lists = view.lists
    return [facet.name for facet in lists.facets], {
        name: _meaning(view, named) for name, named in lists.named.items()
    }


def _word(view: View, facet: str, code: int) -> int | bytes | str:
    known = view.index.registry.by_name[facet]
    return view.cohorts.label(known, code) if known.kind is Kind.TEXT else code


def _names_in(view: View, directory: Directory, rows: NDArray[np.uint32]) -> Iterator[tuple[bytes, int]]:
    """Yield name and inode of the files of those rows that belong to a flat cohort."""
    index, cohort = view.index, directory.cohort
    for part in blocks(len(rows)):
        for row in rows[part].tolist():
            if not view.cohorts.contains(cohort, row):
                continue
            stem = view.files.flat_name(row) if row in index.duplicates else index.images[row]
            for shown in cohort.shown:
                inode = view.file(row, shown)
                if inode is not None:
                    yield stem + shown.suffix, inode


def _differing(
    old: View, new: View, directory: Directory, after: Directory | None, names: Iterable[tuple[bytes, int]]
) -> Iterator[tuple[int, bytes]]:
    for name, inode in names:
        there = new.lookup(after, name) if after is not None else None
        # The kernel may know each version of a file that was found changed by a different path.
        if (
            there if isinstance(there, int) or there is None else there.inode
        ) != inode or old.files.is_found_changed(inode):
            yield directory.inode, name
