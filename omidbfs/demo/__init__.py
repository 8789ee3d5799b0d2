"""A synthetic OMI-DB for people without one: everything in it is invented, nothing is a patient.

The modules, ground floor first; each imports only from those above it::

    equipment.py  the X-ray units, sites and views of the demo
    history.py    when clients are screened, and what is found: episodes and lesions
    nbss.py       episodes -> nbss_<client>.json
    anatomy.py    the shape of a breast, and where in its image a lesion lies
    imaging.py    episodes -> studies, images and marks -> imagedb_<client>.json
    plates.py     the pixels of an image
    header.py     an image -> the bytes of its DICOM file and of its sidecar
    tree.py       a client -> files
    subject.py    a written client, which the next three change
    odd_headers.py  what goes wrong in headers
    quirks.py     what goes wrong in real databases, each with the problem it must be reported as
    variants.py   what looks odd in real databases and is no problem
    generate.py   all of it in one call
"""

from omidbfs.demo.generate import DemoError, generate

__all__ = ["DemoError", "generate"]
