"""DICOM files with given pixels, and what a rendition of them contains."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from naive_pixels import LUT, Grey
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, uid
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset

from omidbfs.database.pixel_format import PixelFormat
from omidbfs.pixels.decode import read
from omidbfs.pixels.render import render
from omidbfs.pixels.rendition import Format, Rendition
from omidbfs.pixels.sizes import size_of


def written(stored: NDArray[Any], syntax: str = uid.ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """Return an uncompressed DICOM file. ``elements`` adds and changes elements; ``None`` omits one."""
    shape = stored.shape[1:] if elements.get("NumberOfFrames") else stored.shape
    samples = shape[2] if len(shape) == 3 else 1
    bits = 8 * stored.dtype.itemsize
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = uid.DigitalMammographyXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = uid.UID("1.2.3")
    meta.TransferSyntaxUID = uid.UID(syntax)
    dataset = Dataset()
    stated: dict[str, Any] = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "SamplesPerPixel": samples,
        "PhotometricInterpretation": "RGB" if samples == 3 else "MONOCHROME2",
        "PlanarConfiguration": 0 if samples == 3 else None,
        "Rows": shape[0],
        "Columns": shape[1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": int(elements.get("BitsStored", bits)) - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        **elements,
    }
    for keyword, value in stated.items():
        if isinstance(value, DataElement):
            dataset.add(value)
        elif value is not None:
            setattr(dataset, keyword, value)
    order = ">" if uid.UID(syntax) == uid.ExplicitVRBigEndian else "<"
    dataset.add_new("PixelData", "OW", stored.astype(stored.dtype.newbyteorder(order)).tobytes().ljust(2, b"\0"))
    dataset.file_meta = meta
    out = BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def lut_item(lut: LUT, form: str = "US", signed: bool = False) -> Dataset:
    """Return an item of a LUT sequence. Its data are ``US``, ``OW``, or ``packed``: bytes in words of OW."""
    item = Dataset()
    first = lut.first if signed else lut.first & 0xFFFF
    count = len(lut.entries) & 0xFFFF
    if signed and count >= 1 << 15:
        count -= 1 << 16
    item.add_new("LUTDescriptor", "SS" if signed else "US", [count, first, lut.bits])
    data: Any = list(lut.entries)
    if form == "packed":
        data = bytes(data) + bytes(len(data) % 2)
    elif form == "OW":
        data = np.array(data, "<u2").tobytes()
    item.add_new("LUTData", "US" if form == "US" else "OW", data)
    return item


def elements_of(grey: Grey, form: str = "US") -> dict[str, Any]:
    """Return the elements that say what a :class:`Grey` says."""
    outputs = [grey.x(v) for v in grey.limits]
    elements: dict[str, Any] = {
        "BitsStored": grey.bits,
        "PhotometricInterpretation": grey.photometric,
        "PresentationLUTShape": grey.shape,
        "RescaleSlope": grey.slope,
        "RescaleIntercept": grey.intercept,
        "VOILUTFunction": grey.function,
        "WindowCenter": grey.window and grey.window[0],
        "WindowWidth": grey.window and grey.window[1],
    }
    if grey.modality:
        elements["ModalityLUTSequence"] = [lut_item(grey.modality, form, grey.signed)]
    if grey.voi:
        elements["VOILUTSequence"] = [lut_item(grey.voi, form, min(outputs) < 0 and not grey.modality)]
    if grey.padding:
        for keyword, value in zip(("PixelPaddingValue", "PixelPaddingRangeLimit"), grey.padding, strict=True):
            elements[keyword] = DataElement(keyword, "SS" if grey.signed else "US", value)
    return elements


def descriptor(content: bytes) -> int:
    """Return a descriptor of a file with some content."""
    result = os.memfd_create("file")
    os.write(result, content)
    return result


def form_of(content: bytes) -> PixelFormat:
    """Return what a file says of its pixels."""
    source = descriptor(content)
    try:
        return read(source).format
    finally:
        os.close(source)


def rendered(
    content: bytes,
    rendition: Rendition,
    side: str | None = None,
    expected: PixelFormat | None = None,
) -> bytes:
    """Return a rendition of a DICOM file. It has the size that was known before."""
    source, target = descriptor(content), os.memfd_create("rendition")
    try:
        expected = expected or read(source).format
        render(source, rendition, expected, side, target)
        result = os.pread(target, os.fstat(target).st_size, 0)
    finally:
        os.close(source)
        os.close(target)
    assert len(result) == size_of(rendition, expected)
    return result


def opened(data: bytes, form: Format, scratch: Path | None = None) -> NDArray[Any]:
    """Return the array in a rendition, as Pillow, tifffile or numpy read it."""
    if form is Format.NPY:
        return np.load(BytesIO(data))  # type: ignore[no-any-return]
    if form is not Format.TIFF:
        with Image.open(BytesIO(data)) as image:
            image.verify()
        with Image.open(BytesIO(data)) as image:
            return np.asarray(image)
    assert scratch is not None
    place = scratch / "image.tiff"
    place.write_bytes(data)
    return np.array(tifffile.memmap(place, mode="r"))


def shown(
    content: bytes,
    rendition: Rendition,
    side: str | None = None,
    scratch: Path | None = None,
) -> NDArray[Any]:
    """Return the pixels of a rendition."""
    return opened(rendered(content, rendition, side), rendition.format, scratch)
