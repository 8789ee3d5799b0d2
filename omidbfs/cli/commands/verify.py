"""``omidbfs verify``: compares a manifest with the cohort as it is now. The command line uses it, in the main
thread.
"""

import json as json_module
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs.base.errors import UserError
from omidbfs.base.names import printable
from omidbfs.base.words import counted
from omidbfs.cli.command import command
from omidbfs.cli.options import PATH, index_options, session_of
from omidbfs.cli.selection import directory_at, json_option, selected_by, view_and_age

if TYPE_CHECKING:
    from omidbfs.exports.manifest import ClientDigest

_LARGEST = 256 << 20
"""Bytes of the largest manifest that is read: one of 4 million clients."""
_NAMED = 20
"""The most clients that are named on a terminal."""
_WINDOWS = ("ci_prior", "cancer_prior", "normal_follow_up", "benign_follow_up")
_SKIPPED = ("made", "files.clients", "files.clients_without_times")

Json = dict[str, Any]


@command(example="omidbfs verify db manifest.json")
@index_options
@click.argument("manifest", type=PATH)
@click.option("--clients-file", type=PATH, metavar="FILE", help="Use only the clients in this list or .csv file.")
@json_option
def verify(source: Path, manifest: Path, json: bool, **options: Any) -> None:
    """Compare MANIFEST, a manifest.json of a cohort, with the cohort as it is now.

    The windows and --link-all are those of MANIFEST. The definition is compared with the current configuration.
    The exit status is 1 if definition, counts or files differ.
    """
    then = _read(manifest)
    windows = {f"num_months_{name}": then["cohort"]["options"].get(f"num_months_{name}") for name in _WINDOWS}
    link_all = bool(then["cohort"]["options"].get("link_all"))
    session = session_of(source, {**options, **windows, "link_all": link_all, "facets": None})
    view, _ = view_and_age(session, {"verify_first": True})
    path = then["cohort"]["path"]
    try:
        selected_by(view, path)
    except UserError as error:
        raise UserError(f"the cohort is not there any more: {error.what}", error.remedy, path) from None
    from omidbfs.exports.manifest import Identities, differences, manifest_of

    chosen = view.selection(directory_at(view, path))
    identities = Identities(chosen.cohorts, chosen.cohort)
    digests: list[ClientDigest] = list(identities)
    now = manifest_of(chosen, identities)
    found = [one for one in differences(then, now) if not one[0].startswith(_SKIPPED)]
    files = _files(then["files"], digests)
    if json:
        told = [{"what": what, "then": one, "now": other} for what, one, other in found]
        click.echo(json_module.dumps({"same": not found, "differences": told, "clients": files}, indent=2))
    else:
        for line in _lines(then, now, found, files):
            click.echo(printable(line))
    click.get_current_context().exit(1 if found else 0)


def _read(path: Path) -> Json:
    """Return the content of a manifest."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        found = json_module.loads(content) if len(content) <= _LARGEST else None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", place=path) from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not _is_manifest(found):
        raise UserError("is no manifest of omidbfs", "make one with omidbfs export --format manifest", path)
    if found["manifest"] != 1:
        raise UserError("is a manifest of a newer version of omidbfs", "install that version", path)
    return found


def _is_manifest(found: Json) -> bool:
    if not isinstance(found.get("manifest"), int):
        return False
    parts = [found.get(name) for name in ("made", "cohort", "counts", "files")]
    if not all(isinstance(part, dict) for part in parts):
        return False
    cohort, files = found["cohort"], found["files"]
    windows = cohort.get("options")
    return (
        isinstance(cohort.get("path"), str)
        and isinstance(windows, dict)
        and all(isinstance(windows.get(f"num_months_{name}"), int | None) for name in _WINDOWS)
        and all(_are_texts(files.get(name)) for name in ("clients", "clients_without_times"))
    )


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _files(then: Json, now: "Sequence[ClientDigest]") -> Json:
    """Return the clients whose files differ, and how many clients of the manifest are gone or have other files.

    The manifest names no client. So a client whose digest it lacks may be new or have other files.
    """
    left = Counter[str](then["clients"])
    left_without = Counter[str](then["clients_without_times"])
    other: list[str] = []
    other_times: list[str] = []
    for one in now:
        is_same, has_same_sizes = left[one.with_times] > 0, left_without[one.without_times] > 0
        left[one.with_times] -= is_same
        left_without[one.without_times] -= has_same_sizes
        if not has_same_sizes:
            other.append(one.client)
        elif not is_same:
            other_times.append(one.client)
    return {"added_or_changed": other, "other_times": other_times, "removed_or_changed": left_without.total()}


def _lines(
    then: Json, now: Json, found: Sequence[tuple[str, object, object]], files: Mapping[str, Any]
) -> Iterator[str]:
    counts = then["counts"]
    said = ", ".join(f"{counts.get(unit)} {unit}" for unit in ("clients", "studies", "images"))
    yield f"{then['cohort']['path']}: {said}"
    for what, one, other in found:
        if not what.startswith("files.sha256"):
            yield f"{what}: was {_short(one)}, is {_short(other)}"
    digests = {what for what, *_ in found if what.startswith("files.sha256")}
    if "files.sha256_without_times" in digests:
        yield f"files: of {counted(files['removed_or_changed'], 'client')} removed or changed"
        yield from _named("files: added or changed", files["added_or_changed"])
    if digests:
        yield from _named("files: the same names and sizes, with other times", files["other_times"])
    for key in now["made"]:
        one, other = then["made"].get(key), now["made"][key]
        if one != other:
            yield f"note: {key} was {_short(one)}, is {_short(other)}"
    yield "differs" if found else "the same"


def _named(what: str, clients: Sequence[str]) -> Iterator[str]:
    if clients:
        more = f" and {len(clients) - _NAMED:,} more" if len(clients) > _NAMED else ""
        yield f"{what}: {counted(len(clients), 'client')}: {', '.join(clients[:_NAMED])}{more}"


def _short(value: object) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else json_module.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
