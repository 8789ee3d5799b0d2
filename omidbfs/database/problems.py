"""Problems of the source: every oddity becomes one record, and nothing is dropped in silence.

All readers of the source report problems; commands and generated files show them. A list of problems belongs to
one thread.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from omidbfs.base.names import printable

KINDS: dict[str, str] = {
    "tree-missing": "the source has no images/ or no data/ directory",
    "unexpected-entry": "an entry that does not belong there in an OMI-DB; it is not shown",
    "not-a-regular-file": "a directory, FIFO, socket or device where a file belongs; it is not shown",
    "symlink": "a symbolic link that is not followed (see --follow-symlinks); it is not shown",
    "unreadable": "a file or directory that the operating system refused to list or read, or that does not answer",
    "duplicate-file": "the same JSON under two spellings of its name; the first one is used, both are shown",
    "duplicate-uid": "an image UID that occurs more than once; shown as <uid>~<client>~<study>",
    "client-not-on-disk": "a client in the list (--clients-file) that the source does not have",
    "entry-missing": "an entry in a list or table of the configuration that the source does not have",
    "entry-conflict": "rows of a table of the configuration that contradict each other; the value is other",
    "bad-cohort": "a cohort of the configuration whose definition has a mistake; the drive does not have it",
    "nbss-missing": "a client without NBSS JSON",
    "imagedb-missing": "a client without ImageDB JSON",
    "dcm-missing": "an image JSON without its DICOM file",
    "sidecar-missing": "a DICOM file without its JSON",
    "bad-json": "an empty, cut-off, oversized or otherwise invalid JSON file",
    "bad-dicom": "a DICOM file whose header cannot be read, or not completely",
    "odd-time": "a modification time before 1677 or after 2262; the nearest time between them is shown",
    "client-mismatch": "the ClientID in a JSON file is not the client of its directory",
    "image-mismatch": "the SOPInstanceUID in a file is not the UID in the name of the file",
    "header-mismatch": "the JSON of an image contradicts its DICOM header; the JSON is used",
    "odd-value": "a value of the wrong type or format counts as absent; of several values the first counts",
    "unknown-code": "a coded value outside its table",
    "bad-mark": "a mark without a readable MarkID or box; it is left out",
    "odd-box": "the box of a mark has no area, or most of it is outside of its image; coco.json leaves it out",
    "view-conflict": "ViewPosition and ViewCodeSequence disagree; the code is used",
    "side-conflict": "a header names different sides in different places; the first in the detail is used",
    "shape-conflict": "PresentationLUTShape contradicts PhotometricInterpretation; the shape is used",
    "study-date-missing": "a study without StudyDate in ImageDB; it is linked to no episode",
    "episode-id-missing": "a study without EpisodeID in ImageDB; it is linked by date where possible",
    "episode-id-unknown": "the EpisodeID of a study names no episode in NBSS; it is linked by date where possible",
    "study-list-conflict": "StudyList in NBSS puts a study into another episode than its link; the link is used",
    "study-not-in-imagedb": "a study on disk that ImageDB does not mention",
    "study-not-on-disk": "a study in ImageDB without any file in the source",
    "image-not-in-imagedb": "an image on disk that ImageDB does not mention in its study",
    "image-not-on-disk": "an image in ImageDB without DICOM file and JSON in the source",
}
"""Kind of problem -> its meaning; ``docs/problems.md`` and ``omidbfs check`` show these texts."""

OF_LISTS = ("entry-missing", "entry-conflict", "bad-cohort")
"""Kinds of problems in lists and tables of the configuration; they belong to no client."""


class Problem(msgspec.Struct, frozen=True, order=True, omit_defaults=True, gc=False):
    """One oddity.

    ``file`` is the place, relative to the source (``data/optm1/nbss_optm1.json``); ``kind`` is a key of
    :data:`KINDS`; ``detail`` is one line for users. ``client``, ``study`` and ``image`` name what the problem
    concerns, and may be empty: a problem of an ImageDB file may concern one image, a problem of the trees
    themselves or of a list in the configuration concerns no client. All texts are :func:`printable`.

    A Struct decodes and sorts faster than a dataclass, and a database may have a million problems.
    """

    file: str
    kind: str
    detail: str
    client: str = ""
    study: str = ""
    image: str = ""


Report = Callable[[str, str], None]
"""``report(kind, detail)`` for the file at hand."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """A :data:`Report` that appends problems of ``file`` to ``problems``; names are as on disk."""

    file: str
    problems: list[Problem]
    client: str = ""
    study: str = ""
    image: str = ""

    def __call__(self, kind: str, detail: str) -> None:
        """Append a problem."""
        assert kind in KINDS, kind
        texts = (self.file, kind, detail, self.client, self.study, self.image)
        self.problems.append(Problem(*map(printable, texts)))

    def of(self, study: str, image: str = "") -> "Reporter":
        """Return a reporter for problems of the same file that concern a study, or one of its images."""
        return Reporter(self.file, self.problems, self.client, study, image)


def problem_lines(problems: Iterable[Problem]) -> bytes:
    """Return one JSON object a line: file, kind and detail, and client, study and image unless they are empty."""
    return msgspec.json.Encoder().encode_lines(problems)
