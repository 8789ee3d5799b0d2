"""The parts of a path: what each component makes of the images before it.

Commands use it, in the thread of the view.
"""

import os
from collections.abc import Sequence

from omidbfs.cohorts.cohort import Cohorts
from omidbfs.cohorts.named import NamedCohort
from omidbfs.cohorts.stages import stages_of
from omidbfs.cohorts.steps import Part, Stage
from omidbfs.view.facet import FacetDirectory
from omidbfs.view.nodes import Directory
from omidbfs.view.top import NamedDirectory
from omidbfs.view.view import View


def stages_at(view: View, path: str, definitions: Sequence[NamedCohort]) -> tuple[Cohorts, list[Stage]]:
    """Return a stage for each component of a path of the drive that selects images.

    A named cohort has a stage for each part of its definition. The path is that of a directory which exists. The
    stages are of the :class:`Cohorts` returned.
    """
    cohorts, found = view.cohorts, list[Stage]()
    directory, waiting = view.root, list[str]()
    for component in filter(None, path.split("/")):
        child = view.lookup(directory, os.fsencode(component))
        assert isinstance(child, Directory), "the directory exists"
        waiting.append(component)
        if isinstance(directory, NamedDirectory):
            name, rendition = "/".join(waiting), directory.cohort.rendition
            cohorts, parts = stages_of(view.cohorts, definitions, component)
            for stage in parts:
                cohort = stage.cohort if rendition is None else view.renditions.cohort(stage.cohort, rendition)
                found.append(Stage(Part(stage.part.path, f"{name}: {stage.part.words}".rstrip()), cohort))
        elif child.stands_for != directory.stands_for:
            found.append(Stage(Part("/".join(waiting)), child.stands_for))
        if not isinstance(child, FacetDirectory | NamedDirectory):
            waiting.clear()
        directory = child
    return cohorts, found
