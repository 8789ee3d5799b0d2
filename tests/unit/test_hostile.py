"""Hostile content of a database: bombs, traps, and text with terminal control characters."""

import errno
import io
import json
import os
import socket
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_view import GENERATED, view_of
from trees import MARK, Tree

from omidbfs.base.errors import UserError
from omidbfs.base.names import printable
from omidbfs.cli.main import main
from omidbfs.database import dicom
from omidbfs.database.dicom import MAX_DICOM, read_dicom
from omidbfs.database.header import MAX_DOCUMENT, JsonError, load_json
from omidbfs.database.layout import find_source
from omidbfs.database.permissions import TreeReader
from omidbfs.database.problems import Problem, Reporter
from omidbfs.index.build import refreshed
from omidbfs.index.columns import Index
from omidbfs.serving.configuration import read_config
from omidbfs.view.nodes import Directory
from omidbfs.view.root import root_of
from omidbfs.view.view import View

HOSTILE = (
    "..",
    "../../../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "nul\0nul",
    "x" * 300,
    "é" * 300,
    "\x1b]0;owned\x07\x1b[31mred",
    "\u009b31m",
    "\u202egnp.exe\u2066",
    "line\nbreak\r\ttab",
    "\u2028\u2029\x85",
    "\ud800\udfff",
    "-rf",
    "--help",
    "$(reboot)`reboot`;reboot|",
    "*?[a-z]{a,b}~",
    "not-unknown",
    "by-view",
    "as-png",
    "unknown,other",
    "=cmd|' /C calc'!A0",
    " ",
    ".",
    ".hidden",
)
ON_DISK = [name.encode("utf-8", "surrogateescape") for name in HOSTILE if not {"/", "\0", "\ud800"} & set(name)]
ON_DISK = [*(name for name in ON_DISK if name not in (b".", b"..") and len(name) < 240), b"\xff\xfe\x80", b"\xc3("]


def checked(root: Path, index: Path) -> list[dict[str, str]]:
    """Return the problems of a database, found by a process that may have a gigabyte."""
    program = """
import resource, sys
from omidbfs.cli.main import main
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
main(sys.argv[1:])
"""
    arguments = ["check", str(root), "--workers", "1", "--index", str(index), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


# Values ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database in which every text field and most names are hostile."""
    tree = Tree(tmp_path_factory.mktemp("hostile") / "db")
    for number, text in enumerate(HOSTILE):
        client = tree.client(f"demd{number}", site=text, classification=text)
        client.episode(text, "M", EpisodeType=text, EpisodeAction=text, ActualEpisodeOpenedYear=text)
        study = client.study(f"1.{number}", text, text)
        study.image(
            f"1.{number}.1",
            marks={text: MARK["1"] | {"Conspicuity": text, "LinkedNBSSLesionNumber": text}},
            Manufacturer=text,
            ManufacturerModelName=text,
            PatientAge=text,
            PresentationIntentType=text,
            ViewPosition=text,
            ViewCode=text,
            ViewModifiers=(text,),
            ImageLaterality=text,
            BreastImplantPresent=text,
        )
    client = tree.client("optm1")
    for number, name in enumerate(ON_DISK):
        (tree.images / os.fsdecode(name)).mkdir()
        study = client.study(os.fsdecode(name) if not name.startswith(b".") else f"2.{number}")
        study.image(os.fsdecode(name) if not name.startswith(b".") else f"2.{number}.1")
    return tree.root


@pytest.fixture(scope="module")
def index(hostile: Path) -> Index:
    """Its index."""
    return refreshed(find_source(hostile))


def names(view: View, directory: Directory, depth: int = 6) -> set[bytes]:
    """Return every name that is listed at any depth."""
    found = set()
    listing = view.listing(directory)
    for entry in listing.page(0, listing.length):
        found.add(entry.name)
        inner = view.lookup(directory, entry.name)
        assert inner is not None, "a listed name is found"
        if isinstance(inner, Directory) and depth:
            found |= names(view, inner, depth - 1)
    return found


def test_with_any_values_a_name_is_plain_ascii_and_one_component(hostile: Path) -> None:
    view = view_of(hostile)
    found = names(view, view.root)
    assert len(found) > 100
    for name in found:
        assert 0 < len(name) <= 255
        assert name not in (b".", b"..")
        assert all(32 < byte < 127 and byte not in b"/\\*?[]{}$`'\"|;&<>" for byte in name), name
        assert not name.startswith(b"-")


def test_texts_of_the_drive_have_no_control_characters(hostile: Path, index: Index) -> None:
    from omidbfs.index.classification import Classification
    from omidbfs.view.about import generated_texts

    texts = generated_texts(root_of(index), ("/\x1b[31m", "/\u202e"), Classification(), {})
    assert set(texts) == set(GENERATED)
    for name, text in texts.items():
        for line in text.decode().splitlines():
            assert line.isprintable(), name
    problems = [json.loads(line) for line in texts["problems.jsonl"].splitlines()]
    assert all(value.isprintable() for problem in problems for value in problem.values())


@pytest.mark.parametrize(
    "command",
    [
        ["ls", "all"],
        ["ls", "by-client/optm1"],
        ["ls", "by-model", "--json"],
        ["check"],
        ["check", "--json"],
        ["facets"],
        ["facets", "--json"],
        ["describe", "\x1b[31m\u202e"],
        ["count", "by-model/not-\x1b[31m"],
        ["ls", "by-model/\x1b[31m\u202e"],
    ],
)
def test_output_of_commands_has_no_control_characters(hostile: Path, tmp_path: Path, command: list[str]) -> None:
    arguments = [command[0], str(hostile), *command[1:], "--index", str(tmp_path / "index"), "--workers", "1"]
    done = CliRunner().invoke(main, arguments)
    assert done.output
    assert "defect" not in done.output
    for line in done.output.split("\n"):
        assert line.isprintable(), line


def test_a_quoted_key_of_the_configuration_has_no_control_characters(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('"\\u001b[31m\\u202e" = 1\n')
    done = CliRunner().invoke(main, ["--config", str(tmp_path / "bad.toml"), "check", str(tmp_path)])
    assert done.exit_code == 1
    assert "\\x1b[31m\\u202e is no option of any command" in done.output
    assert done.output.strip().isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢", "plain é 漢"),
        ("a\nb", "a\\nb"),
        ("\x1b[0m", "\\x1b[0m"),
        ("\u009b", "\\x9b"),
        ("\u202e", "\\u202e"),
        ("\udcff", "\\udcff"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_does_not_print_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


# Bombs -------------------------------------------------------------------------------------------------------

BOMBS: dict[str, Callable[[int], bytes]] = {
    "deep lists": lambda size: b"[" * size,
    "deep objects": lambda size: b'{"a":' * (size // 5),
    "deep, and for the tolerant decoder": lambda size: b'{"a":NaN,"b":' + b"[" * size,
    "digits": lambda size: b'{"1":{"ActualEpisodeOpenedYear":' + b"1" * size + b"}}",
    "digits in a text": lambda size: b'{"1":{"ActualEpisodeOpenedYear":"' + b"1" * size + b'"}}',
    "an exponent": lambda size: b'{"1":{"ActualEpisodeOpenedYear":1e' + b"9" * size + b"}}",
    "blanks": lambda size: b" " * size,
    "a text": lambda size: b'{"Classification":"' + b"x" * size + b'"}',
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_read_or_refused(bomb: str) -> None:
    from omidbfs.database.nbss import parse_nbss

    for size in (100_000, 8 << 20):
        try:
            document = load_json(BOMBS[bomb](size))
        except JsonError:
            continue
        problems: list[Problem] = []
        parse_nbss(document, Reporter("it", problems))
        assert all(len(problem.detail) < 300 for problem in problems)


def test_a_json_of_100_mb_hides_nothing_and_fills_no_memory(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "db")
    tree.client("demd1").study().image("1.1.1").client("demd2").study("2").image("2.1")
    for path in (tree.data / "demd1/nbss_demd1.json", tree.data / "demd1/1.1/1.1.1.json"):
        with path.open("wb") as stream:
            stream.write(b'{"a":[' + b"[]," * (100_000_000 // 3) + b"[]]}")
    (tree.data / "demd2/2/2.1.json").write_bytes(b'{"00185101":1,"a":[' + b"[]," * (MAX_DOCUMENT // 3) + b"[]]}")
    found = checked(tree.root, tmp_path / "index")
    details = {(problem["file"], problem["kind"]): problem["detail"] for problem in found}
    assert details["data/demd1/nbss_demd1.json", "unreadable"] == "File too large"
    assert details["data/demd1/1.1/1.1.1.json", "unreadable"] == "File too large"
    assert details["data/demd2/2/2.1.json", "bad-json"] == "larger than 16 MB"
    view = view_of(tree.root)
    assert {b"1.1.1.json", b"2.1.json"} <= names(view, view.root)


def silent(kind: str, detail: str) -> None:
    """Report nothing."""


def in_file(content: bytes) -> int:
    """Return a descriptor of a file with this content."""
    descriptor = os.memfd_create("dicom")
    os.write(descriptor, content)
    return descriptor


def test_a_deflated_header_is_inflated_so_far_and_no_farther() -> None:
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.ViewPosition = "MLO"
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    whole = stream.getvalue()
    end = 144 + int.from_bytes(whole[140:144], "little")
    meta, plain = whole[:end], zlib.decompress(whole[end:], -zlib.MAX_WBITS)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = deflate.compress(plain) + deflate.compress(b"\xe0\x7f\x10\x00OB\0\0" + (1 << 31).to_bytes(4, "little"))
    for _ in range(16):
        bomb += deflate.compress(bytes(16 << 20))  # a thousand times the size of the file
    bomb += deflate.flush()
    assert len(bomb) < 2 << 20
    tracemalloc.start()
    try:
        descriptor = in_file(meta + bomb)
        assert read_dicom(descriptor, silent).ViewPosition == "MLO"
        os.close(descriptor)
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_DICOM
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("length", [0xFFFFFFF0, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("tag", [b"\x08\x00\x70\x00UT", b"\x09\x00\x01\x10UN", b"\x09\x00\x01\x10OB"])
def test_an_element_of_any_length_in_a_file_of_any_size_is_refused_soon(
    tag: bytes, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom, "MAX_DICOM", 4 << 20)  # to read 64 MB of empty elements takes seconds
    meta = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0"
    content = bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little") + meta
    modality = b"\x08\x00\x60\x00CS\x02\x00MG"
    descriptor = in_file(content + modality + tag + b"\0\0" + length.to_bytes(4, "little"))
    os.ftruncate(descriptor, 1 << 40)  # a sparse terabyte: millions of empty elements
    problems: list[tuple[str, str]] = []
    header = read_dicom(descriptor, lambda *problem: problems.append(problem))
    assert (header.Modality, header.Manufacturer) == ("MG", None)
    assert [kind for kind, _ in problems] == ["bad-dicom"]
    assert problems[0][1].endswith("are used")
    os.close(descriptor)


@pytest.mark.parametrize("tag", [b"\x54\x00\x20\x02", b"\x08\x00\x90\x10", b"\x18\x00\x01\x51"])
@pytest.mark.parametrize("vr", [b"XX", b"B\0"])
def test_an_empty_element_of_an_unknown_representation_is_no_value(tag: bytes, vr: bytes) -> None:
    meta = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0"
    content = bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little") + meta
    modality = b"\x08\x00\x60\x00CS\x02\x00MG"
    descriptor = in_file(content + modality + tag + vr + b"\0\0")
    header = read_dicom(descriptor, silent)
    assert (header.Modality, header.ViewCode, header.ManufacturerModelName) == ("MG", None, None)
    os.close(descriptor)


def test_toml_that_is_nested_without_end_is_an_error_in_one_line(tmp_path: Path) -> None:
    for text in ("a = " + "[" * 100_000, "a = " + "{b = " * 20_000, "[" + "a." * 10_000 + "a]"):
        (tmp_path / "deep.toml").write_text(text)
        with pytest.raises(UserError, match=r"^[^\n]{1,500}$"):
            read_config(tmp_path / "deep.toml", {"mount": set()})


# Trees -------------------------------------------------------------------------------------------------------


def test_anything_in_the_place_of_files_and_directories_is_passed_by(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "db")
    study = tree.client("demd1").study("1").image("1.1", dcm=b"pixels")
    (study.images / "loop").symlink_to(".")
    (study.images / "loop.dcm").symlink_to("loop.dcm")
    (tree.images / "demd2").symlink_to("../images")
    (tree.images / "demd3").symlink_to("/")
    (tree.data / "demd4").symlink_to("demd4")
    os.mkfifo(study.images / "fifo.dcm")
    os.mkfifo(study.data / "fifo.json")
    os.mkfifo(tree.images / "demd5")
    with socket.socket(socket.AF_UNIX) as listener:
        descriptor = os.open(study.images, os.O_PATH)
        listener.bind(f"/proc/self/fd/{descriptor}/socket.dcm")
        os.close(descriptor)
    os.link(study.images / "1.1.dcm", study.images / "hard.dcm")
    deep = study.images / "deep"
    for _ in range(300):
        deep.mkdir()
        deep /= "d"
    view = view_of(tree.root)
    study_directory = view.resolve(b"by-client/demd1/1")
    assert study_directory is not None
    assert names(view, study_directory) == {b"1.1.dcm", b"1.1.json", b"hard.dcm"}
    assert view.lookup(study_directory, b"1.1.dcm") != view.lookup(study_directory, b"hard.dcm")
    kinds = {problem.file.rpartition("/")[2]: problem.kind for problem in view.index.problems}
    for name in ("loop.dcm", "demd2", "demd3", "demd4"):
        assert kinds[name] == "symlink", name
    for name in ("fifo.dcm", "fifo.json", "socket.dcm"):
        assert kinds[name] == "not-a-regular-file", name
    assert kinds["deep"] == "unexpected-entry"
    assert not [name for name in names(view, view.root) if b"passwd" in name or name == b"etc"]


def test_no_race_between_a_directory_and_a_link_leads_out_of_the_tree(tmp_path: Path) -> None:
    for place, content in (("tree/study", b"inside"), ("outside", b"outside")):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "image.dcm").write_bytes(content)
    study, aside, link = tmp_path / "tree/study", tmp_path / "aside", tmp_path / "link"
    link.symlink_to(tmp_path / "outside")
    over = threading.Event()

    def exchange() -> None:
        while not over.is_set():
            study.rename(aside)
            link.rename(study)
            study.rename(link)
            aside.rename(study)

    reader = TreeReader(str(tmp_path / "tree"))
    thread = threading.Thread(target=exchange)
    thread.start()
    met = set()
    try:
        for _ in range(20_000):
            try:
                descriptor = reader.open(b"study/image.dcm")
            except OSError as error:
                met.add(error.errno)
                continue
            content = os.read(descriptor, 100)
            os.close(descriptor)
            assert content == b"inside"
            met.add(0)
    finally:
        over.set()
        thread.join()
        reader.close()
    assert 0 in met
    assert met <= {0, errno.ENOENT, errno.ELOOP}
