"""A synthetic OMI-DB for users without a real one. Everything in it is invented; it holds no patient data.

``omidbfs demo`` and the tests use it. All its modules run in the thread that calls
:func:`~omidbfs.demo.generate.generate`. Each module imports only from those above it::

    equipment.py    the X-ray units, sites and views
    history.py      the episodes and lesions of a client
    nbss.py         episodes -> nbss_<client>.json
    anatomy.py      the shape of a breast, and the place of a lesion in its image
    imaging.py      episodes -> studies, images and marks -> imagedb_<client>.json
    plates.py       the pixels of an image
    header.py       an image -> the bytes of its DICOM file and of its sidecar
    tree.py         a client -> files
    subject.py      a written client, which the modules below change
    odd_headers.py  errors of real headers
    quirks.py       errors of real databases, each with the problem that must be reported
    variants.py     unusual forms in real databases that are no problem
    generate.py     the whole database in one call
"""

from omidbfs.demo.generate import DemoError, generate

__all__ = ["DemoError", "generate"]
