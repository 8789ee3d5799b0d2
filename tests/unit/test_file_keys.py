"""Sets of files of the source are sets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omidbfs.view.file_keys import FileKeys
from omidbfs.view.inode import DOCUMENT, IMAGE, directory_inode, file_key

KEYS = st.builds(int.__or__, st.sampled_from((IMAGE, DOCUMENT)), st.integers(0, 3000))
SETS = st.frozensets(KEYS, max_size=30)


@given(SETS, SETS, SETS)
def test_keys_are_added_joined_and_removed(
    one: frozenset[int], other: frozenset[int], gone: frozenset[int]
) -> None:
    keys = FileKeys(one)
    joined = keys | FileKeys(other)
    keys.add(np.array(sorted(gone), np.uint64))
    assert set(keys) == one | gone
    for key in gone:
        keys.discard(key)
        keys.discard(key)
    assert set(keys) == one - gone
    assert set(joined) == one | other, "a set of its own"
    assert len(joined) == len(one | other)
    assert bool(joined) == bool(one or other)
    assert [key in joined for key in (*one, *other, *gone)] == [
        key in one | other for key in (*one, *other, *gone)
    ]
    assert file_key(directory_inode(b"all")) not in joined
