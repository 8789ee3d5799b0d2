"""Checks what a mount needs before it is tried, and explains each failure in one line.

Used by ``omidbfs mount`` and ``omidbfs doctor``, in the main thread, before anything is mounted.
"""

import os
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from omidbfs.base.errors import UserError
from omidbfs.fuse.asking import State, ask
from omidbfs.fuse.control import detach
from omidbfs.fuse.mounts import FILE_SYSTEM, mounted_at

if TYPE_CHECKING:
    from omidbfs.database.layout import Source


def check_mount(source: "Source", mountpoint: Path, *, allow_other: bool, replace: bool = False) -> None:
    """Check that ``source`` can be mounted at ``mountpoint``; ``replace`` clears a dead mount there.

    Raises
    ------
    UserError
        One of the checks fails.
    """
    check_not_mounted(mountpoint, replace=replace)
    for directory in (source.root, *source.trees()):
        if directory is not None:
            check_apart(Path(directory), mountpoint)
    check_mountpoint(mountpoint)
    check_fuse(Path("/dev/fuse"))
    if os.geteuid() != 0:
        check_fusermount(os.environ.get("PATH", os.defpath))
        if allow_other:
            check_allow_other(Path("/etc/fuse.conf"))


def check_not_mounted(mountpoint: Path, *, replace: bool = False) -> None:
    """Check that nothing is mounted at the mount point, alive or dead.

    With ``replace``, remove a dead drive: one whose process has ended, not one that is slow.
    """
    while (mounted := mounted_at(str(mountpoint))) is not None:
        if mounted.type != FILE_SYSTEM:
            what = f"a file system of type {mounted.type} is already mounted there"
            raise UserError(what, "unmount it or choose another directory", place=mountpoint)
        match ask(mounted).state:
            case State.DEAD if replace:
                detach(mounted.mountpoint)
            case State.DEAD:
                command = f"fusermount3 -u -z {shlex.quote(str(mountpoint))}"
                raise UserError(
                    "a dead mount is there, whose process has ended",
                    f"mount with --replace, or clear it: {command}",
                    place=mountpoint,
                )
            case State.HANGS:
                raise UserError(
                    "a drive of omidbfs is mounted there and does not answer",
                    "see to its disk, or unmount it: omidbfs umount --lazy",
                    place=mountpoint,
                )
            case _:
                raise UserError(
                    "a drive of omidbfs is already mounted there",
                    "unmount it or choose another directory",
                    place=mountpoint,
                )


def check_mountpoint(mountpoint: Path) -> None:
    """Check that the mount point is an empty directory that the user may mount on."""
    try:
        if not mountpoint.is_dir():
            mountpoint.lstat()
            raise UserError("is not a directory", "a mount point is an empty directory", place=mountpoint)
        is_empty = not any(mountpoint.iterdir())
    except FileNotFoundError:
        command = f"mkdir -p {shlex.quote(str(mountpoint))}"
        raise UserError("no such directory", f"create it: {command}", place=mountpoint) from None
    except OSError as error:
        raise UserError(f"cannot be used as mount point: {error.strerror}", place=mountpoint) from None
    if not is_empty:
        raise UserError("is not empty", "its files would be hidden, choose an empty directory", place=mountpoint)
    if not os.access(mountpoint, os.W_OK) and os.geteuid() != 0:
        raise UserError("is not yours to mount on", "choose a directory that you may write to", place=mountpoint)


def check_apart(directory: Path, mountpoint: Path) -> None:
    """Check that neither a directory of the source nor the mount point is or lies inside the other."""
    source, target = directory.resolve(), mountpoint.resolve()
    if target == source:
        raise UserError("is the source itself", "mount on an empty directory elsewhere", place=mountpoint)
    if target.is_relative_to(source):
        raise UserError(f"lies inside the source {directory}", "mount on a directory elsewhere", place=mountpoint)
    if source.is_relative_to(target):
        raise UserError(f"contains the source {directory}", "mount on a directory elsewhere", place=mountpoint)


def check_fuse(device: Path) -> None:
    """Check that the kernel offers FUSE."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise UserError(
            "does not exist",
            "load the module (sudo modprobe fuse), or in a container pass --device /dev/fuse --cap-add SYS_ADMIN",
            place=device,
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot be opened: {error.strerror}",
            "ask an administrator for access to it, or use omidbfs serve or Python",
            place=device,
        ) from None


def check_fusermount(path: str) -> None:
    """Check that users other than root can mount."""
    if shutil.which("fusermount3", path=f"{path}:/bin:/usr/bin") is None:
        raise UserError(
            "not found", "install it (sudo apt-get install fuse3), or mount as root", place="fusermount3"
        )


def check_allow_other(configuration: Path) -> None:
    """Check that a user may open the drive to others."""
    lines = configuration.read_text(errors="replace").splitlines() if configuration.exists() else []
    if "user_allow_other" not in (line.split("#")[0].strip() for line in lines):
        raise UserError(
            "not permitted to users",
            f"an administrator has to add user_allow_other to {configuration}",
            place="--allow-other",
        )


def load_pyfuse3() -> None:
    """Import pyfuse3, which needs the FUSE library of the system."""
    try:
        import pyfuse3  # noqa: F401
    except ModuleNotFoundError:
        raise UserError(
            "not installed, and mounting needs it",
            "install the distribution omidbfs instead of omidbfs-core (it needs a C compiler and libfuse3-dev), "
            "or use Python, fsspec or the other commands",
            place="pyfuse3",
        ) from None
    except ImportError as error:
        raise UserError(
            f"cannot be loaded ({error})",
            "install libfuse3 (sudo apt-get install libfuse3-3) and omidbfs again",
            place="pyfuse3",
        ) from None
