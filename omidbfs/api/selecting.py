"""Conditions of ``Cohort.where`` as terms of cohorts. Each is read as a component of a path is.

``cohort`` uses it, from any thread.
"""

from operator import index

import numpy as np

from omidbfs.base.errors import ConditionError, NotFoundError
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
    ConditionError
        A condition cannot be understood.
    """
    words = []
    for name, condition in conditions.items():
        facet = facet_named(view, name)
        several = condition if isinstance(condition, list | set | frozenset) else [condition]
        if not several:
            raise ConditionError(
                "an empty list has no value", "leave the condition out, or give a value", f"by-{facet.name}"
            )
        parts = [_component(facet, one) for one in several]
        terms = [_term(view, cohort, facet, part) for part in parts]
        if len(terms) == 1:
            cohort = cohort.narrowed(terms[0])
        elif any(term.negated for term in terms):
            raise ConditionError(
                "a complement cannot be one of several values", "give it alone", f"by-{facet.name}"
            )
        else:
            codes = compact(code for term in terms for code in term.codes)
            cohort = cohort.narrowed(Term(facet.name, codes))
        words.append(f"by-{facet.name}/{','.join(parts)}")
    return cohort, words


def _component(facet: Facet, one: Single) -> str:
    if isinstance(one, bool | np.bool_):
        return "yes" if one else "no"
    if not isinstance(one, tuple):
        return _text(facet, one)
    if facet.kind is not Kind.NUMBER or len(one) != 2:
        raise ConditionError("a tuple is a range of numbers", "give several values as a list", f"by-{facet.name}")
    if one == (None, None):
        raise ConditionError(
            "a range has one end at least", "leave the condition out for all values", f"by-{facet.name}"
        )
    return "-".join("" if bound is None else _text(facet, bound) for bound in one)


def _text(facet: Facet, one: str | int) -> str:
    if isinstance(one, str):
        return one
    try:
        number = index(one)  # also of numpy
    except TypeError:
        said = "give a text, a whole number, True or False, a range such as (50, 69), or a list of these"
        raise ConditionError(f"{type(one).__name__} is no kind of value", said, f"by-{facet.name}") from None
    if number < 0:  # the component -5 is a range
        raise ConditionError(
            f"{number} is below 0, and no value", "(None, 5) is a range up to 5", f"by-{facet.name}"
        )
    return str(number)


def _term(view: View, cohort: Cohort, facet: Facet, component: str) -> Term:
    term = view.cohorts.term(facet, component)
    if term is None:
        raise NotFoundError(*no_value(view, cohort, facet, component), f"by-{facet.name}")
    return term
