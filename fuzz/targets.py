"""The decoders of files that others wrote. Each has seeds, and a function that must raise no error."""

import contextlib
import errno
import functools
import json
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import h11
import trio

from omidbfs.base.errors import UserError
from omidbfs.base.names import LONGEST, printable, safe_bytes
from omidbfs.clinical.linking import all_links, match_studies, unique_links
from omidbfs.clinical.outcomes import Windows, client_status, episode_facts, outcomes, post_ops
from omidbfs.cohorts.cohort import Cohorts
from omidbfs.cohorts.named import NamedCohort
from omidbfs.cohorts.resolved import resolved
from omidbfs.database.dicom import read_dicom
from omidbfs.database.header import Header, JsonError, load_json
from omidbfs.database.imagedb import parse_imagedb
from omidbfs.database.layout import find_source
from omidbfs.database.nbss import parse_nbss
from omidbfs.database.pixel_format import format_of, geometry_of, orientation_of
from omidbfs.database.problems import KINDS, Reporter
from omidbfs.database.sidecar import decode_sidecar
from omidbfs.demo import generate
from omidbfs.facets import FACETS
from omidbfs.http.access import Door, names_of
from omidbfs.http.dav import wanted
from omidbfs.http.files import ranges
from omidbfs.http.messages import LONGEST_TARGET, RefusedError, parsed, quoted
from omidbfs.index.build import refreshed
from omidbfs.index.columns import Index
from omidbfs.index.sections import IndexFileError
from omidbfs.index.store import load, save
from omidbfs.pixels.decode import read
from omidbfs.pixels.errors import PixelError
from omidbfs.serving.configuration import read_config, read_definitions
from omidbfs.serving.session import read_clients
from omidbfs.view.inode import is_directory
from omidbfs.view.nodes import Directory
from omidbfs.view.ownership import drive_access
from omidbfs.view.view import View

CORPUS = Path(__file__).with_name("corpus")
_SOURCE = "fingerprint"
_EPISODES = parse_nbss(
    json.loads((CORPUS / "nbss" / "whole.json").read_bytes()), lambda kind, detail: None
).episodes


@dataclass(frozen=True, slots=True)
class Target:
    """A decoder: its seeds, their form (``json`` or ``bytes``), and the function that calls it."""

    seeds: list[bytes]
    form: str
    decode: Callable[[bytes], object]


def target(name: str, scratch: Path) -> Target:
    """Return a decoder by name. ``scratch`` is an empty directory for its files."""
    seeds = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
    return _TARGETS[name](seeds, scratch)


class _Reporter(Reporter):
    """Checks each problem, and keeps none."""

    def __call__(self, kind: str, detail: str) -> None:
        assert kind in KINDS
        assert len(detail) < 1000, "a problem is one line"
        printable(self.study + self.image + detail).encode()

    def of(self, study: str, image: str = "") -> Reporter:
        return _Reporter(self.file, self.problems, self.client, study, image)


_report = _Reporter("a file", [])


def _sidecar(content: bytes) -> None:
    try:
        header = decode_sidecar(content, _report)
    except JsonError:
        return
    _check(header)


def _check(header: Header) -> None:
    for field in Header.__struct_fields__:
        value = getattr(header, field)
        for text in value if isinstance(value, tuple) else (value,):
            is_number = isinstance(text, (int, float)) and math.isfinite(text)
            is_text = isinstance(text, str) and (text != "" or field == "PatientOrientation")
            assert text is None or is_number or is_text, field
    assert {len(header.PatientOrientation), len(header.ImagerPixelSpacing)} <= {0, 2}
    for entry in (format_of(header), geometry_of(header), orientation_of(header)):
        assert type(entry)(*json.loads(json.dumps(entry))) == entry


def _nbss(content: bytes) -> None:
    try:
        document = load_json(content)
    except JsonError:
        return
    facts = [episode_facts(episode) for episode in parse_nbss(document, _report).episodes]
    client_status(facts)
    outcomes(facts, Windows(12, 36, 36, 36))
    post_ops(facts)


def _imagedb(content: bytes) -> None:
    try:
        document = load_json(content)
    except JsonError:
        return
    studies = list(parse_imagedb(document, _report).studies.values())
    matches = match_studies(_EPISODES, studies, _report)
    unique_links(studies, matches, {})
    all_links(studies, matches)


def _dicom(content: bytes) -> None:
    descriptor = os.memfd_create("dicom")
    try:
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        _check(read_dicom(descriptor, _report))
    finally:
        os.close(descriptor)


def _component(view: View, content: bytes) -> None:
    node: Directory | int | None = view.root
    for name in content.split(b"/")[:8]:
        if not isinstance(node, Directory) or not name:
            break
        try:
            node = view.lookup(node, name)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            break
        if isinstance(node, Directory):
            assert is_directory(node.inode)
            for entry in view.listing(node).page(0, 3):
                assert view.lookup(node, entry.name) is not None, "a listed name is found"
    cohorts: Cohorts = view.cohorts
    name = content.rpartition(b"/")[2]
    assert len(safe_bytes(name) if name else b"") <= 200
    for facet in FACETS:
        cohorts.term(facet, os.fsdecode(name))


def _refused(read: Callable[[], object]) -> str:
    """Return the line of a refusal, an empty text if ``read`` succeeds."""
    try:
        read()
    except UserError as error:
        message = str(error)
    else:
        return ""
    assert message.isprintable(), "one line"
    return message


def _config(path: Path, options: dict[str, set[str]], index: Index, content: bytes) -> None:
    path.write_bytes(content)
    for reader in (functools.partial(read_config, options=options), read_definitions):
        refused = _refused(functools.partial(reader, path))
        assert not refused or refused.startswith(f"{path}:")
    if not _refused(functools.partial(read_definitions, path)):
        _cohorts(path, index, read_definitions(path).cohorts)


def _cohorts(path: Path, index: Index, definitions: Sequence[NamedCohort]) -> None:
    found = resolved(Cohorts(index), definitions)
    assert {*found.cohorts} | {*found.broken} == {one.name for one in definitions}
    assert all(
        str(mistake).startswith(f"{path}:") and str(mistake).isprintable() for mistake in found.broken.values()
    )
    cohorts = Cohorts(index, found.named)
    for cohort in found.cohorts.values():
        assert cohorts.rows(cohort).tolist() == [n for n in range(len(index)) if cohorts.contains(cohort, n)]


_DEFINED = (
    '[facets.density]\ncsv = "table.csv"',
    '[facets.density]\ncsv = "table.csv"\nkey = "study"\ncolumn = "density"\nbins = [1, 2.5]',
    '[cohorts.some]\nclients = "table.csv"',
    '[cohorts.some]\nimages = "table.csv"\ncolumn = "density"',
    '[cohorts.some]\nimages = "list.txt"',
)


def _table(path: Path, content: bytes) -> None:
    for name in ("table.csv", "list.txt"):
        path.with_name(name).write_bytes(content)
    for text in _DEFINED:
        path.write_text(text, encoding="ascii")
        refused = _refused(functools.partial(read_definitions, path))
        if refused:
            assert re.match(rf"{re.escape(str(path))}:[1-4]: ", refused)
            continue
        definitions = read_definitions(path)
        for facet in definitions.facets:
            assert facet.facet().definition
            for identifier, one in facet.table or ():
                assert identifier == identifier.strip()
                assert 0 < len(os.fsencode(facet.label(one))) <= LONGEST
        for cohort in definitions.cohorts:
            if cohort.broken is not None:
                assert re.match(rf"{re.escape(str(path))}:[1-4]: ", str(cohort.broken))
                continue
            assert cohort.include is not None
            assert all(name == name.strip() != "" for _, names in cohort.include.lists for name in names)


def _clients(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        for name in read_clients(path, "--clients-file"):
            assert name == name.strip() != ""
            printable(name).encode()


def _index(path: Path, content: bytes) -> None:
    for file in (content, _sealed(content)):
        path.write_bytes(file)
        with contextlib.suppress(IndexFileError):
            load(path, _SOURCE)


def _sealed(content: bytes) -> bytes:
    """Return an index with matching checksums, so that only the checks of its format can refuse it."""
    try:
        length = int.from_bytes(content[:8], "little")
        header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
        sums = {}
        for name, entry in header.items():
            if name != "__metadata__":
                first, end = entry["data_offsets"]
                sums[name] = crc32(data[first:end])
        header["__metadata__"] |= {"checksums": json.dumps(sums), "header": "........"}
        text = json.dumps(header, separators=(",", ":")).encode()
        text = text.replace(b"........", b"%08x" % crc32(text), 1)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return content
    return len(text).to_bytes(8, "little") + text + data


_OF_GDCM = ("1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
"""Transfer syntaxes that GDCM decodes. It ends its process on damaged JPEG; only one of its own may call it."""


def _pixels(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        source = read(descriptor)
        if source.place is not None:
            assert sum(source.place) <= len(content)
        if source.format.TransferSyntaxUID in _OF_GDCM:
            return
        values, form = source.stored(), source.format
        frames = (form.NumberOfFrames,) if (form.NumberOfFrames or 1) > 1 else ()
        samples = (3,) if form.SamplesPerPixel == 3 else ()
        assert values.shape == (*frames, form.Rows, form.Columns, *samples)
        assert values.dtype.itemsize * 8 == form.BitsAllocated
    except PixelError:
        pass
    finally:
        os.close(descriptor)


def _request(content: bytes) -> None:
    """A request of HTTP, as ``http.server`` reads it: only a refusal may end it."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_TARGET)
    connection.receive_data(content)
    connection.receive_data(b"")
    with contextlib.suppress(h11.RemoteProtocolError, RefusedError):
        event = connection.next_event()
        if not isinstance(event, h11.Request):
            return
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
        request = parsed(event.method.decode("ascii"), event.target, headers)
        assert quoted(request.names).isascii()
        door = Door(0, names_of("localhost"))
        with contextlib.suppress(RefusedError):
            door.check(request)
        with contextlib.suppress(RefusedError):
            trio.run(door.identity, request)
            raise AssertionError("nobody knows the token")
        for one in ranges(headers.get("range", ""), 100) or ():
            assert 0 <= one.start < one.stop <= 100
        while isinstance(body := connection.next_event(), h11.Data):
            wanted(bytes(body.data))


def _plain(decode: Callable[[bytes], object], form: str) -> Callable[[list[bytes], Path], Target]:
    return lambda seeds, scratch: Target(seeds, form, decode)


def _of_component(seeds: list[bytes], scratch: Path) -> Target:
    generate(scratch / "db", 2, seed=4, quirks=True)
    source = find_source(scratch / "db")
    view = View(refreshed(source), drive_access(source), {"README.txt": b"", "status.json": b""})
    return Target(seeds, "bytes", functools.partial(_component, view))


def _of_index(seeds: list[bytes], scratch: Path) -> Target:
    generate(scratch / "db", 1, seed=4)
    save(scratch / "whole", refreshed(find_source(scratch / "db")), _SOURCE)
    whole = (scratch / "whole").read_bytes()
    return Target([whole, *seeds], "bytes", functools.partial(_index, scratch / "index"))


def _of_config(seeds: list[bytes], scratch: Path) -> Target:
    from omidbfs.cli.main import main

    options: dict[str, set[str]] = {
        name: {parameter.name or "" for parameter in command.params} for name, command in main.commands.items()
    }
    generate(scratch / "db", 2, seed=4)
    index = refreshed(find_source(scratch / "db"))
    return Target(seeds, "bytes", functools.partial(_config, scratch / "omidbfs.toml", options, index))


def _of_clients(seeds: list[bytes], scratch: Path) -> Target:
    return Target(seeds, "bytes", functools.partial(_clients, scratch / "clients"))


def _of_table(seeds: list[bytes], scratch: Path) -> Target:
    return Target(seeds, "bytes", functools.partial(_table, scratch / "omidbfs.toml"))


def _of_pixels(seeds: list[bytes], scratch: Path) -> Target:
    return Target(seeds, "bytes", functools.partial(_pixels, scratch / "image.dcm"))


_TARGETS: dict[str, Callable[[list[bytes], Path], Target]] = {
    "sidecar": _plain(_sidecar, "json"),
    "nbss": _plain(_nbss, "json"),
    "imagedb": _plain(_imagedb, "json"),
    "dicom": _plain(_dicom, "bytes"),
    "pixels": _of_pixels,
    "component": _of_component,
    "index": _of_index,
    "config": _of_config,
    "clients": _of_clients,
    "table": _of_table,
    "request": _plain(_request, "bytes"),
}
NAMES: tuple[Any, ...] = tuple(_TARGETS)
