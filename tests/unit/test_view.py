"""The view, without a mount, against the plain model of it: random databases, random paths."""

import errno
import os
import re
import stat
import string
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from reference import File, Node, Place, Reference, label
from trees import MARK, PIXELS, Tree, build_index

from omidbfs.clinical.outcomes import Windows
from omidbfs.cohorts.cohort import IMAGES, Cohort, Cohorts, Term
from omidbfs.cohorts.named import Criteria, NamedCohort
from omidbfs.cohorts.resolved import resolved
from omidbfs.database.file_kinds import DCM, FILE_KINDS
from omidbfs.database.layout import find_source
from omidbfs.database.permissions import Access
from omidbfs.facets import BY_NAME, COHORT_FACET, FACETS, RESERVED, Kind
from omidbfs.index.classification import Classification
from omidbfs.index.codes import size_of
from omidbfs.index.columns import TextValue
from omidbfs.view.context import Context
from omidbfs.view.images import LONGEST_PATH
from omidbfs.view.inode import (
    RenditionFields,
    all_keys,
    directory_inode,
    export_inode,
    file_key,
    is_export,
    rendition_inode,
)
from omidbfs.view.nodes import Attributes, Directory, Listing
from omidbfs.view.ownership import drive_access
from omidbfs.view.root import Root, root_of
from omidbfs.view.view import ENTRANCES, View

GENERATED = {"README.txt": b"read me", "status.json": b"{}\n", "facets.json": b"{}\n", "problems.jsonl": b""}
NAME = re.compile(rb"[A-Za-z0-9._+%~-]{1,255}")


def view_of(path: Path, **options: Any) -> View:
    """Return the view of a database. ``cohorts`` has the paths of named cohorts."""
    source = find_source(path)
    index = build_index(source, Classification(Windows()))
    named = [NamedCohort(name, Criteria(path, "")) for name, path in options.pop("cohorts", {}).items()]
    if named:
        found = resolved(Cohorts(index), named)
        cohorts = Cohorts(index, found.named)
        options["root"] = Root(cohorts, cohorts.facets, found.cohorts)
    return View(index, drive_access(source), GENERATED, **options)


COHORTS = {
    "left": "by-laterality/L",
    "most": "by-view/not-CC,MLO",
    "old": "by-age/50-/by-intent/presentation",
    "nothing": "by-view/CC/by-view/MLO",
}
"""The named cohorts of random databases."""


class Both:
    """A database, as a view and as the model has it."""

    def __init__(self, path: Path, cohorts: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.view, self.model = view_of(path, cohorts=cohorts or {}), Reference(path, cohorts=cohorts)

    def node(self, path: str) -> Directory | int | None:
        """Return the node of the view at a path, found by lookups only."""
        node: Directory | int | None = self.view.root
        for name in path.split("/") if path else ():
            node = self.view.lookup(node, os.fsencode(name)) if isinstance(node, Directory) else None
        return node

    def directory(self, path: str) -> Directory:
        """Return the directory at a path."""
        node = self.node(path)
        assert isinstance(node, Directory), path
        return node

    def listed(self, path: str) -> dict[str, Attributes]:
        """Return the listing of a directory."""
        listing = self.view.listing(self.directory(path))
        entries = listing.page(0, listing.length)
        names = [os.fsdecode(entry.name) for entry in entries]
        assert len(set(names)) == len(names) == listing.length, f"{path} lists a name twice"
        return {name: entry.attributes for name, entry in zip(names, entries, strict=True)}

    def files(self, path: str) -> frozenset[str]:
        """Return the source files that a directory lists."""
        return frozenset(
            self.source(attributes.inode)
            for attributes in self.listed(path).values()
            if not isinstance(self.view.files.texts.content(attributes.inode), bytes)
        )

    def source(self, inode: int) -> str:
        """Return the source file of an inode, which may be that of a rendition."""
        rendition = self.view.renditions.found(inode)
        inode = inode if rendition is None else rendition.source
        tree, inner = self.view.files.source_file(inode)
        return str(self.model.source / ("images", "data")[tree] / os.fsdecode(inner))

    def compare(self, path: str) -> None:
        """Check that a directory lists what the model lists."""
        expected = self.model.node(path)
        assert isinstance(expected, Place)
        nodes = self.model.children(expected)
        listed = self.listed(path)
        assert listed.keys() == nodes.keys(), path
        listing = self.view.listing(self.directory(path))
        leads_to = {os.fsdecode(entry.name): entry.directory for entry in listing.page(0, listing.length)}
        for name, attributes in listed.items():
            inner = f"{path}/{name}" if path else name
            self.compare_attributes(inner, attributes, nodes[name])
            found = self.node(inner)
            if isinstance(found, Directory):
                assert self.view.directory_attributes(found) == attributes
                listed_as = leads_to[name]
                assert listed_as is not None, inner
                assert type(listed_as) is type(found), inner
                for field in fields(found):
                    assert getattr(listed_as, field.name) == getattr(found, field.name), (inner, field.name)
            else:
                assert leads_to[name] is None
                assert found is not None, f"{inner} is listed and not found"
                assert self.view.attributes(found) == attributes

    def compare_attributes(self, path: str, attributes: Attributes, node: Node) -> None:
        """Check that the attributes of a path are those of the model."""
        inode, mode, nlink, uid, gid, size, mtime = attributes
        if isinstance(node, Place):
            assert mode & 0o170000 == 0o040000, path
        elif isinstance(node, File):
            assert self.source(inode) == node.source, path
            rendition = self.view.renditions.found(inode)
            assert (rendition.rendition.name if rendition else "") == node.rendition, path
            assert (mode, uid, gid, size, mtime) == (
                0o100000 | node.mode,
                node.uid,
                node.gid,
                node.size,
                node.mtime,
            ), path
            assert nlink == self.model.links()[node.source], path
        else:
            assert (nlink, size) == (1, len(GENERATED[node.removeprefix(".omidbfs/")]))


# Random databases

UIDS = ("1.2.1", "1.2.2", "1.2.10", "1.2.3")
HOSTILE = (
    st.text(alphabet="aB1.-_~% ,\n*é😀\udcff'\"\\$", min_size=1, max_size=12)
    | st.sampled_from(
        ("by-view", "as-png", "not-1.2.1", "-rf", "~", "%41", "%2D", "A" * 236, "é" * 110, "1.2.1~demd1", "CON")
    )
).filter(lambda name: name not in (".", "..") and len(os.fsencode(name)) <= 240)
TEXTS: st.SearchStrategy[str] = st.sampled_from(
    (
        "",
        "Data anonymised",
        "unknown",
        "other",
        "Unknown",
        "_unknown",
        "HOLOGIC, Inc.",
        "LORAD",
        "not-x",
        "by-view",
        "as-png",
    )
) | st.text(alphabet=string.printable + "éß漢\u2028", max_size=250)


def image_options() -> st.SearchStrategy[dict[str, Any]]:
    """Return options of an image: its files and their attributes."""
    halves = st.sampled_from(({}, {}, {"dcm": None}, {"has_sidecar": False}, {"suffix": ".dcm.json"}))
    header = st.fixed_dictionaries(
        {},
        optional={
            "ViewPosition": st.sampled_from(("CC", "MLO", "LMLO", "RCC", "sideways", "")),
            "ViewCode": st.sampled_from(("R-10242", "399368009", "R-1")),
            "ViewModifiers": st.lists(
                st.sampled_from(("R-102D6", "R-102D7", "399161006", "R-102D5", "R-0")), max_size=3
            ),
            "ImageLaterality": st.sampled_from(("L", "R", "B", "?")),
            "PresentationIntentType": st.sampled_from(("FOR PRESENTATION", "FOR PROCESSING")),
            "BreastImplantPresent": st.sampled_from(("YES", "NO", "PERHAPS")),
            "PatientAge": st.sampled_from(("050Y", "049Y", "054Y", "055Y", "000Y", "780M", "006M", "200Y", "old")),
            "Manufacturer": TEXTS,
            "ManufacturerModelName": TEXTS,
        },
    )
    pixels = st.sampled_from(({}, PIXELS, PIXELS)) | st.fixed_dictionaries(
        {},
        optional={
            "Rows": st.sampled_from((1, 254, 256, 3328)),
            "Columns": st.sampled_from((1, 255, 257, 2560)),
            "NumberOfFrames": st.sampled_from((1, 3)),
            "SamplesPerPixel": st.sampled_from((1, 1, 2, 3)),
            "BitsAllocated": st.sampled_from((8, 16, 32)),
            "BitsStored": st.sampled_from((7, 8, 12, 16)),
            "PixelRepresentation": st.sampled_from((0, 1)),
            "PhotometricInterpretation": st.sampled_from(("MONOCHROME1", "RGB", "PALETTE COLOR")),
        },
    )
    marks = st.sampled_from(({"marks": MARK}, {"marks": {"1": {}}}, {}, {}))
    return st.builds(
        lambda *parts: {k: v for part in parts for k, v in part.items()}, halves, header, pixels, marks
    )


STUDIES = st.fixed_dictionaries(
    {
        "episode": st.sampled_from(("1", "2", "2", "3", None, "9")),
        "day": st.sampled_from(("2012-05-01", "2012-05-01", "2013-05-01", None)),
        "images": st.dictionaries(st.sampled_from(UIDS) | HOSTILE, image_options(), max_size=4),
    }
)
CLIENTS = st.fixed_dictionaries(
    {
        "options": st.fixed_dictionaries(
            {
                "nbss": st.sampled_from((True, True, False)),
                "imagedb": st.sampled_from((True, True, False)),
                "site": st.sampled_from(("stge", "adde", None)),
                "classification": st.sampled_from(("N", "B", "M", "CI", None, "?")),
            }
        ),
        "episodes": st.lists(
            st.tuples(
                st.sampled_from(("N", "NA", "B", "M", "CI", "")),
                st.sampled_from(("2012-05-01", "2013-05-01", "2010-05-01")),
                st.sampled_from(({}, {"EpisodeType": "X"}, {"EpisodeType": "Zebra"}, {"EpisodeType": "F"})),
            ),
            max_size=3,
        ),
        "studies": st.dictionaries(st.sampled_from(("1.2", "1.3", "1.4")) | HOSTILE, STUDIES, max_size=3),
    }
)
DATABASES = st.dictionaries(st.sampled_from(("demd1", "demd10", "optm2", "ABCD00")), CLIENTS, max_size=3)


@contextmanager
def written(database: dict[str, Any]) -> Iterator[Both]:
    """Write a database and read it both ways."""
    with tempfile.TemporaryDirectory(prefix="omidbfs-") as directory:
        tree = Tree(Path(directory))
        for name, what in database.items():
            client = tree.client(name, **what["options"])
            for number, (kind, day, fields) in enumerate(what["episodes"], 1):
                client.episode(str(number), kind, day, **fields)
            for uid, study in what["studies"].items():
                place = client.study(uid, study["episode"], study["day"])
                for image, options in study["images"].items():
                    place.image(image, **options)
        yield Both(Path(directory), COHORTS)


def components(model: Reference, draw: Any) -> list[str]:
    """Return a facet and a component for it, well-formed or not."""
    facet = draw(st.sampled_from((*model.facets, *[COHORT_FACET] * 10)))  # the rarest kind, drawn more often
    place = model.lookup(model.root, f"by-{facet.name}")
    assert isinstance(place, Place)
    literal = [*model.values(place)] or ["nothing"]
    if facet.tokens is not None:
        literal += [*RESERVED, *(word for value in facet.values[:8] for word in (value.code, *value.aliases))]
        literal += [str(token) for image in model.images for token in image.tokens[facet.name]]
    if facet.kind is Kind.NUMBER:
        numbers = (0, 1, 5, 9, 49, 50, 51, 54, 55, 130, 131, 1900, 2010, 2012, 2013, 2150, 9999, 12345678901)
        low, high = draw(st.sampled_from(numbers)), draw(st.sampled_from(numbers))
        literal += [f"{low}-{high}", f"{low}-", f"-{high}", "-", f"{low}--{high}", f"{low}-{high}-"]
    if facet.kind is Kind.COHORT:
        literal += [*model.cohorts, "none"]
    if facet.kind is Kind.FILE:
        literal += ["dcm", "json", "png"]
    words = draw(st.lists(st.sampled_from([*literal, *literal, "", "nonsense"]), min_size=1, max_size=3))
    component = ",".join(words) if draw(st.booleans()) else words[0]
    if draw(st.integers(0, 3)) == 0:
        component = f"not-{component}"
    return [f"by-{facet.name}", component]


RENDITIONS = (
    "png",
    "png",
    "png16",
    "npy",
    "png-16",
    "png-300x200",
    "png16-8192",
    "tiff",
    "png-15",
    "npy-64",
    "PNG",
    "",
)


def with_rendition(path: list[str], draw: Any) -> list[str]:
    """Return a path with a rendition, which may be none, in one of its directories, or in two."""
    for _ in range(draw(st.sampled_from((0, 0, 1, 1, 1, 2)))):
        places = [place for place in range(len(path) + 1) if not place or not path[place - 1].startswith("by-")]
        place = draw(st.sampled_from(places))
        path = [*path[:place], f"as-{draw(st.sampled_from(RENDITIONS))}", *path[place:]]
    return path


def usable(path: list[str]) -> bool:
    """Return whether a path can be one: the texts of a file may hold anything."""
    return all(name and "/" not in name and "\0" not in name and name not in (".", "..") for name in path)


RANDOM = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@RANDOM
@given(DATABASES)
@pytest.mark.unmeasured
def test_every_listed_path_of_a_random_database_is_what_the_model_says(database: dict[str, Any]) -> None:
    with written(database) as both:
        both.compare("")
        inodes: dict[str, int] = {}
        files = 0
        for path, node in both.model.walk():
            if isinstance(node, Place):
                both.compare(path)
                continue
            found = both.node(path)
            assert isinstance(found, int), path
            if isinstance(node, File):
                assert inodes.setdefault(node.source, found) == found, "one file has one inode in every view"
                files += 1
        assert len(set(inodes.values())) == len(inodes)
        assert both.view.lists.listed_files() == files


@RANDOM
@given(DATABASES, st.data())
@pytest.mark.unmeasured
def test_every_nested_path_of_a_random_database_is_what_the_model_says(
    database: dict[str, Any], data: st.DataObject
) -> None:
    with written(database) as both:
        for _ in range(12):
            start = data.draw(st.sampled_from(("", "all", "by-client/demd1")))
            if both.model.node(start) is None:
                continue
            path = [start] if start else []
            for _ in range(data.draw(st.integers(1, 3))):
                path += components(both.model, data.draw)
            path = with_rendition("/".join(path).split("/"), data.draw)
            if not usable(path):
                continue
            place, node = both.model.node("/".join(path)), both.node("/".join(path))
            assert (place is None) == (node is None), "/".join(path)
            if isinstance(place, Place):
                both.compare("/".join(path))
                if place.shape == "client":
                    for name, inner in both.model.children(place).items():
                        if isinstance(inner, Place):
                            both.compare("/".join([*path, name]))


@RANDOM
@given(DATABASES, st.data())
def test_the_laws_of_sets_hold_for_paths(database: dict[str, Any], data: st.DataObject) -> None:
    with written(database) as both:
        facets = [facet for facet in both.model.facets if facet.kind is not Kind.NAME]
        facet = data.draw(st.sampled_from(facets))
        by, values = f"by-{facet.name}", [*both.listed(f"by-{facet.name}")]
        values = [value for value in values if f"not-{value}" not in values]  # a literal value wins
        if not values:
            return
        a, b = data.draw(st.sampled_from(values)), data.draw(st.sampled_from(values))
        other = [f"by-{name}/{value}" for name in ("view", "outcome") for value in both.listed(f"by-{name}")]
        c = data.draw(st.sampled_from(other))
        everything = both.files("all")
        files = both.files
        of_a, of_b, of_c = files(f"{by}/{a}"), files(f"{by}/{b}"), files(c)
        assert files(f"{by}/{a},{b}") == files(f"{by}/{b},{a}") == of_a | of_b
        assert files(f"{by}/not-{a}") == everything - of_a
        assert files(f"{by}/not-{a},{b}") == everything - of_a - of_b
        assert files(f"{by}/not-{a},{b}") == files(f"{by}/not-{a}/{by}/not-{b}")
        assert files(f"{by}/{a}/{by}/{a}") == files(f"{by}/{a},{a}") == of_a
        assert files(f"{by}/{a}/{by}/{b}") == files(f"{by}/{b}/{by}/{a}") == of_a & of_b
        assert files(f"{by}/{a}/{c}") == files(f"{c}/{by}/{a}") == of_a & of_c
        assert files(f"all/{by}/{a}") == of_a


@RANDOM
@given(DATABASES, st.data())
def test_pages_of_a_listing_at_any_position_are_the_listing(database: dict[str, Any], data: st.DataObject) -> None:
    with written(database) as both:
        directories = ["", *(path for path, node in both.model.walk() if isinstance(node, Place))]
        listing = both.view.listing(both.directory(data.draw(st.sampled_from(directories))))
        check_pages(listing, data)
        nested = view_of(both.path, list_nested=True)
        check_pages(nested.listing(nested.lookup(nested.root, b"all")), data)  # type: ignore[arg-type]


def check_pages(listing: Listing, data: st.DataObject) -> None:
    """Check that any page is a slice of the whole."""
    whole = [(entry.name, entry.attributes) for entry in listing.page(0, listing.length)]
    assert len(whole) == listing.length
    for _ in range(8):
        start, count = data.draw(st.integers(0, listing.length)), data.draw(st.integers(1, 5))
        page = [(entry.name, entry.attributes) for entry in listing.page(start, count)]
        assert page == whole[start : start + count]


@RANDOM
@given(DATABASES)
@pytest.mark.unmeasured
def test_every_name_is_safe_and_stands_for_one_file(database: dict[str, Any]) -> None:
    with written(database) as both:
        for path in ["", *(path for path, node in both.model.walk() if isinstance(node, Place))]:
            listed = both.listed(path)
            for name in listed:
                assert NAME.fullmatch(os.fsencode(name)), name
                assert name not in (".", "..")
            inodes = Counter(attributes.inode for attributes in listed.values())
            assert set(inodes.values()) <= {1}, "two names in one directory for one file"


ONE = {"options": {}, "episodes": [], "studies": {"1.2": {"episode": None, "day": None, "images": {"7.7": {}}}}}


@settings(parent=RANDOM, max_examples=10)
@given(DATABASES, CLIENTS)
@example({"demd1": ONE}, ONE)
def test_no_name_moves_to_another_file_as_the_database_grows(
    database: dict[str, Any], more: dict[str, Any]
) -> None:
    found = []
    for grown in (database, {"AAAA0": more, **database}):  # it comes before all others
        with written(grown) as both:
            places = {name: both.source(entry.inode) for name, entry in both.listed("all").items()}
            found.append({name: os.path.relpath(place, both.path) for name, place in places.items()})
    before, after = found
    assert {name: after[name] for name in before.keys() & after.keys()}.items() <= before.items()


@RANDOM
@given(DATABASES)
@pytest.mark.unmeasured
def test_a_single_valued_facet_puts_every_image_in_exactly_one_directory(database: dict[str, Any]) -> None:
    with written(database) as both:
        view, everything = both.view, both.files("all")
        for facet in FACETS:
            counts = dict(view.cohorts.counts(view.root.cohort, facet))
            if facet.kind is not Kind.FILE:
                total = sum(counts.values())
                assert total >= len(view.index) if facet.several else total == len(view.index), facet.name
            if facet.name == "client":
                continue
            assert [*both.listed(f"by-{facet.name}")] == [*counts]
            parts = [both.files(f"by-{facet.name}/{name}") for name in counts]
            assert frozenset().union(*parts) == everything, facet.name
            if not facet.several:
                assert sum(map(len, parts)) == len(everything), facet.name
            images = [
                len({name.rpartition(".")[0] for name in both.listed(f"by-{facet.name}/{name}")})
                for name in counts
            ]
            assert images == [*counts.values()], facet.name


# Small trees, one statement each


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """An empty database."""
    return Tree(tmp_path / "db")


@pytest.fixture
def open_tree() -> Iterator[Tree]:
    """An empty database that every user may enter. The directories of pytest are private."""
    with tempfile.TemporaryDirectory(prefix="omidbfs-") as directory:
        os.chmod(directory, 0o755)
        yield Tree(Path(directory) / "db")


def test_a_value_directory_lists_the_pairs_of_its_images(tree: Tree) -> None:
    tree.client().study().image("1.1", ViewPosition="CC").image("1.2", ViewPosition="MLO").image("1.3")
    both = Both(tree.root)
    assert [*both.listed("by-view")] == ["MLO", "CC", "unknown"]
    assert [*both.listed("by-view/CC")] == ["1.1.dcm", "1.1.json"]
    assert [*both.listed("by-view/CC,MLO")] == ["1.1.dcm", "1.1.json", "1.2.dcm", "1.2.json"]


def test_a_sidecar_named_after_the_file_is_shown_under_the_name_of_its_image(tree: Tree) -> None:
    tree.client().study("1").image("1.1", suffix=".dcm.json")
    both = Both(tree.root)
    assert [*both.listed("all")] == ["1.1.dcm", "1.1.json"]
    assert both.node("all/1.1.dcm.json") is None
    assert both.source(both.listed("all")["1.1.json"].inode).endswith("/1.1.dcm.json")


def test_both_spellings_of_a_sidecar_are_shown(tree: Tree) -> None:
    tree.client().study("1").image("1.1").image("1.1", suffix=".dcm.json")
    both = Both(tree.root)
    assert [*both.listed("all")] == ["1.1.dcm", "1.1.json", "1.1.dcm.json"]
    both.compare("all")


def test_a_uid_that_occurs_twice_is_never_under_its_bare_name(tree: Tree) -> None:
    tree.client("demd1").study("1").image("7.7").client("demd2").study("2").image("7.7").image("7.8")
    both = Both(tree.root)
    names = ["7.7~demd1~1.dcm", "7.7~demd1~1.json", "7.7~demd2~2.dcm", "7.7~demd2~2.json"]
    assert [*both.listed("all")] == [*names, "7.8.dcm", "7.8.json"]
    assert [*both.listed("by-client/demd1/1")] == ["7.7.dcm", "7.7.json"], "a real tree keeps the real names"
    for path in ("all", "by-view/unknown", "by-client/not-demd2", "by-study/1"):
        assert both.node(f"{path}/7.7.dcm") is None, "it would move to another file as the database grows"
    assert both.node("by-study/1/7.7~demd1~1.dcm") is not None
    assert both.node("by-study/1/7.7~demd2~2.dcm") is None
    assert both.node("all/7.7~demd1~2.dcm") is None
    assert both.node("all/7.8~demd2~2.dcm") is None, "the long name is for duplicates only"


def test_long_names_of_duplicates_fit_into_a_name(tree: Tree) -> None:
    long = "9" * 230
    tree.client("demd1").study("8" * 230).image(long).study("7" * 230).image(long).study("6" * 230).image(long)
    both = Both(tree.root)
    names = [*both.listed("all")]
    assert len(names) == 6
    assert all(re.fullmatch(r".+~demd1~[0-9a-f]{16}[.](dcm|json)", name) for name in names)
    assert all(len(name) <= 255 and name.endswith((".dcm", ".json")) for name in names)
    assert all(both.node(f"all/{name}") is not None for name in names)


def test_a_study_of_two_clients_has_the_images_of_both(tree: Tree) -> None:
    tree.client("demd1").study("5").image("1.1").client("demd2").study("5").image("1.2")
    both = Both(tree.root)
    assert [*both.listed("by-study")] == ["5"]
    assert [*both.listed("by-study/5")] == ["1.1.dcm", "1.1.json", "1.2.dcm", "1.2.json"]
    assert [*both.listed("by-client/demd1/5")] == ["1.1.dcm", "1.1.json"]


@pytest.mark.parametrize("name", ["nbss_demd1.json", "imagedb_demd1.json"])
def test_a_study_named_like_a_document_does_not_clash_with_it(tree: Tree, name: str) -> None:
    study = tree.client("demd1").study("5").image("1.1").of
    (study.images / name).mkdir()
    (study.images / name / "2.2.dcm").write_bytes(b"x")
    both = Both(tree.root)
    assert both.listed("by-client/demd1")[name].mode & 0o170000 == 0o100000
    assert len(both.listed("by-client/demd1")) == 4


def test_an_image_with_two_suffixes_hides_no_file(tree: Tree) -> None:
    study = tree.client("demd1").study("5").image("1.1")
    for name in ("1.1.dcm.json", "1.1.dcm.dcm.json"):
        (study.data / name).write_text("{}")
    (study.images / "1.1.dcm.dcm").write_bytes(b"second")
    view = view_of(tree.root)
    listing = view.listing(view.lookup(view.root, b"all"))  # type: ignore[arg-type]
    places = [view.files.source_file(entry.attributes.inode) for entry in listing.page(0, listing.length)]
    sources = [(0, path) for path in study.images.iterdir()] + [(1, path) for path in study.data.iterdir()]
    assert sorted(places) == sorted((kind, os.fsencode(f"demd1/5/{path.name}")) for kind, path in sources)


def test_a_literal_value_wins_over_a_complement_a_union_and_a_range(tree: Tree) -> None:
    study = tree.client().study()
    for number, model in enumerate(("not-a", "a", "b", "a,b", "50-69")):
        study.image(f"1.{number}", ManufacturerModelName=model, dcm=None)
    both = Both(tree.root)
    assert [*both.listed("by-model/not-a")] == ["1.0.json"]
    assert [*both.listed("by-model/a,b")] == ["1.3.json"], "the raw text of a value"
    assert [*both.listed("by-model/b,a")] == ["1.1.json", "1.2.json"]
    assert [*both.listed("by-model/not-b")] == ["1.0.json", "1.1.json", "1.3.json", "1.4.json"]
    assert [*both.listed("by-model/not-a,b")] == ["1.0.json", "1.2.json"], "two values, one of them called not-a"
    assert [*both.listed("by-model/50-69")] == ["1.4.json"]
    assert both.node("by-model/40-69") is None


def test_the_name_of_a_text_wins_over_the_raw_text_of_another(tree: Tree) -> None:
    odd = "b" * 191 + "-" + "/" * 20  # its name ends in a hash, and that name as a text has another name
    tree.client().study().image("1.1", ManufacturerModelName=odd, dcm=None)
    [name] = Both(tree.root).listed("by-model")
    tree.client("demd2").study("2").image("1.2", ManufacturerModelName=name, dcm=None)
    both = Both(tree.root)
    for value in both.listed("by-model"):
        both.compare(f"by-model/{value}")
    assert sum(len(both.listed(f"by-model/{value}")) for value in both.listed("by-model")) == 2


def test_a_text_that_reads_like_a_reserved_word_is_not_that_word(tree: Tree) -> None:
    study = tree.client().study().image("1.1", dcm=None)
    for number, text in enumerate(("Other", "None", "unknown", "UNKNOWN", "unlinked"), 2):
        study.image(f"1.{number}", dcm=None, ManufacturerModelName=text)
    both = Both(tree.root)
    assert [*both.listed("by-model")] == ["_none", "_other", "_unknown", "_unlinked", "unknown"]
    assert [*both.listed("by-model/unknown")] == ["1.1.json"]
    assert [*both.listed("by-model/UNKNOWN")] == [*both.listed("by-model/_unknown")] == ["1.4.json", "1.5.json"]
    assert [*both.listed("by-model/other")] == []


def test_the_value_other_of_a_table_and_codes_outside_it_are_one_directory(tree: Tree) -> None:
    client = tree.client().episode("1", EpisodeType="X").episode("2", EpisodeType="Zebra")
    client.study("1.1", "1").image("1", dcm=None).study("1.2", "2").image("2", dcm=None)
    both = Both(tree.root)
    assert [*both.listed("by-episode-type")] == ["other"]
    assert [*both.listed("by-episode-type/other")] == ["1.json", "2.json"]
    assert [*both.listed("by-episode-type/X")] == ["1.json"]
    assert [*both.listed("by-episode-type/not-other")] == []


def test_codes_names_and_meanings_are_the_same_cohort(tree: Tree) -> None:
    client = tree.client().episode("1", "CI").episode("2", "M", "2015-05-01")
    client.study("1.1", "1").image("1").study("1.2", "2", "2015-05-01").image("2", ViewCode="R-10242")
    both = Both(tree.root)
    assert [*both.listed("by-outcome")] == ["interval-cancer", "malignant"]
    assert both.files("by-outcome/interval-cancer") == both.files("by-outcome/CI") != frozenset()
    assert (
        both.files("by-outcome/not-CI")
        == both.files("by-outcome/not-interval-cancer")
        == both.files("by-outcome/M")
    )
    assert both.files("by-view/CC") == both.files("by-view/R-10242") == both.files("by-view/cranio-caudal")
    assert both.files("by-event/SCREENING,SURGERY") == both.files("by-event/screening,surgery")


def test_ages_have_bands_and_ranges_go_by_the_exact_age(tree: Tree) -> None:
    study = tree.client().study()
    for age in (49, 50, 54, 55, 69, 70):
        study.image(f"1.{age}", PatientAge=f"{age:03}Y", dcm=None)
    study.image("1.0", PatientAge="000Y", dcm=None).image("1.1", PatientAge="999Y", dcm=None)
    both = Both(tree.root)
    bands = ["45-49", "50-54", "55-59", "65-69", "70-74"]
    assert [*both.listed("by-age")] == [*bands, "unknown", "other"]
    assert [*both.listed("by-age/50-54")] == ["1.50.json", "1.54.json"]
    assert [*both.listed("by-age/51-69")] == ["1.54.json", "1.55.json", "1.69.json"]
    assert [*both.listed("by-age/-49,70-")] == ["1.49.json", "1.70.json"]
    assert [*both.listed("by-age/54")] == ["1.54.json"]
    assert [*both.listed("by-age/not-50-")] == ["1.0.json", "1.1.json", "1.49.json"]
    assert [*both.listed("by-age/20-30")] == []
    assert both.node("by-age/69-50") is None


def test_a_union_or_complement_of_clients_is_flat_and_one_client_is_its_real_tree(tree: Tree) -> None:
    tree.client("demd1").study("1").image("1.1").client("demd2").study("2").image("2.1")
    both = Both(tree.root)
    assert [*both.listed("by-client/demd1")] == ["nbss_demd1.json", "imagedb_demd1.json", "1"]
    assert [*both.listed("by-client/demd1,demd2")] == ["1.1.dcm", "1.1.json", "2.1.dcm", "2.1.json"]
    assert [*both.listed("by-client/not-demd2")] == ["1.1.dcm", "1.1.json"]


def test_by_client_inside_a_cohort_is_pruned_to_it(tree: Tree) -> None:
    first = tree.client("demd1").study("1").image("1.1", ViewPosition="CC").image("1.2", ViewPosition="MLO")
    first.study("2").image("2.1", ViewPosition="MLO").client("demd2").study("3").image("3.1", ViewPosition="MLO")
    both = Both(tree.root)
    assert [*both.listed("by-view/CC/by-client")] == ["demd1"]
    assert [*both.listed("by-view/CC/by-client/demd1")] == ["nbss_demd1.json", "imagedb_demd1.json", "1"]
    assert [*both.listed("by-view/CC/by-client/demd1/1")] == ["1.1.dcm", "1.1.json"]
    assert [*both.listed("by-view/CC/by-client/demd2")] == [], "a cohort with nothing in it exists and is empty"
    assert both.node("by-view/CC/by-client/demd3") is None
    for path in ("by-client", "by-study", "by-episode", "by-view/CC/by-client", "by-view/CC/by-client/demd1"):
        both.compare(path)
    assert both.node("by-client/demd1/1/1.2.dcm") is not None
    assert both.node("by-client/demd1/1/2.1.dcm") is both.node("by-client/demd1/2/1.2.dcm") is None
    assert [*both.listed("by-client/demd1/by-view/MLO")] == ["1.2.dcm", "1.2.json", "2.1.dcm", "2.1.json"]
    assert [*both.listed("by-client/demd1/1/by-view/MLO")] == ["1.2.dcm", "1.2.json"]


def test_a_client_without_images_is_in_by_client_and_in_no_cohort(tree: Tree) -> None:
    tree.client("demd1").client("demd2").study("1").image("1.1")
    both = Both(tree.root)
    assert [*both.listed("by-client")] == ["demd1", "demd2"]
    for everything in ("", "all/"):
        assert [*both.listed(f"{everything}by-client/demd1")] == ["nbss_demd1.json", "imagedb_demd1.json"]
    assert [*both.listed("by-site/stge/by-client")] == ["demd2"]


def test_file_type_narrows_the_files_and_not_the_images(tree: Tree) -> None:
    tree.client().study("1").image("1.1").image("1.2", dcm=None).image("1.3", has_sidecar=False)
    both = Both(tree.root)
    assert [*both.listed("by-file-type/dcm")] == ["1.1.dcm", "1.3.dcm"]
    assert [*both.listed("by-file-type/not-dcm")] == ["1.1.json", "1.2.json"]
    assert both.files("by-file-type/dcm,json") == both.files("all")
    assert [*both.listed("by-file-type/dcm/by-file-type/json")] == []
    assert [*both.listed("by-file-type/dcm/by-client/demd1")] == ["1"], "NBSS and ImageDB are JSON"
    assert [*both.listed("by-file-type/dcm/by-client/demd1/1")] == ["1.1.dcm", "1.3.dcm"]
    assert [*both.listed("by-file-type/json/by-client/demd1/1")] == ["1.1.json", "1.2.json"]


@pytest.mark.parametrize(
    "path",
    [
        "by-nothing",
        "by-",
        "by-view/sideways",
        "by-view/not-sideways",
        "by-view/CC,sideways",
        "by-view/CC,",
        "by-view/,",
        "by-view/cc",
        "by-View",
        "by-view/Unknown",
    ],
)
def test_an_unknown_facet_or_value_does_not_exist(tree: Tree, path: str) -> None:
    tree.client().study().image(ViewPosition="CC")
    assert Both(tree.root).node(path) is None


def test_nested_facets_are_found_and_not_listed_unless_asked_for(tree: Tree) -> None:
    tree.client().study("1").image("1.1", ViewPosition="CC")
    both = Both(tree.root)
    assert [*both.listed("by-view/CC")] == ["1.1.dcm", "1.1.json"]
    assert [*both.listed("by-view/CC/by-laterality/unknown")] == ["1.1.dcm", "1.1.json"]
    both.view = view_of(tree.root, list_nested=True)
    nested = [name for name in both.listed("by-view/CC") if name.startswith("by-")]
    assert nested == [f"by-{facet.name}" for facet in FACETS if facet.name != "view"]
    assert [*both.listed("by-view/CC")][len(nested) :] == ["1.1.dcm", "1.1.json"]
    assert [*both.listed("by-client/demd1")] == ["nbss_demd1.json", "imagedb_demd1.json", "1"]
    assert [*both.listed("by-client/demd1/1")] == ["1.1.dcm", "1.1.json"], "the real tree as it is"


def test_the_root_lists_the_facets_and_cohorts_that_it_is_to_list_and_links_count_them(tree: Tree) -> None:
    study = tree.client().study("1").image("1.1", ViewPosition="CC", ViewModifiers=("R-102D6", "R-102D7"))
    study.image("1.2", ViewPosition="MLO")
    both = Both(tree.root)
    index = both.view.index
    named = {
        "first": Cohort((Term(IMAGES, frozenset([0])),)),
        "others": Cohort((Term(IMAGES, frozenset([0]), negated=True),)),
    }
    root = root_of(index, [BY_NAME["view-modifier"], BY_NAME["fold"]], named)
    both.view = View(index, drive_access(find_source(tree.root)), GENERATED, root=root)
    listed = ["README.txt", "all", "by-view-modifier", "by-fold", "cohorts", ".omidbfs"]
    assert sorted(both.listed("")) == sorted(listed)
    assert [*both.listed("by-outcome")] == ["unlinked"], "all others are found"
    assert [*both.listed("cohorts")] == ["first", "others"]
    assert [*both.listed("cohorts/first")] == ["1.1.dcm", "1.1.json"]
    for cohort, image, is_in in (
        ("first", 1, True),
        ("first", 2, False),
        ("others", 1, False),
        ("others", 2, True),
    ):
        assert (both.node(f"cohorts/{cohort}/1.{image}.dcm") is not None) == is_in
    links = {name: attributes.nlink for name, attributes in both.listed("all").items()}
    assert links == {"1.1.dcm": 5, "1.1.json": 5, "1.2.dcm": 4, "1.2.json": 4}
    both.view.prepare()
    assert {name: attributes.nlink for name, attributes in both.listed("all").items()} == links
    documents = both.listed("by-client/demd1")
    assert documents["nbss_demd1.json"].nlink == documents["imagedb_demd1.json"].nlink == 1


def test_a_cohort_lists_the_values_of_the_root_too_where_that_is_asked_for(tree: Tree) -> None:
    study = tree.client().study("1").image("1.1", ViewPosition="CC", ImageLaterality="L")
    study.image("1.2", dcm=None, ViewPosition="MLO", Manufacturer="SIEMENS").client("demd2").study("2").image(
        "2.1"
    )
    both = Both(tree.root)
    part = "by-laterality/L"
    assert [*both.listed(f"{part}/by-view")] == ["CC"]
    both.view = view_of(tree.root, list_empty=True)
    for facet in ("view", "manufacturer", "fold", "age"):
        assert [*both.listed(f"{part}/by-{facet}")] == [*both.listed(f"by-{facet}")]
    assert [*both.listed(f"{part}/by-view")] == ["MLO", "CC", "unknown"]
    assert [*both.listed(f"{part}/by-view/MLO")] == []
    assert [*both.listed(f"{part}/by-client")] == ["demd1"]
    assert [*both.listed(f"{part}/by-study")] == ["1"]
    assert [*both.listed("by-view/MLO/by-file-type")] == ["json"]


def test_an_empty_database_is_a_drive_with_empty_facets(tree: Tree) -> None:
    both = Both(tree.root)
    assert [*both.listed("all")] == []
    for facet in FACETS:
        assert [*both.listed(f"by-{facet.name}")] == []


def test_symbolic_links_lead_to_the_source_file(tree: Tree) -> None:
    tree.client().study("1").image("1.1")
    source = find_source(tree.root)
    links = (os.fsencode(source.images or ""), os.fsencode(source.data or ""))
    both = Both(tree.root)
    both.view = view_of(tree.root, links_to=links)
    for name, attributes in both.listed("all").items():
        assert attributes.mode == 0o120777
        target = both.view.files.link_target(attributes.inode)
        assert os.fsdecode(target) == both.source(attributes.inode)
        assert attributes.size == len(target)
        assert both.view.files.attributes(both.node(f"all/{name}")) == attributes  # type: ignore[arg-type]


def test_a_directory_has_the_inode_of_its_path_and_no_other_has_it(tree: Tree) -> None:
    tree.client().study("1").image("1.1", ViewPosition="CC", ImageLaterality="L")
    both, again = Both(tree.root), Both(tree.root)
    paths = [
        "all",
        "by-view",
        "by-view/CC",
        "by-view/CC/by-laterality/L",
        "by-laterality/L/by-view/CC",
        "by-view/CC,MLO",
    ]
    inodes = [both.directory(path).inode for path in paths]
    assert len(set(inodes)) == len(inodes)
    assert [again.directory(path).inode for path in paths] == inodes


def test_every_facet_of_the_model_is_a_facet_of_the_drive() -> None:
    assert BY_NAME.keys() == {facet.name for facet in FACETS}
    assert label(BY_NAME["age"], 57) == "55-59"


@pytest.mark.parametrize(
    ("images", "data", "shown"),
    [
        (0o755, 0o755, 0o555),
        (0o755, 0o750, 0o550),
        (0o711, 0o755, 0o511),
        (0o705, 0o770, 0o500),
        (0o755, 0o754, 0o550),
    ],
)
def test_what_the_drive_adds_has_the_access_that_both_roots_have_in_common(
    open_tree: Tree, images: int, data: int, shown: int
) -> None:
    study = open_tree.client().study("1").image("1.1", ViewPosition="CC")
    newest = 4_000_000_000 * 10**9
    os.utime(study.images / "1.1.dcm", ns=(0, newest))
    open_tree.images.chmod(images)
    open_tree.data.chmod(data)
    both = Both(open_tree.root)
    owner = open_tree.images.stat()
    for path in (
        "",
        "all",
        "by-view",
        "by-view/CC",
        "by-view/CC/by-client/demd1",
        "by-client/demd1/1",
        ".omidbfs",
    ):
        directory = both.directory(path)
        found = both.view.directory_attributes(directory)
        expected = (directory.inode, stat.S_IFDIR | shown, 1, owner.st_uid, owner.st_gid, 0, newest)
        assert tuple(found) == expected, path
    for text in (both.listed("")["README.txt"], both.listed(".omidbfs")["status.json"]):
        access = (stat.S_IFREG | shown & 0o444, owner.st_uid, owner.st_gid)
        assert (text.mode, text.uid, text.gid, text.mtime) == (*access, newest)


def test_a_file_found_changed_gains_no_access_after_a_refresh(
    open_tree: Tree,
) -> None:
    study = open_tree.client().study().image("1.1", dcm=b"old")
    old = view_of(open_tree.root)
    inode = old.files.image(0, DCM)
    assert inode is not None
    found = old.files.facts(inode)
    assert found is not None
    old.files.update(inode, msgspec.structs.replace(found, size=9, mode=0o644))
    study.images.chmod(0o700)  # before the source is read again; the file was found changed after that
    new = view_of(open_tree.root)
    new.files.continue_from(old.files, {})
    now = new.files.current(inode)
    assert now is not None
    facts = new.files.facts(now)
    assert facts is not None
    assert (facts.size, facts.mode) == (9, 0o400)
    known_before = view_of(open_tree.root)
    known_before.files.continue_from(old.files, old.files.found_changed())
    assert known_before.files.found_changed() == {}, "the source has been read since"


@pytest.mark.parametrize(
    ("before", "after", "shown"), [(0o640, 0o644, 0o440), (0o604, 0o644, 0o404), (0o600, 0o644, 0o400)]
)
def test_a_file_that_is_found_changed_keeps_the_rights_that_each_class_had(
    open_tree: Tree, before: int, after: int, shown: int
) -> None:
    study = open_tree.client().study().image("1.1")
    (study.images / "1.1.dcm").chmod(before)
    files = view_of(open_tree.root).files
    inode = files.image(0, DCM)
    assert inode is not None
    found = files.facts(inode)
    assert found is not None
    files.update(inode, msgspec.structs.replace(found, size=9, mode=after))
    now = files.image(0, DCM)
    assert now not in (None, inode)
    facts = files.facts(now)  # type: ignore[arg-type]
    assert facts is not None
    assert (facts.size, facts.mode, facts.uid, facts.gid) == (9, shown, found.uid, found.gid)
    assert files.facts(inode) is files.attributes(inode) is None, "of what was there before"
    assert files.current(inode) == now


def test_the_keys_of_an_index_are_those_of_its_files(tree: Tree) -> None:
    tree.client().study().image("1.1").image("1.2")
    view = view_of(tree.root)
    images, documents = all_keys(view.index)
    keys = [file_key(view.files.image(row, kind) or 0) for row in range(2) for kind in FILE_KINDS]
    assert sorted(keys) == [*images]
    assert [file_key(view.files.document(0, slot) or documents[slot]) for slot in range(4)] == [*documents]
    export = export_inode(view.name, b"all/.omidbfs/index.csv")
    rendition = rendition_inode(RenditionFields(int(view.index.identity[0]), 1, 2))
    others = [directory_inode(b"all"), view.files.texts.inode(b"README.txt") or 0, rendition]
    assert [is_export(inode) for inode in (export, *others, *images, *documents)] == [True] + [False] * 11
    assert [view.files.current(inode) for inode in (export, *others)] == [None] * 4
    assert [view.files.attributes(inode) for inode in (export, rendition)] == [None, None]


def test_texts_that_quote_the_source_need_access_to_all_of_it(open_tree: Tree) -> None:
    study = open_tree.client().study().image("1.1", dcm=b"")
    mine = os.geteuid()
    for mode, quoting in ((0o644, 0o444), (0o640, 0o440), (0o600, 0o400)):
        (study.images / "1.1.dcm").chmod(mode)
        listed = Both(open_tree.root).listed(".omidbfs")
        modes = {name: stat.S_IMODE(attributes.mode) for name, attributes in listed.items()}
        assert modes == {"status.json": 0o444, "facets.json": quoting, "problems.jsonl": quoting}
        assert {attributes.uid for attributes in listed.values()} == {mine}


# Large databases ---------------------------------------------------------------------------------------------

MANY = 300


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> View:
    """A view of a study with many images, each of a model of its own."""
    study = Tree(tmp_path_factory.mktemp("many")).client("demd1").study("1.1")
    for number in range(MANY):
        view, model = ("CC", "MLO")[number % 2], f"Model {number}"
        study.image(f"1.1.{number}", dcm=None, ViewPosition=view, ManufacturerModelName=model)
    return view_of(study.of.tree.root)


def at(view: View, path: bytes) -> Directory:
    found = view.resolve(path)
    assert found is not None, path
    return found


def names_at(view: View, path: bytes) -> list[bytes]:
    listing = view.listing(at(view, path))
    return [entry.name for entry in listing.page(0, listing.length)]


class CountsLooks(tuple[TextValue, ...]):
    """Values of a facet that count iterations over them."""

    looks = 0

    def __iter__(self) -> Iterator[TextValue]:
        CountsLooks.looks += 1
        return super().__iter__()


def test_listing_a_facet_does_not_go_through_all_values_for_each(many: View) -> None:
    texts = {**many.index.texts, "model": CountsLooks(many.index.texts["model"])}
    view = View(replace(many.index, texts=texts), Access(0o755, 0, 0), GENERATED)
    names = names_at(view, b"by-model")
    assert names == sorted(b"model-%d" % number for number in range(MANY))
    assert view.resolve(b"by-model/Model 7") is not None
    assert CountsLooks.looks <= 4


def test_a_client_with_many_images_is_pruned_like_any_other(many: View) -> None:
    flat = names_at(many, b"by-view/CC")
    assert len(flat) == MANY // 2
    assert sorted(names_at(many, b"by-view/CC/by-client/demd1/1.1")) == sorted(flat)
    assert names_at(many, b"by-file-type/dcm/by-client/demd1") == []
    assert names_at(many, b"by-view/none/by-client/demd1") == []


def test_open_directories_of_one_cohort_share_its_files(many: View, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered: list[Cohort] = []
    rows = many.cohorts.rows
    monkeypatch.setattr(many.cohorts, "rows", lambda cohort: gathered.append(cohort) or rows(cohort))
    for _ in range(2):
        listings = [many.listing(at(many, path)) for path in (b"by-view/MLO", b"by-view/MLO", b"by-view/not-CC")]
        assert [listing.length for listing in listings] == [MANY // 2] * 3
        del listings  # closed listings take no memory
    assert len(gathered) == 4, "two cohorts, twice"


def test_the_files_of_a_listing_take_no_more_room_than_they_must(many: View) -> None:
    files = many.files.of_rows(np.arange(MANY, dtype=np.uint32), FILE_KINDS)
    assert files.itemsize == 2
    assert files.tolist() == [2 * row + 1 for row in range(MANY)]


def test_a_path_with_repeated_terms_is_the_same_cohort(many: View) -> None:
    once = at(many, b"by-view/CC/by-age/0-130")
    again = at(many, b"by-view/CC/by-age/0-130/by-view/CC/by-age/0-130/by-view/CC")
    assert again.cohort == once.cohort
    assert len(once.cohort.terms) == 2
    assert size_of(once.cohort.terms[1].codes) < 100, "131 codes, in little room"


@pytest.mark.parametrize("value", [b"CC", b"CC,MLO", b"not-CC"])
def test_a_path_has_a_greatest_depth(many: View, value: bytes) -> None:
    view = View(many.index, Access(0o755, 0, 0), GENERATED, list_nested=True)
    place = view.root
    with pytest.raises(OSError, match="too long") as raised:  # noqa: PT012
        while True:
            facet = view.lookup(place, b"by-view")
            assert isinstance(facet, Directory)
            deeper = view.lookup(facet, value)
            assert isinstance(deeper, Directory)
            place = deeper
    assert raised.value.errno == errno.ENAMETOOLONG
    assert LONGEST_PATH < len(place.path) <= LONGEST_PATH + 256
    assert len(place.cohort.terms) == 1
    listing = view.listing(place)
    assert [entry for entry in listing.page(0, listing.length) if entry.directory is not None] == []
    assert isinstance(view.lookup(place, b".omidbfs"), Directory)
    assert isinstance(view.lookup(place, b"nonesuch"), type(None))
    assert view.lookup(place, b"by-nonesuch") is None


def test_a_path_that_goes_too_deep_for_facets_shows_all_that_is_below(many: View) -> None:
    place = b"by-client/demd1/1.1" + b"/by-view/CC" * (LONGEST_PATH // 11 - 3) + b"/by-client"
    while len(place) <= LONGEST_PATH:
        place += b"/demd1/by-client"
    assert names_at(many, place) == [b"demd1"]
    assert names_at(many, place + b"/demd1")[-1] == b"1.1"
    assert len(names_at(many, place + b"/demd1/1.1")) == MANY // 2


class NothingDirectory(Directory):
    """A new kind of directory, which narrows to no image and lists nothing."""

    def lookup(self, context: Context, name: bytes) -> Directory | None:
        return context.entered(self, name)

    def listing(self, context: Context) -> Listing:
        return context.looked_up(self, [])


def enter_nothing(context: Context, directory: Directory, name: bytes) -> Directory | None:
    if name != b"as-nothing":
        return None
    return NothingDirectory(*directory.below(name), directory.stands_for.narrowed(Term(IMAGES, frozenset())))


def test_another_kind_of_directory_takes_a_class_and_an_entrance(
    many: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omidbfs.view.view.ENTRANCES", {**ENTRANCES, b"as-": enter_nothing})
    view = View(many.index, Access(0o755, 0, 0), GENERATED)
    for place in (b"", b"all/", b"by-view/CC/", b"by-client/demd1/", b"by-client/demd1/1.1/by-age/unknown/"):
        assert names_at(view, place + b"as-nothing") == []
        assert names_at(view, place + b"as-nothing/by-view") == []
        assert len(view.cohorts.rows(view.cohort(at(view, place + b"as-nothing/by-view/CC")))) == 0
        assert view.resolve(place + b"as-something") is None
        assert b"as-nothing" not in names_at(view, place.rstrip(b"/"))
    for place in (b"by-view/", b".omidbfs/", b"all/.omidbfs/"):
        assert view.resolve(place + b"as-nothing") is None


def test_checksums_of_texts_are_taken_once(many: View, monkeypatch: pytest.MonkeyPatch) -> None:
    view = View(many.index, Access(0o755, 0, 0), {**GENERATED, "problems.jsonl": memoryview(b"{}\n" * 9)})
    view.prepare()
    monkeypatch.setattr("omidbfs.view.inode.crc32", lambda content: pytest.fail("of a list of a million problems"))
    inode = view.lookup(at(view, b".omidbfs"), b"problems.jsonl")
    assert isinstance(inode, int)
    attributes, content = view.files.attributes(inode), view.files.texts.content(inode)
    assert attributes is not None
    assert content == b"{}\n" * 9
    assert attributes.size == len(content)
