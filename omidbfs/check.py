"""The deep check: what only shows when every DICOM header is read."""

from collections.abc import Iterable, Iterator

from omidbfs.database.client import ClientReader
from omidbfs.database.layout import Source
from omidbfs.database.problems import Problem
from omidbfs.index.columns import DCM, Index
from omidbfs.names import printable


def unreadable_headers(source: Source, index: Index, known: Iterable[Problem]) -> Iterator[Problem]:
    """Yield a problem for every DICOM file whose header cannot be read and that is not among the ``known``."""
    reported = {problem.file for problem in known if problem.kind in ("bad-dicom", "unreadable")}
    with ClientReader(source) as reader:
        for row in range(len(index)):
            if not index.has_file(row, DCM):
                continue
            client = index.clients[int(index.client_of[row])].decode()
            study, image = index.on_disk(row)
            place = printable(f"{source.images_label}/{client}/{study}/{image}.dcm")
            problem = reader.dicom_problem(client, study, image) if place not in reported else None
            if problem is not None:
                yield Problem(place, "bad-dicom", problem)
