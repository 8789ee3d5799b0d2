"""Compares what a front end shows with the plain model, path by path. Used by tests of several front ends."""

import os
import stat
from collections.abc import Mapping

from reference import File, Place, Reference


def compare(found: Mapping[str, os.stat_result], model: Reference) -> None:
    """Check that the paths of a drive, with their ``lstat``, are those of the model."""
    expected, links = dict(model.walk()), model.links()
    assert found.keys() == expected.keys()
    inode_of: dict[str, int] = {}
    for path, facts in found.items():
        node = expected[path]
        if isinstance(node, Place):
            assert stat.S_ISDIR(facts.st_mode), path
            continue
        assert stat.S_ISREG(facts.st_mode), path
        assert facts.st_mode & 0o222 == 0, path
        if not isinstance(node, File):
            assert facts.st_nlink == 1, path
            continue
        served = (facts.st_size, facts.st_mtime_ns, stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid)
        assert served == (node.size, node.mtime, node.mode, node.uid, node.gid), path
        assert facts.st_mode & 0o400, "what the owner may read in the source is readable"
        assert facts.st_atime_ns == facts.st_ctime_ns == facts.st_mtime_ns, path
        assert facts.st_nlink == links[node.source], path
        assert inode_of.setdefault(node.source, facts.st_ino) == facts.st_ino, path
    assert len(set(inode_of.values())) == len(inode_of), "two files with one inode"
    inodes = [facts.st_ino for facts in found.values() if stat.S_ISDIR(facts.st_mode)]
    assert len(set(inodes)) == len(inodes), "two directories with one inode"
    assert not set(inodes) & set(inode_of.values())
