"""The Python interface: a database, its cohorts and images as objects, and the drive as a file system of fsspec.

``omidbfs`` exports the public names, and loads this package at their first use.
"""
