"""Compares the images and clients of two views.

Used by ``changes``, in a thread. Pure functions: any thread may call them. They compare what names and
attributes are made of: files, facets and episodes. So the cause of a difference does not matter: the source or a
definition may have changed, or an index that was built anew may give other values for the same files. Rows are
compared in blocks, with numpy: 3 million images and 45 facets take a second.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omidbfs.database.file_kinds import DCM, FILE_KINDS, FileKind
from omidbfs.index.columns import FIRST_CODE, FileColumns, Index, blocks
from omidbfs.index.identity import NOBODY
from omidbfs.pixels.rendition import Rendition
from omidbfs.view.file_keys import FileKeys
from omidbfs.view.inode import document_keys, image_keys
from omidbfs.view.view import View

_Mask = NDArray[np.bool_]
_Differ = Callable[[slice, NDArray[np.intp]], _Mask]
"""Compares rows of the old index with their places in the new one."""


@dataclass(frozen=True, slots=True)
class Differences:
    """What differs in the new view, in rows and ordinals of the old one.

    Parameters
    ----------
    rows
        Images, ascending, with a name that may lead elsewhere, or nowhere.
    clients
        For each client whether a name in the directories of the client may lead elsewhere.
    images, documents
        Files whose attributes differ: the rows of images for each of ``FILE_KINDS``; and (client, slot).
    rendered
        Images whose renditions have attributes that differ.
    touched
        Keys (:func:`~omidbfs.view.inode.file_key`) of files whose size and time are unchanged, of clients with
        any change: the bytes of these files may have changed.
    """

    rows: NDArray[np.uint32]
    clients: _Mask
    images: tuple[NDArray[np.uint32], ...]
    rendered: NDArray[np.uint32]
    documents: list[tuple[int, int]]
    touched: FileKeys

    def inodes(self, old: View, renditions: Iterable[Rendition]) -> Iterator[int]:
        """Yield the inodes of the files of the old view whose attributes differ, and of some renditions."""
        files = old.files
        # The index does not know the inodes of these renditions.
        changed = (place for inode in files.found_changed_inodes() if (place := files.place(inode)))
        others = [row for row, kind in changed if kind is DCM]
        others += np.intersect1d(self.rendered, old.renditions.learned_rows()).tolist()
        for rendition in renditions:
            for part in blocks(len(self.rendered)):
                rows = self.rendered[part]
                found = old.renditions.inodes(rows[old.renditions.are_there(rows, rendition)], rendition)
                yield from found.tolist()
            of_others = (old.renditions.inode(row, rendition) for row in others)
            yield from (inode for inode in of_others if inode is not None)
        for kind, rows in zip(FILE_KINDS, self.images, strict=True):
            for part in blocks(len(rows)):
                yield from files.images(rows[part], kind).tolist()
        documents = (files.document(client, slot) for client, slot in self.documents)
        yield from (inode for inode in documents if inode is not None)
        yield from files.found_changed_inodes()


def differences(old: View, new: View, *, same_lists: bool) -> Differences:
    """Compare two views with the same identities (:mod:`~omidbfs.serving.continuity`).

    ``same_lists`` says that both roots list the same. Only then link counts are compared: otherwise all may
    differ.
    """
    before, after = old.index, new.index
    touched = _touched_clients(before, after)
    elsewhere = np.zeros(len(before), np.bool_)
    rendered = np.zeros(len(before), np.bool_)
    others = [np.zeros(len(before), np.bool_) for _ in FILE_KINDS]
    keys = FileKeys()
    say_otherwise = [*_facets(before, after), *(pixels := _pixels(before, after))]
    duplicates = _flags(before), _flags(after)
    for rows in blocks(len(before)):
        there, is_gone = _found(before.identity[rows], after.row_of)
        leads_elsewhere = is_gone.copy()
        if len(after):
            leads_elsewhere |= duplicates[0][rows] != duplicates[1][there]
            leads_elsewhere |= _other_episodes(before, after, rows, there)
            for differ in say_otherwise:
                leads_elsewhere |= differ(rows, there)
        has_other_links = _links(old, new, rows, there) if same_lists and len(after) else np.zeros_like(is_gone)
        for kind in FILE_KINDS:
            exists, is_other, is_shown_otherwise = _files(before, after, kind, rows, there, is_gone)
            leads_elsewhere |= exists & is_other
            shown = exists & (is_other | is_shown_otherwise | has_other_links)
            others[kind][rows] = shown
            doubtful = exists & ~is_other & touched[before.client_of[rows]]
            keys.add(image_keys(before.identity[rows][doubtful], kind.number))
        elsewhere[rows] = leads_elsewhere
        rendered[rows] = others[DCM][rows]
        if len(after):
            rendered[rows] |= np.logical_or.reduce([differ(rows, there) for differ in pixels])
    documents, clients, of_documents = _documents(before, after, touched)
    keys.add(of_documents)
    for inode in old.files.found_changed_inodes():  # the kernel may know each version by a different path
        place = old.files.place(inode)
        if place is not None and place[1] is not None:
            elsewhere[place[0]] = rendered[place[0]] = True
        elif place is not None:
            clients[place[0]] = True
    found = _rows(elsewhere)
    clients[before.client_of[found]] = True
    return Differences(found, clients, tuple(map(_rows, others)), _rows(rendered), documents, keys)


def _rows(mask: _Mask) -> NDArray[np.uint32]:
    return np.flatnonzero(mask).astype(np.uint32)


def _found(identities: NDArray[np.uint32], inverse: NDArray[np.uint32]) -> tuple[NDArray[np.intp], _Mask]:
    """Return the place of each identity in the other index, 0 if it is gone, and a mask of those that are gone."""
    places = np.full(len(identities), NOBODY, np.uint32)
    is_known = identities < len(inverse)
    places[is_known] = inverse[identities[is_known]]
    is_gone = places == NOBODY
    return np.where(is_gone, 0, places).astype(np.intp), is_gone


def _touched_clients(before: Index, after: Index) -> _Mask:
    there, is_gone = _found(before.client_identity, after.client_ordinal)
    return is_gone if not len(after.clients) else is_gone | (before.client_digest != after.client_digest[there])


def _flags(index: Index) -> _Mask:
    """Return for each row whether its image has a longer name in flat cohorts."""
    flags = np.zeros(len(index), np.bool_)
    flags[index.duplicates.array()] = True
    return flags


def _links(old: View, new: View, rows: slice, there: NDArray[np.intp]) -> _Mask:
    differ: _Mask = old.lists.links.of(rows) != new.lists.links.of(there)
    return differ


def _codes(before: Mapping[object, int], after: Mapping[object, int]) -> NDArray[np.int64]:
    """Return for each code of one index the code of the same thing in the other index, or -1."""
    table = np.full(max(before.values(), default=0) + 1, -1, np.int64)
    for thing, code in before.items():
        table[code] = after.get(thing, -1)
    return table


def _accesses(index: Index) -> dict[object, int]:
    return {None: 0, **{access: code for code, access in enumerate(index.accesses[1:], 1)}}


def _files(
    before: Index, after: Index, kind: FileKind, rows: slice, there: NDArray[np.intp], is_gone: _Mask
) -> tuple[_Mask, _Mask, _Mask]:
    """Return masks: images that had a file of a kind; have another version or none; show other rights."""
    return _compared(
        FileColumns(*(getattr(before.files[kind], name)[rows] for name in ("size", "mtime", "access"))),
        after.files[kind],
        there,
        is_gone,
        _codes(_accesses(before), _accesses(after)),
    )


def _compared(
    one: FileColumns, other: FileColumns, there: NDArray[np.intp], is_gone: _Mask, codes: NDArray[np.int64]
) -> tuple[_Mask, _Mask, _Mask]:
    exists = one.access != 0
    if not len(other.access):
        return exists, np.ones_like(exists), np.ones_like(exists)
    of = is_gone.reshape(-1, *(1 for _ in one.access.shape[1:]))
    access = other.access[there]
    is_other = of | (access == 0) | (one.size != other.size[there]) | (one.mtime != other.mtime[there])
    return exists, is_other, codes[one.access] != access


def _documents(
    before: Index, after: Index, touched: _Mask
) -> tuple[list[tuple[int, int]], _Mask, NDArray[np.uint64]]:
    """Return the documents with other attributes, the clients with a changed document, and the touched keys."""
    there, is_gone = _found(before.client_identity, after.client_ordinal)
    codes = _codes(_accesses(before), _accesses(after))
    exists, is_other, is_shown_otherwise = _compared(before.documents, after.documents, there, is_gone, codes)
    clients, slots = np.nonzero(exists & (is_other | is_shown_otherwise))
    doubtful = exists & ~is_other & touched[:, np.newaxis]
    keys = [document_keys(before.client_identity[doubtful[:, slot]], slot) for slot in range(doubtful.shape[1])]
    pairs = list(zip(clients.tolist(), slots.tolist(), strict=True))
    changed: _Mask = np.any(exists & is_other, axis=1)
    return pairs, changed, np.concatenate(keys)


def _other_episodes(before: Index, after: Index, rows: slice, there: NDArray[np.intp]) -> _Mask:
    """Return which images are linked to another episode, by the number of the episode within the client."""
    one = before.study_episode[before.study_of[rows]].astype(np.int64)
    other = after.study_episode[after.study_of[there]].astype(np.int64)
    pairs, of_row = np.unique((one + 1) << 32 | (other + 1), return_inverse=True)
    numbers = pairs >> 32, pairs & 0xFFFFFFFF
    differ = (numbers[0] == 0) != (numbers[1] == 0)
    linked = np.flatnonzero((numbers[0] != 0) & (numbers[1] != 0))
    ids = (index.episodes.ids.take(of[linked] - 1) for index, of in zip((before, after), numbers, strict=True))
    differ[linked] = [one != other for one, other in zip(*ids, strict=True)]
    found: _Mask = differ[of_row]
    return found


def _facets(before: Index, after: Index) -> list[_Differ]:
    """Return for each facet of both indexes a function that compares rows with their places in the other index."""
    return [_facet(before, after, name) for name in before.columns if name in after.columns]


def _facet(before: Index, after: Index, name: str) -> _Differ:
    codes = None
    if name in before.texts and before.texts[name] != after.texts[name]:
        codes = _codes(_labels(before, name), _labels(after, name))
    elif name in before.combinations and before.combinations[name] != after.combinations[name]:
        codes = _codes(_combinations(before, name), _combinations(after, name))
    return _column(before.columns[name], after.columns[name], codes)


def _pixels(before: Index, after: Index) -> list[_Differ]:
    """Return functions that compare what the sizes and the inodes of renditions are made of, beside files."""
    formats = (_positions(index.pixel_formats) for index in (before, after))
    sides = (_positions(index.orientations) for index in (before, after))
    return [
        _column(before.format_of, after.format_of, _codes(*formats)),
        _column(before.orientation_of, after.orientation_of, _codes(*sides)),
    ]


def _positions(values: Sequence[object]) -> dict[object, int]:
    return {value: position for position, value in enumerate(values)}


def _column(
    one: NDArray[np.unsignedinteger], other: NDArray[np.unsignedinteger], codes: NDArray[np.int64] | None
) -> _Differ:
    """Return a function that compares a column; ``codes`` are those of the other index, if they differ."""

    def differ(rows: slice, there: NDArray[np.intp]) -> _Mask:
        found = one[rows] if codes is None else codes[one[rows]]
        differing: _Mask = found != other[there]
        return differing

    return differ


def _combinations(index: Index, name: str) -> dict[object, int]:
    return _positions(index.combinations[name])


def _labels(index: Index, name: str) -> dict[object, int]:
    reserved: dict[object, int] = {code: code for code in range(FIRST_CODE)}
    return reserved | {value.label: code for code, value in enumerate(index.texts[name], FIRST_CODE)}
