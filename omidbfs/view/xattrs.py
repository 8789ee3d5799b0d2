"""Extended attributes (``--xattr``): values of facets for files, and the definition of cohorts.

Used by front ends. Pure functions of a view: any thread may call them. The names are ``user.omidb.<name>``.
"""

from collections.abc import Mapping

from omidbfs.database.file_kinds import DCM, FileKind
from omidbfs.exports.fields import values_of
from omidbfs.facets import Facet, Kind, Level
from omidbfs.view.nodes import Directory
from omidbfs.view.view import View

_PREFIX = b"user.omidb."


def of_directory(view: View, directory: Directory) -> Mapping[bytes, bytes]:
    """Return the number of images and the definition of a cohort; an empty mapping for other directories."""
    if not directory.has_images:
        return {}
    count = view.cohorts.count(view.cohort(directory), Level.IMAGE)
    return {_PREFIX + b"count": b"%d" % count, _PREFIX + b"definition": directory.path}


def of_file(view: View, inode: int) -> Mapping[bytes, bytes]:
    """Return the value of every facet. Several values are joined by ``|``.

    A JSON file of a client has only the facets of the client. Other files have no attributes.
    """
    place = view.place(inode)
    if place is None:
        return {}
    index, (row, kind) = view.index, place
    facets = view.cohorts.facets
    if kind is None:
        client, first = row, int(index.client_rows[row])
        if first == index.client_rows[client + 1]:
            return {_PREFIX + b"client": index.clients[client]}
        facets, row = tuple(facet for facet in facets if facet.level is Level.CLIENT), first
    return {_PREFIX + facet.name.encode(): _value(view, facet, row, kind) for facet in facets}


def _value(view: View, facet: Facet, row: int, kind: FileKind | None) -> bytes:
    if facet.kind is Kind.FILE:
        return (kind or DCM).name.encode()
    return "|".join(values_of(view.cohorts, facet, row)).encode()
