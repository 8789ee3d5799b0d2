"""Facets: the attributes that group images.

All floors above use them. They are pure data and pure functions, for any thread.

``clinical``, ``image``, ``latest``, ``breast`` and ``mark`` hold the facets of the program. A new facet is one
entry there, a test, and a new ``docs/facets.md``, which ``scripts/facets-doc`` generates. If the facet needs an
attribute that :class:`~omidbfs.database.header.Header` lacks, ``database/header.py`` changes too. ``defined`` has
those that a user defines.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from omidbfs.database.file_kinds import FILE_KINDS
from omidbfs.database.records import OTHER
from omidbfs.facets.breast import BREAST_FACETS
from omidbfs.facets.clinical import CLINICAL_FACETS
from omidbfs.facets.image import IMAGE_FACETS
from omidbfs.facets.latest import LATEST_FACETS
from omidbfs.facets.mark import MARK_FACETS
from omidbfs.facets.model import (
    NONE,
    RESERVED,
    UNKNOWN,
    UNLINKED,
    Facet,
    Key,
    Kind,
    Level,
    Subject,
    Tag,
    Token,
    Value,
)

FACETS: tuple[Facet, ...] = (
    *CLINICAL_FACETS,
    *IMAGE_FACETS,
    *LATEST_FACETS,
    *BREAST_FACETS,
    *MARK_FACETS,
    Facet(
        "file-type",
        "dcm or json: narrows the files of a cohort, not its images",
        Level.FILE,
        ("file name",),
        Kind.FILE,
        values=tuple(Value(kind.name, kind.name) for kind in FILE_KINDS),
    ),
)
"""The facets that every index has."""

COHORT_FACET = Facet(
    "cohort",
    "the cohorts of the configuration that have the image; none: no cohort has it",
    Level.IMAGE,
    ("[cohorts.NAME] in omidbfs.toml",),
    Kind.COHORT,
    several=True,
)
"""The facet of named cohorts, which a drive has if its configuration names any. No index has it."""

BY_NAME: Mapping[str, Facet] = {facet.name: facet for facet in FACETS}


def named(facet: str, code: str | None) -> str | None:
    """Return the name on the drive for a code of one of :data:`FACETS`, or the code if its table lacks it."""
    return next((value.label for value in BY_NAME[facet].values if value.code == code), code)


@dataclass(frozen=True, slots=True)
class Registry:
    """The facets of one index: :data:`FACETS`, then ``user``, the facets that the user defines."""

    user: tuple[Facet, ...] = ()
    facets: tuple[Facet, ...] = field(init=False)
    by_name: Mapping[str, Facet] = field(init=False)

    def __post_init__(self) -> None:
        facets = (*FACETS, *self.user)
        object.__setattr__(self, "facets", facets)
        object.__setattr__(self, "by_name", {facet.name: facet for facet in facets})


__all__ = [
    "BY_NAME",
    "COHORT_FACET",
    "FACETS",
    "NONE",
    "OTHER",
    "RESERVED",
    "UNKNOWN",
    "UNLINKED",
    "Facet",
    "Key",
    "Kind",
    "Level",
    "Registry",
    "Subject",
    "Tag",
    "Token",
    "Value",
    "named",
]
