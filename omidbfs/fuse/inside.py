"""Finds the drive that a path leads into, and the options with which the drive shows its source.

Used by commands that take a path, in any thread. Only :func:`shown` touches the drive itself: a drive that hangs
or is dead must not make a command hang.
"""

import os
from pathlib import Path
from typing import Any

from omidbfs.base.errors import UserError
from omidbfs.fuse.mounts import FILE_SYSTEM, mount_at, mounts


def inside(path: str) -> tuple[str, str] | None:
    """Return the mount point of the drive that a path leads into, and the path from there (``""``: the root).

    Return ``None`` for any other path.
    """
    try:
        types = {mount.mountpoint: mount.type for mount in mounts()}  # the last at a path is on top
    except OSError:
        return None
    if FILE_SYSTEM not in types.values():
        return None
    place = "/"
    names = os.path.abspath(path).split("/")[1:]
    for number, name in enumerate(names, 1):
        place = os.path.join(place, name)
        if types.get(place) != FILE_SYSTEM:
            place = os.path.realpath(place)  # a link may lead to a drive
        if types.get(place) == FILE_SYSTEM:
            return place, "/".join(names[number:])
    return None


def shown(mountpoint: str) -> dict[str, Any]:
    """Return the options with which a command gives the same answers as a drive, by name.

    They are its trees, how it reads and classifies them, and its index. The index is left out unless the caller
    owns the file, because any user may mount something that calls itself a drive.

    Raises
    ------
    UserError
        The drive does not answer, or not this user.
    """
    import msgspec

    from omidbfs.fuse.asking import SILENT, State, ask

    mount = mount_at(mountpoint)
    answer = None if mount is None else ask(mount)
    status = None if answer is None else answer.status
    if status is None:
        said = SILENT[State.DEAD if answer is None else answer.state]
        raise UserError(said, "or name the directory that it shows", place=mountpoint)
    options: dict[str, Any] = msgspec.to_builtins(status.options) | {"follow_symlinks": status.follow_symlinks}
    trees = {"images": status.images_directory, "data": status.data_directory}
    options |= {tree: Path(place) for tree, place in trees.items() if place is not None}
    index = Path(status.index)
    if os.path.isfile(index) and index.stat().st_uid == os.geteuid():
        options["index"] = index
    return {name: value for name, value in options.items() if value is not None}
