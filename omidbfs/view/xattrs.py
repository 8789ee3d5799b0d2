"""Extended attributes (``--xattr``): values of facets for files, and the definition of cohorts.

Used by front ends. Pure functions of a view: any thread may call them. The names are ``user.omidb.<name>``.
"""

from collections.abc import Mapping

import numpy as np

from omidbfs.database.file_kinds import DCM, FileKind
from omidbfs.exports.fields import label
from omidbfs.facets import Facet, Kind, Level
from omidbfs.view.nodes import Directory
from omidbfs.view.view import View

_PREFIX = b"user.omidb."


def of_directory(view: View, directory: Directory) -> Mapping[bytes, bytes]:
    """Return the number of images and the definition of a cohort; an empty mapping for other directories."""
    if not directory.has_images:
        return {}
    count = len(view.cohorts.rows(view.cohort(directory)))
    return {_PREFIX + b"count": b"%d" % count, _PREFIX + b"definition": directory.path}


def of_file(view: View, inode: int) -> Mapping[bytes, bytes]:
    """Return the value of every facet. Several values are joined by ``|``.

    A JSON file of a client has only the facets of the client. Other files have no attributes.
    """
    place = view.files.place(inode)
    if place is None:
        return {}
    index, (row, kind) = view.index, place
    facets = index.registry.facets
    if kind is None:
        client, first = row, int(index.client_rows[row])
        if first == index.client_rows[client + 1]:
            return {_PREFIX + b"client": index.clients[client]}
        facets, row = tuple(facet for facet in facets if facet.level is Level.CLIENT), first
    return {_PREFIX + facet.name.encode(): _value(view, facet, row, kind) for facet in facets}


def _value(view: View, facet: Facet, row: int, kind: FileKind | None) -> bytes:
    index = view.index
    if facet.kind is Kind.FILE:
        return (kind or DCM).name.encode()
    if facet.kind is not Kind.NAME:
        labels = (label(view.cohorts, facet, code) for code in index.codes_of(facet.name, row))
        return "|".join(dict.fromkeys(labels)).encode()
    members = view.cohorts.levels[facet.level]
    return members.names(np.array([members.ordinal(row)]))[0]
