"""Why an image has no pixels or no rendition. Decoding and rendering raise these errors; any thread may.

A kind is a short text without identifiers: logs, counts and lists of excluded images show it. A process that
decodes may have been taken over by a file, so its parent shows no other text than those of a fixed set.
"""

OUT_OF_MEMORY = "more memory is needed than allowed"

KINDS = frozenset(
    {
        OUT_OF_MEMORY,
        "a LUT of an impossible number of bits",
        "a LUT that is cut off",
        "a LUT with larger entries than it says",
        "a LUT without a descriptor",
        "a LUT without data",
        "a colour space that is not supported",
        "a rescale or window value that is no number",
        "a transfer syntax that is not supported",
        "a window without a centre or a width",
        "an attribute of the values is damaged",
        "an impossible number of frames",
        "an unknown VOI LUT function",
        "finding the breast needs scipy: pip install 'omidbfs[pixels]'",
        "floating point pixel data",
        "frames of different kinds",
        "more bits stored than allocated",
        "neither 1 nor 3 samples",
        "neither 8 nor 16 bits allocated",
        "no decoder is installed for the transfer syntax: pip install 'omidbfs[pixels]'",
        "no pixel data",
        "not a DICOM file",
        "subsampled colours in an odd number of columns",
        "the file contradicts the index",
        "the fragments do not say which frame they belong to",
        "the frame has another size than the header says",
        "the frame has more bits than the header says",
        "the frame is damaged",
        "the header does not say how pixels are stored",
        "the header is damaged or cut off",
        "the high bit contradicts the bits stored",
        "the image has no such rendition",
        "the pixel data are cut off",
        "the pixel data are not in items",
        "the rescale slope is 0",
        "the window width is too small",
        "uncompressed pixel data without a length",
    }
)
"""The kinds of all these errors."""

ANOTHER = "another problem"
"""What is shown in the place of a text that is not of the fixed set."""


class PixelError(Exception):
    """The pixels of an image cannot be decoded or rendered. ``kind`` says why, in a few words."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind

    def __reduce__(self) -> tuple[type["PixelError"], tuple[str]]:
        return type(self), (self.kind,)


class ContradictionError(PixelError):
    """A file is not what the index says about it, for example in its number of rows."""
