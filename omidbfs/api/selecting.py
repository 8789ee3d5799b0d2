"""Conditions of ``Cohort.where`` as terms of cohorts. Each is read as a component of a path is.

``cohort`` uses it, from any thread.
"""

from omidbfs.base.errors import NotFoundError, UserError
from omidbfs.base.words import closest, did_you_mean
from omidbfs.cohorts.cohort import Cohort, Term
from omidbfs.facets import Facet, Kind
from omidbfs.index.codes import compact
from omidbfs.view.finding import no_value
from omidbfs.view.view import View

Bound = int | None
Single = str | int | bool | tuple[Bound, Bound]
Condition = Single | list[Single] | set[Single] | frozenset[Single]
"""What ``where`` takes for a facet: a component, a number, yes or no, a range, or a list or set of these."""


def facet_named(view: View, name: str) -> Facet:
    """Return a facet; ``_`` in the name stands for ``-``, and ``by-`` may be in front.

    Raises
    ------
    NotFoundError
        There is no such facet.
    """
    facet = view.cohorts.facet(name.replace("_", "-").removeprefix("by-"))
    if facet is None:
        known = {one.name: one.name.replace("-", "_") for one in view.cohorts.facets}
        close = did_you_mean(closest(name, known))
        raise NotFoundError(f"there is no facet {name}", close or "`omidbfs facets SOURCE` shows what there is")
    return facet


def narrowed(view: View, cohort: Cohort, conditions: dict[str, Condition]) -> tuple[Cohort, list[str]]:
    """Return a cohort with the conditions, and the components of a path that say the same.

    Raises
    ------
    NotFoundError
        There is no such facet, or no such value of it.
    UserError
        A condition cannot be understood.
    """
    words = []
    for name, condition in conditions.items():
        facet = facet_named(view, name)
        several = condition if isinstance(condition, list | set | frozenset) else [condition]
        parts = [_component(facet, one) for one in several]
        terms = [_term(view, cohort, facet, part) for part in parts]
        if len(terms) == 1:
            cohort = cohort.narrowed(terms[0])
        elif any(term.negated for term in terms):
            raise UserError("a complement cannot be one of several values", "give it alone", f"by-{facet.name}")
        else:
            codes = compact(code for term in terms for code in term.codes)
            cohort = cohort.narrowed(Term(facet.name, codes))
        words.append(f"by-{facet.name}/{','.join(parts)}")
    return cohort, words


def _component(facet: Facet, one: Single) -> str:
    if isinstance(one, bool):
        return "yes" if one else "no"
    if not isinstance(one, tuple):
        if not isinstance(one, str) and one < 0:  # the component -5 is a range
            raise UserError(f"{one} is below 0, and no value", "(None, 5) is a range up to 5", f"by-{facet.name}")
        return str(one)
    if facet.kind is not Kind.NUMBER or len(one) != 2:
        raise UserError("a tuple is a range of numbers", "give several values as a list", f"by-{facet.name}")
    low, high = ("" if bound is None else str(bound) for bound in one)
    return f"{low}-{high}"


def _term(view: View, cohort: Cohort, facet: Facet, component: str) -> Term:
    term = view.cohorts.term(facet, component)
    if term is None:
        raise NotFoundError(*no_value(view, cohort, facet, component), f"by-{facet.name}")
    return term
