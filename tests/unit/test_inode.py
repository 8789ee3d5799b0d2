"""Each file and directory of a drive has its own inode, which tells what it stands for."""

import errno

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omidbfs.database.file_kinds import DCM, FILE_KINDS, JSON, FileKind
from omidbfs.database.layout import DOCUMENTS
from omidbfs.database.records import FileFacts
from omidbfs.pixels.sizes import RENDITION_IDENTITIES
from omidbfs.view import inode as module
from omidbfs.view.inode import (
    ROOT_INODE,
    RenditionFields,
    all_versioned,
    directory_inode,
    document_key,
    document_keys,
    export_inode,
    file_key,
    identity_and_part,
    image_key,
    image_keys,
    is_directory,
    is_export,
    is_rendition,
    is_source,
    is_text,
    rendition_fields,
    rendition_hash,
    rendition_inode,
    text_inode,
    text_number,
    versioned,
)

CLASSES = (is_directory, is_source, is_text, is_export, is_rendition)

identities = st.integers(0, 0xFFFFFFFE)  # all of uint32 but NOBODY
digests = st.binary(min_size=16, max_size=16).map(lambda digest: digest.hex().encode())
facts = st.builds(
    FileFacts, st.integers(0, 1 << 50), st.integers(-(1 << 62), 1 << 62), st.just(0), st.just(0), st.just(0)
)
fields = st.builds(
    RenditionFields,
    st.integers(0, RENDITION_IDENTITIES - 1),
    st.integers(0, 0xFFFF),
    st.integers(0, (1 << 19) - 1),
)


def class_of(inode: int) -> int:
    """Return the position of the one class that an inode can be of."""
    assert 0 < inode < 1 << 63
    (found,) = (position for position, is_of in enumerate(CLASSES) if is_of(inode))
    return found


@given(digests)
@example(b"f" * 32)
@example(b"0" * 32)
def test_directories_and_generated_files_are_of_their_class_whatever_their_hash(digest: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "digest", lambda _: digest)
        assert class_of(directory_inode(b"all")) == CLASSES.index(is_directory)
        assert class_of(export_inode(b"view", b"all/.omidbfs/index.csv")) == CLASSES.index(is_export)
        assert 0 <= rendition_hash(b"png") <= 0xFFFF
    assert class_of(ROOT_INODE) == CLASSES.index(is_directory)


@given(identities, st.sampled_from(FILE_KINDS), facts)
@example(0xFFFFFFFE, JSON, FileFacts(0, -1, 0, 0, 0))
def test_the_inode_of_a_file_gives_its_image_and_kind(identity: int, kind: FileKind, facts: FileFacts) -> None:
    key = image_key(identity, kind)
    inode = versioned(key, facts)
    assert class_of(inode) == class_of(key) == CLASSES.index(is_source)
    assert file_key(inode) == key
    assert identity_and_part(inode) == (identity, kind.number)


@given(identities, st.sampled_from(range(len(DOCUMENTS))), facts)
@example(0xFFFFFFFE, len(DOCUMENTS) - 1, FileFacts(1, 2, 0, 0, 0))
def test_the_inode_of_a_document_gives_its_client_and_name(identity: int, slot: int, facts: FileFacts) -> None:
    inode = versioned(document_key(identity, slot), facts)
    assert class_of(inode) == CLASSES.index(is_source)
    assert identity_and_part(inode) == (identity, slot)
    assert file_key(inode) == document_key(identity, slot) != image_key(identity, DCM)


@given(st.lists(st.tuples(identities, facts), min_size=1, max_size=5))
def test_the_inodes_of_many_files_are_those_of_each(files: list[tuple[int, FileFacts]]) -> None:
    numbers = np.array([identity for identity, _ in files], np.uint32)
    sizes = np.array([one.size for _, one in files], np.uint64)
    times = np.array([one.mtime_ns for _, one in files], np.int64)
    for kind in FILE_KINDS:
        found = all_versioned(image_keys(numbers, kind.number), sizes, times).tolist()
        assert found == [versioned(image_key(identity, kind), one) for identity, one in files]
    for slot in range(len(DOCUMENTS)):
        assert document_keys(numbers, slot).tolist() == [document_key(number, slot) for number, _ in files]


@given(st.integers(0, 1000), st.binary(max_size=50))
def test_the_inode_of_a_text_gives_the_text(number: int, content: bytes) -> None:
    inode = text_inode(number, content)
    assert class_of(inode) == CLASSES.index(is_text)
    assert text_number(inode) == number


@given(fields)
@example(RenditionFields(RENDITION_IDENTITIES - 1, 0xFFFF, (1 << 19) - 1))
@example(RenditionFields(0, 0, 0))
def test_every_field_of_a_rendition_survives(fields: RenditionFields) -> None:
    inode = rendition_inode(fields)
    assert class_of(inode) == CLASSES.index(is_rendition)
    assert rendition_fields(inode) == fields


@given(fields, fields)
def test_renditions_that_differ_have_different_inodes(one: RenditionFields, other: RenditionFields) -> None:
    assert (rendition_inode(one) == rendition_inode(other)) == (one == other)


@given(identities.filter(lambda identity: identity >= RENDITION_IDENTITIES))
@example(RENDITION_IDENTITIES)
def test_an_image_without_room_for_renditions_has_none(identity: int) -> None:
    with pytest.raises(OSError, match="no room") as raised:
        rendition_inode(RenditionFields(identity, 1, 1))
    assert raised.value.errno == errno.EOVERFLOW


def test_inodes_do_not_change_between_versions() -> None:
    """A remount gives each file of the source the inode that it had: programs may have kept it."""
    facts = FileFacts(12_345, 1_600_000_000_123_456_789, 0, 0, 0)
    assert [
        directory_inode(b""),
        directory_inode(b"by-view/MLO"),
        versioned(image_key(77, DCM), facts),
        versioned(image_key(77, JSON), facts),
        versioned(document_key(5, 3), facts),
        text_inode(2, b"a text\n"),
        export_inode(b"0123456789abcdef", b"all/.omidbfs/index.csv"),
    ] == [
        1,
        0x4B9B_4648_418D_15C1,
        0x2375_3628_0000_009A,
        0x2375_3628_0000_009B,
        0x1375_3628_0000_0017,
        0xE7D_8118_0000_0002,
        0x3016_993B_CA7B_91F0,
    ]
