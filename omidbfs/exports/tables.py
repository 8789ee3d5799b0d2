"""The tables of a cohort, by the names of their files. ``formats`` uses them."""

from collections.abc import Callable, Mapping

from omidbfs.exports.fields import Table, images
from omidbfs.exports.marks import marks
from omidbfs.exports.members import clients, episodes, studies
from omidbfs.exports.pairs import pairs
from omidbfs.exports.selection import Selection

TABLES: Mapping[str, Callable[[Selection], Table]] = {
    "index": images,
    "pairs": pairs,
    "clients": clients,
    "studies": studies,
    "episodes": episodes,
    "marks": marks,
}
