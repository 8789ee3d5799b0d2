"""The attributes of a page of entries, written as bytes into the memory of those of pyfuse3."""

import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyfuse3 import EntryAttributes
from trees import PIXELS, Tree, build_index

from omidbfs.database.layout import find_source
from omidbfs.fuse import attributes
from omidbfs.fuse.attributes import Memory, fill, memory
from omidbfs.index.classification import Classification
from omidbfs.view.nodes import Columns
from omidbfs.view.ownership import drive_access
from omidbfs.view.view import View

_TYPES = ("u8", "i8", "u2", "i8", "i8", "u8", "i8")
"""The types of the columns of a view, from the inode to the time."""


def below(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << bits) - 1)


ENTRIES = st.tuples(
    below(64),
    below(9).map(stat.S_IFREG.__or__),
    below(16),
    below(32),
    below(32),
    below(63),
    st.integers(-(1 << 63), (1 << 63) - 1),
)


@given(st.lists(ENTRIES, min_size=1, max_size=5))
def test_bytes_make_the_attributes_that_setters_make(entries: list[tuple[int, ...]]) -> None:
    shared = memory()
    assert shared is not None, "this version of pyfuse3 has such a memory"
    fields = (np.array(values, kind) for values, kind in zip(zip(*entries, strict=True), _TYPES, strict=True))
    names = [b"%d" % number for number in range(len(entries))]
    packed = shared.packed(Columns(names, *fields))
    assert [name for name, _ in packed] == names
    for entry, (_, content) in zip(entries, packed, strict=True):
        expected = EntryAttributes()
        fill(expected, *entry)
        shared.content[:] = content
        shared.attributes.attr_timeout = shared.attributes.entry_timeout = 300
        assert shared.attributes.__getstate__() == expected.__getstate__()


class _Moved(EntryAttributes):
    """Attributes whose size lies elsewhere."""

    st_size = 0


class _Odd(EntryAttributes):
    """Attributes that keep a small mode in another way."""

    @property
    def st_mode(self) -> int:
        return EntryAttributes.st_mode.__get__(self) ^ 1

    @st_mode.setter
    def st_mode(self, mode: int) -> None:
        EntryAttributes.st_mode.__set__(self, mode ^ (mode < 1 << 20))


@pytest.mark.parametrize("kind", [_Moved, _Odd])
def test_other_attributes_have_no_such_memory(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "EntryAttributes", kind)
    with pytest.raises(LookupError):
        Memory()
    memory.cache_clear()
    assert memory() is None
    memory.cache_clear()


@pytest.mark.parametrize("path", ["all", "as-png/all", "by-client/demd1/1.1", "by-view/CC", "by-file-type/json"])
def test_a_listing_has_the_same_entries_as_columns(tmp_path: Path, path: str) -> None:
    tree = Tree(tmp_path)
    for number in (1, 2):
        study = tree.client(f"demd{number}").study("1.1")
        for image in (1, 2, 3):
            study.image(f"1.1.{image}", ViewPosition="CC", **PIXELS)
    source = find_source(tree.root)
    view = View(build_index(source, Classification()), drive_access(source), {})
    place = view.resolve(path.encode())
    assert place is not None
    listing = view.listing(place)
    entries = listing.page(0, 100)
    first = next(number for number, entry in enumerate(entries) if entry.directory is None)
    for start, count in ((first, 100), (first + 1, 1), (first + 2, 3)):
        columns = listing.columns(start, count)
        assert columns is not None
        assert columns.entries() == entries[start : start + count]
    assert listing.columns(len(entries), 5) is None
