"""Renders the pixels of a DICOM file: as PNG, TIFF and NumPy arrays, with sizes that are known before.

Views, the drive, exports and commands use it. ``rendition`` has what a rendition is, and its sizes; it needs no
library beyond numpy. ``render`` makes the bytes of one, and runs only in processes of their own.
"""
