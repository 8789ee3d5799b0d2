"""What a server shows over HTTP and WebDAV is what the plain model says, for programs of others, too."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from programs import EARLY, needs
from programs import found as program
from reference import File, Place, Reference
from servers import DAV, Server, Servers, eventually
from trees import Quirky, Tree

COHORT = "by-outcome/malignant"


def first_image(server: Server, path: str = COHORT) -> str:
    return next(name for name in server.listed(path) if name.endswith(".dcm"))


def source_of(database: Path, name: str) -> bytes:
    (path,) = database.glob(f"*/*/*/{name}")
    return path.read_bytes()


def test_a_server_needs_nothing_of_fuse() -> None:
    script = "import sys, omidbfs.http.daemon, omidbfs.fuse.control; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "omidbfs.http.pages" in done.stdout.split()
    assert "pyfuse3" not in done.stdout.split()


@pytest.mark.unmeasured
def test_what_is_served_is_what_the_model_says(session_servers: Servers, quirky_database: Quirky) -> None:
    server, model = session_servers(quirky_database.path), Reference(quirky_database.path)

    def is_entered(path: str) -> bool:
        """All clients and all images, each facet, and one value of twelve: the walk of a mount has them all."""
        return path.count("/") != 1 or path.startswith("by-client/") or zlib.crc32(path.encode()) % 12 == 0

    def walk(place: Place, path: str = "") -> Iterator[tuple[str, Place | File | str]]:
        for name, node in model.children(place).items():
            below = f"{path}/{name}" if path else name
            yield below, node
            if isinstance(node, Place) and is_entered(below):
                yield from walk(node, below)

    expected, tags = dict(walk(model.root)), dict[str, str]()
    found = dict(server.walk(is_entered))
    assert found.keys() == expected.keys()
    for path, entry in found.items():
        node = expected[path]
        assert entry.is_directory == isinstance(node, Place), path
        if isinstance(node, File):
            assert (entry.size, entry.modified) == (node.size, formatdate(node.mtime // 10**9, usegmt=True)), path
            if node.source not in tags:
                tags[node.source] = entry.tag
                answer = server.get(path)
                with open(node.source, "rb") as stream:
                    assert hashlib.sha256(answer.body).digest() == hashlib.file_digest(stream, "sha256").digest()
                assert answer["ETag"] == entry.tag
            assert tags[node.source] == entry.tag, path
    assert len(set(tags.values())) == len(tags), "two files with one tag"


def test_paths_that_are_not_listed_are_found(server: Server) -> None:
    image = first_image(server, "by-view/CC,MLO/by-laterality/not-R/by-age/50-")
    assert server.get(f"by-laterality/L/by-view/MLO,CC/{image}").status == 200
    assert server.get("by-view/nonsense/").status == 404
    assert server.get(f"all/{image}/").status == 404, "a file is no directory"
    answer = server.get("by-view/CC")
    assert (answer.status, answer["Location"]) == (301, "/by-view/CC/")
    answer = server.ask("GET", "/by-view/CC?image=1%202&page=3")
    assert answer["Location"] == "/by-view/CC/?image=1+2&page=3"


def test_a_directory_is_a_list_of_names_for_programs(server: Server) -> None:
    answer = server.get(f"{COHORT}/")
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.body.decode().splitlines() == [*server.listed(COHORT)]
    assert "by-view/" in server.get("").body.decode().splitlines()


def test_renditions_and_generated_files_have_their_exact_sizes(server: Server, tmp_path: Path) -> None:
    for path in (f"{COHORT}/as-png-64", f"{COHORT}/.omidbfs", ".omidbfs"):
        entries = server.listed(path)
        assert entries
        for name in [*entries][:8]:
            answer, head = server.get(f"{path}/{name}"), server.ask("HEAD", f"/{path}/{name}")
            length = (len(answer.body), int(head["Content-Length"]))
            if name != "status.json":
                assert length == (entries[name].size,) * 2, name
            assert head.body == b""


def test_ranges(server: Server, demo_database: Path) -> None:
    image = first_image(server)
    path, content = f"{COHORT}/{image}", source_of(demo_database, image)
    whole = server.get(path)
    assert (whole.status, whole.body, whole["Accept-Ranges"]) == (200, content, "bytes")
    for text, part in (
        ("0-0", content[:1]),
        ("128-131", b"DICM"),
        ("100-", content[100:]),
        ("-7", content[-7:]),
        (f"5-{10**18}", content[5:]),
    ):
        answer = server.get(path, Range=f"bytes={text}")
        assert (answer.status, answer.body) == (206, part)
        first = content.find(part) if text == "128-131" else len(content) - len(part) if text != "0-0" else 0
        assert answer["Content-Range"] == f"bytes {first}-{first + len(part) - 1}/{len(content)}"
    answer = server.get(path, Range=f"bytes={len(content)}-")
    assert (answer.status, answer["Content-Range"]) == (416, f"bytes */{len(content)}")
    for ignored in ("bytes=9-5", "bytes=x", "lines=1-2", "bytes=-", "bytes=" + ",".join(["0-1"] * 17)):
        assert server.get(path, Range=ignored).status == 200, ignored
    answer = server.get(path, Range="bytes=0-3, 128-131")
    boundary = re.fullmatch("multipart/byteranges; boundary=(.*)", answer["Content-Type"])
    assert boundary is not None
    parts = answer.body.split(f"--{boundary[1]}".encode())
    assert [part.partition(b"\r\n\r\n")[2][:4] for part in parts[1:3]] == [content[:4], b"DICM"]


def test_conditions(server: Server) -> None:
    path = f"{COHORT}/{first_image(server)}"
    known = server.get(path)
    tag, date = known["ETag"], known["Last-Modified"]
    for condition, status in (
        ({"If_None_Match": tag}, 304),
        ({"If_None_Match": f'"x", W/{tag}'}, 304),
        ({"If_None_Match": '"x"', "If_Modified_Since": date}, 200),
        ({"If_Modified_Since": date}, 304),
        ({"If_Modified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200),
        ({"If_Modified_Since": "nonsense"}, 200),
        ({"If_Match": "*"}, 200),
        ({"If_Match": '"x"'}, 412),
        ({"If_Unmodified_Since": date}, 200),
        ({"If_Unmodified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 412),
        ({"Range": "bytes=0-1", "If_Range": tag}, 206),
        ({"Range": "bytes=0-1", "If_Range": '"x"'}, 200),
    ):
        answer = server.get(path, **condition)
        assert answer.status == status, condition
        assert answer.body == b"" or status != 304


def test_propfind_answers_what_is_asked(server: Server) -> None:
    image = first_image(server)

    def asked(inner: str, path: str = f"/{COHORT}/{image}") -> ET.Element:
        body = f'<?xml version="1.0"?><a:propfind xmlns:a="DAV:">{inner}</a:propfind>'
        answer = server.ask("PROPFIND", path, body=body, Depth="0")
        assert answer.status == 207
        return ET.fromstring(answer.body)

    some = asked('<a:prop><a:getetag/><a:quota-used-bytes/><z:Win32 xmlns:z="urn:s&amp;&quot;%s"/></a:prop>')
    known, lacking = some.findall(f".//{DAV}propstat")
    assert known.findtext(f"{DAV}prop/{DAV}getetag") == server.get(f"{COHORT}/{image}")["ETag"]
    assert [one.tag for one in lacking.find(f"{DAV}prop") or ()] == [f"{DAV}quota-used-bytes", '{urn:s&"%s}Win32']
    assert "404" in (lacking.findtext(f"{DAV}status") or "")
    names = asked("<a:propname/>").findall(f".//{DAV}prop/*")
    assert {f"{DAV}getcontentlength", f"{DAV}resourcetype"} <= {one.tag for one in names}
    assert all(one.text is None for one in names)
    assert asked("<a:allprop/>").findtext(f".//{DAV}getcontenttype") == "application/dicom"
    answer = server.ask("OPTIONS", "/")
    assert (answer["DAV"], answer["Allow"]) == ("1", "OPTIONS, GET, HEAD, PROPFIND")


def test_an_infinite_depth_and_every_method_that_writes_are_refused(server: Server) -> None:
    for headers in ({"Depth": "infinity"}, {}):
        answer = server.ask("PROPFIND", "/", **headers)
        assert (answer.status, b"<D:propfind-finite-depth/>" in answer.body) == (403, True)
    for method in ("PUT", "DELETE", "MKCOL", "COPY", "MOVE", "PROPPATCH", "PATCH"):
        assert server.ask(method, "/all/x", body="x").status == 403
    for method in ("LOCK", "UNLOCK", "POST", "TRACE", "BREW"):
        assert server.ask(method, "/all/x").status == 405


def test_a_refresh_shows_what_is_new_and_changes_the_tag_of_what_was_edited(
    servers: Servers, tmp_path: Path
) -> None:
    tree = Tree(tmp_path / "db")
    study = tree.client("demd1").study("1.1").image("1.1.1", ViewPosition="CC")
    server = servers(tree.root)
    before = server.get("all/1.1.1.dcm")
    study.image("1.1.2", ViewPosition="CC")
    path = tree.images / "demd1/1.1/1.1.1.dcm"
    facts = path.stat()
    path.write_bytes(b"x" * facts.st_size)
    os.utime(path, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: "1.1.2.dcm" in server.listed("by-view/CC"))
    # Size and time are those of before, so the file is compared after the refresh.
    eventually(lambda: server.get("all/1.1.1.dcm", If_None_Match=before["ETag"]).status == 200)
    assert server.get("all/1.1.1.dcm").body == b"x" * facts.st_size
    path.unlink()
    assert server.get("all/1.1.1.dcm").status == 503, "gone since the refresh"
    status = server.get(".omidbfs/status.json").body.decode()
    assert '"http"' in status


def test_requests_that_come_before_the_server_is_ready_do_not_end_it(servers: Servers, tmp_path: Path) -> None:
    Tree(tmp_path / "db").client("demd1").study("1.1").image("1.1.1")
    servers.program = ["-c", EARLY]
    server = servers(tmp_path / "db")

    def refreshes() -> int:
        return int(json.loads(server.get(".omidbfs/status.json").body)["refresh"]["done"])

    eventually(lambda: refreshes() == 1)  # a server that has just read the source does not look again by itself


def run(*command: object, home: Path, text: str = "") -> "subprocess.CompletedProcess[str]":
    where = {**os.environ, "HOME": str(home)}
    return subprocess.run(
        [*map(str, command)], input=text, capture_output=True, text=True, env=where, timeout=120, check=False
    )


@needs("curl")
def test_curl_reads_a_cohort(server: Server, demo_database: Path, tmp_path: Path) -> None:
    names = [name for name in server.listed(COHORT) if name.endswith(".dcm")][:5]
    pattern = f"{server.url}/{COHORT}/{{{','.join(names)}}}"
    done = run("curl", "-sSf", "-u", f"x:{server.token}", pattern, "-o", f"{tmp_path}/#1", home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for name in names:
        assert (tmp_path / name).read_bytes() == source_of(demo_database, name)
    half = tmp_path / names[0]
    half.write_bytes(half.read_bytes()[:1000])
    run(
        "curl",
        "-sf",
        "-C",
        "-",
        "-u",
        f"x:{server.token}",
        f"{server.url}/all/{names[0]}",
        "-o",
        half,
        home=tmp_path,
    )
    assert half.read_bytes() == source_of(demo_database, names[0])


@needs("rclone")
def test_rclone_copies_and_checks_a_cohort(server: Server, demo_database: Path, tmp_path: Path) -> None:
    hidden = run("rclone", "obscure", server.token, home=tmp_path).stdout.strip()
    options = (f"--webdav-url={server.url}", "--webdav-vendor=other", "--webdav-user=x", f"--webdav-pass={hidden}")
    copied = tmp_path / "copied"
    for command in ("copy", "check"):
        done = (
            run("rclone", command, *options, f":webdav:{COHORT}", copied, "--download", home=tmp_path)
            if command == "check"
            else run("rclone", command, *options, f":webdav:{COHORT}", copied, home=tmp_path)
        )
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in copied.iterdir()) == sorted(server.listed(COHORT))
    assert all(path.read_bytes() == source_of(demo_database, path.name) for path in copied.iterdir())


@needs("cadaver")
def test_cadaver_reads_and_is_refused_to_write(server: Server, demo_database: Path, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login x password {server.token}\n")
    (tmp_path / ".netrc").chmod(0o600)
    image = first_image(server)
    script = f"cd {COHORT}\nls\nget {image} {tmp_path / 'got'}\nput /etc/hostname\nmkcol new\nquit\n"
    done = run("cadaver", f"{server.url}/", home=tmp_path, text=script)
    assert f"Listing collection `/{COHORT}/': succeeded." in done.stdout
    assert done.stdout.count("403 Forbidden") == 2
    assert (tmp_path / "got").read_bytes() == source_of(demo_database, image)


@needs("mount.davfs")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_davfs2_reads_a_file(server: Server, demo_database: Path, tmp_path: Path, open_path: Path) -> None:
    place, secrets, options = (open_path / name for name in ("mounted", "secrets", "options"))
    place.mkdir()
    secrets.write_text(f"{server.url} x {server.token}\n")
    secrets.chmod(0o600)
    options.write_text(f"use_locks 0\nsecrets {secrets}\n")
    image = first_image(server)
    done = run(program("mount.davfs"), "-o", f"conf={options},ro", server.url, place, home=tmp_path)
    assert done.returncode == 0, done.stderr
    try:
        # By its path: davfs2 1.6.1 cannot list a directory of any server under Linux 6.18.
        assert (place / COHORT / image).read_bytes() == source_of(demo_database, image)
        with pytest.raises(OSError, match=r"Read-only|not permitted|denied"):
            (place / "new").write_bytes(b"x")
    finally:
        subprocess.run(["umount", place], check=True, capture_output=True)


@needs("litmus")
def test_litmus_finds_webdav_and_is_refused_its_directory(server: Server, tmp_path: Path) -> None:
    """Every group of litmus begins with MKCOL, which a read-only server refuses."""
    for group in ("basic", "http"):
        where = {**os.environ, "TESTS": group, "HOME": str(tmp_path)}
        done = subprocess.run(
            ["litmus", "-k", f"{server.url}/", "x", server.token],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=where,
            timeout=60,
            check=False,
        )
        assert re.search(r"init\.+ pass", done.stdout)
        assert "for tests: 403 Forbidden" in done.stdout


def test_the_log_names_no_client_and_no_path(servers: Servers, demo_database: Path) -> None:
    server = servers(demo_database)
    for path in ("by-client/", f"all/{first_image(server)}", "by-client/demd1", "x" * 5000, "by-outcome/%2e%2e/"):
        server.get(path)
    server.ask("GET", "/?token=wrong", known=False)
    servers.end(server)
    lines = server.log.read_text().splitlines()
    assert lines
    assert not [line for line in lines if re.search(r"demd|optm|\d\.\d+\.\d|by-|token", line)]
    shutil.rmtree(servers.directory / "state", ignore_errors=True)
