"""The origin of a cohort: where its index comes from, and everything but the index that its definition depends on.

Sessions make it; the formats that say how a cohort was made use it. It is immutable, for any thread.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omidbfs.index.classification import Classification

if TYPE_CHECKING:
    from omidbfs.cohorts.named import NamedCohort
    from omidbfs.database.layout import Source


@dataclass(frozen=True, slots=True)
class Origin:
    """The source of an index and its fingerprint, when the index was written (seconds since 1970), and options.

    ``only`` are the clients of ``--clients-file``, ``None`` for all. ``definitions`` are the named cohorts of the
    configuration.
    """

    source: "Source | None" = None
    source_fingerprint: str = ""
    written: float = 0.0
    classification: Classification = field(default_factory=Classification)
    only: frozenset[str] | None = None
    definitions: "tuple[NamedCohort, ...]" = ()
