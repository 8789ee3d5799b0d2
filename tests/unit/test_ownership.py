"""Options for owner and group: only the named ones gain access, and no bit is ever added."""

from hypothesis import given
from hypothesis import strategies as st

from omidbfs.view.ownership import Ownership

ids = st.integers(1, 3)
owners = st.builds(Ownership, st.none() | ids, st.none() | ids, st.integers(0, 0o777))


def permitted(mode: int, uid: int, gid: int, user: int, group: int) -> int:
    """What the kernel lets a user of one group do."""
    if user == uid:
        return mode >> 6 & 7
    return mode >> 3 & 7 if group == gid else mode & 7


@given(owners, st.integers(0, 0o777), ids, ids, ids, ids)
def test_only_the_named_owner_and_group_gain_access(
    ownership: Ownership, mode: int, uid: int, gid: int, user: int, group: int
) -> None:
    shown = ownership.shown(mode, uid, gid)
    before, after = permitted(mode, uid, gid, user, group), permitted(*shown, user, group)
    if user != ownership.uid and group != ownership.gid:
        assert after & ~before == 0
    assert after & ~(mode >> 6 | mode >> 3 | mode) == 0


@given(st.integers(0, 0o777), ids, ids)
def test_without_options_everything_is_as_in_the_source(mode: int, uid: int, gid: int) -> None:
    assert Ownership().shown(mode, uid, gid) == (mode, uid, gid)


@given(owners, st.integers(0, 0o777), ids, ids)
def test_shown_ownership_is_shown_again_unchanged(ownership: Ownership, mode: int, uid: int, gid: int) -> None:
    shown = ownership.shown(mode, uid, gid)
    assert ownership.shown(*shown) == shown


def test_the_mask_takes_bits_away() -> None:
    assert Ownership(umask=0o027).shown(0o645, 1, 1) == (0o640, 1, 1)
    assert Ownership(5, 6, 0o077).shown(0o640, 1, 1) == (0o600, 5, 6)
