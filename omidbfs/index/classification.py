"""How episodes are classified and linked: parameters of what is shown, not of what is read.

An index is built, and kept, with all windows off and unique links; any other classification is made from it.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from omidbfs.clinical import Windows
from omidbfs.index.columns import RESERVED_CODES, Index


@dataclass(frozen=True, slots=True)
class Classification:
    """The windows of the outcomes, and whether studies are linked to events even where not uniquely."""

    windows: Windows = field(default_factory=Windows)
    link_all: bool = False


def classified(index: Index, wanted: Classification) -> Index:
    """Return an index under another classification, from what it holds: the source is not read again."""
    if wanted.windows != Windows():
        decided = index.episodes.reclassified(wanted.windows)
        of_episode = np.append(decided, np.uint8(RESERVED_CODES["unlinked"]))  # -1, no episode, is the last
        column = of_episode[index.study_episode][index.study_of]
        episodes = replace(index.episodes, outcome=decided)
        index = replace(index, episodes=episodes, columns={**index.columns, "outcome": column})
    if wanted.link_all:
        index = replace(index, postings={**index.postings, "event": index.all_events})
    return index
