"""What a rendition is: a format, a size, a window, and what else decides the bytes of ``as-<rendition>``.

The view, the drive, exports and commands use it, and the workers that render. All values are immutable: any thread
may use them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

SMALLEST, LARGEST = 16, 8192
"""The limits of the numbers of pixels in a size."""

DETECTOR = 1
"""The version of what finds the breast in an image (``breast``). It changes with any change to what is found."""
CROP = "-crop"
"""What may end the name of a rendition with rows and columns."""

_SIZE = re.compile(r"([1-9][0-9]{1,3})(?:x([1-9][0-9]{1,3}))?")
_LIKE_A_SIZE = re.compile(r"([a-z]+16|[a-z]+)-[0-9]+(x[0-9]+)?(-crop)?")
_SIZED = ("png", "png16")


class Format(Enum):
    """The format of a file; the value is its name. The formats with 16 bits differ from ``png`` by their depth."""

    PNG = "png"
    PNG16 = "png16"
    TIFF = "tiff"
    NPY = "npy"

    @property
    def suffix(self) -> bytes:
        """What ends the names of its files."""
        return {"png": b".png", "png16": b".png", "tiff": b".tiff", "npy": b".npy"}[self.value]


@dataclass(frozen=True, slots=True)
class Box:
    """Scaled to fit into ``rows`` x ``columns`` pixels, aspect kept, anchored to the chest wall, and padded."""

    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Longest:
    """Scaled so that the longer side has at most ``pixels`` pixels; never enlarged."""

    pixels: int


class Window(Enum):
    """Where the values of the display come from; a pair of (centre, width) is the alternative."""

    VOI = "voi"
    """The VOI LUT or the first window of the file; bits stored where the file has neither."""
    STORED = "stored"
    """All bits stored, after the modality LUT."""
    MINMAX = "minmax"
    """From the smallest to the largest stored value that is no padding."""


@dataclass(frozen=True, slots=True)
class Rendition:
    """A rendition. Two renditions with equal fields, but for ``name``, have equal bytes.

    ``name`` is what follows ``as-`` in a path. ``size`` is ``None`` for the size of the image. ``window`` is
    ``None`` for the stored values themselves (``tiff`` and ``npy`` only): these are neither inverted, nor scaled,
    nor mirrored, and have the type and shape of pydicom's ``pixel_array``. With a window, ``tiff`` and ``npy``
    have the values of ``png16``. ``inverts`` is whether a value is inverted where DICOM says so, and ``mirrors``
    whether images whose chest wall is at the right are mirrored. ``crops`` is whether only the bounding box of the
    breast is shown, with a ``margin`` around it, as a share of the longer side of the box. Then ``size`` is a
    :class:`Box`.
    """

    name: str
    format: Format
    size: Box | Longest | None = None
    window: Window | tuple[float, float] | None = Window.VOI
    inverts: bool = True
    mirrors: bool = False
    crops: bool = False
    margin: float = 0.0

    @property
    def suffix(self) -> bytes:
        """What ends the names of its files."""
        return self.format.suffix

    @property
    def text(self) -> bytes:
        """The canonical text of everything that decides the bytes."""
        fields = (self.format.value, self.size, self.window, self.inverts, self.mirrors)
        return repr((*fields, self.margin, DETECTOR) if self.crops else fields).encode()


BUILT_IN: Mapping[str, Rendition] = {
    "png": Rendition("png", Format.PNG),
    "png16": Rendition("png16", Format.PNG16),
    "tiff": Rendition("tiff", Format.TIFF, window=None),
    "npy": Rendition("npy", Format.NPY, window=None),
}
"""The renditions of every drive, by name. ``png`` and ``png16`` take a size after their names, too."""


def size_in(text: str) -> Box | Longest | None:
    """Return the size that ``RxC`` or ``N`` stands for; ``None`` for any other text.

    Numbers are :data:`SMALLEST` to :data:`LARGEST`, in ASCII digits, without leading zeros.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        return None
    numbers = [int(number) for number in found.groups() if number is not None]
    if not all(SMALLEST <= number <= LARGEST for number in numbers):
        return None
    return Longest(*numbers) if len(numbers) == 1 else Box(*numbers)


def mistake_in_size(name: str) -> str:
    """Return what is wrong with the size of a name that is no rendition, as a hint; empty if it has no size."""
    found = _LIKE_A_SIZE.fullmatch(name)
    bare = name.removesuffix(CROP)
    if bare != name and bare in _SIZED:
        return f"{CROP} needs rows and columns, as in as-{bare}-1024x768{CROP}"
    if found is None or found[1] not in BUILT_IN:
        return ""
    if found[1] not in _SIZED:
        return f"only {' and '.join(f'as-{one}' for one in _SIZED)} take a size; [renditions] can define others"
    if found[3] and not found[2]:
        return f"{CROP} needs rows and columns, as in as-{found[1]}-1024x768{CROP}"
    return f"the numbers of a size are {SMALLEST} to {LARGEST}, without leading zeros"


@dataclass(frozen=True, slots=True)
class Configured:
    """The renditions that a configuration defines, by name, and the modification time of its file in ns."""

    renditions: Mapping[str, Rendition] = field(default_factory=dict)
    mtime_ns: int = 0

    def named(self, name: str) -> Rendition | None:
        """Return the rendition with a name, which follows ``as-`` in a path; ``None`` if there is none."""
        known = BUILT_IN.get(name) or self.renditions.get(name)
        if known is not None:
            return known
        format_name, _, text = name.partition("-")
        crops = text.endswith(CROP)
        size = size_in(text.removesuffix(CROP)) if format_name in _SIZED else None
        if size is None or (crops and not isinstance(size, Box)):
            return None
        return replace(BUILT_IN[format_name], name=name, size=size, crops=crops)

    def all(self) -> tuple[Rendition, ...]:
        """Return all renditions, without those that have a size after their names."""
        return (*BUILT_IN.values(), *self.renditions.values())

    def time_of(self, rendition: Rendition) -> int:
        """Return the time of the definition in ns; 0 for a rendition of every drive."""
        return self.mtime_ns if self.renditions.get(rendition.name) == rendition else 0
