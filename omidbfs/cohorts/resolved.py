"""Turns the definitions of named cohorts into cohorts of an index.

Sessions and completion in shells use it. Its functions are pure, for any thread. No rows of a cohort are found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from omidbfs.base.errors import UserError
from omidbfs.base.names import printable
from omidbfs.base.words import closest, did_you_mean, meant
from omidbfs.cohorts.cohort import COHORT, LEVEL_OF, Cohort, Cohorts, Term
from omidbfs.cohorts.members import Broken, Named
from omidbfs.cohorts.named import Criteria, NamedCohort, Others
from omidbfs.database.problems import Problem
from omidbfs.facets import COHORT_FACET, NONE, Facet, Kind
from omidbfs.facets.lists import lost
from omidbfs.index.codes import compact
from omidbfs.index.columns import FIRST_CODE

_FACET_OF = {level: facet for facet, level in LEVEL_OF.items()}
_DEEPEST = 50
"""How many cohorts may use each other in a row: looking one up takes a few calls for each."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The named cohorts of an index.

    ``cohorts`` has the cohort of each name, in the order of the configuration, and ``broken`` the mistake of each
    definition that has one. ``cohorts`` refer to ``named``: only a :class:`Cohorts` that has it understands them.
    ``problems`` has the mistakes, and a problem for every name that the database does not have.
    """

    cohorts: Mapping[str, Cohort] = field(default_factory=dict)
    named: Named = field(default_factory=Named)
    broken: Mapping[str, Broken] = field(default_factory=dict)
    problems: Sequence[Problem] = ()


def resolved(cohorts: Cohorts, definitions: Sequence[NamedCohort]) -> Resolved:
    """Return the cohorts that definitions define. ``cohorts`` is used for the values of its facets only."""
    found = _Resolver(cohorts, {one.name: one for one in definitions})
    for one in definitions:
        found.try_code(one.name)
    codes = {one.name: found.codes[one.name] for one in definitions if one.name in found.codes}
    named = Named(tuple(found.parts), codes)
    broken = [
        Problem(f"cohorts/{printable(name)}", "bad-cohort", printable(str(mistake)))
        for name, mistake in found.broken.items()
    ]
    each = {name: named[code] for name, code in codes.items()}
    return Resolved(each, named, found.broken, [*broken, *found.problems])


class _Resolver:
    """Resolves each definition once, after those that it uses."""

    def __init__(self, cohorts: Cohorts, definitions: Mapping[str, NamedCohort]) -> None:
        self._cohorts, self._definitions = cohorts, definitions
        self.parts: list[Cohort] = []
        self.codes: dict[str, int] = {}
        self.broken: dict[str, Broken] = {}
        self.problems: list[Problem] = []
        self._depth: dict[str, int] = {}
        self._resolving: dict[str, int] = {}
        """The cohorts that are being resolved, each with the largest depth of those that it uses."""

    def try_code(self, name: str) -> None:
        """Resolve a cohort, or find its mistake."""
        if name in self.codes or name in self.broken:
            return
        one = self._definitions[name]
        if one.broken is not None:
            self.broken[name] = one.broken
            return
        missing: dict[str, str] = {}
        self._resolving[name] = 0
        try:
            cohort = self._of_definition(one, missing)
        except UserError as error:
            self.broken[name] = Broken(printable(error.what), printable(error.remedy), error.place or "")
        else:
            self.codes[name] = self._part(cohort)
            self._depth[name] = self._resolving[name] + 1
            self.problems += lost("entry-missing", f"in the cohort {name}", missing)
        del self._resolving[name]

    def _part(self, cohort: Cohort) -> int:
        self.parts.append(cohort)
        return FIRST_CODE + len(self.parts) - 1

    def _of_definition(self, one: NamedCohort, missing: dict[str, str]) -> Cohort:
        cohort = Cohort() if one.include is None else self._selected(one.include, missing)
        if one.of is not None:
            codes = [self._code(name, one.of.place, "include") for name in one.of.names]
            if len(codes) == 1:
                cohort = _both(self.parts[codes[0] - FIRST_CODE], cohort)
            else:
                cohort = cohort.narrowed(Term(COHORT, compact(codes)))
        if one.exclude is None:
            return cohort
        if isinstance(one.exclude, Others):
            excluded = compact([self._code(name, one.exclude.place, "exclude") for name in one.exclude.names])
        else:
            selected = self._selected(one.exclude, missing)
            if len(selected.terms) == 1:
                (term,) = selected.terms
                return cohort.narrowed(Term(term.facet, term.codes, not term.negated))
            excluded = frozenset([self._part(selected)])
        return cohort.narrowed(Term(COHORT, excluded, negated=True))

    def _code(self, name: str, place: str, key: str) -> int:
        """Return the code of a cohort that the definition at a place uses."""
        if name not in self._definitions:
            names = sorted(self._definitions)
            hint = meant(name, names) or f"there are {', '.join(names)}"
            raise UserError(f"{key}: there is no cohort {name}", hint, place)
        if name in self._resolving:
            names = list(self._resolving)
            circle = " > ".join((*names[names.index(name) :], name))
            raise UserError(f"{key}: cohorts are defined by each other: {circle}", place=place)
        if len(self._resolving) < _DEEPEST:
            self.try_code(name)
        if name in self.broken:
            what = self.broken[name].what
            cause = (
                what if what.startswith("uses the cohort") else f"uses the cohort {name}, which is broken: {what}"
            )
            raise UserError(cause, self.broken[name].remedy, place)
        depth = self._depth.get(name, _DEEPEST)
        if depth >= _DEEPEST:
            raise UserError(f"{key}: more than {_DEEPEST} cohorts use each other in a row", place=place)
        latest = next(reversed(self._resolving))
        self._resolving[latest] = max(self._resolving[latest], depth)
        return self.codes[name]

    def _selected(self, selection: Criteria, missing: dict[str, str]) -> Cohort:
        cohort = self._at(selection.path, selection.place, missing)
        for level, names in selection.lists:
            ordinals: list[int] = []
            for name in names:
                known = self._cohorts.levels[level].named(name)
                ordinals += known
                if not known:
                    missing[name] = ""
            cohort = cohort.narrowed(Term(_FACET_OF[level], compact(ordinals)))
        return cohort

    def _at(self, path: str, place: str, missing: dict[str, str]) -> Cohort:
        """Return the cohort at a path. A value that the database lacks is empty, and is added to ``missing``."""
        cohort = Cohort()
        words = [word for word in path.split("/") if word]
        if words[:1] == ["all"]:
            del words[0]
        elif words[:1] == ["cohorts"]:
            if len(words) == 1:
                raise UserError("path: cohorts holds cohorts, and one is needed", "add its name", place)
            cohort = self.parts[self._code(words[1], place, "path") - FIRST_CODE]
            del words[:2]
        rendition = next((word for word in words[::2] if word.startswith("as-")), None)
        if rendition is not None:
            raise UserError(
                f"path: {rendition} shows renditions, but a cohort has images: append it where you use the cohort",
                place=place,
            )
        facets = [self._facet(name, place) for name in words[::2]]
        if len(words) % 2:
            raise UserError(f"path: {path} has a facet without a value", place=place)
        for facet, value in zip(facets, words[1::2], strict=True):
            cohort = cohort.narrowed(self._term(facet, value, place, missing))
        return cohort

    def _facet(self, name: str, place: str) -> Facet:
        by_name = {**self._cohorts.index.registry.by_name, COHORT: COHORT_FACET}
        facet = by_name.get(name.removeprefix("by-"))
        if facet is None or not name.startswith("by-"):
            hint = did_you_mean(closest(name.removeprefix("by-"), {one: f"by-{one}" for one in by_name}))
            raise UserError(f"path: there is no {name}", hint, place)
        if facet.kind is Kind.FILE:
            raise UserError(
                f"path: {name} narrows files, but a cohort has images: append it where you use the cohort",
                place=place,
            )
        return facet

    def _term(self, facet: Facet, value: str, place: str, missing: dict[str, str]) -> Term:
        if facet.kind is Kind.COHORT:
            return self._of_cohorts(value, place)
        term = self._cohorts.term(facet, value)
        if term is None and facet.kind not in (Kind.TEXT, Kind.NAME):
            raise UserError(f"path: {value} is no value of by-{facet.name}", _hint(facet, value), place)
        if term is None:
            missing[f"by-{facet.name}/{value}"] = ""
        return term or Term(facet.name, frozenset())

    def _of_cohorts(self, value: str, place: str) -> Term:
        """Return the term for a component below ``by-cohort``, as :meth:`Cohorts.term` does."""
        negated = value not in self._definitions and value.startswith("not-")
        names = [value] if value in self._definitions else value.removeprefix("not-").split(",")
        if NONE in names:
            raise UserError(f"path: by-cohort/{value} depends on every cohort, also on this one", place=place)
        return Term(COHORT, compact([self._code(name, place, "path") for name in names]), negated)


def _both(one: Cohort, other: Cohort) -> Cohort:
    """Return the images that are in two cohorts."""
    for term in other.terms:
        one = one.narrowed(term)
    return one


def _hint(facet: Facet, value: str) -> str:
    if facet.kind is Kind.NUMBER:
        return f"numbers are {facet.lowest} to {facet.highest}"
    return meant(value, (one.label for one in facet.values))
