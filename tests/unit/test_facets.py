"""The facets: the values of an image, for everything that a source may contain."""

import re
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword
from trees import MARK, Client, Study, Tree, build_index, sidecar

from omidbfs.base.names import safe_bytes
from omidbfs.clinical.outcomes import Windows
from omidbfs.cohorts.cohort import EVERYTHING, Cohorts
from omidbfs.cohorts.readings import number_range, readings_of
from omidbfs.database.layout import find_source
from omidbfs.database.terms import IMAGE_TYPES, age_in_years
from omidbfs.database.views import MODIFIERS, VIEWS, read_position, side, view
from omidbfs.facets import BY_NAME, FACETS, RESERVED, Facet, Kind, Level
from omidbfs.facets.clinical import fold_of
from omidbfs.facets.image import code_label
from omidbfs.index.classification import Classification
from omidbfs.index.columns import FIRST_CODE, TextValue

Listed = Callable[[str, Tree], list[str]]


def listed(facet: str, tree: Tree, windows: Windows | None = None, *, link_all: bool = False) -> list[str]:
    """Return the values of a facet that a database of one image lists."""
    index = build_index(find_source(tree.root), Classification(windows or Windows(), link_all))
    counts = Cohorts(index).counts(EVERYTHING, BY_NAME[facet])
    assert {number for _, number in counts} <= {len(index)}
    return [value for value, _ in counts]


@pytest.fixture
def client(tmp_path: Path) -> Callable[..., Client]:
    """A function that makes a database of one client."""
    numbers = count()
    return lambda name="demd1", **options: Tree(tmp_path / str(next(numbers))).client(name, **options)


@pytest.fixture
def image(client: Callable[..., Client]) -> Callable[..., Tree]:
    """A function that makes a database of one image, with these keywords in its sidecar."""

    def make(**keywords: object) -> Tree:
        study: Study = client().study("1.1")
        return study.image("1.1.1", **keywords).of.tree  # type: ignore[arg-type]

    return make


# Header ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("position", "code", "name"),
    [
        ("MLO", None, "MLO"),
        ("CC", None, "CC"),
        ("mlo", None, "MLO"),
        ("LMLO", None, "MLO"),
        ("RMLO", None, "MLO"),
        ("RCC", None, "CC"),
        ("LM", None, "LM"),  # not a left M
        ("LMO", None, "LMO"),
        ("LLM", None, "LM"),
        ("RLMO", None, "LMO"),
        ("LML", None, "ML"),
        ("RXCCL", None, "XCCL"),
        ("LLMLO", None, "other"),
        ("AP", None, "other"),
        ("L", None, "other"),
        (None, "R-10226", "MLO"),
        (None, "399162004", "CC"),
        (None, "Y-X1770", "XCCL"),
        (None, "G-8310", "SPECIMEN"),
        (None, "R-99999", "other"),
        (None, None, "unknown"),
        ("CC", "R-10226", "MLO"),  # the code wins
        ("RCC", "R-10242", "CC"),
        ("AP", "R-10242", "CC"),
        ("CC", "R-99999", "CC"),
        ("AP", "R-99999", "other"),
        ("RIGHT CC", None, "CC"),
        ("LEFT MLO", None, "MLO"),
        ("r-mlo", None, "MLO"),
        ("L_XCCL", None, "XCCL"),
        ("CCID", None, "CC"),
        ("RMLOID", None, "MLO"),
        ("MLID", None, "ML"),
        ("RMCC", None, "CC"),  # magnified
        ("AT", None, "unknown"),  # a modifier alone
        ("AT", "R-10226", "MLO"),
        ("AT", "R-99999", "other"),
        ("LAT", None, "other"),  # lateral, and not the left axillary tail
        ("FLATFIELD", None, "other"),
    ],
)
def test_view(image: Callable[..., Tree], position: str | None, code: str | None, name: str) -> None:
    header: dict[str, object] = {}
    if position is not None:
        header["00185101"] = {"vr": "CS", "Value": [position]}
    if code is not None:
        header["00540220"] = {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": [code]}}]}
    assert listed("view", image(header=header)) == [name]


def test_position_and_code_conflict_only_where_both_are_known() -> None:
    assert view("CC", "R-10226") == ("MLO", True)
    assert view("LMLO", "R-10226") == ("MLO", False)
    assert view("AP", "R-10226") == ("MLO", False)
    assert view("CC", "R-99999") == ("CC", False)
    assert view("RM", "R-10226") == ("MLO", False)


@pytest.mark.parametrize("side", ["", "L", "R"])
@pytest.mark.parametrize("position", VIEWS)
def test_every_view_is_known_with_and_without_its_side(side: str, position: str) -> None:
    read = read_position(side + position)
    assert read is not None
    assert read.view == position
    assert read.side == (side or None) or (side + position) in VIEWS  # LM and LMO are views without a side


@pytest.mark.parametrize(
    ("position", "names"),
    [
        ("CCID", ["implant-displaced"]),
        ("MLOID", ["implant-displaced"]),
        ("MLID", ["implant-displaced"]),
        ("AT", ["axillary-tail"]),
        ("RAT", ["axillary-tail"]),
        ("CV", ["cleavage"]),
        ("RL", ["rolled-lateral"]),
        ("RM", ["rolled-medial"]),
        ("CCRM", ["rolled-medial"]),
        ("RMSCCID", ["implant-displaced", "magnification", "spot-compression"]),
        ("CC", ["unknown"]),
        ("FLATFIELD", ["unknown"]),
    ],
)
def test_modifiers_in_the_view_position(image: Callable[..., Tree], position: str, names: list[str]) -> None:
    assert sorted(listed("view-modifier", image(ViewPosition=position))) == names


def test_no_modifier_is_known_to_be_there_only_if_none_is_said_anywhere(image: Callable[..., Tree]) -> None:
    assert listed("view-modifier", image(ViewPosition="CC", ViewCode="R-10242")) == ["none"]
    assert listed("view-modifier", image(ViewPosition="CCID", ViewCode="R-10242")) == ["implant-displaced"]
    beside = {**sidecar(ViewCode="R-10242"), "00540222": {"Value": [{"00080100": {"Value": ["R-102D6"]}}]}}
    assert listed("view-modifier", image(header=beside)) == ["magnification"]
    both = image(ViewPosition="CCID", ViewCode="R-10242", ViewModifiers=("R-102D6",))
    assert listed("view-modifier", both) == ["implant-displaced", "magnification"]


@pytest.mark.parametrize(
    ("codes", "names"),
    [
        (("R-102D6",), ["magnification"]),
        (("399163009", "R-102D7"), ["magnification", "spot-compression"]),
        (("R-102D6", "R-102D6", "399163009"), ["magnification"]),
        (("R-102D6", "R-99999"), ["magnification", "other"]),
        ((), ["none"]),
    ],
)
def test_view_modifiers(image: Callable[..., Tree], codes: tuple[str, ...], names: list[str]) -> None:
    assert listed("view-modifier", image(ViewCode="R-10242", ViewModifiers=codes)) == names


def test_view_modifiers_of_an_image_without_a_view_code_are_unknown(image: Callable[..., Tree]) -> None:
    assert listed("view-modifier", image(ViewPosition="CC")) == ["unknown"]


@pytest.mark.parametrize("code", [code for codes in MODIFIERS.values() for code in codes])
def test_every_modifier_is_known(image: Callable[..., Tree], code: str) -> None:
    (name,) = listed("view-modifier", image(ViewCode="R-10242", ViewModifiers=(code,)))
    assert code in MODIFIERS[name]


@pytest.mark.parametrize(
    ("keywords", "side"),
    [
        ({"ImageLaterality": "L"}, "L"),
        ({"ImageLaterality": "r"}, "R"),
        ({"ImageLaterality": "B"}, "B"),
        ({"Laterality": "L"}, "L"),
        ({"ImageLaterality": "R", "Laterality": "L"}, "R"),
        ({"ImageLaterality": "", "Laterality": "L"}, "L"),
        ({"ImageLaterality": "Data anonymised", "Laterality": "L"}, "L"),
        ({"ImageLaterality": "U", "Laterality": "L"}, "L"),
        ({"ImageLaterality": "U"}, "unknown"),  # unpaired
        ({"ImageLaterality": "X", "Laterality": "L"}, "L"),
        ({"ImageLaterality": "X"}, "other"),
        ({"ImageLaterality": "LEFT"}, "L"),
        ({"ImageLaterality": "right"}, "R"),
        ({"ImageLaterality": "BILATERAL"}, "B"),
        ({"Laterality": "B", "ViewPosition": "RCC"}, "R"),  # the series has both, the image one
        ({"Laterality": "B"}, "B"),
        ({"ViewPosition": "LMLO"}, "L"),
        ({"ViewPosition": "RCC"}, "R"),
        ({"ViewPosition": "RIGHT CC"}, "R"),
        ({"ViewPosition": "R-MLO", "ImageLaterality": "U"}, "R"),
        ({"ViewPosition": "RMLO", "ImageLaterality": "L"}, "L"),
        ({"ViewPosition": "LM"}, "unknown"),  # a view
        ({"ViewPosition": "MLO"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_laterality(image: Callable[..., Tree], keywords: dict[str, str], side: str) -> None:
    assert listed("laterality", image(**keywords)) == [side]


def test_sides_conflict_only_where_two_are_named() -> None:
    assert side("L", None, None, "RMLO") == ("L", True)
    assert side(None, "R", "L", None) == ("R", True)
    assert side("B", None, None, "RCC") == ("B", True)
    assert side("L", "left", "B", "LMLO") == ("L", False)
    assert side("U", "X", "R", "AP") == ("R", False)


def test_the_side_of_a_frame_is_that_of_the_image(image: Callable[..., Tree]) -> None:
    anatomy = {"00209071": {"Value": [{"00209072": {"Value": ["R"]}}]}}
    tomosynthesis = {"00080016": {"Value": ["1.2.840.10008.5.1.4.1.1.13.1.3"]}}
    for groups in ("52009229", "52009230"):
        tree = image(header={**tomosynthesis, groups: {"Value": [anatomy]}})
        assert listed("laterality", tree) == ["R"]
        assert listed("tomosynthesis", tree) == ["yes"]


@pytest.mark.parametrize(
    ("values", "kind", "tomosynthesis"),
    [
        (("ORIGINAL", "PRIMARY"), "original", "no"),
        (("DERIVED", "PRIMARY", "", "100"), "derived", "no"),
        (("ORIGINAL", "PRIMARY", "TOMO_PROJ", "RIGHT"), "tomosynthesis-projection", "yes"),
        (("DERIVED", "PRIMARY", "TOMO_2D"), "synthetic-2d", "yes"),
        (("DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"), "synthetic-2d", "yes"),
        (("DERIVED", "PRIMARY", "TOMOSYNTHESIS", None), "tomosynthesis", "yes"),
        (("ORIGINAL", "PRIMARY", "STEREO_PLUS"), "biopsy", "no"),
        (("ORIGINAL", "PRIMARY", "TOMO_SCOUT"), "biopsy", "yes"),
        (("ORIGINAL", "PRIMARY", "POST_CONTRAST", None, "LOW_ENERGY"), "low-energy", "no"),
        (("DERIVED", "PRIMARY", "POST_CONTRAST", "SUBTRACTION", None), "subtraction", "no"),
        (("derived", "PRIMARY"), "derived", "no"),
        (("original", "primary", "tomo_scout"), "biopsy", "yes"),
        (("DERIVED", "PRIMARY", "TOMOSYNTHESIS", "LOW_ENERGY"), "low-energy", "yes"),
        (("TOMOGRAM",), "other", "no"),
        ((), "unknown", "no"),
    ],
)
def test_all_values_of_the_image_type_say_what_an_image_is(
    image: Callable[..., Tree], values: tuple[str | None, ...], kind: str, tomosynthesis: str
) -> None:
    mammography = {"00080016": {"Value": ["1.2.840.10008.5.1.4.1.1.1.2"]}}
    tree = image(header={**mammography, "00080008": {"vr": "CS", "Value": list(values)}})
    assert listed("image-type", tree) == [kind]
    assert listed("tomosynthesis", tree) == [tomosynthesis]


def test_no_value_of_the_image_type_means_two_kinds() -> None:
    texts = [text for _, texts in IMAGE_TYPES.values() for text in texts]
    assert len(texts) == len(set(texts))


@pytest.mark.parametrize(
    ("facet", "keyword", "text", "name"),
    [
        ("intent", "PresentationIntentType", "FOR PRESENTATION", "presentation"),
        ("intent", "PresentationIntentType", "For Processing ", "processing"),
        ("intent", "PresentationIntentType", "PRESENTATION", "other"),
        ("intent", "PresentationIntentType", "", "unknown"),
        ("implant", "BreastImplantPresent", "YES", "yes"),
        ("implant", "BreastImplantPresent", "NO", "no"),
        ("implant", "BreastImplantPresent", "maybe", "other"),
        ("implant", "BreastImplantPresent", "Data anonymised", "unknown"),
        ("manufacturer", "Manufacturer", "HOLOGIC, Inc.", "hologic"),
        ("manufacturer", "Manufacturer", "LORAD", "lorad"),
        ("manufacturer", "Manufacturer", "LORAD, A Hologic Company", "lorad"),
        ("manufacturer", "Manufacturer", "GE MEDICAL SYSTEMS", "ge"),
        ("manufacturer", "Manufacturer", "GE HEALTHCARE", "ge"),
        ("manufacturer", "Manufacturer", "GE", "ge"),
        ("manufacturer", "Manufacturer", "General Electric Co.", "ge"),
        ("manufacturer", "Manufacturer", "SIEMENS", "siemens"),
        ("manufacturer", "Manufacturer", "Philips Medical Systems", "philips"),
        ("manufacturer", "Manufacturer", "Philips Digital Mammography Sweden AB", "philips"),
        ("manufacturer", "Manufacturer", "Sectra Imtec AB", "sectra"),
        ("manufacturer", "Manufacturer", "FUJIFILM Corporation", "fujifilm"),
        ("manufacturer", "Manufacturer", "Gentec", "gentec"),
        ("manufacturer", "Manufacturer", "IMS s.r.l.", "ims-s.r.l"),
        ("manufacturer", "Manufacturer", "Data anonymised", "unknown"),
        ("model", "ManufacturerModelName", "Lorad Selenia", "lorad-selenia"),
        ("manufacturer", "Manufacturer", "GE_Healthcare", "ge"),
        ("manufacturer", "Manufacturer", "unknown", "_unknown"),
        ("model", "ManufacturerModelName", "unknown", "_unknown"),
        ("model", "ManufacturerModelName", "unlinked", "_unlinked"),
        ("model", "ManufacturerModelName", "Other", "_other"),
        ("model", "ManufacturerModelName", "", "unknown"),
    ],
)
def test_texts_of_the_header(image: Callable[..., Tree], facet: str, keyword: str, text: str, name: str) -> None:
    assert listed(facet, image(**{keyword: text})) == [name]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("MG", "MG"),
        ("mg ", "MG"),
        ("YBR_FULL_422", "YBR_FULL_422"),
        ("ybr full 422.", "YBR_FULL_422"),
        ("MG+", "mg+"),
        ("<MG", "_less_mg"),
        ("UNKNOWN", "_unknown"),
    ],
)
def test_code_strings_are_in_capitals(text: str, name: str) -> None:
    assert code_label(text) == name


@pytest.mark.parametrize(("facet", "tag"), [("modality", "00080060"), ("photometric-interpretation", "00280004")])
def test_code_strings_of_these_facets_are_in_capitals(image: Callable[..., Tree], facet: str, tag: str) -> None:
    assert listed(facet, image(header={tag: {"vr": "CS", "Value": ["mg a"]}})) == ["MG_A"]
    assert listed(facet, image(header={tag: {"vr": "CS", "Value": ["Unknown"]}})) == ["_unknown"]


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("064Y", 64),
        ("064y", 64),
        ("65", 65),
        (" 65 ", 65),
        ("780M", 65),
        ("779M", 64),
        ("3380W", 65),
        ("23725D", 65),
        ("005M", 0),
        ("0130Y", 130),
        ("780m", 65),
        ("000Y", None),
        ("0", None),
        ("000M", None),
        ("Y", None),
        ("sixty", None),
        ("-64Y", None),
        ("050-054", None),
        ("64Y5M", None),
        ("٦٤Y", None),
    ],
)
def test_age(text: str, years: int | None) -> None:
    assert age_in_years(text) == years


@pytest.mark.parametrize(
    ("text", "band"),
    [
        ("049Y", "45-49"),
        ("050Y", "50-54"),
        ("054Y", "50-54"),
        ("003M", "0-4"),
        ("130Y", "130-134"),
        ("131Y", "other"),
        ("9" * 30, "other"),
        ("000Y", "unknown"),
        ("old", "unknown"),
        ("", "unknown"),
    ],
)
def test_ages_are_listed_in_bands_of_five_years(image: Callable[..., Tree], text: str, band: str) -> None:
    assert listed("age", image(PatientAge=text)) == [band]


@given(st.text() | st.from_regex(r"[0-9]{1,400}[YMWD]?", fullmatch=True))
def test_any_age_is_a_number_or_a_word(text: str) -> None:
    age = age_in_years(text)
    assert age is None or age >= 0


def test_an_image_without_any_header_is_unknown_in_every_facet_of_the_image(image: Callable[..., Tree]) -> None:
    tree = image(has_sidecar=False, dcm=b"no DICOM")
    for facet in FACETS:
        elsewhere = ("marked", "mark-count", "files", "side-opinion", "reading-opinion", "chest-wall")
        if facet.level == "image" and facet.name not in elsewhere:
            assert listed(facet.name, tree) == ["unknown"], facet.name


# NBSS and ImageDB ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "outcome", "status", "of_client"),
    [
        ("N", "normal", "normal", "normal"),
        ("NA", "normal-assessed", "normal-assessed", "normal"),
        ("B", "benign", "benign", "benign"),
        ("M", "malignant", "malignant", "malignant"),
        ("CI", "interval-cancer", "interval-cancer", "interval-cancer"),
    ],
)
def test_what_became_of_an_episode(
    client: Callable[..., Client], kind: str, outcome: str, status: str, of_client: str
) -> None:
    tree = client().episode("7", kind).study("1.1", "7").image("1.1.1").of.tree
    assert listed("outcome", tree) == [outcome]
    assert listed("episode-status", tree) == [status]
    assert listed("client-status", tree) == [of_client]


def test_an_outcome_depends_on_the_windows(client: Callable[..., Client]) -> None:
    tree = client().episode("7", "N").study("1.1", "7").image("1.1.1").of.tree
    assert listed("outcome", tree, Windows(normal_follow_up=36)) == ["undefined"]


def test_a_study_without_episode_is_unlinked(client: Callable[..., Client]) -> None:
    tree = client().episode("7").study("1.1", "8", "1999-01-01").image("1.1.1").of.tree
    for facet in ("outcome", "episode-status", "episode-type", "event", "year"):
        assert listed(facet, tree) == ["unlinked"], facet
    assert listed("client-status", tree) == ["normal"]


def test_a_client_without_nbss_is_unlinked_and_unknown(client: Callable[..., Client]) -> None:
    tree = client(nbss=False).study("1.1", "7").image("1.1.1").of.tree
    assert listed("outcome", tree) == ["unlinked"]
    assert listed("client-status", tree) == listed("classification", tree) == ["unknown"]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("N", "normal"),
        ("B", "benign"),
        ("M", "malignant"),
        ("CI", "interval-cancer"),
        ("X", "other"),
        (None, "unknown"),
        ("", "unknown"),
    ],
)
def test_classification(client: Callable[..., Client], code: str | None, name: str) -> None:
    tree = client(classification=code).study("1.1").image("1.1.1").of.tree
    assert listed("classification", tree) == [name]


@pytest.mark.parametrize(
    ("site", "name"), [("stge", "stge"), ("St. George's", "st.-george_apostrophe_s"), (None, "unknown")]
)
def test_site(client: Callable[..., Client], site: str | None, name: str) -> None:
    assert listed("site", client(site=site).study("1.1").image("1.1.1").of.tree) == [name]


@pytest.mark.parametrize(
    ("year", "name"),
    [("2012", "2012"), (2012, "2012"), ("", "unknown"), (None, "unknown"), ("soon", "unknown"), ("1899", "other")],
)
def test_year(client: Callable[..., Client], year: object, name: str) -> None:
    tree = client().episode("7", ActualEpisodeOpenedYear=year).study("1.1", "7").image("1.1.1").of.tree
    assert listed("year", tree) == [name]


@pytest.mark.parametrize(
    ("code", "name"), [("CI", "interval-case"), ("X", "other"), ("??", "other"), (None, "unknown")]
)
def test_episode_type(client: Callable[..., Client], code: str | None, name: str) -> None:
    tree = client().episode("7", EpisodeType=code).study("1.1", "7").image("1.1.1").of.tree
    assert listed("episode-type", tree) == [name]


def test_event(client: Callable[..., Client]) -> None:
    def tree(kind: str, day: str) -> Tree:
        return client().episode("7", kind, "2012-05-01").study("1.1", "7", day).image("1.1.1").of.tree

    assert listed("event", tree("N", "2012-05-01")) == ["screening"]
    assert listed("event", tree("N", "2012-06-01")) == ["screening"]
    assert listed("event", tree("M", "2012-05-01")) == ["none"]  # three on one day, and only one may be meant
    assert listed("event", tree("M", "2012-05-01"), link_all=True) == ["screening", "assessment", "surgery"]
    assert listed("event", tree("", "2012-05-01")) == ["none"]


@pytest.mark.parametrize(
    ("marks", "name"),
    [(None, "no"), ({}, "no"), (MARK, "yes"), ({"1": {}}, "unknown"), ({**MARK, "2": {}}, "yes")],
)
def test_marked(image: Callable[..., Tree], marks: dict[str, object] | None, name: str) -> None:
    assert listed("marked", image(marks=marks)) == [name]


def test_whether_an_image_is_marked_is_unknown_where_imagedb_is_silent(client: Callable[..., Client]) -> None:
    assert listed("marked", client(imagedb=False).study("1.1").image("1.1.1").of.tree) == ["unknown"]
    study = client().study("1.1").image("1.1.1")
    study.series.clear()
    study.of.write()
    assert listed("marked", study.of.tree) == ["unknown"]


# Folds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client_name", "fold"),
    [("demd1", 8), ("demd2", 9), ("demd175588", 5), ("optm1", 1), ("optm99", 9)],
)
def test_the_fold_of_a_client_never_changes(client_name: str, fold: int) -> None:
    assert fold_of(client_name) == fold


def test_folds_are_equal_parts() -> None:
    sizes = Counter(fold_of(f"demd{number}") for number in range(20_000))
    assert set(sizes) == set(range(10))
    assert max(sizes.values()) - min(sizes.values()) < 300  # six standard deviations


# Marks and lesions -----------------------------------------------------------------------------------------


def lesions(numbers: str | None, side: str = "L") -> dict[str, object]:
    """Return a mark and an episode with lesion 1 on the left, invasive of grade 2 after surgery."""
    mark = {**MARK["1"], "LinkedNBSSLesionNumber": numbers, "Mass": 1, "Conspicuity": "Very_subtle"}  # type: ignore[dict-item]
    surgery = {"1": {"DiseaseGrade": "G2", "HormoneERStatus": "RP", "HormonePRStatus": "RU", "Opinion": "H5"}}
    episode = {
        "LESION": {"L": {"1": {"LesionDescription": "MA"}}},
        "SURGERY": {"left_opinion": "OM", "L": surgery},
    }
    return {"marks": {"1": mark}, "episode": episode, "side": side}


@pytest.mark.parametrize(
    ("numbers", "side", "link", "grade"),
    [
        ("1", "L", ["linked"], ["grade-2"]),
        ("2,1", "L", ["linked"], ["grade-2"]),
        ("1", "R", ["missing-lesion"], ["unknown"]),
        ("2", "L", ["missing-lesion"], ["unknown"]),
        ("UNLINKED", "L", ["no-lesion"], ["unknown"]),
        (None, "L", ["no-lesion"], ["unknown"]),
        ("1", "B", ["missing-lesion"], ["unknown"]),
    ],
)
def test_a_lesion_of_the_other_side_is_not_the_marks(
    client: Callable[..., Client], numbers: str | None, side: str, link: list[str], grade: list[str]
) -> None:
    found = lesions(numbers, side)
    one = client().episode("1", "", **found["episode"])  # type: ignore[arg-type]
    tree = one.study("1.1", "1").image("1", marks=found["marks"], ImageLaterality=side).of.tree  # type: ignore[arg-type]
    assert listed("lesion-link", tree) == link
    assert listed("grade", tree) == grade
    is_linked = link == ["linked"]
    assert listed("lesion-status", tree) == (["invasive"] if is_linked else ["unknown"])
    assert listed("lesion-description", tree) == (["mass"] if is_linked else ["unknown"])
    assert listed("oestrogen-receptor", tree) == (["positive"] if is_linked else ["unknown"])
    assert listed("progesterone-receptor", tree) == ["unknown"]
    assert listed("mark-feature", tree) == ["mass"]
    assert listed("conspicuity", tree) == ["very-subtle"]
    assert listed("mark-count", tree) == ["1"]
    opinion = {"L": ["malignant"], "R": ["none"], "B": ["unknown"]}[side]
    assert listed("side-opinion", tree) == opinion


def test_without_an_episode_a_lesion_is_unlinked(client: Callable[..., Client]) -> None:
    study = client().study("1.1", None, None)
    tree = study.image("1", marks=lesions("1")["marks"], ImageLaterality="L").of.tree  # type: ignore[arg-type]
    assert listed("grade", tree) == listed("her2", tree) == listed("side-opinion", tree) == ["unlinked"]


def test_an_episode_is_found_by_client_and_number(client: Callable[..., Client]) -> None:
    one = client("demd1").episode("7").episode("a b", day="2013-01-01")
    study = one.study("1.1", "7").image("1").study("1.2", "a b").image("2").study("1.3", None, None).image("3")
    tree = study.client("demd2").episode("7").study("2.1", "7").image("4").of.tree
    cohorts = Cohorts(build_index(find_source(tree.root), Classification()))
    facet = BY_NAME["episode"]

    def images(name: str) -> list[bytes] | None:
        term = cohorts.term(facet, name)
        return None if term is None else cohorts.index.images.take(cohorts.rows(EVERYTHING.narrowed(term)))

    assert cohorts.counts(EVERYTHING, facet) == [
        ("demd1~7", 1),
        ("demd1~a%20b", 1),
        ("demd2~7", 1),
        ("unlinked", 1),
    ]
    assert images("demd1~7") == [b"1"]
    assert images("demd1~a%20b") == [b"2"]
    assert images("7") == [b"1", b"4"]
    assert images("demd2~7,unlinked") == [b"3", b"4"]
    assert images("not-7") == [b"2", b"3"]
    assert images("demd2~a%20b") is images("demd9~7") is images("8") is images("~7") is None


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ({"Ethnicity": "White British"}, "white-british"),
        ({"EthnicGroup": "A"}, "a"),
        ({"Ethnicity": "", "EthnicGroup": "B"}, "b"),
        ({}, "unknown"),
    ],
)
def test_ethnicity_is_where_it_is_stated(client: Callable[..., Client], keys: dict[str, str], value: str) -> None:
    one = client()
    one.documents["nbss"].update(keys)
    one.write()
    assert listed("ethnicity", one.study("1.1").image("1").of.tree) == [value]


@pytest.mark.parametrize(("closed", "value"), [("Y", "yes"), ("N", "no"), (None, "unknown"), ("x", "unknown")])
def test_what_is_not_stated_of_an_episode_is_unknown(
    client: Callable[..., Client], closed: str | None, value: str
) -> None:
    one = client().episode("1", EpisodeIsClosed=closed, EpisodeAction="ST")
    tree = one.study("1.1", "1").image("1").of.tree
    assert listed("closed", tree) == [value]
    assert listed("episode-action", tree) == ["surgical-treatment"]
    assert listed("post-op", tree) == ["no"]
    assert listed("undefined-outcome", tree) == ["none"]
    assert listed("undefined-outcome", tree, Windows(normal_follow_up=12)) == ["no-subsequent-episode"]


# The registry ----------------------------------------------------------------------------------------------


def test_facets_have_safe_names_of_their_own() -> None:
    names = [facet.name for facet in FACETS]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z]+2?(-[a-z]+)*", name)


def of_kind(*kinds: Kind) -> pytest.MarkDecorator:
    """Return a mark that runs a test with each facet of these kinds."""
    facets = [facet for facet in FACETS if facet.kind in kinds]
    assert facets
    return pytest.mark.parametrize("facet", facets, ids=lambda facet: facet.name)


HOSTILE = (
    "not-a",
    "a,b",
    "50-69",
    "2012-",
    "-49",
    "57",
    "unknown",
    "Other",
    "NONE",
    "unlinked",
    "A B",
    "*",
    "../x",
)
"""Texts and identifiers that would mean a complement, a union, a range or a reserved word as names."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Cohorts:
    """A database whose studies and episodes have names with another meaning on the drive."""
    tree = Tree(tmp_path_factory.mktemp("hostile") / "db")
    one = tree.client("demd1")
    for number, text in enumerate(HOSTILE[:-1]):
        one.episode(text).study(text, text).image(f"1.{number}")
    return Cohorts(build_index(find_source(tree.root), Classification()))


def is_safe(name: str) -> bool:
    """Return whether a name is safe, and neither a union, a complement nor a reserved word."""
    return safe_bytes(name.encode()) == name.encode() and "," not in name and name not in RESERVED


@of_kind(Kind.TABLE, Kind.FILE)
def test_a_name_means_one_value_of_a_facet(facet: Facet) -> None:
    assert facet.values
    names = Counter(name for value in facet.values for name in {value.label, value.code, *value.aliases})
    assert {name: times for name, times in names.items() if times > 1} == {}


@of_kind(Kind.TABLE, Kind.FILE)
def test_a_listed_name_is_safe_and_cannot_be_read_as_anything_else(hostile: Cohorts, facet: Facet) -> None:
    for code, value in enumerate(facet.values, FIRST_CODE if facet.kind is Kind.TABLE else 0):
        assert is_safe(value.label) or value.label == "other"
        assert not re.fullmatch(r"[0-9]*-?[0-9]*", value.label)
        # "Other" of NBSS joins the codes outside its table. No other value has a reserved name.
        assert {value.label, value.code, *value.aliases} & RESERVED.keys() <= {"other"}
        term = hostile.term(facet, value.label)
        assert term is not None
        assert term.codes == ({code} if value.label != "other" else {1, code})


@of_kind(Kind.NUMBER)
def test_a_listed_band_is_the_range_that_it_names(hostile: Cohorts, facet: Facet) -> None:
    assert facet.lowest < facet.highest
    bands: dict[str, set[int]] = {}
    for code, number in enumerate(range(facet.lowest, facet.highest + 1), FIRST_CODE):
        label = hostile.label(facet, code)
        bands.setdefault(label, set()).add(code)
        low, _, high = label.partition("-")
        assert int(low) <= number <= int(high or low)
        term = hostile.term(facet, str(number))
        assert term is not None
        assert term.codes == {code}
    for label, codes in bands.items():
        assert is_safe(label)
        assert len(codes) <= facet.band
        term = hostile.term(facet, label)
        assert term is not None
        assert set(term.codes) == codes


@of_kind(Kind.TEXT)
@pytest.mark.parametrize("text", HOSTILE)
def test_a_name_of_a_text_cannot_be_read_as_anything_else(facet: Facet, text: str) -> None:
    label = facet.label(text)
    assert is_safe(label)
    assert number_range(facet, label) is None
    values = [TextValue(label, (text,)), TextValue(facet.label("another"), ("another",))]
    assert readings_of(values)[label] == FIRST_CODE


@of_kind(Kind.NAME)
def test_a_listed_identifier_is_safe_and_means_itself(hostile: Cohorts, facet: Facet) -> None:
    listed = hostile.values(EVERYTHING, facet)
    names = hostile.names(facet, listed)
    assert len(set(names)) == len(names) == (1 if facet.name == "client" else len(HOSTILE) - 1)
    for ordinal, name in zip(listed, names, strict=True):
        assert re.fullmatch(r"(?!not-|by-|[.-])[A-Za-z0-9._+%~-]+", name.decode())
        term = hostile.term(facet, name.decode())
        assert term is not None
        assert (term.negated, set(term.codes)) == (False, {ordinal})


@pytest.mark.parametrize("facet", FACETS, ids=lambda facet: facet.name)
def test_a_facet_has_a_description(facet: Facet) -> None:
    assert facet.description
    assert facet.source
    assert facet.level in Level
    assert (facet.kind is Kind.TABLE) <= bool(facet.values)
    assert (facet.tokens is None) == (facet.kind in (Kind.NAME, Kind.FILE))


@pytest.mark.parametrize("facet", FACETS, ids=lambda facet: facet.name)
def test_a_facet_names_its_tags_and_keys_as_data(facet: Facet) -> None:
    words = [part for part in facet.origin if isinstance(part, str)]
    assert not re.search(r"[0-9A-F]{4},[0-9A-F]{4}", "".join(words)), "a tag in words"
    for tag in facet.tags:
        assert [tag_for_keyword(keyword) for keyword in tag.keyword.split(".")] == [
            int(part, 16) for part in tag.path
        ]
    assert facet.source == "".join(map(str, facet.origin))
    assert not facet.keys or facet.level in (Level.CLIENT, Level.EPISODE)
