"""The renditions that a configuration defines, in tables ``[renditions.NAME]``.

The reader of configurations uses it. Pure functions: any thread may call them.
"""

import re
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from omidbfs.base.definitions import RefusedError, Where, defined
from omidbfs.base.tables import understood
from omidbfs.pixels.rendition import (
    BUILT_IN,
    CROP,
    LARGEST,
    SMALLEST,
    Box,
    Configured,
    Format,
    Longest,
    Rendition,
    Window,
    size_in,
)

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_WITH_SIZE = re.compile(rf"({'|'.join(BUILT_IN)})-[0-9]+(x[0-9]+)?({CROP})?")
_LONGEST = 100
_UNKNOWN = "is not understood; format, size, window, invert, mirror, crop and margin are"
_SIZE = f'is "RxC" or N: rows and columns, or the longest side, from {SMALLEST} to {LARGEST}'
_MARGIN = "is 0 to 1, a share of the longer side of the breast"
_WINDOW = "is voi, stored, minmax or [centre, width]"

_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    """A table ``[renditions.NAME]``."""

    format: Annotated[
        Literal["png", "png16", "tiff", "npy"] | None, msgspec.Meta(description="is png, png16, tiff or npy")
    ] = None
    size: Annotated[int | str | None, msgspec.Meta(description=_SIZE)] = None
    window: Annotated[
        Literal["voi", "stored", "minmax"] | tuple[float, float] | None, msgspec.Meta(description=_WINDOW)
    ] = None
    invert: Annotated[Literal["auto", "never"] | None, msgspec.Meta(description="is auto or never")] = None
    mirror: Annotated[bool | None, msgspec.Meta(description="is true or false")] = None
    crop: Annotated[bool | None, msgspec.Meta(description="is true or false")] = None
    margin: Annotated[_Share | None, msgspec.Meta(description=_MARGIN)] = None


def configured(tables: Mapping[str, object], place: Path, text: str, mtime_ns: int) -> Configured:
    """Return the renditions in the ``[renditions.NAME]`` tables of a configuration with a modification time.

    Raises
    ------
    UserError
        A definition is wrong: file, line, reason.
    """
    found = defined("renditions", tables, place, text, _rendition)
    return Configured({one.name: one for one in found}, mtime_ns) if found else Configured()


def _rendition(name: str, table: object, where: Where, directory: Path) -> Rendition:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise RefusedError(
            f"a name has lower-case letters, digits and single hyphens, begins with a letter, and has {_LONGEST} "
            "characters at most"
        )
    if name.startswith("as-"):
        remedy = f"write [renditions.{name.removeprefix('as-')}]"
        raise RefusedError(f"the drive would call it as-{name}", remedy=remedy)
    if name in BUILT_IN or _WITH_SIZE.fullmatch(name):
        raise RefusedError(f"as-{name} is a rendition of every drive", remedy="choose another name")
    if not isinstance(table, dict):
        raise RefusedError("is not a table")
    given = understood(_Table, table, _UNKNOWN)
    if given.format is None:
        raise RefusedError("needs a format: png, png16, tiff or npy")
    format = Format(given.format)
    if given.window is None and format in (Format.TIFF, Format.NPY):
        for key in ("size", "invert", "mirror", "crop", "margin"):
            if key in table:
                raise RefusedError(
                    f"{key} does not apply to stored values",
                    key,
                    remedy="add a window, for example window = 'voi', or remove it",
                )
        return Rendition(name, format, window=None)
    size = _size(given)
    if given.crop and not isinstance(size, Box):
        raise RefusedError("crop needs a size of rows and columns", "crop", remedy="as in size = '1024x768'")
    if given.margin is not None and not given.crop:
        raise RefusedError("margin goes with crop", "margin", remedy="add crop = true, or remove it")
    return Rendition(
        name,
        format,
        size,
        _window(given),
        inverts=given.invert != "never",
        mirrors=bool(given.mirror),
        crops=bool(given.crop),
        margin=given.margin or 0.0,
    )


def _size(given: _Table) -> Box | Longest | None:
    if given.size is None:
        return None
    size = size_in(str(given.size))
    if size is None:
        raise RefusedError(f"size {_SIZE}", "size")
    return size


def _window(given: _Table) -> Window | tuple[float, float]:
    window = given.window
    if not isinstance(window, tuple):
        return Window(window or "voi")
    if not all(map(isfinite, window)):
        raise RefusedError(f"window {_WINDOW}: finite numbers", "window")
    if window[1] < 1:
        raise RefusedError("window has a width below 1", "window", remedy="the least is 1: values below or above")
    return window
