"""Errors of real databases. Each function makes one kind of error, in a client of its own.

It yields every problem that a reader has to report for it (:data:`~omidbfs.database.problems.KINDS`). ``generate``
and the tests use the functions.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omidbfs.database.problems import Problem
from omidbfs.demo.odd_headers import HEADER_QUIRKS
from omidbfs.demo.subject import Make, Subject, edited, last_episode, listed

STRANGER = "1.2.826.0.1.3680043.9.3218.1.1.10000001.1000.1480000000000"
"""The stem of UIDs that no client has."""


def strays_in_the_trees(root: Path) -> Iterator[Problem]:
    """Leave entries that are not clients in both trees; the content of a foreign directory is no problem."""
    (root / "images" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    yield Problem("images/Thumbs.db", "unexpected-entry", "not a client directory")
    (root / "data" / "notes.txt").write_text("copied on Tuesday\n")
    yield Problem("data/notes.txt", "unexpected-entry", "not a client directory")
    (root / "data" / "optm_tmp").mkdir()
    (root / "data" / "optm_tmp" / "nbss_optm_tmp.json").write_text("{}")
    yield Problem("data/optm_tmp", "unexpected-entry", "not a client directory")


def strays_in_a_client(make: Make) -> Iterator[Problem]:
    """Leave notes beside studies and images, and files of each kind in the tree of the other."""
    c = make()
    study, uid = c.first, c.first.images[0].uid
    for place in (
        c.data / "readme.txt",
        c.images / "readme.txt",
        c.data / study.uid / "notes.txt",
        c.images / study.uid / "Thumbs.db",
        c.images / study.uid / f"{uid}.json",
        c.data / study.uid / f"{uid}.dcm",
    ):
        place.write_text("{}")
        yield c.problem(place, "unexpected-entry", "does not belong here")


def no_regular_file(make: Make) -> Iterator[Problem]:
    """Put a directory and a FIFO where DICOM files belong."""
    c = make()
    place = c.dcm(c.first, f"{STRANGER}.1.0")
    place.mkdir()
    yield c.problem(place, "not-a-regular-file", "a directory")
    place = c.dcm(c.second, f"{STRANGER}.2.0")
    os.mkfifo(place)
    yield c.problem(place, "not-a-regular-file", "a FIFO")


def link_out_of_the_source(make: Make) -> Iterator[Problem]:
    """Put a symbolic link to a file outside the source where a DICOM file belongs."""
    c = make()
    place = c.dcm(c.first, f"{STRANGER}.3.0")
    place.symlink_to("/etc/hostname")
    yield c.problem(place, "symlink", "leads out of the source")


def two_sidecars(make: Make) -> Iterator[Problem]:
    """Keep the sidecar of one image under both spellings of its name."""
    c = make()
    sidecar = c.sidecar(c.first, c.first.images[0])
    place = sidecar.with_suffix(".dcm.json")
    shutil.copy(sidecar, place)
    yield c.problem(place, "duplicate-file", "<image>.json is used")


def two_documents(make: Make) -> Iterator[Problem]:
    """Keep NBSS and ImageDB in upper and in lower case."""
    c = make()
    for document in (c.nbss, c.imagedb):
        prefix, _, rest = document.name.partition("_")
        place = document.with_name(f"{prefix.upper()}_{rest}")
        shutil.copy(document, place)
        yield c.problem(place, "duplicate-file", "the lower-case one is used")


def _copy(source: Subject, target: Subject, place: Any, number: int) -> str:
    """Copy the first image of ``source`` into the study ``place`` of ``target``, and list it there."""
    image = source.first.images[number]
    shutil.copy(source.dcm(source.first, image), target.dcm(place, image))
    shutil.copy(source.sidecar(source.first, image), target.sidecar(place, image))
    with listed(target, place) as study:
        study[place.images[0].series][image.uid] = None
    return image.uid


def uid_in_two_studies(make: Make) -> Iterator[Problem]:
    """Copy an image of one study into another."""
    c = make()
    uid = _copy(c, c, c.second, 0)
    for study in (c.first, c.second):
        yield c.problem(c.sidecar(study, uid), "duplicate-uid", "in two studies")


def uid_in_two_clients(make: Make) -> Iterator[Problem]:
    """Copy an image of one client to another, without its sidecar."""
    c, other = make(), make()
    uid = _copy(c, other, other.second, 1)
    other.sidecar(other.second, uid).unlink()
    yield c.problem(c.sidecar(c.first, uid), "duplicate-uid", "in two clients")
    yield other.problem(other.dcm(other.second, uid), "duplicate-uid", "in two clients")
    yield other.problem(other.sidecar(other.second, uid), "sidecar-missing", "")


def nbss_missing(make: Make) -> Iterator[Problem]:
    """Delete NBSS."""
    c = make()
    c.nbss.unlink()
    yield c.problem(c.data, "nbss-missing", "")


def imagedb_missing(make: Make) -> Iterator[Problem]:
    """Delete ImageDB, so that the expected images are unknown."""
    c = make()
    c.imagedb.unlink()
    yield c.problem(c.data, "imagedb-missing", "")


def data_missing(make: Make) -> Iterator[Problem]:
    """Keep a client in images/ only."""
    c = make()
    shutil.rmtree(c.data)
    yield c.problem(c.data, "nbss-missing", "")
    yield c.problem(c.data, "imagedb-missing", "")
    for study in c.client.studies:
        for image in study.images:
            yield c.problem(c.sidecar(study, image), "sidecar-missing", "")


def images_missing(make: Make) -> Iterator[Problem]:
    """Keep a client in data/ only."""
    c = make()
    shutil.rmtree(c.images)
    for study in c.client.studies:
        for image in study.images:
            yield c.problem(c.dcm(study, image), "dcm-missing", "")


def halves_missing(make: Make) -> Iterator[Problem]:
    """Delete the sidecar of one image and the DICOM file of another."""
    c = make()
    place = c.dcm(c.first, c.first.images[0])
    place.unlink()
    yield c.problem(place, "dcm-missing", "")
    place = c.sidecar(c.second, c.second.images[0])
    place.unlink()
    yield c.problem(place, "sidecar-missing", "")


def _spoil(place: Path) -> Iterator[str]:
    """Replace a good JSON file by three bad ones in turn, and yield what is wrong with each."""
    content = place.read_bytes()
    for bad, why in ((b"", "empty"), (content[: len(content) // 2], "cut off"), (b"[1, 2]", "not an object")):
        place.write_bytes(bad)
        yield why


def bad_documents(make: Make) -> Iterator[Problem]:
    """Write NBSS and ImageDB empty, cut off, or as a list: one client each."""
    for document in ("nbss", "imagedb"):
        for times in range(1, 4):
            c = make()
            place: Path = getattr(c, document)
            *_, why = (why for why, _ in zip(_spoil(place), range(times), strict=False))
            yield c.problem(place, "bad-json", why)


def bad_sidecars(make: Make) -> Iterator[Problem]:
    """Write sidecars empty, cut off, or as a list, so that the DICOM headers count."""
    c = make()
    for times, image in enumerate(c.first.images[:3], start=1):
        place = c.sidecar(c.first, image)
        *_, why = (why for why, _ in zip(_spoil(place), range(times), strict=False))
        yield c.problem(place, "bad-json", why)


def bad_dicom(make: Make) -> Iterator[Problem]:
    """Damage DICOM files without a sidecar, with a bad one and with a good one; empty another."""
    c = make()
    bare, doubtful, empty, hidden = c.first.images[:4]
    for image in (bare, doubtful, hidden):
        c.dcm(c.first, image).write_bytes(bytes(2048))
    c.sidecar(c.first, bare).unlink()
    yield c.problem(c.sidecar(c.first, bare), "sidecar-missing", "")
    yield c.problem(c.dcm(c.first, bare), "bad-dicom", "no header, and no sidecar")
    c.sidecar(c.first, doubtful).write_bytes(b'{"00080')
    yield c.problem(c.sidecar(c.first, doubtful), "bad-json", "cut off")
    yield c.problem(c.dcm(c.first, doubtful), "bad-dicom", "no header, and a bad sidecar")
    c.dcm(c.first, empty).write_bytes(b"")
    yield c.problem(c.dcm(c.first, empty), "bad-dicom", "empty file")
    yield c.problem(c.dcm(c.first, hidden), "bad-dicom", "deep: no header, but a good sidecar")


def wrong_clients(make: Make) -> Iterator[Problem]:
    """Name another client in NBSS, or in ImageDB."""
    for document in ("nbss", "imagedb"):
        c = make()
        place: Path = getattr(c, document)
        with edited(place) as content:
            content["ClientID"] = "demd1"
        yield c.problem(place, "client-mismatch", "ClientID demd1")


def odd_date(make: Make) -> Iterator[Problem]:
    """Give a study an invalid date, which counts as absent."""
    c = make()
    with listed(c, c.first) as study:
        study["StudyDate"] = "someday"
    yield c.problem(c.imagedb, "odd-value", "StudyDate 'someday'")
    yield c.problem(c.imagedb, "study-date-missing", "as it cannot be read")
    yield c.problem(c.imagedb, "study-list-conflict", "so it is not linked")


def odd_year(make: Make) -> Iterator[Problem]:
    """Give an episode an invalid year."""
    c = make()
    with last_episode(c) as episode:
        episode["ActualEpisodeOpenedYear"] = "20x2"
    yield c.problem(c.nbss, "odd-value", "ActualEpisodeOpenedYear '20x2'")


def odd_event(make: Make) -> Iterator[Problem]:
    """Replace an event by a remark."""
    c = make()
    with last_episode(c) as episode:
        episode["ASSESSMENT"] = "see notes"
    yield c.problem(c.nbss, "odd-value", "ASSESSMENT 'see notes'")


def unknown_code(make: Make) -> Iterator[Problem]:
    """Give an episode a type that NBSS does not have."""
    c = make()
    with last_episode(c) as episode:
        episode["EpisodeType"] = "Zebra"
    yield c.problem(c.nbss, "unknown-code", "EpisodeType 'Zebra'")


def bad_marks(make: Make) -> Iterator[Problem]:
    """Add two marks to an image, one with an invalid corner and one without MarkID."""
    c = make()
    image = c.first.images[0]
    box: dict[str, Any] = {"MarkID": 1, "X1": "10", "Y1": "10", "X2": "14", "Y2": "14", "Mass": 1}
    with listed(c, c.first) as study:
        unnumbered = {key: value for key, value in box.items() if key != "MarkID"}
        study[image.series][image.uid] = {"1": box | {"X1": "abc"}, "2": unnumbered}
    yield c.problem(c.imagedb, "bad-mark", "X1 'abc'")
    yield c.problem(c.imagedb, "bad-mark", "no MarkID")


def odd_boxes(make: Make) -> Iterator[Problem]:
    """Add a mark without area, one outside its image and one mostly outside its image."""
    c = make()
    image = c.first.images[0]
    boxes = (("10", "10", "10", "40"), ("90000", "10", "90040", "40"), ("-60", "10", "40", "40"))
    with listed(c, c.first) as study:
        study[image.series][image.uid] = {
            str(number): {"MarkID": number, **dict(zip(("X1", "Y1", "X2", "Y2"), box, strict=True)), "Mass": 1}
            for number, box in enumerate(boxes, 1)
        }
    for number in range(1, len(boxes) + 1):
        yield c.problem(c.sidecar(c.first, image), "odd-box", f"mark {number}")


def view_conflict(make: Make) -> Iterator[Problem]:
    """Write MLO into the ViewPosition of a CC view, and keep its code."""
    c = make()
    image = next(image for image in c.first.images if image.view == "CC")
    place = c.sidecar(c.first, image)
    with edited(place) as header:
        header["00185101"]["Value"] = ["MLO"]
    yield c.problem(place, "view-conflict", "MLO, R-10242")


def study_date_missing(make: Make) -> Iterator[Problem]:
    """Delete the date of a study."""
    c = make()
    with listed(c, c.first) as study:
        study["StudyDate"] = None
    yield c.problem(c.imagedb, "study-date-missing", c.first.uid)
    yield c.problem(c.imagedb, "study-list-conflict", "so it is not linked")


def episode_id_missing(make: Make) -> Iterator[Problem]:
    """Remove the EpisodeID of two studies: null in one, no key in the other."""
    c = make()
    with listed(c, c.first) as study:
        study["EpisodeID"] = None
    with listed(c, c.second) as study:
        del study["EpisodeID"]
    yield c.problem(c.imagedb, "episode-id-missing", c.first.uid)
    yield c.problem(c.imagedb, "episode-id-missing", c.second.uid)


def episode_id_unknown(make: Make) -> Iterator[Problem]:
    """Name an episode that NBSS does not have."""
    c = make()
    with listed(c, c.first) as study:
        study["EpisodeID"] = "9999999"
    yield c.problem(c.imagedb, "episode-id-unknown", "9999999")


def study_list_conflict(make: Make) -> Iterator[Problem]:
    """List a study in StudyList of another episode than its own."""
    c = make()
    with last_episode(c) as episode:
        episode["StudyList"] += f", {c.first.uid}"
    with edited(c.nbss) as nbss:
        nbss[c.client.history.episodes[0].id]["StudyList"] = ""
    yield c.problem(c.imagedb, "study-list-conflict", c.first.uid)


def study_not_in_imagedb(make: Make) -> Iterator[Problem]:
    """Delete a study from ImageDB."""
    c = make()
    with edited(c.imagedb) as imagedb:
        del imagedb["STUDIES"][c.first.uid]
    yield c.problem(c.data / c.first.uid, "study-not-in-imagedb", "")


def study_not_on_disk(make: Make) -> Iterator[Problem]:
    """Delete all files of a study; its images are no further problems."""
    c = make()
    shutil.rmtree(c.data / c.first.uid)
    shutil.rmtree(c.images / c.first.uid)
    yield c.problem(c.imagedb, "study-not-on-disk", c.first.uid)


def image_not_in_imagedb(make: Make) -> Iterator[Problem]:
    """Delete two images from ImageDB, and the sidecar of one of them."""
    c = make()
    whole, half = c.first.images[:2]
    with listed(c, c.first) as study:
        for image in (whole, half):
            del study[image.series][image.uid]
    yield c.problem(c.sidecar(c.first, whole), "image-not-in-imagedb", "")
    c.sidecar(c.first, half).unlink()
    yield c.problem(c.sidecar(c.first, half), "sidecar-missing", "")
    yield c.problem(c.dcm(c.first, half), "image-not-in-imagedb", "")


def image_not_on_disk(make: Make) -> Iterator[Problem]:
    """Delete both files of an image."""
    c = make()
    image = c.first.images[0]
    c.dcm(c.first, image).unlink()
    c.sidecar(c.first, image).unlink()
    yield c.problem(c.imagedb, "image-not-on-disk", image.uid)


QUIRKS = (
    strays_in_a_client,
    no_regular_file,
    link_out_of_the_source,
    two_sidecars,
    two_documents,
    uid_in_two_studies,
    uid_in_two_clients,
    nbss_missing,
    imagedb_missing,
    data_missing,
    images_missing,
    halves_missing,
    bad_documents,
    bad_sidecars,
    bad_dicom,
    wrong_clients,
    odd_date,
    odd_year,
    odd_event,
    unknown_code,
    bad_marks,
    odd_boxes,
    view_conflict,
    study_date_missing,
    episode_id_missing,
    episode_id_unknown,
    study_not_in_imagedb,
    study_not_on_disk,
    image_not_in_imagedb,
    image_not_on_disk,
    *HEADER_QUIRKS,
    study_list_conflict,
)
"""All errors in clients; :func:`strays_in_the_trees` makes those outside clients."""
