"""Opening and permissions: the drive shows no more than its caller could read in the source."""

import ctypes
import errno
import os
import stat
from dataclasses import dataclass

_OPENAT2 = 437  # the same number on every Linux architecture
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # O_NONBLOCK: a FIFO must not block the open


@dataclass(frozen=True, slots=True)
class Access:
    """Mode, owner and group of a directory that lies above a file."""

    mode: int
    uid: int
    gid: int


def limited_mode(mode: int, uid: int, gid: int, above: list[Access]) -> int:
    """Return the bits of ``mode`` that remain when every directory ``above`` must be searched first.

    A class of users keeps its bits only if that class may search each directory. Where owner or group of a
    directory differ from the file's, the class is taken for the weakest it can be: nobody gains. That goes for
    directories that shut out their own owner or group (0705), too.
    """
    for directory in above:
        as_owner, as_group, as_other = directory.mode >> 6, directory.mode >> 3, directory.mode
        owner = as_owner if directory.uid == uid else as_group & as_other
        group = as_group if directory.gid == gid else as_group & as_other
        other = as_other if directory.gid == gid else as_group & as_other
        if directory.uid != uid:  # who is not the file's owner may be the directory's
            group, other = group & as_owner, other & as_owner
        if not owner & 1:
            mode &= ~0o700
        if not group & 1:
            mode &= ~0o070
        if not other & 1:
            mode &= ~0o007
    return mode


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)
_RESOLVE = _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS
_FILE = _OpenHow(_FLAGS | os.O_NOFOLLOW, 0, _RESOLVE)
_DIRECTORY = _OpenHow(os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, _RESOLVE)


class TreeReader:
    """Opens files below one directory, and never one outside of it.

    A symbolic link as the last component is refused, and so is one on the way that leaves the directory
    (ELOOP), unless ``follow_symlinks``. Not thread-bound; close it when done.
    """

    def __init__(self, root: str, *, follow_symlinks: bool = False) -> None:
        self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._follow = follow_symlinks
        self._name_flags = _FLAGS if follow_symlinks else _FLAGS | os.O_NOFOLLOW
        self._has_openat2 = True

    def open(self, path: bytes) -> int:
        """Return a descriptor of the regular file ``path``, relative to the root.

        Raises
        ------
        OSError
            As open(2) and openat2(2) do; ELOOP for a refused link, ESTALE for anything but a regular file.
        """
        descriptor = self._open(path)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.ESTALE, "not a regular file")
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

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
        """Return a descriptor of whatever is at ``path``, relative to the root."""
        return self._open(path)

    def opened_in(self, directory: int, name: str) -> int:
        """Return a descriptor of whatever is called ``name`` in a ``directory`` below the root."""
        return os.open(name, self._name_flags, dir_fd=directory)

    def _open(self, path: bytes) -> int:
        if self._follow:
            return os.open(path, _FLAGS, dir_fd=self._root)
        descriptor = self._openat2(path, _FILE)
        return self._open_by_component(path) if descriptor is None else descriptor

    def reaches(self, directory: bytes) -> bool:
        """Return whether files below ``directory``, a link perhaps, can be opened without leaving the root.

        Asks the kernel, which judges each link on the way; without openat2 no link is followed.
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
        while self._has_openat2:
            descriptor: int = _libc.syscall(_OPENAT2, self._root, path, ctypes.byref(how), ctypes.sizeof(_OpenHow))
            if descriptor >= 0:
                return descriptor
            error = ctypes.get_errno()
            if error in (errno.ENOSYS, errno.EPERM):  # an old kernel, or a sandbox that does not know the call
                self._has_openat2 = False
            elif error == errno.EXDEV:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            elif error not in (errno.EAGAIN, errno.EINTR):
                raise OSError(error, os.strerror(error))
        return None

    def _open_by_component(self, path: bytes, flags: int = _FLAGS) -> int:
        """Without openat2 no link at all is followed."""
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
            return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        finally:
            os.close(parent)

    def close(self) -> None:
        """Close the root; open files stay open."""
        os.close(self._root)


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
        # What has the size that it had is the regular file that was listed: nothing to ask.
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
    if len(content) == facts.st_size:  # all there was, as nearly always
        return content
    parts, length = [content], len(content)
    while parts[-1] and length <= limit:
        parts.append(os.pread(descriptor, 1 << 20, length))
        length += len(parts[-1])
    return b"".join(parts)
