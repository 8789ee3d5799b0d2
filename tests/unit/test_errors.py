"""An error for people is one line. Its three parts are attributes."""

import copy
import pickle
from pathlib import Path

import pytest

from omidbfs.base.definitions import RefusedError, defined
from omidbfs.base.errors import UserError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("is full"), "is full"),
        (UserError("is full", "empty it"), "is full; empty it"),
        (UserError("is full", place=Path("/disk")), "/disk: is full"),
        (UserError("is full", "empty it", "/disk"), "/disk: is full; empty it"),
    ],
)
def test_an_error_is_printed_as_place_what_and_remedy(error: UserError, line: str) -> None:
    assert str(error) == line


@pytest.mark.parametrize("copied", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_comes_whole_from_another_process(copied: object) -> None:
    error = UserError("is full; or nearly", "empty it", "/disk")
    again = copied(error)  # type: ignore[operator]
    assert (again.what, again.remedy, again.place) == ("is full; or nearly", "empty it", "/disk")


def test_a_definition_that_is_refused_has_its_line_as_place_and_its_hint_as_remedy() -> None:
    def refuse(*_: object) -> None:
        raise RefusedError("is not understood", "bin", remedy="did you mean bins?")

    with pytest.raises(UserError) as caught:
        defined("facets", {"kvp": {}}, Path("it.toml"), "[facets.kvp]\nbin = 1\n", refuse)
    error = caught.value
    assert (error.what, error.remedy) == ("is not understood", "did you mean bins?")
    assert error.place == "it.toml:2: [facets.kvp]"
