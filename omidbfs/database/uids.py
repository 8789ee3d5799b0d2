"""Unique identifiers (DICOM PS3.6, annex A): UID -> name on the drive, name in the standard.

The facets and the readers of headers use these constants, from any thread.
"""

LONGEST_UID = 64
"""Most characters of a UID (PS3.5, 9)."""

_STORAGE = "1.2.840.10008.5.1.4.1.1."

SOP_CLASSES: dict[str, tuple[str, str]] = {
    _STORAGE + uid: names
    for uid, names in {
        "1.2": ("mammography-presentation", "Digital Mammography X-Ray Image Storage - For Presentation"),
        "1.2.1": ("mammography-processing", "Digital Mammography X-Ray Image Storage - For Processing"),
        "13.1.3": ("tomosynthesis", "Breast Tomosynthesis Image Storage"),
        "13.1.4": ("projection-presentation", "Breast Projection X-Ray Image Storage - For Presentation"),
        "13.1.5": ("projection-processing", "Breast Projection X-Ray Image Storage - For Processing"),
        "1": ("computed-radiography", "Computed Radiography Image Storage"),
        "1.1": ("digital-x-ray-presentation", "Digital X-Ray Image Storage - For Presentation"),
        "1.1.1": ("digital-x-ray-processing", "Digital X-Ray Image Storage - For Processing"),
        "7": ("secondary-capture", "Secondary Capture Image Storage"),
        "4": ("magnetic-resonance", "MR Image Storage"),
        "2": ("computed-tomography", "CT Image Storage"),
        "6.1": ("ultrasound", "Ultrasound Image Storage"),
        "11.1": ("presentation-state", "Grayscale Softcopy Presentation State Storage"),
        "88.50": ("mammography-cad", "Mammography CAD SR Storage"),
    }.items()
}
TOMOSYNTHESIS = frozenset(_STORAGE + uid for uid in ("13.1.3", "13.1.4", "13.1.5"))
"""The SOP classes of tomosyntheses and of their projections."""
MULTI_FRAME = TOMOSYNTHESIS | {
    _STORAGE + uid
    for uid in ("3.1", "7.1", "7.2", "7.3", "7.4", "12.1", "12.1.1", "12.2", "12.2.1", "13.1.1", "13.1.2")
}
"""The SOP classes whose images state NumberOfFrames (PS3.3, C.7.6.6): those of tomosyntheses, ultrasound,
secondary capture, fluoroscopy and three-dimensional X-rays."""

_SYNTAX = "1.2.840.10008.1.2"

TRANSFER_SYNTAXES: dict[str, tuple[str, str]] = {
    _SYNTAX + uid: names
    for uid, names in {
        "": ("implicit-vr-little-endian", "Implicit VR Little Endian"),
        ".1": ("explicit-vr-little-endian", "Explicit VR Little Endian"),
        ".1.99": ("deflated", "Deflated Explicit VR Little Endian"),
        ".2": ("explicit-vr-big-endian", "Explicit VR Big Endian (retired)"),
        ".4.50": ("jpeg-baseline", "JPEG Baseline (Process 1)"),
        ".4.51": ("jpeg-extended", "JPEG Extended (Process 2 & 4)"),
        ".4.57": ("jpeg-lossless", "JPEG Lossless, Non-Hierarchical (Process 14)"),
        ".4.70": ("jpeg-lossless-sv1", "JPEG Lossless, Non-Hierarchical, First-Order Prediction"),
        ".4.80": ("jpeg-ls-lossless", "JPEG-LS Lossless Image Compression"),
        ".4.81": ("jpeg-ls-near-lossless", "JPEG-LS Lossy (Near-Lossless) Image Compression"),
        ".4.90": ("jpeg-2000-lossless", "JPEG 2000 Image Compression (Lossless Only)"),
        ".4.91": ("jpeg-2000", "JPEG 2000 Image Compression"),
        ".4.201": ("htj2k-lossless", "High-Throughput JPEG 2000 Image Compression (Lossless Only)"),
        ".4.202": ("htj2k-lossless-rpcl", "High-Throughput JPEG 2000 with RPCL Options (Lossless Only)"),
        ".4.203": ("htj2k", "High-Throughput JPEG 2000 Image Compression"),
        ".5": ("rle-lossless", "RLE Lossless"),
    }.items()
}
