"""A cohort as a map-style dataset for training, without PyTorch.

``Cohort.dataset`` makes it. It can be pickled, and used by processes that inherited it by fork(2).
"""

from collections.abc import Callable
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omidbfs.api.connection import Connection
from omidbfs.api.image import Image, rendition_named
from omidbfs.api.selecting import facet_named
from omidbfs.base.errors import UserError
from omidbfs.cohorts.cohort import EVERYTHING
from omidbfs.cohorts.cohort import Cohort as Selected
from omidbfs.facets import Kind


class ImageDataset:
    """The pixels of the images of a cohort that have a rendition, in the order of the drive.

    ``dataset[number]`` is an array, or a pair of array and target. The array is writable and its caller's own.

    Parameters
    ----------
    rendition
        As in :meth:`~omidbfs.api.image.Image.pixels`. One with rows and columns gives arrays of one shape.
    target
        A facet, or a function of an :class:`~omidbfs.api.image.Image`. Of a facet of numbers the target is the
        number (float, NaN if unknown). Of any other facet it is the place in :attr:`classes`.
    transform
        A function of the array, such as ``torch.from_numpy``.

    Raises
    ------
    NotFoundError
        There is no such facet or rendition.
    UserError
        The facet has several values for an image, or is one of identifiers or files.
    """

    classes: tuple[str, ...]
    """The values of the facet ``target`` in all of the database, in the order of the drive.

    So the datasets for training and for testing agree.
    """

    def __init__(
        self,
        connection: Connection,
        selected: Selected,
        rendition: str,
        target: str | Callable[[Image], Any] | None,
        transform: Callable[[NDArray[Any]], Any] | None,
    ) -> None:
        view = connection.view
        self._connection, self._transform = connection, transform
        self._rendition = rendition_named(view, rendition)
        self._rows = view.cohorts.rows(view.renditions.cohort(selected, self._rendition))
        self._target, self._number_of, self.classes = target, dict[str, int](), ()
        if not isinstance(target, str):
            return
        facet = facet_named(view, target)
        if facet.several or facet.kind in (Kind.NAME, Kind.FILE):
            raise UserError("is no facet of one value for each image", "give a function", f"by-{facet.name}")
        if facet.kind is not Kind.NUMBER:
            self.classes = tuple(name for name, _ in view.cohorts.counts(EVERYTHING, facet))
            self._number_of = {name: number for number, name in enumerate(self.classes)}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Any:
        """Return the array of an image, or a pair of array and target. Errors are those of ``Image.pixels``."""
        image = self.image(number)
        pixels = image._rendered(self._rendition)
        shown = pixels if self._transform is None else self._transform(pixels)
        return shown if self._target is None else (shown, self._target_of(image))

    def image(self, number: int) -> Image:
        """Return the image at a place."""
        return Image(self._connection, self._rows[index(number)].item())

    def _target_of(self, image: Image) -> Any:
        target = self._target
        if not isinstance(target, str):
            assert target is not None
            return target(image)
        value = image[target]
        assert isinstance(value, str)
        if self.classes:
            return self._number_of[value]
        return float(value) if value.lstrip("-").isdecimal() else np.nan

    def __repr__(self) -> str:
        return f"<omidbfs dataset of {len(self)} images as {self._rendition.name}>"
