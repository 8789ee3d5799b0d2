"""A cohort: a set of images, which can be narrowed, combined, counted, read, and turned into tables.

``Database`` makes them. They are immutable, and any thread may use them.
"""

from collections.abc import Callable, Iterator
from html import escape
from operator import index
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from omidbfs.api.connection import Connection
from omidbfs.api.dataset import ImageDataset
from omidbfs.api.image import Image
from omidbfs.api.selecting import Condition, facet_named, narrowed
from omidbfs.base.errors import NotFoundError, UserError
from omidbfs.base.words import counted, meant
from omidbfs.cohorts.cohort import IMAGES, Term
from omidbfs.cohorts.cohort import Cohort as Selected
from omidbfs.database.file_kinds import FILE_KINDS
from omidbfs.facets import Level
from omidbfs.index.codes import Bits
from omidbfs.view.view import View

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

UNITS = {level.plural: level for level in (Level.CLIENT, Level.EPISODE, Level.STUDY, Level.IMAGE, Level.MARK)}
"""What :meth:`Cohort.count` counts."""
_SHOWN_FACETS = ("outcome", "view", "laterality", "manufacturer")
_SHOWN_VALUES = 12


class Cohort:
    """A set of images of a database, in the order of the drive.

    ``len()`` is the number of images, iteration gives each :class:`~omidbfs.api.image.Image`, and ``cohort[0]`` is
    the first. ``&``, ``|``, ``-`` and ``~`` are intersection, union, difference and complement of sets of images.
    """

    def __init__(self, connection: Connection, selected: Selected, title: str) -> None:
        self._connection, self._selected, self._title = connection, selected, title

    @property
    def _view(self) -> View:
        return self._connection.view

    def _rows(self) -> NDArray[np.uint32]:
        return self._view.cohorts.rows(self._selected)

    # Sets

    def where(self, **conditions: Condition) -> "Cohort":
        """Return the images that satisfy all conditions, as in ``where(age=(50, 69), view=["CC", "MLO"])``.

        The name of a facet is as on the drive, with ``_`` for ``-``. A text is a component of a path (``"CC"``,
        ``"not-CC"``, ``"50-69"``), a number is that number, ``True`` and ``False`` are ``yes`` and ``no``, a tuple
        is a range with both ends (``None`` for no end), and a list of one or more is any of these.

        Raises
        ------
        NotFoundError
            There is no such facet or value. It is a ``KeyError``, and names what may be meant.
        UserError
            A condition cannot be understood. It is a ``ValueError``, and names the facet.
        """
        selected, words = narrowed(self._view, self._selected, conditions)
        return Cohort(
            self._connection, selected, "/".join([self._in_brackets() if words else self._title, *words])
        )

    def __and__(self, other: "Cohort") -> "Cohort":
        return self._combined("&", other, lambda one, another: Selected((*one.terms, *another.terms)))

    def __or__(self, other: "Cohort") -> "Cohort":
        return self._combined("|", other, lambda one, another: self._of_rows(_union(self._rows(), other._rows())))

    def __sub__(self, other: "Cohort") -> "Cohort":
        return self._combined("-", other, lambda one, another: one.narrowed(_term(other._rows(), negated=True)))

    def __invert__(self) -> "Cohort":
        selected = Selected((_term(self._rows(), negated=True),))
        return Cohort(self._connection, selected, f"~{self._in_brackets()}")

    def _combined(self, sign: str, other: "Cohort", combine: Callable[[Selected, Selected], Selected]) -> "Cohort":
        if not isinstance(other, Cohort):
            return NotImplemented
        if self._connection != other._connection:
            raise UserError("cohorts of two databases cannot be combined", "choose both from the same database")
        title = f"{self._in_brackets()} {sign} {other._in_brackets()}"
        return Cohort(self._connection, combine(self._images(), other._images()), title)

    def _images(self) -> Selected:
        """Return the same images with all of their files, whatever the path shows of them."""
        selected = self._selected
        if selected.rendition is None and selected.files == FILE_KINDS:
            return selected
        return self._of_rows(self._rows())

    @staticmethod
    def _of_rows(rows: NDArray[np.uint32]) -> Selected:
        return Selected((_term(rows, negated=False),))

    def _in_brackets(self) -> str:
        return f"({self._title})" if " " in self._title else self._title

    # Numbers

    def __len__(self) -> int:
        return len(self._rows())

    def count(self, unit: str = "images") -> int:
        """Return the number of ``clients``, ``episodes``, ``studies``, ``images`` or ``marks``.

        Raises
        ------
        NotFoundError
            There is no such unit.
        """
        level = UNITS.get(unit)
        if level is None:
            raise NotFoundError(f"nothing counts {unit}", meant(unit, UNITS) or f"there are {', '.join(UNITS)}")
        return self._view.cohorts.count(self._selected, level)

    def counts(self, facet: str) -> dict[str, int]:
        """Return the values of a facet that occur, as the drive lists them, with their numbers of images.

        Raises
        ------
        NotFoundError
            There is no such facet.
        """
        return dict(self._view.cohorts.counts(self._selected, facet_named(self._view, facet)))

    # Images

    def __iter__(self) -> Iterator[Image]:
        return (Image(self._connection, row) for row in self._rows().tolist())

    @overload
    def __getitem__(self, number: int) -> Image: ...

    @overload
    def __getitem__(self, number: slice) -> list[Image]: ...

    def __getitem__(self, number: int | slice) -> Image | list[Image]:
        """Return the image at a place, from 0 on; negative places count from the end. A slice gives a list."""
        if isinstance(number, str):
            raise TypeError("images have numbers in a cohort; to narrow a cohort, use where(view='MLO')")
        rows = self._rows()
        if isinstance(number, slice):
            return [Image(self._connection, row) for row in rows[number].tolist()]
        return Image(self._connection, rows[index(number)].item())

    def __contains__(self, image: object) -> bool:
        return (
            isinstance(image, Image)
            and image._connection == self._connection
            and bool(self._view.cohorts.which(self._selected, np.array([image._row]))[0])
        )

    def dataset(
        self,
        rendition: str | None = None,
        *,
        target: str | Callable[[Image], Any] | None = None,
        transform: Callable[[NDArray[Any]], Any] | None = None,
    ) -> ImageDataset:
        """Return the pixels as a map-style dataset, as PyTorch takes them (``torch.utils.data.DataLoader``).

        It has the images that have the rendition: by default that of the path, else the stored values (``npy``).
        Parameters and errors are those of :class:`~omidbfs.api.dataset.ImageDataset`.
        """
        of_path = self._selected.rendition
        name = rendition or ("npy" if of_path is None else of_path.name)
        return ImageDataset(self._connection, self._images(), name, target, transform)

    # Tables

    def to_arrow(self) -> "pyarrow.Table":
        """Return the table of ``.omidbfs/index.parquet`` of the cohort: one row for each image. Needs pyarrow.

        Raises
        ------
        UserError
            pyarrow is not installed.
        """
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UserError(
                "pyarrow is not installed, and is needed for tables", "pip install 'omidbfs[parquet]'"
            ) from None
        from functools import partial

        from omidbfs.exports.fields import images
        from omidbfs.exports.parquet import arrow
        from omidbfs.index.flat_names import flat_names

        view = self._view
        view.check_coordinates(self._selected)
        return arrow(images(view.selection_of(self._selected, "", partial(flat_names, view.index))))

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the same table as a frame of pandas, as ``pandas.read_parquet`` gives it. Needs pandas too."""
        frame: pandas.DataFrame = self.to_arrow().to_pandas()
        return frame

    def to_polars(self) -> "polars.DataFrame":
        """Return the same table as a frame of polars. Needs polars too."""
        import polars

        frame = polars.from_arrow(self.to_arrow())
        assert isinstance(frame, polars.DataFrame)
        return frame

    # Display

    def __repr__(self) -> str:
        images, clients = counted(len(self), "image"), counted(self.count("clients"), "client")
        return f"<omidbfs cohort {self._title}: {images} of {clients}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: counts, and the values of some facets. It names no client or image."""
        numbers = ", ".join(f"{self.count(unit):,} {unit}" for unit in UNITS)
        rows = []
        for facet in _SHOWN_FACETS:
            counts = list(self.counts(facet).items())
            words = [f"{escape(name)}&nbsp;{number:,}" for name, number in counts[:_SHOWN_VALUES]]
            words += ["…"] * (len(counts) > _SHOWN_VALUES)
            rows.append(f"<tr><th style='text-align:left'>{facet}</th><td>{', '.join(words)}</td></tr>")
        return f"<p><code>{escape(self._title)}</code><br>{numbers}</p><table>{''.join(rows)}</table>"


def _term(rows: NDArray[np.uint32], *, negated: bool) -> Term:
    return Term(IMAGES, Bits.of(rows), negated)


def _union(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return np.union1d(one, other)
