"""Facets and cohorts that the user defines: in the configuration, in an index, on a drive."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from trees import Tree, sidecar

from omidbfs.base.errors import UserError
from omidbfs.base.names import slug
from omidbfs.cohorts.cohort import EVERYTHING, Cohorts
from omidbfs.cohorts.resolved import resolved
from omidbfs.database.client import ClientReader
from omidbfs.database.layout import Source, find_source
from omidbfs.database.problems import OF_LISTS
from omidbfs.facets import Level
from omidbfs.index import build
from omidbfs.index.build import refreshed, with_facets
from omidbfs.index.columns import Index
from omidbfs.index.executors import Work, executor_for
from omidbfs.index.levels import levels_of
from omidbfs.index.saved import source_fingerprint
from omidbfs.index.slices import only_clients
from omidbfs.index.store import load, save
from omidbfs.serving.configuration import Definitions, read_definitions

KVP = "00180060"


def defined(place: Path, text: str) -> Definitions:
    (place / "omidbfs.toml").write_text(text, encoding="utf-8")
    return read_definitions(place / "omidbfs.toml")


def counts(index: Index, facet: str) -> dict[str, int]:
    """Return the values of a facet as listed, in their order."""
    return dict(Cohorts(index).counts(EVERYTHING, index.registry.by_name[facet]))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Two clients. KVP is a number, text, nonsense or missing. A sidecar is cut off, a study has no episode."""
    tree = Tree(tmp_path / "db")
    screening = {"left_opinion": "ON", "L": {"DateTaken": "2012-05-01", "EquipmentMakeModel": "LORAD SELENIA"}}
    client = tree.client("demd1").episode("1", SCREENING=screening)
    study = client.study("1.1", "1")
    for number, value in enumerate((28, "31.5", "low", 32.0, -1)):
        header = {**sidecar(ViewPosition="CC"), KVP: {"vr": "DS", "Value": [value]}}
        if number < 2:
            types = (["ORIGINAL", "PRIMARY", "TOMO_PROJ"], ["DERIVED", "PRIMARY", ""])[number]
            header["00080008"] = {"vr": "CS", "Value": types}
        study.image(f"1.1.{number}", header=header)
    study.image("1.1.5", header=b"{", dcm=b"no DICOM")
    other = tree.client("demd2").episode("9", SCREENING={"L": {"EquipmentMakeModel": ["a", "list"]}})
    other.study("2.1", "9").image("2.1.0", ViewCode="R-10242").study("2.2", None, None).image("2.2.0")
    return tree


@pytest.fixture
def source(tree: Tree) -> Source:
    return find_source(tree.root)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the NBSS files and sidecars that facets of the user read."""
    names: list[str] = []
    document, content = ClientReader.document, ClientReader.content

    def counted_document(self: ClientReader, client: str, name: str) -> dict[str, object]:
        names.append(name)
        return document(self, client, name)

    def counted_content(self: ClientReader, client: str, study: str, name: str) -> bytes:
        names.append(name)
        return content(self, client, study, name)

    monkeypatch.setattr(ClientReader, "document", counted_document)
    monkeypatch.setattr(ClientReader, "content", counted_content)
    return names


# Definitions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (
            '[facets.kvp]\ntag = "KVP"',
            {"_minus_1": 1, "28": 1, "31.5": 1, "32": 1, "low": 1, "unknown": 3},
        ),
        (
            '[facets.kvp]\ntag = "0018,0060"\nbins = [0, 30, 32]',
            {"below-0": 1, "0-30": 1, "30-32": 1, "from-32": 1, "unknown": 3, "other": 1},
        ),
        (
            '[facets.kvp]\ntag = "(0018,0060)"\n'
            'map = { "28" = "low", "32" = "A high one", "31.5" = "Mid", "none" = "x" }',
            {"low": 1, "a-high-one": 1, "Mid": 1, "unknown": 3, "other": 2},
        ),
        ('[facets.code]\ntag = "ViewCodeSequence.CodeValue"', {"r-10242": 1, "unknown": 7}),
        ('[facets.type-3]\ntag = "ImageType[3]"', {"tomo-proj": 1, "unknown": 7}),
        ('[facets.type-3]\ntag = "0008,0008[1]"', {"derived": 1, "original": 1, "unknown": 6}),
        ('[facets.second]\ntag = "(0054,0220)[2].CodeValue"', {"unknown": 8}),
        (
            '[facets.unit]\nnbss = "SCREENING.L.EquipmentMakeModel"',
            {"lorad-selenia": 6, "other": 1, "unlinked": 1},
        ),
        ('[facets.person]\nnbss = "ClientID"\nlevel = "client"', {"demd1": 6, "demd2": 2}),
    ],
)
def test_a_facet_is_what_its_definition_finds(
    tmp_path: Path, source: Source, text: str, values: dict[str, int]
) -> None:
    facets = defined(tmp_path, text).facets
    index = refreshed(source, user_facets=facets)
    assert counts(index, facets[0].name) == values
    assert sum(values.values()) == len(index)


def test_opposite_texts_are_two_values_and_none_is_a_reserved_word(tmp_path: Path, source: Source) -> None:
    texts = ["ER+", "ER-", "Unknown", "unknown", "not seen", "<50", "≥50"]
    rows = "".join(f"1.1.{number},{text}\n" for number, text in enumerate(texts[:5])) + "2.1.0,<50\n2.2.0,≥50\n"
    (tmp_path / "t.csv").write_text(f"image,text\n{rows}", encoding="utf-8")
    index = refreshed(source, user_facets=defined(tmp_path, '[facets.mine]\ncsv = "t.csv"').facets)
    names = {
        "er+": 1,
        "er_minus_": 1,
        "_unknown": 2,
        "_not-seen": 1,
        "_less_50": 1,
        "_at-least_50": 1,
        "unknown": 1,
    }
    assert counts(index, "mine") == names
    cohorts = Cohorts(index)
    for text in texts:  # S17: the raw text is found, too; of a reserved word not
        term = cohorts.term(index.registry.by_name["mine"], text)
        assert term is not None
        label = cohorts.label(index.registry.by_name["mine"], *term.codes)
        assert label == ("unknown" if text == "unknown" else slug(text))


def test_values_are_listed_in_the_order_of_bins_and_of_a_map(tmp_path: Path, source: Source) -> None:
    binned = defined(tmp_path, '[facets.kvp]\ntag = "KVP"\nbins = [9, 30]').facets
    assert list(counts(refreshed(source, user_facets=binned), "kvp"))[:3] == ["below-9", "9-30", "from-30"]
    days = defined(tmp_path, '[facets.day]\ntag = "StudyDate"\nbins = [20200101, 20200401, 20200701]').facets[0]
    assert days.ordered() == ["below-20200101", "20200101-20200401", "20200401-20200701", "from-20200701"]
    assert days.label("20200401") == "20200401-20200701"
    mapped = defined(tmp_path, '[facets.kvp]\ntag = "KVP"\nmap = { "32" = "z", "28" = "a" }').facets
    index = refreshed(source, user_facets=mapped)
    assert list(counts(index, "kvp"))[:2] == ["z", "a"]
    for part in (index, only_clients(index, ["demd1"], [], source)):
        cohorts, facet = Cohorts(part), index.registry.by_name["kvp"]
        assert cohorts.term(facet, "32") == cohorts.term(facet, "z") is not None, "S17"
        assert cohorts.term(facet, "33") is None


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("client,density\ndemd1,B\ndemd7,C\n", {"b": 6, "unknown": 2}),
        ("density,StudyInstanceUID\nB,2.1\nC,2.2\nD,\n", {"b": 1, "c": 1, "unknown": 6}),
        ("SOPInstanceUID,density\n1.1.0,A\n1.1.1,\n", {"a": 1, "unknown": 7}),
    ],
)
def test_a_table_gives_values_to_clients_studies_or_images(
    tmp_path: Path, source: Source, table: str, values: dict[str, int]
) -> None:
    (tmp_path / "density.csv").write_text(table)
    facets = defined(tmp_path, '[facets.density]\ncsv = "density.csv"').facets
    assert counts(refreshed(source, user_facets=facets), "density") == values


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("client", {"a": 6, "unknown": 2}),
        ("ClientID", {"a": 6, "unknown": 2}),
        ("SOPInstanceUID", {"a": 1, "unknown": 7}),
    ],
)
def test_the_key_decides_between_columns_that_name_something(
    tmp_path: Path, source: Source, key: str, values: dict[str, int]
) -> None:
    (tmp_path / "t.csv").write_text("client,SOPInstanceUID,density,,\ndemd1,1.1.0,A,,\n")
    facets = defined(tmp_path, f'[facets.density]\ncsv = "t.csv"\nkey = "{key}"').facets
    assert counts(refreshed(source, user_facets=facets), "density") == values


ROWS = """image,density
1.1.0.dcm,A
 1.1.1.json ,A
1.1.2.dcm.json,A
1.1.3,B
1.1.3.dcm,C
1.1.4,b
1.1.4.json,B

1.1.5,
9.9,A
9.9.dcm,
9.9,A
,A
"""


def test_a_row_of_a_table_is_understood_or_a_problem(tmp_path: Path, source: Source) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + ROWS.replace("\n", "\r\n").encode())
    facets = defined(tmp_path, '[facets.mine]\ncsv = "t.csv"').facets
    index = refreshed(source, user_facets=facets)
    assert counts(index, "mine") == {"a": 3, "b": 1, "unknown": 3, "other": 1}
    lost = [(one.file, one.kind, one.detail) for one in index.problems if one.kind in OF_LISTS]
    assert lost == [
        ("(blank)", "entry-missing", "in the table of the facet mine"),
        ("1.1.3", "entry-conflict", "in the table of the facet mine: b, c"),
        ("9.9", "entry-missing", "in the table of the facet mine"),
    ]
    assert refreshed(source, index, user_facets=facets) is index, "these problems are no change of the source"
    (tmp_path / "t.csv").write_text("image,density\n1.1.0,A\n")
    mended = refreshed(source, index, user_facets=read_definitions(tmp_path / "omidbfs.toml").facets)
    assert {*mended.problems} == {one for one in index.problems if one.kind not in OF_LISTS}
    assert only_clients(index, ["demd2"], [], source).problems[:1] == index.problems[:1]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ('[facets.view]\ntag = "KVP"', 1, "there is a facet view already"),
        ('[facets.by-kvp]\ntag = "KVP"', 1, "the drive would call it by-by-kvp; write [facets.kvp]"),
        ('x = 1\n[facets.Kvp]\ntag = "KVP"', 2, "a name has lower-case letters"),
        ("\n\n[facets.kvp]", 3, "needs exactly one of tag, nbss and csv"),
        ('[facets.kvp]\ntag = "KVP"\nnbss = "A"', 1, "needs exactly one of"),
        ('[facets.kvp]\ntag = "Kvpp"', 2, "neither a DICOM keyword nor a tag like 0018,0060; did you mean KVP?"),
        ('[facets.kvp]\ntag = "KVP[0]"', 2, "neither a DICOM keyword nor a tag"),
        (
            '[facets.kvp]\ntag = "KVP"\nbin = [1]',
            3,
            "bin is not understood beside tag; bins, description, map are; did you mean bins?",
        ),
        ('[facets.kvp]\ntag = "KVP"\nbins = [2, 1]', 3, "bins have to ascend"),
        ('[facets.kvp]\ntag = "KVP"\nbins = ["1"]', 3, "bins is a list of numbers"),
        ('[facets.kvp]\ntag = "KVP"\nbins = [inf]', 3, "bins is a list of numbers"),
        (f'[facets.kvp]\ntag = "KVP"\nbins = [1{"0" * 400}]', 3, "between -1e+300 and 1e+300"),
        ('[facets.kvp]\ntag = "KVP"\nbins = [1, 1.00000000000000001]', 3, "bins have to ascend"),
        (f'[facets.{"k" * 201}]\ntag = "KVP"', 1, "200 at most"),
        ('[facets.kvp]\ncsv = "a\\u0000b"', 2, r"a\x00b is no table in UTF-8: embedded null byte"),
        ('[facets."k\\nvp"]\ntag = "KVP"', 1, "a name has lower-case letters"),
        ('[facets.kvp]\ntag = "KVP"\nbins = [1]\nmap = { a = "b" }', 4, "exclude each other"),
        ('[facets.kvp]\ntag = "KVP"\nmap = { a = 1 }', 3, "map is a table of texts"),
        ("[facets.kvp]\ntag = 5", 2, "tag has to be text"),
        ('[facets.kvp]\nnbss = "A..B"', 2, "nbss is a path of keys"),
        ('[facets.kvp]\nnbss = "A"\nlevel = "image"', 3, "level is episode or client"),
        ('[facets.kvp]\ncsv = "none.csv"', 2, "none.csv cannot be read: No such file"),
        ('[facets.kvp]\ncsv = "two.csv"', 2, "column: name one of a, b"),
        ('[facets.kvp]\ncsv = "two.csv"\ncolumn = "c"', 3, "has no column c"),
        ('[facets.kvp]\ncsv = "two.csv"\ncolumn = "a"\nkey = "study"', 4, "the table has no such column"),
        ('[facets.kvp]\ncsv = "keyless.csv"', 2, "has no column client, study or image"),
        ('[facets.kvp]\nnbss = "A"\nlevel = "episod"', 3, "did you mean episode?"),
        ('[facets.kvp]\ncsv = "two.csv"\n# more\ncolumn = "bb"', 4, "has no column bb"),
        ('[facets.kvp]\ncsv = "keys.csv"', 2, "key: name one of client, SOPInstanceUID: each has identifiers"),
        ('[facets.kvp]\ncsv = "keys.csv"\nkey = "study"', 3, "the table has no such column"),
        ('[facets.kvp]\ncsv = "keys.csv"\nkey = "clint"', 3, "has no such column; did you mean client?"),
        ('[facets.kvp]\ncsv = "same.csv"', 2, "key: name one of client, ClientID: each has identifiers"),
        ('[facets.kvp]\ncsv = "twice.csv"', 2, "twice.csv has two columns a"),
        ('[facets.kvp]\ncsv = "long.csv"', 2, "long.csv: line 3 has more cells than the header"),
        ('[facets.kvp]\ncsv = "binary.csv"', 2, "is no table in UTF-8"),
    ],
)
def test_a_wrong_definition_is_refused_with_file_line_and_reason(
    tmp_path: Path, text: str, line: int, reason: str
) -> None:
    (tmp_path / "two.csv").write_text("client,a,b\ndemd1,1,2\n")
    (tmp_path / "keyless.csv").write_text("a,b\n1,2\n")
    (tmp_path / "keys.csv").write_text("client,SOPInstanceUID,a\n")
    (tmp_path / "same.csv").write_text("client,ClientID,a\n")
    (tmp_path / "twice.csv").write_text("client,a,a\n")
    (tmp_path / "long.csv").write_text("client,maker\ndemd1,GE,,\ndemd2,HOLOGIC, Inc.\n")
    (tmp_path / "binary.csv").write_bytes(b"client,a\n\xff,1\n")
    with pytest.raises(UserError) as caught:
        defined(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'omidbfs.toml'}:{line}: [facets.")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


# In an index ------------------------------------------------------------------------------------------------


def test_facets_are_kept_with_the_index(tmp_path: Path, source: Source) -> None:
    facets = defined(tmp_path, '[facets.kvp]\ntag = "KVP"\nbins = [30]\n[facets.person]\nnbss = "ClientID"').facets
    index = refreshed(source, user_facets=facets)
    save(tmp_path / "index", index, source_fingerprint(source))
    kept = load(tmp_path / "index", source_fingerprint(source)).index
    assert counts(kept, "kvp") == counts(index, "kvp")
    assert kept.registry.user == tuple(one.facet() for one in facets)
    assert refreshed(source, kept, user_facets=facets) is kept


def test_a_definition_that_changes_re_reads_only_what_it_needs(
    tmp_path: Path, source: Source, read: list[str]
) -> None:
    kvp, unit = '[facets.kvp]\ntag = "KVP"\n', '[facets.unit]\nnbss = "SCREENING.L.EquipmentMakeModel"\n'
    index = refreshed(source, user_facets=defined(tmp_path, kvp).facets)
    assert sum(name.endswith(".json") for name in read) == 8
    read.clear()
    both = refreshed(source, index, user_facets=defined(tmp_path, kvp + unit).facets)
    assert sorted(read) == ["nbss_demd1.json", "nbss_demd2.json"]
    read.clear()
    (tmp_path / "density.csv").write_text("client,density\ndemd1,B\n")
    with_table = defined(tmp_path, kvp + unit + '[facets.density]\ncsv = "density.csv"\n').facets
    three = refreshed(source, both, user_facets=with_table)
    assert read == []
    assert [counts(three, name) for name in ("kvp", "unit")] == [counts(both, name) for name in ("kvp", "unit")]
    (tmp_path / "density.csv").write_text("client,density\ndemd1,C\n")
    assert counts(
        refreshed(source, three, user_facets=read_definitions(tmp_path / "omidbfs.toml").facets), "density"
    ) == {
        "c": 6,
        "unknown": 2,
    }
    assert read == []
    without = refreshed(source, three)
    assert (read, without.registry.user) == ([], ())


def test_a_refresh_reads_only_changed_clients_for_facets_that_stay(
    tmp_path: Path, tree: Tree, source: Source, read: list[str]
) -> None:
    facets = defined(tmp_path, '[facets.kvp]\ntag = "KVP"').facets
    index = refreshed(source, user_facets=facets)
    read.clear()
    header = {KVP: {"vr": "DS", "Value": [40]}}
    (tree.data / "demd2" / "2.1" / "2.1.0.json").write_text(json.dumps(header))
    tree.client("demd0").study("0.1").image("0.1.0", header=header)
    after = refreshed(source, index, user_facets=facets)
    assert sorted(read) == ["0.1.0.json", "2.1.0.json", "2.2.0.json"]
    assert counts(after, "kvp") == counts(refreshed(source, user_facets=facets), "kvp")
    assert counts(after, "kvp")["40"] == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_every_executor_gives_the_same_facets(
    tmp_path: Path, source: Source, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "CLIENTS_PER_CHUNK", 1)
    facets = defined(tmp_path, '[facets.kvp]\ntag = "KVP"').facets
    with executor_for("local", workers) as executor:
        told: list[tuple[object, ...]] = []
        work = Work(executor, workers, lambda *numbers: told.append(numbers))
        index = with_facets(refreshed(source), source, facets, work)
    assert counts(index, "kvp") == counts(refreshed(source, user_facets=facets), "kvp")
    assert told[-1] == ("reading facets of", 2, 2, 0)


def test_part_of_an_index_has_its_facets(tmp_path: Path, source: Source, read: list[str]) -> None:
    index = refreshed(source, user_facets=defined(tmp_path, '[facets.kvp]\ntag = "KVP"').facets)
    read.clear()
    part = only_clients(index, ["demd2"], [], source)
    assert counts(part, "kvp") == {"unknown": 2}
    assert read == []


def test_a_dicom_header_is_read_without_a_sidecar(tmp_path: Path, demo_database: Path) -> None:
    text = '[facets.kvp]\ntag = "KVP"\n[facets.meaning]\ntag = "ViewCodeSequence.CodeMeaning"'
    facets = defined(tmp_path, text).facets
    images = find_source(None, demo_database / "images", _empty(tmp_path))
    whole = refreshed(find_source(demo_database), user_facets=facets)
    alone = refreshed(images, user_facets=facets)
    for name in ("kvp", "meaning"):
        assert counts(alone, name) == counts(whole, name)
        assert len(counts(alone, name)) > 2


def _empty(place: Path) -> Path:
    (place / "empty").mkdir()
    return place / "empty"


# Named cohorts ----------------------------------------------------------------------------------------------


@pytest.fixture
def cohort(tmp_path: Path, source: Source) -> Callable[[str], tuple[list[str], list[str]]]:
    """The images of the cohort ``it`` of a configuration, and the names that it lists without a match."""
    index = refreshed(source)

    def images(text: str) -> tuple[list[str], list[str]]:
        found = resolved(Cohorts(index), defined(tmp_path, text).cohorts)
        if found.broken:
            assert [problem.detail for problem in found.problems] == list(map(str, found.broken.values()))
            raise UserError(str(found.broken["it"] if "it" in found.broken else found.broken["a/b"]))
        assert {problem.kind for problem in found.problems} <= {"entry-missing"}
        cohorts, it = Cohorts(index, found.named), found.cohorts["it"]
        rows = cohorts.rows(it)
        assert [row for row in range(len(index)) if cohorts.contains(it, row)] == rows.tolist()
        return [name.decode() for name in index.images.take(rows)], [problem.file for problem in found.problems]

    return images


ALL = ["1.1.0", "1.1.1", "1.1.2", "1.1.3", "1.1.4", "1.1.5", "2.1.0", "2.2.0"]


@pytest.mark.parametrize(
    ("text", "images", "missing"),
    [
        ('path = "by-client/demd2"', ALL[6:], []),
        ('path = "all"', ALL, []),
        ('path = "by-view/CC/by-client/demd1"', ALL[:5], []),
        ('path = "by-site/nowhere"', [], ["by-site/nowhere"]),
        ('clients = "clients.txt"', ALL[6:], ["demd9"]),
        ('studies = "studies.csv"', ALL[7:], []),
        ('images = "images.csv"\ncolumn = "uid"', ["1.1.0", "2.1.0"], ["7.7"]),
        ('clients = "clients.txt"\npath = "by-view/CC"', ["2.1.0"], ["demd9"]),
        ('path = "by-view/CC"\nexclude = { images = "images.csv", column = "uid" }', ALL[1:5], ["7.7"]),
        ('exclude = "by-client/demd1"', ALL[6:], []),
        ('path = "by-client/demd1"\nexclude = "by-view/CC"', ["1.1.5"], []),
        ('path = "by-episode/demd2~9"', ["2.1.0"], []),
        ('path = "by-episode/unlinked"', ["2.2.0"], []),
    ],
)
def test_a_cohort_is_a_path_lists_or_both_without_its_exclusions(
    tmp_path: Path,
    cohort: Callable[[str], tuple[list[str], list[str]]],
    text: str,
    images: list[str],
    missing: list[str],
) -> None:
    (tmp_path / "clients.txt").write_text("\ufeffdemd2\n\n demd9 \n", encoding="utf-8")
    (tmp_path / "studies.csv").write_text("x,StudyInstanceUID\n1,2.2\n2,\n")
    (tmp_path / "images.csv").write_text("\ufeffuid \n1.1.0\n2.1.0.dcm\n2.1.0.dcm.json\n7.7\n")
    assert cohort(f"[cohorts.it]\n{text}") == (images, missing)


def test_one_line_counts_the_rest_of_many_missing_names(tmp_path: Path, source: Source) -> None:
    names = [f"demd{number}" for number in range(1, 1004)]  # two of them are there
    (tmp_path / "t.csv").write_text("client,density\n" + "".join(f"{name},A\n" for name in names))
    (tmp_path / "l.txt").write_text("\n".join(names))
    found = defined(tmp_path, '[facets.mine]\ncsv = "t.csv"\n[cohorts.it]\nclients = "l.txt"')
    index = refreshed(source, user_facets=found.facets)
    for problems in (
        [one for one in index.problems if one.kind in OF_LISTS],
        resolved(Cohorts(index), found.cohorts).problems,
    ):
        assert len(problems) == 1001
        (more,) = (problem for problem in problems if problem.file == "(more)")
        assert more.detail.endswith(": 1 more")


def test_a_list_names_images_as_the_source_and_the_drive_do(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "db")
    tree.client("demd1").study("1").image("7").image("odd name").image("x.dcm", dcm=None).study("2").image("8")
    tree.client("demd2").study("3").image("7").image("8")
    index = refreshed(find_source(tree.root))

    levels = levels_of(index)

    def places(name: str) -> list[str]:
        return [index.image_path(row, 1).decode() for row in levels[Level.IMAGE].named(name)]

    assert places("7") == places("7.dcm.json") == places("7.json.dcm") == ["demd1/1/7.json", "demd2/3/7.json"]
    assert places("7~demd2~3") == places("7~demd2~3.dcm") == ["demd2/3/7.json"]
    assert places("odd name.json") == places("odd%20name.dcm") == ["demd1/1/odd name.json"]
    assert places("x.dcm.json") == places("x.dcm") == ["demd1/1/x.dcm.json"]
    assert places("7~demd3~3") == places("77") == places("~") == places(".dcm") == places("") == []
    assert [levels[Level.CLIENT].named(name) for name in ("demd2", "demd2.json")] == [[1], []]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("[cohorts.it]", 1, "needs a path or a list"),
        ('[cohorts.it]\ncolumn = "x"', 1, "needs a path or a list"),
        ('[cohorts.it]\npath = "all"\nexclude = { column = "x" }', 3, "needs a path or a list"),
        ('[cohorts.it]\npath = "all"\n\n[cohorts.it.exclude]', 4, "needs a path or a list"),
        ("cohorts = 5", 1, "[cohorts.]: cohorts is a table of tables"),
        ('[cohorts."a/b"]\npath = "all"', 1, "a name has letters"),
        ("[cohorts]\nit = 5", 2, "is not a table"),
        ('[cohorts.it]\npaths = "all"', 2, "paths is not understood"),
        ('[cohorts.it]\nimage = "x"', 2, "include and exclude are; did you mean images?"),
        ('[cohorts.it]\npath = "all"\n[cohorts.it.exclude]\nclient = "x"', 4, "did you mean clients?"),
        ("[cohorts.it]\npath = 5", 2, "path has to be text"),
        (
            '[cohorts.it]\npath = "all"\nexclude = 5',
            3,
            "exclude is a path, a list of names of cohorts, or a table",
        ),
        ('[cohorts.it]\nclients = "none.txt"', 2, "none.txt cannot be read: No such file"),
        ('[cohorts.it]\nclients = "binary.txt"', 2, "binary.txt is no list in UTF-8"),
        ('[cohorts.it]\nclients = "columns.csv"', 2, "has no column client or ClientID; rename a column"),
        ('[cohorts.it]\npath = "by-view"', 2, "by-view has a facet without a value"),
        ('[cohorts.it]\npath = "views"', 2, "path: there is no views; did you mean by-view or by-standard-views?"),
        ('[cohorts.it]\npath = "by-vew/CC"', 2, "there is no by-vew; did you mean by-view?"),
        ('[cohorts.it]\npath = "view/CC"', 2, "there is no view; did you mean by-view?"),
        ('[cohorts.it]\npath = "by-view/C"', 2, "C is no value of by-view"),
        ('[cohorts.it]\npath = "by-fold/10"', 2, "10 is no value of by-fold; numbers are 0 to 9"),
        ('[cohorts.it]\npath = "all"\nexclude = "by-view/C"', 3, "C is no value of by-view"),
        ('[cohorts.it]\npath = "by-file-type/dcm"', 2, "by-file-type narrows files"),
        ('[cohorts.it]\npath = "as-png"', 2, "as-png shows renditions, but a cohort has images"),
        ('[cohorts.it]\npath = "by-view/CC/as-png/by-age/50"', 2, "as-png shows renditions, but a cohort"),
    ],
)
def test_a_wrong_cohort_is_refused_with_file_line_and_reason(
    tmp_path: Path, cohort: Callable[[str], object], text: str, line: int, reason: str
) -> None:
    (tmp_path / "binary.txt").write_bytes(b"\xff\n")
    (tmp_path / "columns.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError) as caught:
        cohort(text)
    assert str(caught.value).startswith(f"{tmp_path / 'omidbfs.toml'}:{line}: [cohorts.")
    assert reason in str(caught.value)


def test_options_of_the_command_facets_are_no_definitions(tmp_path: Path) -> None:
    assert defined(tmp_path, "[facets]\njson = true\n") == Definitions()
    assert read_definitions(None) == Definitions()


def test_tokens_of_several_definitions_do_not_mix(tmp_path: Path, source: Source) -> None:
    text = "".join(f'[facets.kvp-{number}]\ntag = "KVP"\nbins = [{number}]\n' for number in (20, 30))
    index = refreshed(source, user_facets=defined(tmp_path, text).facets)
    assert Counter(counts(index, "kvp-20")) != Counter(counts(index, "kvp-30"))


def test_an_unclosed_quote_is_refused_because_it_would_swallow_rows(tmp_path: Path) -> None:
    (tmp_path / "density.csv").write_text('client,density\none,"1\ntwo,2\nthree,3\n')
    config = tmp_path / "omidbfs.toml"
    config.write_text('[facets.density]\ncsv = "density.csv"')
    with pytest.raises(UserError, match="unexpected end of data"):
        read_definitions(config)


def test_a_facet_may_have_the_name_of_a_level(tmp_path: Path, source: Source) -> None:
    """Its paths do not interfere with lists of images, or with the table of the level."""
    names = ("image", "mark", "lesion", "file")
    text = "".join(f'[facets.{name}]\ntag = "KVP"\n' for name in names)
    index = refreshed(source, user_facets=defined(tmp_path, text).facets)
    cohorts = Cohorts(index)
    for name in names:
        facet = index.registry.by_name[name]
        for value, images in cohorts.counts(EVERYTHING, facet):
            term = cohorts.term(facet, value)
            assert term is not None
            chosen = EVERYTHING.narrowed(term)
            assert len(cohorts.rows(chosen)) == images
            assert sum(cohorts.contains(chosen, row) for row in range(len(index))) == images
