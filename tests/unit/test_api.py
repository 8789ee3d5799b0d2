"""The Python interface: cohorts are those of the drive, as sets, numbers, images, tables and datasets."""

import errno
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas
import polars
import pydicom
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pixel_files import written
from sessions import sessions, shows
from trees import Tree

import omidbfs
from omidbfs import Cohort, Database, ImageDataset, NotFoundError, UserError
from omidbfs.cli.main import main
from omidbfs.demo import generate

MLO = "by-outcome/malignant/by-view/MLO"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean database of eight clients."""
    path = tmp_path_factory.mktemp("small") / "db"
    generate(path, 8, seed=5)
    return path


@pytest.fixture(scope="module")
def db(source: Path) -> Database:
    """The same, opened."""
    return omidbfs.open(source)


def said(*arguments: str | Path) -> str:
    """Return what a command prints."""
    done = CliRunner().invoke(main, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def names(cohort: Cohort) -> list[str]:
    return [image.name for image in cohort]


# Paths and sets


@pytest.mark.parametrize("path", ["", "all", MLO, f"/{MLO}/", "by-client", "by-age/50-69/by-view/not-CC,MLO"])
def test_a_path_is_the_cohort_that_commands_count(db: Database, source: Path, path: str) -> None:
    if path == "by-client":
        path = f"by-client/{db.all[0].client}"
    counted = json.loads(said("count", source, path, "--json"))
    cohort = db[path]
    assert {unit: cohort.count(unit) for unit in counted} == counted
    assert (len(cohort), path in db) == (counted["images"], True)
    if not path.startswith("by-client"):
        listed = said("ls", source, path or "all").split()
        assert names(cohort) == [name[:-4] for name in listed if name.endswith(".dcm")]
    assert repr(cohort).startswith(f"<omidbfs cohort {path.strip('/') or 'all'}: {len(cohort)} image")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda db: db["by-outcom/malignant"],
            "by-outcom/malignant: there is no by-outcom; did you mean by-outcome",
        ),
        (lambda db: db["by-view/MLOO"], "by-view/MLOO: MLOO is no value of by-view; did you mean MLO"),
        (lambda db: db["as-pgn/all"], "as-pgn/all: there is no as-pgn; did you mean as-png?"),
        (lambda db: db["cohorts/mine"], "no configuration was read that names cohorts"),
        (lambda db: db.all.where(vew="CC"), "there is no facet vew; did you mean view?"),
        (lambda db: db.all.where(view=["CC", "CCC"]), "by-view: CCC is no value of by-view; did you mean CC"),
        (lambda db: db.all.count("client"), "nothing counts client; did you mean clients?"),
        (lambda db: db.all.counts("manufactuer"), "there is no facet manufactuer; did you mean manufacturer?"),
        (lambda db: db.all[0]["file_type"], "by-file-type: is a facet of files, and not of images"),
        (lambda db: db.all[0].pixels("png-7"), "there is no as-png-7"),
        (lambda db: db.all.dataset("gif"), "there is no as-gif"),
    ],
)
def test_a_name_that_does_not_exist_is_a_key_error_with_a_suggestion(db: Database, ask, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(KeyError) as raised:
        ask(db)
    assert isinstance(raised.value, NotFoundError)
    assert isinstance(raised.value, UserError)
    assert message in str(raised.value)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_a_facet_may_have_the_name_of_its_directory(db: Database) -> None:
    assert db.all.counts("by-view") == db.all.counts("view")
    assert names(db.all.where(by_view="MLO", by_age=(50, 69))) == names(db["by-view/MLO/by-age/50-69"])
    assert db.all[0]["by-view-modifier"] == db.all[0]["view_modifier"]


def test_a_database_has_no_list_of_paths_and_a_cohort_no_paths(db: Database) -> None:
    with pytest.raises(TypeError, match="not iterable"):
        list(db)
    with pytest.raises(TypeError, match="a database has paths"):
        db[5]  # type: ignore[index]
    assert f"nope/{'by-view/not-CC/' * 300}" not in db
    with pytest.raises(TypeError, match="to narrow a cohort, use where"):
        db.all["by-view/MLO"]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda db: db["README.txt"], "README.txt: README.txt is a file, and a directory is needed"),
        (lambda db: db[".omidbfs"], ".omidbfs: holds texts about the drive, and a cohort is needed"),
        (
            lambda db: db.all.where(view=(1, 2)),
            "by-view: a tuple is a range of numbers; give several values as a list",
        ),
        (lambda db: db.all.where(age=-5), "by-age: -5 is below 0, and no value; (None, 5) is a range up to 5"),
        (lambda db: db.all.where(view=["CC", "not-MLO"]), "by-view: a complement cannot be one of several values"),
        (
            lambda db: db.all.dataset(target="mark_feature"),
            "by-mark-feature: is no facet of one value for each image",
        ),
    ],
)
def test_a_question_that_makes_no_sense_is_one_line(db: Database, ask, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError) as raised:
        ask(db)
    assert str(raised.value).startswith(message)
    assert not isinstance(raised.value, KeyError)


def test_what_is_no_path_is_not_in_a_database(db: Database) -> None:
    assert ["by-view/XX" in db, "README.txt" in db, 5 in db] == [False, False, False]
    assert {"outcome", "mark-feature"} <= {*db.facets}
    assert db.cohorts == ()


@pytest.mark.parametrize(
    ("conditions", "path"),
    [
        ({}, "all"),
        ({"laterality": "L"}, "by-laterality/L"),
        ({"view": ["CC", "MLO"], "laterality": "not-L"}, "by-view/CC,MLO/by-laterality/not-L"),
        ({"age": (50, 69)}, "by-age/50-69"),
        ({"age": (None, 60)}, "by-age/-60"),
        ({"age": (61, None)}, "by-age/61-"),
        ({"age": [50, (55, 60), "65-69"]}, "by-age/50,55-60,65-69"),
        ({"marked": True}, "by-marked/yes"),
        ({"mark_feature": {"mass"}}, "by-mark-feature/mass"),
        ({"outcome": "CI,M"}, "by-outcome/CI,M"),
        ({"age": np.int16(57)}, "by-age/57"),
        ({"age": [np.uint8(50), (np.int64(55), 60)]}, "by-age/50,55-60"),
        ({"marked": np.True_}, "by-marked/yes"),
    ],
)
def test_a_condition_is_a_component_of_a_path(db: Database, conditions: dict[str, object], path: str) -> None:
    assert names(db.all.where(**conditions)) == names(db[path])  # type: ignore[arg-type]
    cohort = db["by-intent/presentation"]
    assert names(cohort.where(**conditions)) == names(db[f"by-intent/presentation/{path.removeprefix('all')}"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"view": []}, "by-view: an empty list has no value; leave the condition out, or give a value"),
        ({"study": set()}, "by-study: an empty list has no value"),
        ({"age": None}, "by-age: NoneType is no kind of value; give a text, a whole number, True or False, "),
        ({"age": 57.5}, "by-age: float is no kind of value"),
        ({"age": [50, None]}, "by-age: NoneType is no kind of value"),
        ({"age": np.array([50, 60])}, "by-age: ndarray is no kind of value"),
        ({"age": ()}, "by-age: a tuple is a range of numbers"),
        ({"age": (50.0, 60)}, "by-age: float is no kind of value"),
        ({"age": (None, None)}, "by-age: a range has one end at least"),
        ({"age": (None, -1)}, "by-age: -1 is below 0, and no value"),
        ({"view": ["CC", "not-MLO"]}, "by-view: a complement cannot be one of several values"),
    ],
)
def test_what_is_no_value_is_refused_with_the_name_of_its_facet(
    db: Database, conditions: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=r"^by-") as raised:
        db.all.where(**conditions)  # type: ignore[arg-type]
    assert isinstance(raised.value, UserError)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("value", [(69, 50), (140, None), True, "5O", ""])
def test_a_range_without_numbers_and_a_text_without_meaning_do_not_exist(db: Database, value: object) -> None:
    with pytest.raises(NotFoundError, match=r"^by-age: .*is no value of by-age"):
        db.all.where(age=value)  # type: ignore[arg-type]


_PATHS = st.sampled_from(
    [MLO, "all", "by-view/CC", "by-laterality/L", "by-view/XCC", "by-file-type/dcm", "as-png/by-view/CC"]
)
_SETS = st.recursive(
    _PATHS,
    lambda inner: st.tuples(st.sampled_from("&|-"), inner, inner) | st.tuples(st.just("~"), inner),
    max_leaves=5,
)


@given(_SETS)
def test_cohorts_combine_as_sets_of_images(db: Database, expression: object) -> None:
    everything = set(names(db.all))

    def both(part: object) -> tuple[Cohort, set[str]]:
        if isinstance(part, str):
            return db[part], set(names(db[part]))
        sign, *inner = part  # type: ignore[misc]
        cohorts, sets = zip(*map(both, inner), strict=True)
        if sign == "~":
            return ~cohorts[0], everything - sets[0]
        name = {"&": "__and__", "|": "__or__", "-": "__sub__"}[sign]
        return getattr(cohorts[0], name)(cohorts[1]), getattr(sets[0], name)(sets[1])

    cohort, expected = both(expression)
    assert set(names(cohort)) == expected
    assert names(cohort) == [name for name in names(db.all) if name in expected]
    assert cohort.count("images") == len(cohort) == len(expected)


def test_cohorts_of_two_databases_do_not_combine(db: Database, tmp_path: Path) -> None:
    generate(tmp_path / "db", 1, seed=1)
    with pytest.raises(UserError, match="cohorts of two databases cannot be combined"):
        db.all & omidbfs.open(tmp_path / "db").all
    with pytest.raises(TypeError, match="unsupported operand"):
        db.all - 5  # type: ignore[operator]
    assert db == pickle.loads(pickle.dumps(db))
    assert hash(db) == hash(pickle.loads(pickle.dumps(db)))


# Numbers and tables


def test_counts_are_those_of_the_images(db: Database) -> None:
    cohort = db["by-view/CC"] | db[MLO]
    for facet in ("manufacturer", "outcome", "age-band" if "age-band" in db.facets else "side-opinion", "study"):
        counted = Counter(image[facet] for image in cohort)
        assert cohort.counts(facet) == counted, facet
    features = Counter(value for image in cohort for value in image["mark_feature"])
    assert cohort.counts("mark_feature") == features
    assert cohort.count("marks") == sum(len(image.marks) for image in cohort)
    assert cohort.count("clients") == len({image.client for image in cohort})
    assert cohort.count("studies") == len({(image.client, image.study) for image in cohort})


def test_tables_are_those_of_the_drive(db: Database, source: Path, tmp_path: Path) -> None:
    said("export", source, MLO, "-o", tmp_path / "index.parquet")
    cohort = db[MLO]
    pandas.testing.assert_frame_equal(cohort.to_pandas(), pandas.read_parquet(tmp_path / "index.parquet"))
    assert cohort.to_polars().equals(polars.read_parquet(tmp_path / "index.parquet"))
    assert cohort.to_arrow().num_rows == len(cohort)
    by_rows = db["by-view/MLO"] - ~db["by-outcome/malignant"]
    pandas.testing.assert_frame_equal(by_rows.to_pandas(), cohort.to_pandas())
    assert (db.all - db.all).to_pandas().columns.tolist() == cohort.to_pandas().columns.tolist()


def test_without_pyarrow_a_table_says_how_to_get_it(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="pyarrow is not installed, and is needed for tables"):
        db.all.to_pandas()


def test_a_notebook_shows_numbers_and_names_no_client(db: Database) -> None:
    cohort = db[MLO].where(client=[db[MLO][0].client])
    shown = db[MLO]._repr_html_()
    assert f"{len(db[MLO])} images" in shown
    assert "hologic" in db._repr_html_()
    assert not any(image.client in shown or image.name in shown for image in cohort)
    assert "&lt;b&gt;" in Cohort(db._connection, cohort._selected, "<b>")._repr_html_()


# Images


def test_an_image_has_its_names_files_values_and_marks(db: Database, source: Path) -> None:
    cohort = db["by-marked/yes"]
    assert len(cohort) > 3
    for image in [*list(cohort)[::5], cohort[-1]]:
        told = json.loads(said("describe", source, image.name, "--json"))[0]
        assert (image.client, image.study, image.name) == (told["client"], told["study"], told["image"])
        assert image.path == source / "images" / image.client / image.study / f"{image.name}.dcm"
        assert {mark["id"] for mark in image.marks} == {mark["id"] for mark in told["marks"]}
        for name in ("outcome", "view", "manufacturer", "mark-feature"):
            value = image[name]
            assert list((value,) if isinstance(value, str) else value) == told["facets"][name]["values"]
        assert image.dataset().SOPInstanceUID == image.name
        assert image in cohort
        assert image not in ~cohort
        with image.open() as file:
            assert file.read() == image.path.read_bytes()
        assert (image.pixels() == pydicom.dcmread(image.path).pixel_array).all()
    assert cohort[0] == next(iter(cohort))
    assert len({*cohort}) == len(cohort)
    with pytest.raises(IndexError):
        cohort[len(cohort)]


def test_pixels_are_those_of_the_files_of_the_drive(tmp_path: Path) -> None:
    random, tree = np.random.default_rng(3), Tree(tmp_path / "db")
    arrays = {
        "1.1": random.integers(0, 1 << 16, (33, 21), np.uint16),
        "1.2": random.integers(-(1 << 15), 1 << 15, (21, 33), np.int16),
        "1.3": random.integers(0, 256, (18, 19, 3), np.uint8),
        "1.4": random.integers(0, 1 << 12, (4, 20, 15), np.uint16),
    }
    study = tree.client().study("1")
    for uid, array in arrays.items():
        study.image(uid, dcm=written(array, NumberOfFrames=4 if uid == "1.4" else None), ViewPosition="CC")
    db = omidbfs.open(tree.root, index=tmp_path / "index")
    from PIL import Image

    for name in ("npy", "tiff", "png", "png16", "png16-20x30", "png-16"):
        suffix = name.partition("-")[0].removesuffix("16")
        said("export", tree.root, "--as", name, "-o", tmp_path / name, "--index", tmp_path / "index")
        for image in db[f"as-{name}/all"]:
            file = tmp_path / name / f"{image.name}.{suffix}"
            pixels = image.pixels(name)
            if suffix == "png":
                expected = np.asarray(Image.open(file))
                assert pixels.dtype.itemsize == (2 if name.startswith("png16") else 1)
            else:
                expected = arrays[image.name]
                assert pixels.dtype == expected.dtype
            assert pixels.shape == expected.shape
            assert (pixels == expected).all(), (name, image.name)
            assert pixels.flags.writeable
    with pytest.raises(UserError, match=r"1\.4: has no as-png: it has several frames"):
        db.all[3].pixels("png")


def test_damaged_pixels_are_one_line_and_the_program_goes_on(tmp_path: Path) -> None:
    tree, array = Tree(tmp_path / "db"), np.zeros((20, 30), np.uint16)
    tree.client().study("1").image("1.1", dcm=written(array)[:-100]).image("1.2", dcm=written(array))
    damaged, sound = omidbfs.open(tree.root, index=tmp_path / "index").all
    with pytest.raises(UserError, match=r"1\.1: the pixels cannot be decoded: "):
        damaged.pixels()
    assert sound.pixels().shape == (20, 30)


def test_a_changed_file_is_read_as_it_is(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "db")
    tree.client().study("1").image("1.1", dcm=written(np.zeros((20, 30), np.uint16))).image("1.2", dcm=None)
    db = omidbfs.open(tree.root, index=tmp_path / "index")
    image, other = db.all
    assert image.path is not None
    image.path.write_bytes(written(np.full((20, 30), 7, np.uint16)) + b"\0" * 8)
    assert (image.pixels() == 7).all()
    with image.open() as file:
        image.path.write_bytes(b"in place")
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            file.read()
    image.path.unlink()
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        image.dataset()
    assert other.path is None
    with pytest.raises(UserError, match=r"1\.2: the image has no DICOM file"):
        other.open()


# Datasets and processes


def item(dataset: ImageDataset, number: int) -> tuple[int, object]:
    """Return the sum of the pixels and the target, in whatever process."""
    pixels, target = dataset[number]
    return int(pixels.sum()), target


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_workers_get_the_items_that_their_parent_gets(db: Database, method: str) -> None:
    dataset = db[MLO].dataset("png-32x24", target="outcome")
    expected = [item(dataset, number) for number in range(3)]
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as workers:
        found = [workers.submit(item, dataset, number) for number in range(3)]
        assert [one.result(120) for one in found] == expected
        assert workers.submit(len, db[MLO] | db["by-view/CC"]).result(120) == len(db[MLO] | db["by-view/CC"])
    assert [item(dataset, number) for number in range(3)] == expected


def test_a_dataset_has_the_images_with_the_rendition_and_their_targets(db: Database) -> None:
    cohort = db["by-view/CC"]
    dataset = cohort.dataset("png16-32x24", target="outcome", transform=lambda pixels: pixels.mean())
    assert len(dataset) == len(db["by-view/CC/as-png16-32x24"])
    mean, target = dataset[1]
    assert mean == dataset.image(1).pixels("png16-32x24").mean()
    assert dataset.classes == tuple(db.all.counts("outcome"))
    assert dataset.classes[target] == dataset.image(1)["outcome"]
    assert [cohort.dataset(target="age")[0][1]] == [float(str(cohort[0]["age"]))]
    assert cohort.dataset(target=lambda image: image.name)[2][1] == cohort[2].name
    assert db["as-png-32x24/by-view/CC"].dataset()[0].shape == (32, 24)
    assert (cohort.dataset()[0] == cohort[0].pixels()).all()
    assert repr(dataset) == f"<omidbfs dataset of {len(dataset)} images as png16-32x24>"


def test_a_pickled_cohort_is_refused_by_another_index(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "db")
    tree.client().study("1").image("1.1", ViewPosition="CC")
    pickled = pickle.dumps(omidbfs.open(tree.root, index=tmp_path / "index")["by-view/CC"])
    assert names(pickle.loads(pickled)) == ["1.1"]
    tree.client("demd0").study("0").image("0.1", ViewPosition="CC")
    assert names(omidbfs.open(tree.root, index=tmp_path / "index", verify_first=True)["by-view/CC"]) == [
        "0.1",
        "1.1",
    ]
    with pytest.raises(UserError, match="the index is not the one from which the cohort was chosen"):
        len(pickle.loads(pickled))


# Opening


def test_options_and_configuration_are_those_of_commands(source: Path, tmp_path: Path) -> None:
    config = tmp_path / "omidbfs.toml"
    config.write_text(
        "num-months-normal-follow-up = 30\n[cohorts.left]\npath = 'by-laterality/L'\n"
        "[mount]\nallow-other = true\n[renditions.tiny]\nformat = 'png'\nsize = 16\n"
    )
    db = omidbfs.open(source, config=config)
    assert db.all.counts("outcome") == json.loads(said("--config", config, "facets", source, "--json"))["outcome"]
    assert db.all.counts("outcome") != omidbfs.open(source).all.counts("outcome")
    assert db.cohorts == ("left",)
    assert names(db["cohorts/left"]) == names(db["by-laterality/L"]) == names(db.all.where(cohort="left"))
    assert ("cohort" in db.facets, db["cohorts/left"][0]["cohort"]) == (True, ("left",))
    assert db.all.counts("cohort")["left"] == len(db["cohorts/left"])
    assert max(db.all[0].pixels("tiny").shape) == 16
    given = omidbfs.open(source, config=config, num_months_normal_follow_up=1).all.counts("outcome")
    told = said("--config", config, "facets", source, "--json", "--num-months-normal-follow-up", "1")
    assert given == json.loads(told)["outcome"]
    clients = tmp_path / "clients.txt"
    clients.write_text(f"{db.all[0].client}\nnobody1\n")
    assert omidbfs.open(source, clients_file=clients).all.count("clients") == 1
    config.write_text("link-all = 5\n")
    with pytest.raises(UserError, match="an option has a wrong value"):
        omidbfs.open(source, config=config)
    with pytest.raises(UserError, match="no such directory"):
        omidbfs.open(tmp_path / "nowhere")


def test_what_a_command_would_warn_of_is_a_warning(source: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    omidbfs.open(source, index=index)
    content = index.read_bytes()
    index.write_bytes(content[: len(content) // 2])
    with pytest.warns(UserWarning, match="building it anew"):
        assert len(omidbfs.open(source, index=index).all) > 0


def test_to_import_omidbfs_loads_next_to_nothing() -> None:
    script = (
        "import sys; before = {*sys.modules}; import omidbfs; new = {*sys.modules} - before;"
        "assert {*omidbfs.__all__} <= {*dir(omidbfs)};"
        "print([name for name in new if name.split('.')[0] not in ('omidbfs', *sys.stdlib_module_names)]);"
        "print([name for name in new if name.startswith('omidbfs.')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"
    with pytest.raises(AttributeError, match="has no attribute 'opened'"):
        omidbfs.opened  # noqa: B018


def test_the_session_of_the_page_prints_what_the_page_shows(demo_database: Path, tmp_path: Path) -> None:
    (tmp_path / "db").symlink_to(demo_database)
    shows("\n".join(sessions("python.md")), tmp_path)


def test_a_place_is_a_number_or_a_slice(db: Database) -> None:
    cohort = db["by-outcome/malignant"]
    every = list(cohort)
    for part in (slice(0, 5), slice(-3, None), slice(None, None, -7), slice(10**6, None)):
        assert cohort[part] == every[part]
    assert cohort[np.int64(3)] == every[3]
    for wrong in (1.5, None):
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            cohort[wrong]  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="'slice' object cannot be interpreted as an integer"):
        cohort.dataset("png-64")[slice(2)]  # type: ignore[index]
