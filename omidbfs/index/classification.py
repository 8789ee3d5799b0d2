"""Classification: the windows of outcomes, and how studies are linked to events.

Sessions and commands use it. It is pure, for any thread. A saved index always has all windows off and unique
links. :func:`classified` derives any other classification from it.
"""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from omidbfs.clinical.outcomes import Windows
from omidbfs.facets import BY_NAME
from omidbfs.facets.clinical import outcome_tokens
from omidbfs.index.columns import FIRST_CODE, RESERVED_CODES, Index
from omidbfs.index.episodes import OUTCOME_CODES
from omidbfs.index.sections import overlaid, replaced

LINK_ALL = "event-link-all"
"""The facet whose values ``event`` has with ``--link-all``."""

_FACETS = ("outcome", "undefined-outcome")


@dataclass(frozen=True, slots=True)
class Classification:
    """The windows of outcomes, and whether studies are linked to events even if the link is not unique."""

    windows: Windows = field(default_factory=Windows)
    link_all: bool = False


def classified(index: Index, wanted: Classification) -> Index:
    """Return an index under another classification. The source is not read."""
    if wanted.windows != Windows():
        episodes = index.episodes.reclassified(wanted.windows)
        columns = {}
        for facet, codes in _outcome_columns(episodes.outcome).items():
            of_episode = np.append(codes, np.uint8(RESERVED_CODES["unlinked"]))  # -1, no episode, reads the last
            columns[facet] = partial(_of_images, index, of_episode)
        index = replaced(index, episodes=episodes, columns=overlaid(index.columns, columns))
    if wanted.link_all:
        linked = {"event": partial(index.columns.__getitem__, LINK_ALL)}
        combinations = {**index.combinations, "event": index.combinations[LINK_ALL]}
        index = replaced(index, columns=overlaid(index.columns, linked), combinations=combinations)
    return index


def _of_images(index: Index, of_episode: NDArray[np.uint8]) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = of_episode[index.study_episode][index.study_of]
    return found


def _outcome_columns(decided: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """Return, for each of the facets of outcomes, the codes that stand for those in the column ``outcome``."""
    tables = np.zeros((len(_FACETS), len(OUTCOME_CODES)), np.uint8)
    for code, outcome in enumerate(OUTCOME_CODES):
        for number, (facet, token) in enumerate(zip(_FACETS, outcome_tokens(outcome), strict=True)):
            known = {value.code: place for place, value in enumerate(BY_NAME[facet].values, FIRST_CODE)}
            tables[number, code] = {**RESERVED_CODES, **known}["unknown" if token is None else token]
    return {facet: found[decided] for facet, found in zip(_FACETS, tables, strict=True)}
