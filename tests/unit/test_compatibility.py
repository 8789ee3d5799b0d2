"""Indexes that earlier versions wrote: this version reads them, or refuses them clearly and makes a new one.

``indexes/`` has an index of one client of the demo for each format, and what ``omidbfs facets --json`` of the
version that wrote it printed. A new format needs a new pair of files (CONTRIBUTING.md). Old ones stay.
"""

import gzip
import json
import re
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from click.testing import CliRunner

from omidbfs.cli.main import main
from omidbfs.cohorts.cohort import EVERYTHING, Cohorts
from omidbfs.facets import BY_NAME
from omidbfs.index.sections import IndexFileError
from omidbfs.index.store import SCHEMA, load

KEPT = sorted(Path(__file__).with_name("indexes").glob("*.index.gz"))


def unpacked(kept: Path, directory: Path) -> tuple[Path, dict[str, Any]]:
    """The index as a file in a directory, and the metadata in its header."""
    path = directory / "old.index"
    path.write_bytes(gzip.decompress(kept.read_bytes()))
    content = path.read_bytes()
    return path, json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]


def relabel(path: Path, schema: str) -> None:
    """Make an index one of another format, with a header that is whole."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = content[8 : 8 + length].replace(f'"schema":"{SCHEMA}"'.encode(), f'"schema":"{schema}"'.encode())
    text = re.sub(rb'"header":"\w{8}"', b'"header":"........"', text)
    text = text.replace(b"........", b"%08x" % crc32(text))
    assert len(text) == length
    path.write_bytes(content[:8] + text + content[8 + length :])


def test_this_format_is_among_those_that_are_kept() -> None:
    assert f"format-{SCHEMA}.index.gz" in {kept.name for kept in KEPT}, "see CONTRIBUTING.md: the index format"


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.name)
def test_an_index_of_an_earlier_version_is_read_as_it_was_written_or_refused(kept: Path, tmp_path: Path) -> None:
    path, metadata = unpacked(kept, tmp_path)
    assert kept.name == f"format-{metadata['schema']}.index.gz"
    if metadata["schema"] != SCHEMA:
        with pytest.raises(IndexFileError, match=rf"of another version \(schema {metadata['schema']}\)"):
            load(path, metadata["source"])
        return
    index = load(path, metadata["source"]).index
    cohorts = Cohorts(index)
    for facet, counts in json.loads(kept.with_name(f"format-{SCHEMA}.json").read_text(encoding="utf-8")).items():
        assert dict(cohorts.counts(EVERYTHING, BY_NAME[facet])) == counts, facet


@pytest.mark.parametrize("schema", [SCHEMA, "0", "9"])
def test_an_index_that_cannot_be_used_is_made_anew_and_the_command_says_why(
    schema: str, demo_database: Path, tmp_path: Path
) -> None:
    path, _ = unpacked(next(kept for kept in KEPT if kept.name == f"format-{SCHEMA}.index.gz"), tmp_path)
    relabel(path, schema)
    reason = "of another source" if schema == SCHEMA else f"of another version (schema {schema})"
    for said in (f"omidbfs: {path}: {reason}; building it anew\n", ""):  # once, then it is there
        done = CliRunner().invoke(main, ["count", str(demo_database), "--index", str(path), "--of", "clients"])
        assert (done.exit_code, done.stdout, done.stderr) == (0, "25\n", said)
