"""Unusual forms of pixels in real databases that are no problem, beside those in ``variants``.

``generate`` and the tests use the functions. Each changes clients of its own, and writes their sidecars anew.
"""

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder

from omidbfs.demo.frames import COLUMNS, ROWS, frame
from omidbfs.demo.imaging import PRESENTATION, Image, Study
from omidbfs.demo.subject import Make, Subject, described, listed

Change = Callable[[Dataset], Dataset | None]
"""A function that changes an image, or returns another in its place."""

LARGEST = 4095
"""The largest 12-bit value."""


def _images(c: Subject) -> Iterator[tuple[Study, Image]]:
    """Yield the images of screening that are processed for presentation."""
    for study in (c.first, c.second):
        yield from ((study, image) for image in study.images if image.intent == PRESENTATION)


def _change(c: Subject, study: Study, image: Image, change: Change) -> None:
    place = c.dcm(study, image)
    found: Dataset = dcmread(place)
    (change(found) or found).save_as(place, enforce_file_format=True)
    c.sidecar(study, image).write_bytes(orjson.dumps(described(dcmread(place))))


def _values(dicom: Dataset) -> NDArray[np.uint16]:
    return np.frombuffer(dicom.PixelData, "<u2").reshape(dicom.Rows, dicom.Columns)


def _store(dicom: Dataset, values: NDArray[Any], bits: int = 12) -> None:
    """Store uncompressed pixels of ``bits`` bits in the words that they have."""
    dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit = values.dtype.itemsize * 8, bits, bits - 1
    dicom.PixelRepresentation = int(values.dtype.kind == "i")
    data = values.tobytes()
    dicom.PixelData = data + bytes(len(data) % 2)


def _compressed(dicom: Dataset, syntax: uid.UID, codes: list[bytes]) -> None:
    dicom.file_meta.TransferSyntaxUID = syntax
    dicom.add_new(0x7FE00010, "OB", encapsulate(codes))
    dicom["PixelData"].is_undefined_length = True


def _made_before(name: str, syntax: uid.UID, bits: int, is_lossy: bool) -> Change:
    """Return a change to the phantom in a file of ``frames/``."""

    def change(dicom: Dataset) -> None:
        dicom.Rows, dicom.Columns = ROWS, COLUMNS
        _store(dicom, np.zeros(0, np.uint8 if bits == 8 else np.uint16), bits)
        _compressed(dicom, syntax, [frame(name)])
        dicom.WindowCenter, dicom.WindowWidth = (1900 >> 12 - bits, 3000 >> 12 - bits)
        del dicom.WindowCenterWidthExplanation
        if is_lossy:
            dicom.LossyImageCompression = "01"

    return change


def _encoded_anew(dicom: Dataset, syntax: uid.UID) -> Dataset:
    """Return all elements but private ones; pydicom reads those by a dictionary that they do not follow."""
    model = {tag: element for tag, element in dicom.to_json_dict().items() if int(tag[:4], 16) % 2 == 0}
    found = Dataset.from_json(model)
    found.file_meta = dicom.file_meta
    found.file_meta.TransferSyntaxUID = syntax
    return found


def _rle(dicom: Dataset) -> None:
    code = get_encoder(uid.RLELossless).encode(dicom, encoding_plugin="pydicom")
    _compressed(dicom, uid.RLELossless, [code])


def _deflated(dicom: Dataset) -> None:
    dicom.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian


def _implicit(dicom: Dataset) -> Dataset:
    return _encoded_anew(dicom, uid.ImplicitVRLittleEndian)


def _big_endian(dicom: Dataset) -> Dataset:
    dicom.PixelData = _values(dicom).byteswap().tobytes()
    return _encoded_anew(dicom, uid.ExplicitVRBigEndian)


_MADE_BEFORE = (
    _made_before("baseline.jpg", uid.JPEGBaseline8Bit, 8, True),
    _made_before("extended.jpg", uid.JPEGExtended12Bit, 12, True),
    _made_before("lossless.jpg", uid.JPEGLossless, 12, False),
    _made_before("lossless.jpg", uid.JPEGLosslessSV1, 12, False),
    _made_before("lossless.jls", uid.JPEGLSLossless, 12, False),
    _made_before("near.jls", uid.JPEGLSNearLossless, 12, True),
    _made_before("lossless.j2k", uid.JPEG2000Lossless, 12, False),
    _made_before("lossy.j2k", uid.JPEG2000, 12, True),
)
_ENCODED = (_rle, _deflated, _implicit, _big_endian)


def transfer_syntaxes(make: Make) -> None:
    """Write images in every transfer syntax: left ones as the phantom, right ones with their own pixels."""
    left, right = iter(_MADE_BEFORE), cycle(_ENCODED)
    for _ in range(2):
        c = make()
        for study, image in _images(c):
            change = next(left if image.side == "L" else right, None)
            if change is not None:
                _change(c, study, image, change)


def _voi_lut(dicom: Dataset) -> None:
    """Give a curve from 512 on beside the windows; it is the one that counts (PS3.3, C.11.2)."""
    item = Dataset()
    item.LUTDescriptor = [1024, 512, 12]
    item.add_new(0x00283006, "US", [round(LARGEST * (step / 1023) ** 0.5) for step in range(1024)])
    item.LUTExplanation = "NORMAL"
    dicom.VOILUTSequence = [item]


def _modality(dicom: Dataset) -> None:
    dicom.RescaleSlope, dicom.RescaleIntercept = "0.5", "-100"
    dicom.WindowCenter, dicom.WindowWidth = ["850", "950"], ["1500", "1800"]


def _without_window(dicom: Dataset) -> None:
    del dicom.WindowCenter, dicom.WindowWidth, dicom.WindowCenterWidthExplanation, dicom.VOILUTFunction


def _function(name: str) -> Change:
    return lambda dicom: setattr(dicom, "VOILUTFunction", name)


def _monochrome1(shape: str | None) -> Change:
    def change(dicom: Dataset) -> None:
        dicom.PhotometricInterpretation = "MONOCHROME1"
        _store(dicom, LARGEST - _values(dicom))
        dicom.PresentationLUTShape = shape
        if shape is None:
            del dicom.PresentationLUTShape

    return change


def _signed(dicom: Dataset) -> None:
    _store(dicom, (_values(dicom).astype("<i2") - 2048).astype("<i2"))
    dicom.WindowCenter, dicom.WindowWidth = ["-148", "52"], ["3000", "3600"]


def _padded(dicom: Dataset) -> None:
    """Mark the air as padding, up to a limit."""
    dicom.add_new(0x00280120, "US", 0)
    dicom.add_new(0x00280121, "US", 3)


def _with_overlay(dicom: Dataset) -> None:
    """Put a box into an unused bit (retired in PS3.5, 8.1.2)."""
    values = _values(dicom).copy()
    values[20:60, 20:60] |= 1 << 15
    _store(dicom, values)


_DISPLAYS = (
    _function("SIGMOID"),
    _function("LINEAR_EXACT"),
    _voi_lut,
    _modality,
    _monochrome1(None),
    _monochrome1("INVERSE"),
    _without_window,
    _padded,
)
_STORAGES = (_signed, _with_overlay)


def displays(make: Make) -> None:
    """Write every way to say how values are shown, and values that are not simply 12 bits in 16."""
    changes = iter((*_DISPLAYS, *_STORAGES))
    for _ in range(2):
        c = make()
        for (study, image), change in zip(_images(c), changes, strict=False):
            _change(c, study, image, change)


def chest_walls(make: Make) -> None:
    """Mirror the images of one study with their marks, and say so; leave out the orientation of the other."""
    columns_of: dict[str, int] = {}

    def mirrored(dicom: Dataset) -> None:
        columns_of[dicom.SOPInstanceUID] = dicom.Columns
        _store(dicom, np.ascontiguousarray(_values(dicom)[:, ::-1]))
        opposite = {"A": "P", "P": "A"}
        rows, columns = dicom.PatientOrientation
        dicom.PatientOrientation = [opposite[rows], columns]

    def unsaid(dicom: Dataset) -> None:
        dicom.PatientOrientation = None

    c = make()
    for study, image in _images(c):
        _change(c, study, image, mirrored if study is c.first else unsaid)
    with listed(c, c.first) as shown:
        for image in c.first.images:
            marks = shown[image.series][image.uid] or {}  # null where nothing is marked
            for mark in marks.values() if image.uid in columns_of else ():
                left, right = (columns_of[image.uid] - int(mark[name]) for name in ("X2", "X1"))
                mark["X1"], mark["X2"] = str(left), str(right)


def _volume(frames: int, is_compressed: bool) -> Change:
    def change(dicom: Dataset) -> None:
        dicom.SOPClassUID = dicom.file_meta.MediaStorageSOPClassUID = uid.BreastTomosynthesisImageStorage
        dicom.ImageType = ["ORIGINAL", "PRIMARY", "TOMOSYNTHESIS", "NONE"]
        slices = np.stack([np.roll(_values(dicom), number, 0) for number in range(frames)])
        dicom.NumberOfFrames = frames
        _store(dicom, slices)
        voi, pixel_values, group = Dataset(), Dataset(), Dataset()
        for keyword in ("WindowCenter", "WindowWidth", "VOILUTFunction"):
            setattr(voi, keyword, dicom[keyword].value)
        for keyword in ("RescaleIntercept", "RescaleSlope", "RescaleType"):
            setattr(pixel_values, keyword, dicom[keyword].value)
        group.FrameVOILUTSequence, group.PixelValueTransformationSequence = [voi], [pixel_values]
        dicom.SharedFunctionalGroupsSequence = [group]
        if is_compressed:
            encoder = get_encoder(uid.RLELossless)
            codes = [encoder.encode(dicom, index=number, encoding_plugin="pydicom") for number in range(frames)]
            _compressed(dicom, uid.RLELossless, codes)

    return change


def volumes(make: Make) -> None:
    """Turn one study into tomosyntheses of a few slices, half of them compressed."""
    c = make()
    for number, (study, image) in enumerate(_images(c)):
        if study is c.first:
            _change(c, study, image, _volume(3 + number, number % 2 == 1))


OFF_BREAST, TRANSPOSED = (70, 90, 76, 96), (70, 12, 78, 20)
"""Corners of marks, X1, Y1, X2, Y2: one off the breast, and one on it whose X and Y are exchanged."""


def odd_marks(make: Make) -> None:
    """Mark a box off the breast, and one with X and Y exchanged. Put a marker into the corner of an image."""

    def with_marker(dicom: Dataset) -> None:
        values = _values(dicom).copy()
        values[3:9, 4:14] = LARGEST
        _store(dicom, values)

    c = make()
    by_view = {(image.side, image.view): image for study, image in _images(c) if study is c.first}
    with listed(c, c.first) as study:
        for number, (view, corners) in enumerate((("MLO", OFF_BREAST), ("CC", TRANSPOSED)), 1):
            box = dict(zip(("X1", "Y1", "X2", "Y2"), map(str, corners), strict=True))
            image = by_view["L", view]
            study[image.series][image.uid] = {str(number): {"MarkID": number, **box, "Mass": 1}}
    _change(c, c.first, by_view["R", "CC"], with_marker)


PIXEL_VARIANTS = (transfer_syntaxes, displays, chest_walls, volumes, odd_marks)
"""The variants of pixels. They return nothing, since there is nothing to report."""
