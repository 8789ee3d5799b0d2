"""Opens files of the source, and computes permissions: the drive shows a caller no more than the source would.

The readers of the source and the drive use it. Any thread may call the functions; see :class:`TreeReader` for the
rule of that class.
"""

import ctypes
import errno
import os
import stat
import struct
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

_OPENAT2 = 437  # the same number on every Linux architecture
_AT_FDCWD = -100
_STATX_BTIME = 0x800
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_RESOLVE_CACHED = 0x20
_RESOLVE_AT_ONCE = _RESOLVE_CACHED | _RESOLVE_NO_XDEV
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # O_NONBLOCK: a FIFO must not block the open
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.1
"""Shortest and longest pause, in seconds, between two attempts to open a file that is not available yet."""
_PATIENCE = 60.0
"""Seconds until the attempts end: more than the 45 that the kernel grants the holder of a lease."""

_Arguments = ParamSpec("_Arguments")


@dataclass(frozen=True, slots=True)
class Access:
    """Mode, owner and group of a directory above a file."""

    mode: int
    uid: int
    gid: int


def limited_mode(mode: int, uid: int, gid: int, above: list[Access]) -> int:
    """Return ``mode`` without the bits of users who may not search every directory ``above``.

    A class of users keeps its bits only if all its members may search each directory. Where the owner or group of
    a directory differs from that of the file, a class gets the weakest rights that a member can have, so that no
    user gains rights. This includes directories that shut out their own owner or group (0705).
    """
    for directory in above:
        mode &= (_least_bits(directory, uid, gid) & 0o111) * 0o7
    return mode


def no_more_than(before: Access, mode: int, uid: int, gid: int) -> int:
    """Return ``mode`` without the bits that would give a user more rights than ``before`` does.

    Classes of users are compared as in :func:`limited_mode`.
    """
    return mode & _least_bits(before, uid, gid)


def _least_bits(known: Access, uid: int, gid: int) -> int:
    """Return the least rights on ``known`` of the owner ``uid``, the group ``gid`` and others, as a mode."""
    as_owner, as_group, as_other = known.mode >> 6 & 7, known.mode >> 3 & 7, known.mode & 7
    owner = as_owner if known.uid == uid else as_group & as_other
    group = as_group if known.gid == gid else as_group & as_other
    other = as_other if known.gid == gid else as_group & as_other
    if known.uid != uid:  # a member of these classes may own ``known``
        group, other = group & as_owner, other & as_owner
    return owner << 6 | group << 3 | other


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_RESOLVE = _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS
_FILE = _OpenHow(_FLAGS | os.O_NOFOLLOW, 0, _RESOLVE)
_DIRECTORY = _OpenHow(os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, _RESOLVE)
_AT_ONCE = _OpenHow(_FLAGS | os.O_NOFOLLOW, 0, _RESOLVE | _RESOLVE_AT_ONCE)
_AT_ONCE_FOLLOWING = _OpenHow(_FLAGS, 0, _RESOLVE_NO_MAGICLINKS | _RESOLVE_AT_ONCE)
_HOW_SIZE = ctypes.sizeof(_OpenHow)

# Types of file systems (statfs(2)) whose open and fstat never wait for a network or for another process.
_EXT, _XFS, _BTRFS, _TMPFS, _F2FS, _ZFS = 0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0xF2F52010, 0x2FC12FC1
_BCACHEFS, _OVERLAY, _EROFS, _SQUASHFS = 0xCA451A4E, 0x794C7630, 0xE0F5E1E2, 0x73717368
_EXFAT, _ISO = 0x2011BAB0, 0x9660
_LOCAL = frozenset({_EXT, _XFS, _BTRFS, _TMPFS, _F2FS, _ZFS, _BCACHEFS, _OVERLAY, _EROFS, _SQUASHFS, _EXFAT, _ISO})


def is_local(descriptor: int) -> bool:
    """Return whether the file system of a descriptor answers without a network or another process.

    The call itself may block. A file system that does not report its type is not local.
    """
    answer = (ctypes.c_ulong * 32)()  # struct statfs, which begins with the type, is less than half of it
    return _libc.fstatfs(descriptor, ctypes.byref(answer)) == 0 and answer[0] & 0xFFFFFFFF in _LOCAL


def born(path: str) -> int | None:
    """Return the creation time of a file or directory in ns since 1970, ``None`` if it is unknown (statx(2)).

    Raises
    ------
    OSError
        It cannot be reached.
    """
    answer = ctypes.create_string_buffer(256)  # struct statx
    try:
        failed = _libc.statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, answer)
    except AttributeError:  # a C library from before 2018
        return None
    if failed and (number := ctypes.get_errno()) != errno.ENOSYS:
        raise OSError(number, os.strerror(number), path)
    (known,), (seconds, nanoseconds) = struct.unpack_from("I", answer), struct.unpack_from("qI", answer, 80)
    return (seconds * 10**9 + nanoseconds if known & _STATX_BTIME else 0) or None


class TreeReader:
    """Opens files below one directory, the root, and none outside of it.

    Unless ``follow_symlinks``, a symbolic link as the last component is refused (ELOOP), and so is a link on the
    path that leads out of the root. Several threads may share a reader. Close it after use.
    """

    def __init__(self, root: str, *, follow_symlinks: bool = False) -> None:
        self._path = root
        self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._close = weakref.finalize(self, os.close, self._root)  # also when the last reference goes
        self._follow = follow_symlinks
        self._at_once = ctypes.byref(_AT_ONCE_FOLLOWING if follow_symlinks else _AT_ONCE)
        self._name_flags = _FLAGS if follow_symlinks else _FLAGS | os.O_NOFOLLOW
        self._has_openat2 = True
        # If False, every open may block. RESOLVE_CACHED, on which it depends, needs Linux 5.12.
        self._answers_at_once = is_local(self._root)

    def open(self, path: bytes) -> int:
        """Return a descriptor of the regular file ``path``, relative to the root.

        Raises
        ------
        OSError
            As open(2) and openat2(2) do; ELOOP for a refused link, ESTALE for anything but a regular file.
        """
        return self.open_with_facts(path)[0]

    def open_with_facts(self, path: bytes) -> tuple[int, os.stat_result]:
        """Return the descriptor that :meth:`open` returns, and its fstat(2)."""
        return _regular(self._open(path))

    def open_at_once(self, path: bytes) -> tuple[int, os.stat_result] | None:
        """Return what :meth:`open_with_facts` does if that cannot block; ``None`` if it might, or if it fails.

        A file opens only if its name is in the cache of the kernel, on a local disk, and not below another mount.
        """
        if not self._answers_at_once:
            return None
        descriptor: int = _syscall(_OPENAT2, self._root, path, self._at_once, _HOW_SIZE)
        if descriptor >= 0:
            return _regular(descriptor)
        if ctypes.get_errno() in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
            self._answers_at_once = False
        return None

    def found_again(self) -> bool:
        """Open the path of the root again, and return whether it is another directory than before.

        A disk that disappeared and came back is a new mount. Descriptors of the old mount stay unusable.

        Raises
        ------
        OSError
            There is no such directory.
        """
        new = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found, local = os.fstat(new), is_local(new)
            try:
                before = os.fstat(self._root)
                if (found.st_dev, found.st_ino) == (before.st_dev, before.st_ino):
                    return False
            except OSError:
                pass  # the old mount is unusable
            self._answers_at_once = local
            os.dup2(new, self._root, inheritable=False)  # in one step: other threads may be using it
            return True
        finally:
            os.close(new)

    def directory(self, path: bytes) -> int:
        """Return a descriptor (O_PATH) of a directory, for :func:`read_listed` to read many files in it.

        Raises
        ------
        OSError
            As :meth:`open`.
        """
        if self._follow:
            return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._root)
        descriptor = self._openat2(path, _DIRECTORY)
        return self._open_by_component(path, os.O_PATH | os.O_DIRECTORY) if descriptor is None else descriptor

    def opened(self, path: bytes) -> int:
        """Return a descriptor of the file of any type at ``path``, relative to the root."""
        return self._open(path)

    def opened_in(self, directory: int, name: str) -> int:
        """Return a descriptor of the file of any type called ``name`` in a ``directory`` below the root."""
        try:
            return os.open(name, self._name_flags, dir_fd=directory)
        except BlockingIOError:
            return patiently(os.open, name, self._name_flags, dir_fd=directory)

    def _open(self, path: bytes) -> int:
        if self._follow:
            return patiently(os.open, path, _FLAGS, dir_fd=self._root)
        descriptor = self._openat2(path, _FILE)
        return self._open_by_component(path) if descriptor is None else descriptor

    def reaches(self, directory: bytes) -> bool:
        """Return whether files below ``directory``, which may be a link, can be opened without leaving the root.

        The kernel decides on each link of the path. Without openat2 no link is followed.
        """
        try:
            descriptor = self._openat2(directory, _DIRECTORY)
        except OSError:
            return False
        if descriptor is None:
            return False
        os.close(descriptor)
        return True

    def _openat2(self, path: bytes, how: _OpenHow) -> int | None:
        """Return a descriptor, ``None`` where the system has no openat2."""
        if self._has_openat2:
            try:
                return patiently(_openat2, self._root, path, how)
            except OSError as error:
                if error.errno == errno.EXDEV:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
                # The kernel is old, or a sandbox refuses the call.
                if error.errno not in (errno.ENOSYS, errno.EPERM):
                    raise
                self._has_openat2 = False
        return None

    def _open_by_component(self, path: bytes, flags: int = _FLAGS) -> int:
        """Return a descriptor without openat2: no link is followed."""
        *directories, name = path.split(b"/")
        if b".." in directories:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        parent = os.dup(self._root)
        try:
            for directory in directories:
                inner = os.open(
                    directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent
                )
                os.close(parent)
                parent = inner
            return patiently(os.open, name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        finally:
            os.close(parent)

    def close(self) -> None:
        """Close the root; open files stay open."""
        self._close()


def _openat2(root: int, path: bytes, how: _OpenHow) -> int:
    """Return a descriptor from openat2(2)."""
    while True:
        descriptor: int = _libc.syscall(_OPENAT2, root, path, ctypes.byref(how), _HOW_SIZE)
        if descriptor >= 0:
            return descriptor
        error = ctypes.get_errno()
        if error != errno.EINTR:
            raise OSError(error, os.strerror(error))


def patiently(opened: Callable[_Arguments, int], *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> int:
    """Return the result of ``opened``; repeat the call while it fails with EAGAIN.

    It does so until another process gives up its lease on the file (fcntl(2)), as Samba takes them, and while
    directories of the path are being moved.

    Raises
    ------
    OSError
        As ``opened`` does; EAGAIN after a minute.
    """
    pause, waited = _FIRST_PAUSE, 0.0
    while True:
        try:
            return opened(*args, **kwargs)
        except BlockingIOError:
            if waited >= _PATIENCE:
                raise
        time.sleep(pause)
        pause, waited = min(2 * pause, _LONGEST_PAUSE), waited + pause


def _regular(descriptor: int) -> tuple[int, os.stat_result]:
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.ESTALE, "not a regular file")
    except OSError:
        os.close(descriptor)
        raise
    return descriptor, found


def read_file(reader: TreeReader, path: bytes, limit: int) -> bytes:
    """Return the whole of a small file.

    Raises
    ------
    OSError
        As :meth:`TreeReader.open`; EFBIG if the file is larger than ``limit`` bytes.
    """
    descriptor = reader.opened(path)
    try:
        return _contents(descriptor, limit)
    finally:
        os.close(descriptor)


def read_listed(reader: TreeReader, directory: int, name: str, size: int, limit: int) -> bytes:
    """Return the whole of a small file in a directory below the root, which had ``size`` bytes when listed.

    Raises
    ------
    OSError
        As :func:`read_file`.
    """
    descriptor = reader.opened_in(directory, name)
    try:
        # Content of the listed size is that of the regular file that was listed. No fstat is needed.
        content = os.read(descriptor, size + 1) if size <= limit else b""
        return content if len(content) == size else _contents(descriptor, limit)
    finally:
        os.close(descriptor)


def _contents(descriptor: int, limit: int) -> bytes:
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.ESTALE, "not a regular file")
    if facts.st_size > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    content = os.pread(descriptor, facts.st_size + 1, 0)
    if len(content) == facts.st_size:  # the whole file, as nearly always
        return content
    parts, length = [content], len(content)
    while parts[-1] and length <= limit:
        parts.append(os.pread(descriptor, 1 << 20, length))
        length += len(parts[-1])
    return b"".join(parts)


def narrowed(above: list[Access], directory: Access) -> list[Access]:
    """Return ``above`` with ``directory`` added, unless all users may search it and it restricts nothing."""
    return above if directory.mode & 0o111 == 0o111 else [*above, directory]


def path_access(directory: str) -> list[Access]:
    """Return the directories on the path to ``directory``, including itself, that not all users may search."""
    above: list[Access] = []
    path = Path(directory)
    for step in (*reversed(path.parents), path):
        facts = step.stat()
        above = narrowed(above, Access(facts.st_mode, facts.st_uid, facts.st_gid))
    return above
