"""``omidbfs doctor``: checks what a drive needs of its system and its source. The command line uses it, in the
main thread.

Each check is independent, and none may raise an error: anything that is missing, even a Python package, is a
finding.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs.base.errors import UserError
from omidbfs.base.names import printable
from omidbfs.base.places import user_directory
from omidbfs.base.words import counted, moment
from omidbfs.cli.command import command
from omidbfs.cli.options import PATH, of_drive, place_options

if TYPE_CHECKING:
    from omidbfs.database.layout import Source

_PACKAGES = ("msgspec", "numpy", "orjson", "pydicom", "pyfuse3", "rich", "trio")
_EXTRAS = {
    "dask": (("distributed",), "building an index on Dask (--executor dask://HOST:PORT)"),
    "fsspec": (("fsspec",), "the drive as a file system of fsspec, for pandas, Dask, zarr and others"),
    "mpi": (("mpi4py",), "building an index on MPI (--executor mpi)"),
    "parquet": (("pyarrow",), "tables of cohorts as Parquet and Arrow"),
    "pixels": (
        ("PIL", "jpeg_ls", "pylibjpeg", "openjpeg", "gdcm", "scipy"),
        "renditions of compressed images and cropped to the breast, and omidbfs geometry",
    ),
    "report": (("matplotlib",), "omidbfs report"),
    "serve": (("h11",), "omidbfs serve"),
}
"""The modules of each extra, and what it adds."""
_OPENAT2, _NOWAIT = (5, 6), (4, 14)
"""The first kernels with openat2(2), and with RWF_NOWAIT of preadv2(2)."""
_SPACE = 100 << 20
"""The size of an index of half a million images, in bytes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: ``ok``, ``none``, ``warn`` or ``fail``, and what to do if it is not ``ok``.

    ``none`` is an extra that is not installed.
    """

    check: str
    level: str
    found: str
    remedy: str = ""


@command(example="omidbfs doctor db")
@click.argument("source", type=PATH, required=False, callback=of_drive)
@place_options
@click.option("--json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(ctx: click.Context, /, source: Path | None, index: Path | None, json: bool, **options: Any) -> None:
    """Check what drives need of this system, and of SOURCE. The exit status is 1 if a check fails."""
    findings = list(system())
    if source is not None or options["images"] is not None or options["data"] is not None:
        findings += of_source(None if source in (None, Path("-")) else source, index, options)
    if json:
        click.echo(dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            click.echo(printable(f"{finding.level:<5} {finding.check}: {finding.found}{remedy}"))
    ctx.exit(int(any(finding.level == "fail" for finding in findings)))


def system(root: Path = Path("/")) -> Iterator[Finding]:
    """Yield the findings about this system, whose configuration is below ``root``."""
    yield from (package(name) for name in _PACKAGES)
    yield from (extra(name) for name in _EXTRAS)
    yield kernel(os.uname().release)
    yield device(root / "dev/fuse")
    yield fusermount(os.environ.get("PATH", os.defpath))
    yield allow_other(root / "etc/fuse.conf")
    yield app_armor(root / "sys")
    yield updatedb(root / "etc/updatedb.conf")
    yield cache()
    yield from drives()


def of_source(path: Path | None, index: Path | None, options: dict[str, Any]) -> Iterator[Finding]:
    """Yield the findings about a source and its index."""
    try:
        from omidbfs.database.layout import find_source

        found = find_source(path, options["images"], options["data"], follow_symlinks=options["follow_symlinks"])
    except UserError as error:
        yield Finding("source", "fail", str(UserError(error.what, place=error.place)), error.remedy)
        return
    except (OSError, ImportError) as error:
        yield Finding("source", "fail", str(error))
        return
    yield trees(found)
    yield index_of(found, index)


def package(name: str) -> Finding:
    """Check that Python can load a package, with the libraries that it needs."""
    try:
        import_module(name)
    except Exception as error:  # a broken package may raise anything
        return Finding(name, "fail", f"cannot be loaded ({error})", _REMEDIES.get(name, "install omidbfs again"))
    return Finding(name, "ok", "can be loaded")


def extra(name: str) -> Finding:
    """Check that Python can load all modules of an extra. Nothing that omidbfs needs is in one."""
    modules, adds = _EXTRAS[name]
    lacking, broken = [], ""
    for module in modules:
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            lacking.append(error.name or module)
        except Exception as error:  # a broken package may raise anything
            broken = broken or f"{module} cannot be loaded ({error})"
    remedy = f"pip install 'omidbfs[{name}]' adds {adds}"
    if broken:
        return Finding(f"extra {name}", "warn", broken, remedy)
    if lacking:
        found = "not installed" if len(lacking) == len(modules) else f"without {', '.join(lacking)}"
        return Finding(f"extra {name}", "none", found, remedy)
    return Finding(f"extra {name}", "ok", f"installed: {adds}")


_REMEDIES = {"pyfuse3": "install libfuse3 (sudo apt-get install libfuse3-3) and omidbfs again"}


def kernel(release: str) -> Finding:
    """Check that the kernel has openat2 and RWF_NOWAIT. A drive also works without them."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    version = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if version < _OPENAT2:
        missing = "openat2" if version >= _NOWAIT else "openat2 and RWF_NOWAIT"
        return Finding(
            "kernel",
            "warn",
            f"{release} has no {missing}",
            "use 5.6 or newer: links are not followed, reads slower",
        )
    return Finding("kernel", "ok", f"{release} has openat2 and RWF_NOWAIT")


def device(path: Path) -> Finding:
    """Check that this user can open the FUSE device."""
    from omidbfs.fuse.preflight import check_fuse

    return _passes(str(path), lambda: check_fuse(path), "can be opened")


def fusermount(search: str) -> Finding:
    """Check that users other than root can mount."""
    found = shutil.which("fusermount3", path=f"{search}:/bin:/usr/bin")
    if found is None:
        level = "warn" if os.geteuid() == 0 else "fail"
        return Finding("fusermount3", level, "not found", "users need it: sudo apt-get install fuse3")
    status = os.stat(found)
    if not status.st_mode & 0o4000 or status.st_uid != 0:
        level = "warn" if os.geteuid() == 0 else "fail"
        return Finding("fusermount3", level, f"{found} is not setuid root", f"sudo chmod u+s {found}")
    return Finding("fusermount3", "ok", f"{found}, setuid root")


def allow_other(configuration: Path) -> Finding:
    """Check whether users other than root may use ``--allow-other``."""
    from omidbfs.fuse.preflight import check_allow_other

    try:
        check_allow_other(configuration)
    except UserError:
        remedy = f"for --allow-other by users other than root add user_allow_other to {configuration}"
        return Finding("allow_other", "ok" if os.geteuid() == 0 else "warn", "for root only", remedy)
    return Finding("allow_other", "ok", "for users, too")


def app_armor(sys: Path) -> Finding:
    """Check whether AppArmor limits where fusermount3 mounts, as on Ubuntu since 25.04."""
    enabled = sys / "module/apparmor/parameters/enabled"
    try:
        if enabled.read_text().strip() != "Y":
            return Finding("AppArmor", "ok", "off")
        profiles = (sys / "kernel/security/apparmor/profiles").read_text(errors="replace")
    except FileNotFoundError:
        return Finding("AppArmor", "ok", "not in this kernel, or not visible from here")
    except OSError as error:
        return Finding("AppArmor", "warn", f"its profiles cannot be read ({error.strerror})", "ask as root")
    limited = next((line for line in profiles.splitlines() if line.startswith("fusermount3 ")), None)
    if limited is not None and "(enforce)" in limited:
        remedy = (
            "mount below the home, /mnt, /media or /tmp, or add the place to /etc/apparmor.d/local/fusermount3"
        )
        return Finding("AppArmor", "warn", "limits where users may mount", remedy)
    return Finding("AppArmor", "ok", "on, without a profile for fusermount3")


def updatedb(configuration: Path) -> Finding:
    """Check that ``locate`` leaves drives out."""
    try:
        text = configuration.read_text(errors="replace")
    except FileNotFoundError:
        return Finding("updatedb", "ok", "not configured here")
    except OSError as error:
        return Finding("updatedb", "warn", f"{configuration} cannot be read ({error.strerror})", "ask as root")
    pruned = re.search(r'^\s*PRUNEFS\s*=\s*"([^"]*)"', text, re.M)
    if pruned is not None and "fuse.omidbfs" in pruned[1].split():
        return Finding("updatedb", "ok", "leaves drives out")
    return Finding("updatedb", "warn", "indexes drives", f"add fuse.omidbfs to PRUNEFS in {configuration}")


def cache() -> Finding:
    """Check that the default directory of indexes can be written to."""
    remedy = "name a place for the index with --index FILE"
    place = user_directory("cache")
    if place is None:
        return Finding("cache", "warn", "this user has no home", remedy)
    there = next((path for path in (place, *place.parents) if os.path.exists(path)), Path("/"))
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding("cache", "warn", f"{place} cannot be written to", remedy)
    free = os.statvfs(there)
    if free.f_bavail * free.f_frsize < _SPACE:
        return Finding("cache", "warn", f"{place} has little space", remedy)
    return Finding("cache", "ok", f"{place} can be written to")


def drives() -> Iterator[Finding]:
    """Check the drives that are mounted."""
    from omidbfs.fuse.asking import State, ask
    from omidbfs.fuse.mounts import FILE_SYSTEM, mounts

    for mount in mounts():
        if mount.type == FILE_SYSTEM:
            match ask(mount).state:
                case State.DEAD:
                    remedy = f"clear it: omidbfs umount {mount.mountpoint}"
                    yield Finding("drive", "fail", f"{mount.mountpoint} is dead, its process has ended", remedy)
                case State.HANGS:
                    yield Finding("drive", "fail", f"{mount.mountpoint} does not answer", "see to its disk")
                case _:
                    yield Finding("drive", "ok", f"{mount.mountpoint} is mounted")


def trees(source: "Source") -> Finding:
    """Check that both trees of a source can be listed."""
    for tree in source.trees():
        try:
            os.listdir(tree)
        except OSError as error:
            return Finding("source", "fail", f"{tree}: {error.strerror}", "let the user who mounts read all of it")
    missing = [name for name, tree in (("images", source.images), ("data", source.data)) if tree is None]
    if missing:
        return Finding(
            "source", "warn", f"has no {missing[0]} tree", f"name it with --{missing[0]}, if there is one"
        )
    return Finding("source", "ok", f"{source.images}, {source.data}")


def index_of(source: "Source", path: Path | None) -> Finding:
    """Check the saved index of a source."""
    try:
        from omidbfs.index.saved import saved_index
        from omidbfs.index.sections import IndexFileError
        from omidbfs.index.store import default_path, may_replace
    except ImportError:
        return Finding("index", "fail", "cannot be read without the packages above", "install omidbfs again")
    try:
        path = path or default_path(source)
    except UserError as error:
        return Finding("index", "warn", str(error))
    try:
        stored = saved_index(path, source)
    except IndexFileError as error:
        try:
            is_replaceable = may_replace(path)
        except PermissionError:
            is_replaceable = False
        if not is_replaceable:
            return Finding("index", "fail", f"{path}: {error}", "it is left alone; name another --index")
        remedy = "omidbfs index SOURCE builds it, and so does the first mount"
        return Finding("index", "warn", f"{path}: {error}", remedy)
    except (UserError, OSError) as error:
        return Finding("index", "fail", f"{path}: {error}", "see to the disk")
    written = f"written {moment(stored.written)}"
    return Finding("index", "ok", f"{path}: {counted(len(stored.index), 'image')}, {written}")


def _passes(check: str, run: Callable[[], None], found: str) -> Finding:
    try:
        run()
    except UserError as error:
        return Finding(check, "fail", error.what, error.remedy)
    return Finding(check, "ok", found)
