"""The demo is a valid OMI-DB with every outcome, and with the accidents that it lists."""

import errno
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from programs import needs
from pydicom import uid
from pydicom.encaps import encapsulate

from omidbfs.database.pixel_format import PixelFormat
from omidbfs.database.problems import KINDS, Problem
from omidbfs.demo import DemoError, generate
from omidbfs.demo.frames import COLUMNS, ROWS, frame, phantom
from omidbfs.demo.history import DECK
from omidbfs.pixels.compressed import decoded
from omidbfs.pixels.decode import read
from omidbfs.pixels.errors import PixelError

CLIENTS, SEED = len(DECK) + 3, 7


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("demo")
    assert generate(directory, CLIENTS, SEED) == []
    return directory


@pytest.fixture(scope="module")
def accidents(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Problem]]:
    directory = tmp_path_factory.mktemp("accidents")
    return directory, generate(directory, 1, SEED, quirks=True)


@pytest.fixture(scope="module")
def clients(demo: Path) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import omidb
    return list(omidb.DB(demo / "data", demo / "images"))


def documents(directory: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for client in sorted((directory / "data").iterdir()):
        yield client.name, json.loads((client / f"{kind}_{client.name}.json").read_bytes())


def images(directory: Path) -> list[Path]:
    return sorted((directory / "images").glob("*/*/*.dcm"))


def sidecar_of(dcm: Path) -> Path:
    return Path(str(dcm).replace("/images/", "/data/")).with_suffix(".json")


def snapshot(directory: Path) -> dict[str, tuple[int, str]]:
    """Everything below a directory: time and content."""
    found = {}
    for folder, directories, files in os.walk(directory):
        for name in (*directories, *files, "."):
            place = Path(folder, name)
            facts = place.lstat()
            content = hashlib.sha256(place.read_bytes()).hexdigest() if stat.S_ISREG(facts.st_mode) else ""
            found[str(place.relative_to(directory))] = (facts.st_mtime_ns, content)
    return found


# The same every time ----------------------------------------------------------------------------------------


@pytest.mark.unmeasured
def test_a_seed_gives_the_same_tree_to_the_byte_and_the_second(tmp_path: Path) -> None:
    first = generate(tmp_path / "a", 2, 3, quirks=True)
    second = generate(tmp_path / "b", 2, 3, quirks=True)
    assert first == second
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")


def test_a_client_does_not_depend_on_the_number_of_clients(demo: Path, tmp_path: Path) -> None:
    generate(tmp_path / "few", 3, SEED)
    whole = snapshot(demo)
    few = {path: what for path, what in snapshot(tmp_path / "few").items() if path not in (".", "images/.")}
    assert len(few) > 30
    assert all(whole[path] == what for path, what in few.items())


def test_another_seed_gives_other_clients(demo: Path, tmp_path: Path) -> None:
    generate(tmp_path / "other", 3, SEED + 1)
    uids = {path.name for path in images(demo)}
    assert not uids & {path.name for path in images(tmp_path / "other")}


def test_progress_counts_clients(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    generate(tmp_path / "new", 2, 1, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]


@pytest.mark.parametrize(("how", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("place", ["there", "new/deep/db"])
def test_an_interrupted_demo_leaves_nothing_that_it_has_written(
    tmp_path: Path, place: str, how: str, status: int
) -> None:
    (tmp_path / "there").mkdir()
    command = [sys.executable, "-m", "omidbfs", "demo", str(tmp_path / place), "--clients", "1000000", "--quirks"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while len(list(tmp_path.glob(f"{place}/data/*"))) < 3:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.Signals[how])
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    said = [line for line in errors.splitlines() if not line.startswith("writing clients: ")]  # where it is slow
    assert (process.returncode, said) == (status, ["omidbfs: interrupted"] if how == "SIGINT" else [])
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


def test_a_demo_that_fails_leaves_nothing_even_if_it_is_interrupted_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(done: int, total: int) -> None:
        assert len(list(tmp_path.glob("db/data/*"))) == done
        if done == total:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def remove(*arguments: Any, **options: Any) -> None:
        signal.raise_signal(signal.SIGINT)  # people press Ctrl-C again
        signal.raise_signal(signal.SIGTERM)
        removed(*arguments, **options)

    removed = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", remove)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(OSError, match="No space left"):
        generate(tmp_path / "db", 2, SEED, progress=fail)
    assert list(tmp_path.iterdir()) == []
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_demo_that_fails_leaves_what_others_have_put_in_its_place(tmp_path: Path) -> None:
    def replaced(done: int, total: int) -> None:
        shutil.rmtree(tmp_path / "db")
        generate(tmp_path / "db", 1, seed=SEED + 1)
        theirs.update((tmp_path / "db").rglob("*"))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    theirs: set[Path] = set()
    with pytest.raises(OSError, match="No space left"):
        generate(tmp_path / "db", 2, SEED, progress=replaced)
    assert theirs
    assert {*(tmp_path / "db").rglob("*")} == theirs


def test_a_demo_that_fails_leaves_another_list_of_quirks(tmp_path: Path) -> None:
    def put(done: int, total: int) -> None:
        (tmp_path / "db" / "quirks.jsonl").write_text("mine")

    with pytest.raises(FileExistsError):
        generate(tmp_path / "db", 1, SEED, quirks=True, progress=put)
    assert [path.read_text() for path in (tmp_path / "db").iterdir()] == ["mine"]


def test_a_demo_that_cannot_begin_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir = Path.mkdir

    def full(path: Path, *arguments: Any, **options: Any) -> None:
        if path.name == "data":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(DemoError, match="No space left"):
        generate(tmp_path / "new" / "db", 1, SEED)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DemoError, match="File name too long"):
        generate(tmp_path / ("x" * 300) / "db", 1, SEED)


@pytest.mark.parametrize("number", [0, -1])
def test_a_directory_in_use_and_a_negative_number_are_refused(tmp_path: Path, number: int) -> None:
    place = tmp_path if number == 0 else tmp_path / "new"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DemoError, match=r"^[^\n]+$"):
        generate(place, number, 1)
    with pytest.raises(DemoError, match="file"):
        generate(tmp_path / "file", 1, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


# DICOM ------------------------------------------------------------------------------------------------------


def test_names_are_those_of_an_omi_db(demo: Path) -> None:
    dcms = images(demo)
    assert {path.name[:4] for path in (demo / "images").iterdir()} == {"demd", "optm"}
    assert sorted(sidecar_of(dcm) for dcm in dcms) == sorted((demo / "data").glob("*/*/*.json"))
    assert len({dcm.stem for dcm in dcms}) == len(dcms)
    assert max(len(dcm.stem) for dcm in dcms) <= 64


def test_sidecars_agree_with_headers_tag_by_tag(demo: Path) -> None:
    for dcm in images(demo)[::4]:
        sidecar = json.loads(sidecar_of(dcm).read_bytes())
        dataset = pydicom.dcmread(dcm, stop_before_pixels=True)
        header = json.loads(json.dumps(dataset.to_json_dict()))
        assert sidecar.pop("00020010") == {"vr": "UI", "Value": [dataset.file_meta.TransferSyntaxUID]}
        assert sidecar == header
        assert sidecar["00100010"]["Value"] == [{"Alphabetic": "Data anonymised"}]
        assert 110 <= len(sidecar) <= 160
        assert 7_000 <= sidecar_of(dcm).stat().st_size <= 12_000


def test_pydicom_reads_every_image_without_a_warning(demo: Path) -> None:
    classes, intents, shapes = Counter[str](), Counter[str](), Counter[tuple[int, ...]]()
    for dcm in images(demo):
        dataset = pydicom.dcmread(dcm)
        for element in dataset:
            assert element.value is not None or element.is_empty
        assert dataset.SOPInstanceUID == dcm.stem == dataset.file_meta.MediaStorageSOPInstanceUID
        assert dataset.StudyInstanceUID == dcm.parent.name
        assert dataset.PatientID == dcm.parent.parent.name
        assert (dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit) == (16, 12, 11)
        classes[dataset.SOPClassUID.name] += 1
        intents[dataset.PresentationIntentType] += 1
        shapes[dataset.pixel_array.shape] += 1
    assert all("Digital Mammography" in name for name in classes)
    assert len(classes) == 2
    assert intents["FOR PRESENTATION"] > 3 * intents["FOR PROCESSING"] > 0
    assert set(shapes) == {(104, 80)}


def test_simpleitk_reads_the_same_pixels_without_a_word(demo: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sitk = pytest.importorskip("SimpleITK")
    for dcm in images(demo)[::5]:
        pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(dcm)))
        dataset = pydicom.dcmread(dcm)
        # GDCM, which reads for SimpleITK, turns MONOCHROME1 round.
        is_inverse = dataset.PhotometricInterpretation == "MONOCHROME1"
        assert np.array_equal(pixels[0], 4095 - dataset.pixel_array if is_inverse else dataset.pixel_array)
    assert capfd.readouterr() == ("", "")


@needs("dcmdump")
def test_dcmtk_reads_a_sample_without_a_word(demo: Path) -> None:
    sample = [str(dcm) for dcm in images(demo)[::10]]
    found = subprocess.run(["dcmftest", *sample], capture_output=True, text=True, check=True)
    assert [line.split(":")[0] for line in found.stdout.splitlines()] == ["yes"] * len(sample)
    dumped = subprocess.run(["dcmdump", "-v", *sample], capture_output=True, text=True, check=True)
    assert not [line for line in dumped.stderr.splitlines() if line.startswith(("W:", "E:", "F:"))]


def test_the_breast_hangs_from_its_chest_wall(demo: Path) -> None:
    """Of a left breast that is the left edge, of a right one the right edge: RCC and LCC hang back to back."""
    sides = Counter[str]()
    for dcm in images(demo):
        dataset = pydicom.dcmread(dcm)
        if dataset.ViewCodeSequence[0].CodeValue == "G-8310":
            continue
        pixels = dataset.pixel_array.astype(float)
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            pixels = 4095 - pixels
        assert (dataset.PhotometricInterpretation == "MONOCHROME1") == (
            dataset.PresentationIntentType == "FOR PROCESSING"
        )
        left, right = pixels[:, :40].mean(), pixels[:, 40:].mean()
        assert (left > 1.2 * right) if dataset.ImageLaterality == "L" else (right > 1.2 * left)
        assert dataset.PatientOrientation[0] == ("A" if dataset.ImageLaterality == "L" else "P")
        sides[dataset.ImageLaterality] += 1
    assert min(sides["L"], sides["R"]) > 100


def test_full_size_is_that_of_a_detector(tmp_path: Path) -> None:
    generate(tmp_path / "full", 1, 2, full_size=True)
    dataset = pydicom.dcmread(images(tmp_path / "full")[0])
    assert dataset.pixel_array.shape == (3328, 2560)
    assert 0.04 < dataset.ImagerPixelSpacing[0] < 0.11


# The records ------------------------------------------------------------------------------------------------


def test_marks_lie_inside_the_affected_breast(demo: Path) -> None:
    seen = Counter[str]()
    nbss = dict(documents(demo, "nbss"))
    for client, imagedb in documents(demo, "imagedb"):
        for study, record in imagedb["STUDIES"].items():
            listed = [item for value in record.values() if isinstance(value, dict) for item in value.items()]
            for image, marks in listed:
                dataset = pydicom.dcmread(demo / "images" / client / study / f"{image}.dcm") if marks else None
                for mark in (marks or {}).values():
                    assert dataset is not None
                    x1, x2, y1, y2 = (int(mark[key]) for key in ("X1", "X2", "Y1", "Y2"))
                    box = dataset.pixel_array[y1 : y2 + 1, x1 : x2 + 1]
                    assert box.shape == (y2 - y1 + 1, x2 - x1 + 1)
                    assert box.shape == (int(mark["Height"]) + 1, int(mark["Width"]) + 1)
                    assert box.min() > 0
                    assert dataset.PresentationIntentType == "FOR PRESENTATION"
                    number = mark["LinkedNBSSLesionNumber"]
                    seen[number] += 1
                    if number != "UNLINKED":
                        assert number in nbss[client][record["EpisodeID"]]["LESION"][dataset.ImageLaterality]
    assert seen["1"] > 40
    assert seen["2"]
    assert seen["UNLINKED"]


def test_screening_studies_have_all_four_views(demo: Path) -> None:
    views: dict[str, dict[Path, set[str]]] = {"Screening": {}, "Assessment": {}, "Symptomatic": {}, "Specimen": {}}
    for dcm in images(demo):
        header = json.loads(sidecar_of(dcm).read_bytes())
        if header["00080068"]["Value"] == ["FOR PRESENTATION"]:
            side, view = header["00200062"]["Value"][0], header["00185101"].get("Value", [""])[0]
            purpose = header["00400254"]["Value"][0].split()[0]
            views[purpose].setdefault(dcm.parent, set()).add(side + view)
    assert len(views["Screening"]) > CLIENTS
    assert all(found == {"LCC", "LMLO", "RCC", "RMLO"} for found in views["Screening"].values())
    assert all(found >= {"LCC", "LMLO", "RCC", "RMLO"} for found in views["Symptomatic"].values())
    assert {view[1:] for found in views["Assessment"].values() for view in found} == {"ML", "CC", "MLO", "XCCL"}
    assert all(found <= {"L", "R"} for found in views["Specimen"].values())
    assert len(views["Specimen"]) > 3


def test_there_are_several_makers_models_sites_and_implants(demo: Path) -> None:
    headers = [json.loads(sidecar_of(dcm).read_bytes()) for dcm in images(demo)]

    def values(tag: str) -> set[Any]:
        return {header[tag]["Value"][0] for header in headers}

    assert len(values("00080070")) >= 5
    assert len(values("00081090")) >= 6
    assert values("00281300") == {"YES", "NO"}
    assert {document["Site"] for _, document in documents(demo, "imagedb")} == {"adde", "jarv", "stge"}
    modifiers = {
        item["00080100"]["Value"][0]
        for header in headers
        for item in header["00540220"]["Value"][0]["00540222"].get("Value", [])
    }
    assert modifiers == {"R-102D5", "R-102D6", "R-102D7"}


# omidb ------------------------------------------------------------------------------------------------------


def test_omidb_reads_every_client_and_links_every_study(demo: Path, clients: list[Any]) -> None:
    assert len(clients) == CLIENTS
    shipped = {name: document["Classification"] for name, document in documents(demo, "nbss")}
    assert {client.id: client.status.name for client in clients} == shipped
    assert set(shipped.values()) == {"N", "B", "M", "CI"}
    linked = sum(len(episode.studies) for client in clients for episode in client.episodes)
    assert linked == len(list((demo / "images").glob("*/*")))


def test_every_outcome_occurs(clients: list[Any]) -> None:
    """All that ``omidb`` can return: no path of ``episode_outcome`` leads to ``InvalidCI``."""
    from omidb.classificationtools import EpisodeOutcome, UndefinedEpisodeOutcome, episode_outcome

    windows = {"num_months_ci_prior": 12, "num_months_cancer_prior": 39, "num_months_normal_follow_up": 33}
    found = Counter[Any]()
    for client in clients:
        for episode in client.episodes:
            for options in ({}, windows):
                try:
                    found[episode_outcome(episode, client.episodes, **options)[0]] += 1
                except ValueError:
                    found["unclassifiable"] += 1
    assert {*EpisodeOutcome, *UndefinedEpisodeOutcome} - set(found) == {UndefinedEpisodeOutcome.InvalidCI}
    assert found["unclassifiable"]


# Pixels -----------------------------------------------------------------------------------------------------


def _decoded(accidents: tuple[Path, list[Problem]]) -> Iterator[tuple[pydicom.Dataset, PixelFormat, Any]]:
    """Header, format and values of every image that can be decoded; the others are planted accidents."""
    directory, problems = accidents
    bad = {problem.file for problem in problems if problem.kind == "bad-dicom"}
    for place in images(directory):
        if not place.is_file() or str(place.relative_to(directory)) in bad:
            continue
        descriptor = os.open(place, os.O_RDONLY)
        try:
            source = read(descriptor)
            yield source.header, source.format, source.stored()
        except PixelError as error:
            if error.kind not in ("not a DICOM file", "no pixel data"):
                raise
        finally:
            os.close(descriptor)


def test_the_accidents_come_in_every_transfer_syntax_and_way_of_display(
    accidents: tuple[Path, list[Problem]],
) -> None:
    found = list(_decoded(accidents))
    syntaxes = Counter(form.TransferSyntaxUID for _, form, _ in found)
    assert set(syntaxes) == {
        *(uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian),
        *(uid.ExplicitVRBigEndian, uid.RLELossless, uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit),
        *(uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEGLSNearLossless),
        *(uid.JPEG2000Lossless, uid.JPEG2000),
    }
    headers = [header for header, _, _ in found]
    assert {header.get("VOILUTFunction", "none") for header in headers} >= {"SIGMOID", "LINEAR_EXACT", "none"}
    assert [header for header in headers if "VOILUTSequence" in header and "WindowCenter" in header]
    assert [header for header in headers if header.RescaleSlope != 1]
    assert [header for header in headers if "PixelPaddingRangeLimit" in header]
    shapes = {(form.PhotometricInterpretation, form.PresentationLUTShape) for _, form, _ in found}
    assert shapes >= {("MONOCHROME1", None), ("MONOCHROME1", "INVERSE"), ("MONOCHROME2", "IDENTITY")}
    assert {values.shape[0] for _, form, values in found if values.ndim == 3} == {3, 4, 5, 6}
    assert {values.dtype.kind for _, _, values in found} == {"u", "i"}
    hung = {
        (header.ImageLaterality, (header.PatientOrientation or " ")[0])
        for header in headers
        if "ImageLaterality" in header
    }
    assert hung >= {("L", "A"), ("L", "P"), ("L", " "), ("R", "A"), ("R", "P"), ("R", " ")}


@pytest.mark.parametrize(
    ("name", "syntax", "bits", "worst"),
    [
        ("baseline.jpg", uid.JPEGBaseline8Bit, 8, 16),
        ("extended.jpg", uid.JPEGExtended12Bit, 12, 16),
        ("lossless.jpg", uid.JPEGLosslessSV1, 12, 0),
        ("lossless.jls", uid.JPEGLSLossless, 12, 0),
        ("near.jls", uid.JPEGLSNearLossless, 12, 8),
        ("lossless.j2k", uid.JPEG2000Lossless, 12, 0),
        ("lossy.j2k", uid.JPEG2000, 12, 150),
    ],
)
def test_the_compressed_frames_are_the_phantom(name: str, syntax: str, bits: int, worst: int) -> None:
    form = PixelFormat(ROWS, COLUMNS, None, 1, 8 if bits == 8 else 16, bits, 0, "MONOCHROME2", None, syntax)
    values, _ = decoded(encapsulate([frame(name)]), form, False)
    assert np.abs(values[0].astype(int) - (phantom() >> 12 - bits)).max() <= worst
    assert len(frame(name)) < 6000


# Accidents --------------------------------------------------------------------------------------------------


def test_every_kind_of_accident_is_planted_and_written_down(accidents: tuple[Path, list[Problem]]) -> None:
    directory, problems = accidents
    # Five of these depend on the mount, not on the tree. Not every disk can hold the time of the last.
    beyond = {"tree-missing", "unreadable", "client-not-on-disk", "entry-missing", "entry-conflict", "odd-time"}
    beyond.add("bad-cohort")  # which depends on the configuration
    assert set(KINDS) - beyond == {problem.kind for problem in problems}
    lines = [json.loads(line) for line in (directory / "quirks.jsonl").read_text().splitlines()]
    assert lines == [{"file": p.file, "kind": p.kind, "detail": p.detail} for p in problems]
    assert {p.kind for p in problems if p.detail.startswith("deep:")} == {"bad-dicom", "header-mismatch"}


def _is_json_object(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return False


def test_accidents_are_as_listed(accidents: tuple[Path, list[Problem]]) -> None:
    directory, problems = accidents
    absent = {"dcm-missing", "sidecar-missing"}
    for problem in problems:
        place = directory / problem.file
        if problem.kind in ("nbss-missing", "imagedb-missing"):
            assert not list(place.glob(f"{problem.kind.split('-')[0]}_*"))
            continue
        assert os.path.lexists(place) == (problem.kind not in absent), problem
        if problem.kind == "symlink":
            assert place.is_symlink()
        elif problem.kind == "not-a-regular-file":
            assert not place.is_file()
        elif problem.kind == "bad-json":
            assert not _is_json_object(place)
        elif problem.kind == "bad-dicom":
            assert not pydicom.misc.is_dicom(place) or problem.detail == "cut off"
        elif problem.kind == "client-mismatch":
            assert json.loads(place.read_bytes())["ClientID"] != place.parent.name


def test_files_of_odd_clients_are_whole_unless_listed_as_bad(
    accidents: tuple[Path, list[Problem]],
) -> None:
    directory, problems = accidents
    bad = {problem.file for problem in problems}
    for path in (path for tree in ("images", "data") for path in (directory / tree).glob("*/*/*.*")):
        name = str(path.relative_to(directory))
        if name not in bad:
            assert _is_json_object(path) if path.suffix == ".json" else pydicom.misc.is_dicom(path)


def test_pairs_are_complete_unless_listed_as_broken(accidents: tuple[Path, list[Problem]]) -> None:
    directory, problems = accidents
    named = {(problem.file, problem.kind) for problem in problems}
    excused = {file for file, kind in named if kind in ("unexpected-entry", "not-a-regular-file", "symlink")}
    dcms = {path.relative_to(directory / "images").with_suffix("") for path in images(directory)}
    sidecars = {
        Path(str(path.relative_to(directory / "data")).removesuffix(".json").removesuffix(".dcm"))
        for path in (directory / "data").glob("*/*/*.json")
    }
    for pair in dcms - sidecars:
        assert (f"data/{pair}.json", "sidecar-missing") in named or f"images/{pair}.dcm" in excused
    for pair in sidecars - dcms:
        assert (f"images/{pair}.dcm", "dcm-missing") in named
