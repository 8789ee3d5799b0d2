"""``as-<rendition>`` in the view: where it is found, what it shows, its inodes and attributes."""

import errno
import stat
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from trees import PIXELS, Tree, build_index

from omidbfs.cohorts.cohort import IMAGES, Cohort, Term
from omidbfs.database.file_kinds import DCM
from omidbfs.database.layout import find_source
from omidbfs.index.classification import Classification
from omidbfs.index.columns import Index
from omidbfs.index.flat_names import rows_named
from omidbfs.pixels.rendition import BUILT_IN, Box, Configured, Format, Rendition
from omidbfs.pixels.sizes import RENDITION_IDENTITIES
from omidbfs.view.images import LONGEST_PATH
from omidbfs.view.inode import is_rendition, rendition_hash
from omidbfs.view.nodes import Attributes, Directory
from omidbfs.view.ownership import drive_access
from omidbfs.view.root import root_of
from omidbfs.view.view import View
from omidbfs.view.xattrs import of_directory, of_file

MINE = Rendition("mine", Format.PNG16, Box(64, 48), mirrors=True)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of two clients; of the images of the first, 1, 2 and 4 have renditions, 4 only ``npy``."""
    tree = Tree(tmp_path_factory.mktemp("database"))
    study = tree.client("demd1").study("1.1").image("1", ViewPosition="MLO", **PIXELS)
    study.image("2", ViewPosition="CC", **PIXELS)
    study.image("3", ViewPosition="CC", Manufacturer="unrendered")
    study.image("4", ViewPosition="CC", NumberOfFrames=5, **PIXELS)
    study.image("5", ViewPosition="MLO", dcm=None, **PIXELS)
    tree.client("demd2").study("2.1").image("6", ViewPosition="MLO", has_sidecar=False)
    return tree.root


@pytest.fixture(scope="module")
def index(tree: Path) -> Index:
    """The index of the database."""
    return build_index(find_source(tree), Classification())


@pytest.fixture
def view(index: Index, tree: Path) -> View:
    """A view of the database."""
    return made(index, tree)


def made(index: Index, tree: Path, **options: Any) -> View:
    """Return a view of an index."""
    return View(index, drive_access(find_source(tree)), {"README.txt": b"read me"}, **options)


def node(view: View, path: str) -> Any:
    """Return the node at a path, found by lookups only."""
    node: Any = view.root
    for name in path.split("/"):
        node = view.lookup(node, name.encode()) if isinstance(node, Directory) else None
    return node


def listed(view: View, path: str) -> dict[str, Attributes]:
    """Return the listing of a directory, which agrees with its lookups."""
    directory = node(view, path)
    listing = view.listing(directory)
    entries = listing.page(0, listing.length)
    for entry in entries:
        found = view.lookup(directory, entry.name)
        assert entry.inode == (found if isinstance(found, int) else found.inode)  # type: ignore[union-attr]
        if isinstance(found, int):
            assert view.attributes(found) == entry.attributes
    return {entry.name.decode(): entry.attributes for entry in entries}


def test_an_image_has_one_inode_for_each_rendition_under_all_paths(view: View) -> None:
    paths = ("as-png/by-view/MLO", "by-view/MLO/as-png", "all/as-png", "by-client/demd1/1.1/as-png")
    paths += (
        "as-png/by-client/demd1/1.1",
        "by-client/demd1/as-png/1.1",
        "by-view/CC,MLO/as-png/by-laterality/unknown",
    )
    inodes = {node(view, f"{path}/1.png") for path in paths}
    assert len(inodes) == 1
    assert all(is_rendition(inode) for inode in inodes)
    others = {node(view, f"as-{name}/all/1.{suffix}") for name, suffix in (("png16", "png"), ("npy", "npy"))}
    assert len(inodes | others | {node(view, "as-png/all/2.png")}) == 4


def test_attributes_are_those_of_the_dicom_file_but_for_the_size(view: View) -> None:
    for name, suffix, size in (
        ("png", "png", 104 * 81 + 68),
        ("png16-64", "png", 64 * 99 + 68),
        ("npy", "npy", 16768),
    ):
        of_dicom = view.attributes(node(view, "all/1.dcm"))
        shown = view.attributes(node(view, f"as-{name}/all/1.{suffix}"))
        assert of_dicom is not None
        assert shown is not None
        assert shown == of_dicom._replace(inode=shown.inode, size=size)


def test_a_cohort_is_narrowed_to_the_images_that_have_the_rendition(view: View) -> None:
    assert [*listed(view, "as-png/all")] == ["1.png", "2.png"]
    assert [*listed(view, "as-npy/all")] == ["1.npy", "2.npy", "4.npy"]
    assert [*listed(view, "as-png/by-view")] == ["MLO", "CC"]
    assert [*listed(view, "as-png/by-manufacturer")] == ["unknown"]
    assert [*listed(view, "as-png/by-client")] == ["demd1"]
    assert [*listed(view, "by-view/MLO/as-png/by-client")] == ["demd1"]
    assert listed(view, "by-manufacturer/unrendered/as-png") == {}
    assert len(view.cohorts.rows(view.cohort(node(view, "as-png/by-view/CC/.omidbfs")))) == 1
    assert view.selection(node(view, "as-png/.omidbfs")).title == "as-png"


def test_every_generated_file_is_made_of_renditions_too(view: View) -> None:
    of_dicom = listed(view, "by-view/CC/.omidbfs")
    assert listed(view, "by-view/CC/as-png-64/.omidbfs").keys() == of_dicom.keys()
    assert listed(view, "as-png/.omidbfs").keys() == of_dicom.keys()


def test_in_the_root_it_lists_all_images_facets_and_cohorts(index: Index, tree: Path) -> None:
    of_first = Cohort((Term(IMAGES, frozenset([0, 2])),))
    view = made(index, tree, root=root_of(index, named={"mine": of_first}))
    root = listed(view, "as-png")
    assert {"all", "cohorts", "by-view", "by-client"} <= root.keys()
    assert not root.keys() & {".omidbfs", "README.txt"}
    assert [*listed(view, "as-png/cohorts")] == ["mine"]
    assert [*listed(view, "as-png/cohorts/mine")] == ["1.png"]
    assert node(view, "as-png/README.txt") is node(view, "as-png/cohorts/other") is None


def test_a_client_shows_studies_only(view: View) -> None:
    assert [*listed(view, "as-png/by-client/demd1")] == [*listed(view, "by-client/demd1/as-png")] == ["1.1"]
    assert node(view, "as-png/by-client/demd1/nbss_demd1.json") is None
    assert [*listed(view, "as-png/by-client/demd1/1.1")] == ["1.png", "2.png"]


def test_a_file_type_keeps_all_of_dcm_and_nothing_of_json(view: View) -> None:
    whole = listed(view, "as-png/all")
    for path in ("as-png/by-file-type/{}", "by-file-type/{}/as-png"):
        assert listed(view, path.format("dcm")) == listed(view, path.format("dcm,json")) == whole
        assert listed(view, path.format("json")) == listed(view, path.format("not-dcm")) == {}
        assert node(view, path.format("json") + "/1.png") is None
    assert [*listed(view, "as-png/by-file-type")] == ["dcm"]


@pytest.mark.parametrize(
    "path",
    [
        *(
            "as-",
            "as-jpeg",
            "as-png-15",
            "as-mine",
            "as-png/as-png",
            "as-png/by-view/MLO/as-npy",
            "by-view/as-png",
        ),
        *(".omidbfs/as-png", "all/.omidbfs/as-png", "as-png/all/1.dcm", "as-png/all/3.png", "as-png/all/5.png"),
    ],
)
def test_nothing_else_is_found(view: View, path: str) -> None:
    assert node(view, path) is None


def test_renditions_are_not_listed_and_not_found_below_a_path_that_is_too_long(index: Index, tree: Path) -> None:
    view = made(index, tree, list_nested=True)
    for path in ("all", "as-png/all"):
        assert not [name for name in listed(view, path) if name.startswith("as-")]
    assert "by-view" in listed(view, "as-png/all")
    deep = "all" + "/by-view/MLO" * ((LONGEST_PATH - 3) // 12)
    assert node(view, f"{deep}/as-png") is not None
    with pytest.raises(OSError, match="name too long") as caught:
        node(view, f"{deep}/by-view/MLO/as-png")
    assert caught.value.errno == errno.ENAMETOOLONG


def test_renditions_are_regular_files_where_files_are_symbolic_links(index: Index, tree: Path) -> None:
    view = made(index, tree, links_to=(b"/images", b"/data"))
    link, regular = listed(view, "all")["1.dcm"], listed(view, "as-png/all")["1.png"]
    assert stat.S_ISLNK(link.mode)
    assert stat.S_ISREG(regular.mode)


def test_an_inode_says_all_that_rendering_needs(view: View) -> None:
    inode = node(view, "as-png-64/all/1.png")
    found = view.renditions.found(inode)
    assert found is not None
    assert (found.row, found.rendition.name, found.source) == (0, "png-64", node(view, "all/1.dcm"))
    assert (found.size, found.format, found.chest_wall_side) == (
        view.attributes(inode).size,  # type: ignore[union-attr]
        view.index.pixel_format(0),
        view.index.chest_wall_side(0),
    )
    assert view.renditions.found(node(view, "all/1.dcm")) is view.renditions.found(inode + 1) is None


def test_a_source_that_is_found_changed_gives_all_its_renditions_other_inodes(view: View) -> None:
    before = listed(view, "as-png/all")
    source = view.files.image(0, DCM)
    assert source is not None
    facts = view.files.facts(source)
    assert facts is not None
    view.files.update(source, msgspec.structs.replace(facts, mtime_ns=facts.mtime_ns + 1))
    after = listed(view, "as-png/all")
    assert after["1.png"].mtime == before["1.png"].mtime + 1
    assert after["1.png"].inode != before["1.png"].inode
    assert after["2.png"] == before["2.png"]
    assert view.attributes(before["1.png"].inode) is view.renditions.found(before["1.png"].inode) is None


def test_a_configured_rendition_has_the_later_time_and_another_inode_for_each_definition(
    index: Index, tree: Path
) -> None:
    def shown(rendition: Rendition, mtime: int) -> tuple[View, Attributes]:
        view = made(index, tree, configured=Configured({"mine": rendition}, mtime))
        return view, listed(view, "as-mine/all")["1.png"]

    newest = index.newest
    old, first = shown(MINE, 5)
    assert first.mtime == view_time(old)
    new, second = shown(MINE, newest + 7)
    assert second.mtime == newest + 7
    changed, third = shown(replace(MINE, mirrors=False), 5)
    assert len({first.inode, second.inode, third.inode}) == 3
    for view in (new, changed):
        view.renditions.continue_from(old.renditions)
        assert view.attributes(first.inode) is None, "of another definition"
    assert listed(old, "as-png/all")["1.png"].mtime == first.mtime
    assert listed(new, "as-png/all") == listed(old, "as-png/all")


def view_time(view: View) -> int:
    """Return the time of the first DICOM file."""
    return listed(view, "all")["1.dcm"].mtime


def test_an_inode_is_understood_by_the_next_view_that_has_not_looked_it_up(index: Index, tree: Path) -> None:
    old, new = made(index, tree), made(index, tree)
    inode = node(old, "as-png-64/all/1.png")
    assert new.attributes(inode) is None
    new.renditions.continue_from(old.renditions)
    assert new.attributes(inode) == old.attributes(inode)


def test_of_two_renditions_with_one_hash_the_second_is_not_found(view: View) -> None:
    seen: dict[int, str] = {}
    for number in count(16):
        name = f"png-{16 + number % 1000}x{16 + number // 1000}"
        rendition = Configured().named(name)
        assert rendition is not None
        hashed = rendition_hash(b"%b %b" % (name.encode(), rendition.text))
        if hashed in seen:
            break
        seen[hashed] = name
    assert node(view, f"as-{seen[hashed]}") is not None
    assert node(view, f"as-{name}") is None
    assert node(view, f"as-{seen[hashed]}/all/1.png") is not None


def test_an_image_whose_identity_has_no_room_in_an_inode_has_no_rendition(index: Index, tree: Path) -> None:
    identity = index.identity.copy()
    identity[0] = RENDITION_IDENTITIES
    rows = np.full(RENDITION_IDENTITIES + 1, 0xFFFFFFFF, np.uint32)
    rows[identity] = np.arange(len(index))
    view = made(replace(index, identity=identity, row_of=rows), tree)
    assert [*listed(view, "as-png/all")] == ["2.png"]
    assert [*listed(view, "as-png/by-view")] == ["CC"]
    assert node(view, "as-png/all/1.png") is None
    assert node(view, "all/1.dcm") is not None


def test_extended_attributes_are_those_of_the_dicom_file(view: View) -> None:
    of_rendition, of_dicom = (of_file(view, node(view, path)) for path in ("as-png/all/1.png", "all/1.dcm"))
    assert of_rendition == of_dicom
    assert of_rendition[b"user.omidb.view"] == b"MLO"
    assert of_directory(view, node(view, "as-png/all")) == {
        b"user.omidb.count": b"2",
        b"user.omidb.definition": b"as-png/all",
    }


def test_a_list_may_name_an_image_like_a_rendition(index: Index) -> None:
    assert [rows_named(index, f"1.{suffix}") for suffix in ("png", "tiff", "npy", "jpeg")] == [[0], [0], [0], []]


def test_the_sizes_of_few_renditions_are_kept(view: View) -> None:
    first = node(view, "as-png/all/1.png")
    for number in range(16, 200):
        assert node(view, f"as-png-{number}") is not None
    assert view.attributes(first) is not None
    assert len(view.renditions._tables) <= 64


def test_built_in_names_are_those_of_the_documents() -> None:
    assert [*BUILT_IN] == ["png", "png16", "tiff", "npy"]
