"""Who is let in, as whom, and what hostile requests meet."""

import os
import pwd
import re
import resource
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from programs import needs
from servers import Server, Servers, basic
from trees import Tree

from omidbfs.base.errors import UserError
from omidbfs.cli.main import main
from omidbfs.http import access
from omidbfs.http.listeners import address_of, listen, take

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to other users")
WORD = "a long password"


def _with(module: str, name: str, value: object) -> list[str]:
    """Return arguments of Python that run the program with another value of a constant."""
    change = f"import {module} as m; assert hasattr(m, {name!r}); m.{name} = {value!r}"
    return ["-c", f"{change}; from omidbfs.__main__ import main; main()"]


def password_file(servers: Servers, *users: tuple[str, str | None]) -> Path:
    path = servers.directory / "passwords"
    lines = []
    for name, user in users:
        done = servers.run("password", name, *(["--user", user] if user else []), text=f"{WORD} {name}\n")
        assert done.returncode == 0, done.stderr
        lines.append(done.stdout)
    path.write_text("# who may come\n\n" + "".join(lines))
    path.chmod(0o600)
    return path


def test_every_request_needs_a_credential_also_on_loopback(server: Server) -> None:
    for method in ("GET", "HEAD", "OPTIONS", "PROPFIND", "PUT", "BREW"):
        for target in ("/", "/all/", "/nothing", "/.page/page.css", "/.omidbfs/status.json"):
            answer = server.ask(method, target, known=False, Depth="0")
            assert (answer.status, answer["WWW-Authenticate"][:5]) == (401, "Basic"), (method, target)
            assert b"client" not in answer.body
    for header in (
        f"Bearer {server.token}x",
        "Bearer ",
        "Basic !!!",
        "Basic \xe9w==",
        "Basic /w==",
        basic("x", "y"),
        f"Digest {server.token}",
    ):
        assert server.ask("GET", "/", known=False, Authorization=header).status == 401
    assert server.ask("GET", "/", known=False, Authorization=basic("anyone", server.token)).status == 200


def test_the_address_with_the_token_sets_a_cookie_and_leads_to_the_page_without_it(server: Server) -> None:
    answer = server.ask("GET", f"/by-view/?page=2&token={server.token}", known=False)
    assert (answer.status, answer["Location"]) == (303, "/by-view/?page=2")
    assert re.fullmatch("[0-9a-f]{40}", server.token), "no program takes it for an option"
    cookie, *attributes = answer["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {*attributes}
    assert server.ask("GET", "/by-view/", known=False, Cookie=f"other=1; {cookie}").status == 200
    odd = f'username="2|1:0|a; b"; _xsrf=2|f|; {{"a": [1, 2]}}; =; x; {cookie}; rest'
    assert server.ask("GET", "/by-view/", known=False, Cookie=odd).status == 200, "other servers set any cookie"
    assert server.ask("GET", "/by-view/", known=False, Cookie=f"{cookie}x").status == 401
    assert server.ask("GET", "/?token=wrong", known=False).status == 401
    assert server.ask("GET", "/?token=wrong").status == 401, "even if the cookie is right"


def test_every_response_keeps_the_data_out_of_caches_and_other_sites(server: Server) -> None:
    for answer in (server.get(""), server.ask("GET", "/", known=False), server.get("nothing"), server.get("all/")):
        assert answer["Cache-Control"] == "no-store"
        assert answer["Referrer-Policy"] == "no-referrer"
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_page_of_another_site_gets_nothing(server: Server) -> None:
    for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "[::1", "localhost.evil"):
        assert server.ask("GET", "/", Host=host).status in (400, 421), host
    for host in (
        "localhost",
        f"localhost:{server.port}",
        "127.0.0.1:9",
        "[::1]:80",
        "LOCALHOST.",
        socket.gethostname(),
    ):
        assert server.ask("GET", "/", Host=host).status == 200, host
    assert server.ask("GET", "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status == 403
    assert server.ask("GET", "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200


def test_a_unix_socket_is_only_for_its_owner(servers: Servers, tmp_path: Path) -> None:
    Tree(tmp_path / "db").client("demd1").study("1.1").image("1.1.1")
    path = tmp_path / "socket"
    server = servers(tmp_path / "db", at=f"unix:{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert server.get("all/").body == b"1.1.1.dcm\n1.1.1.json\n"
    assert server.ask("GET", "/", Host="evil.example").status == 421, "ssh -L may lead a browser here"
    taken = servers.run("serve", tmp_path / "db", "--http", f"unix:{path}")
    assert "Address already in use" in taken.stderr
    servers.end(server)
    assert not path.exists()


KILLED_BEFORE_IT_SERVES = """
import os, signal, sys
import omidbfs.cli.drives
from omidbfs.cli.main import main
def opened_drive(*_):
    assert os.path.exists(sys.argv[-1].removeprefix("unix:"))
    os.kill(os.getpid(), signal.SIGTERM)
omidbfs.cli.drives.opened_drive = opened_drive
main()
"""


def test_a_socket_goes_when_a_signal_ends_the_server_before_it_serves(tmp_path: Path) -> None:
    Tree(tmp_path / "db").client("demd1")
    address = f"unix:{tmp_path}/socket"
    command = [sys.executable, "-c", KILLED_BEFORE_IT_SERVES, "serve", str(tmp_path / "db"), "--http", address]
    assert subprocess.run(command, check=False, timeout=60).returncode == 128 + signal.SIGTERM
    assert os.listdir(tmp_path) == ["db"]


def test_a_path_that_is_too_long_for_a_socket_is_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r": AF_UNIX path too long$"):
        take(address_of(f"unix:{tmp_path}/{'x' * 120}"))


@AS_ROOT
def test_each_user_sees_what_the_source_lets_this_user_see(open_path: Path, servers: Servers) -> None:
    tree = Tree(open_path / "db")  # which is removed after the servers have ended: its fixture comes first
    tree.client("demd1").study("1.1").image("1.1.1", ViewPosition="CC").image("1.1.2", ViewPosition="CC")
    mine = tree.images / "demd1/1.1/1.1.1.dcm"
    os.chown(mine, pwd.getpwnam("daemon").pw_uid, 0)
    mine.chmod(0o400)
    (tree.images / "demd1/1.1/1.1.2.dcm").chmod(0o400)
    server = servers(tree.root, "--passwords", password_file(servers, ("daemon", None), ("anna", "nobody")))
    statuses = {
        (name, image): server.ask("GET", f"/all/{image}", Authorization=basic(name, f"{WORD} {name}")).status
        for name in ("daemon", "anna")
        for image in ("1.1.1.dcm", "1.1.2.dcm", "1.1.2.json", ".omidbfs/index.csv", "as-png-64/1.1.1.png")
    }
    assert [one for one, status in statuses.items() if status == 200] == [
        ("daemon", "1.1.1.dcm"),
        ("daemon", "1.1.2.json"),
        ("anna", "1.1.2.json"),
    ]
    assert {status for one, status in statuses.items() if "png" not in one[1]} == {200, 403}
    page = {"Accept": "text/html", "Authorization": basic("anna", f"{WORD} anna")}
    assert server.ask("GET", "/all/", **page).status == 200
    assert server.ask("GET", "/all/?image=1.1.1", **page).status == 403
    tree.root.chmod(0o700)
    tree.images.chmod(0o700)
    closed = servers(tree.root, "--passwords", servers.directory / "passwords")
    assert closed.ask("GET", "/all/", Authorization=basic("anna", f"{WORD} anna")).status == 403


@AS_ROOT
def test_passwords_are_compared_and_a_changed_file_counts(servers: Servers, demo_database: Path) -> None:
    path = password_file(servers, ("anna", "nobody"), ("ben", "nobody"))
    assert "$scrypt$ln=15" in path.read_text()
    server = servers(demo_database, "--passwords", path)
    assert server.token == ""

    def status(name: str, word: str) -> int:
        time.sleep(access._FRESH)  # for which a change may go unnoticed
        return server.ask("OPTIONS", "/", Authorization=basic(name, word)).status

    assert (status("anna", f"{WORD} anna"), status("ben", f"{WORD} ben")) == (200, 200)
    assert (status("anna", f"{WORD} ben"), status("carl", WORD), status("anna", "")) == (401, 401, 401)
    assert server.ask("OPTIONS", "/").status == 401
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("ben")))
    assert (status("anna", f"{WORD} anna"), status("ben", f"{WORD} ben")) == (200, 401)
    path.chmod(0o644)
    for _ in range(2):
        assert status("anna", f"{WORD} anna") == 401, "others can read it"
    assert server.log.read_text().count("nobody is let in until it can") == 1
    path.chmod(0o600)
    assert status("anna", f"{WORD} anna") == 200
    servers.end(server)


def test_what_other_machines_could_reach_needs_tls_and_passwords(servers: Servers, demo_database: Path) -> None:
    def refusal(*options: object) -> str:
        done = CliRunner().invoke(main, ["serve", str(demo_database), "--http", "127.0.0.1:0", *map(str, options)])
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.output
        return done.stderr

    reach = "other machines can reach this address, which needs --certificate and --passwords; or serve 127.0.0.1"
    assert reach in refusal("--http", "0.0.0.0:0")
    assert reach in refusal("--http", "[::]:0")
    assert "is no HOST:PORT" in refusal("--http", "localhost:99999")
    assert "is no HOST:PORT" in refusal("--http", ":80")
    assert "the host is unknown" in refusal("--http", "no.such.host.invalid:80")
    assert "a key alone" in refusal("--key", "x")
    assert "No such file" in refusal("--certificate", servers.directory / "none.pem")
    assert "cannot be read" in refusal("--passwords", servers.directory / "none")
    assert "a token would be in the log" in refusal("--unit")
    wrong = servers.directory / "wrong"
    zero = f"anna:$scrypt$ln=15,r=0,p=1${'A' * 22}${'A' * 43}:nobody"  # which hashlib refuses
    for text, said in (
        ("", "has no line"),
        ("anna:secret\n", "is no NAME:HASH"),
        ("x" * 10, "is no NAME:HASH"),
        (zero, "is no NAME:HASH"),
        (zero.replace("r=0", "r=33"), "is no NAME:HASH"),
        (zero.replace("r=0", "r=8").replace("p=1", "p=0"), "is no NAME:HASH"),
    ):
        wrong.write_text(text)
        wrong.chmod(0o600)
        assert said in refusal("--passwords", wrong)
    wrong.chmod(0o640)
    assert "other users can read it; chmod 600" in refusal("--passwords", wrong)
    os.mkfifo(servers.directory / "pipe", 0o600)
    assert "pipe: is no regular file" in refusal("--passwords", servers.directory / "pipe")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "another program has it" in refusal("--http", f"127.0.0.1:{taken.getsockname()[1]}")


def test_a_program_that_listens_while_a_server_starts_keeps_the_address() -> None:
    first = address_of("127.0.0.1:0")
    take(first)
    try:
        second = address_of(f"127.0.0.1:{first.port}")
        take(second)  # the first does not listen yet
        try:
            listen(first)
            with pytest.raises(UserError, match="Address already in use"):
                listen(second)
        finally:
            second.close()
        socket.create_connection(("127.0.0.1", first.port), timeout=10).close()
    finally:
        first.close()


def test_a_server_leaves_the_socket_of_another_one_that_took_its_path(tmp_path: Path) -> None:
    first, second = (address_of(f"unix:{tmp_path / 'socket'}") for _ in range(2))
    take(first)
    (tmp_path / "socket").unlink()
    take(second)
    first.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "socket"))
    second.close()
    assert os.listdir(tmp_path) == []


def test_the_path_of_a_server_that_starts_is_not_taken(tmp_path: Path) -> None:
    first = address_of(f"unix:{tmp_path / 'socket'}")
    take(first)
    try:
        with pytest.raises(UserError, match="Address already in use"):
            take(address_of(f"unix:{tmp_path / 'socket'}"))
        listen(first)
    finally:
        first.close()
    assert os.listdir(tmp_path) == []


def test_password_refuses_what_it_cannot_use() -> None:
    for arguments, text, said in (
        (("no-such-user-here",), f"{WORD}\n", "there is no such user on this machine"),
        (("root",), f"{WORD}\n", "root may read everything"),
        (("anna", "--user", "nobody"), "short\n", "shorter than 8 characters"),
        (("an:na", "--user", "nobody"), f"{WORD}\n", "a name has letters"),
    ):
        done = CliRunner().invoke(main, ["password", *arguments], input=text)
        assert (done.exit_code, done.stdout) == (1, "")
        assert said in done.stderr


@AS_ROOT
@needs("openssl")
def test_tls(servers: Servers, demo_database: Path) -> None:
    place = servers.directory
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    files = ["-keyout", str(place / "key.pem"), "-out", str(place / "certificate.pem")]
    subprocess.run([*made, *files], check=True, capture_output=True)
    path = password_file(servers, ("anna", "nobody"))
    options = ("--certificate", place / "certificate.pem", "--key", place / "key.pem", "--passwords", path)
    server = servers(demo_database, *options, at="0.0.0.0:0")
    assert server.url.startswith("https://")
    context = ssl.create_default_context(cafile=str(place / "certificate.pem"))
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as stream,
    ):
        assert stream.version() in ("TLSv1.2", "TLSv1.3")
        words = basic("anna", f"{WORD} anna")
        stream.sendall(f"OPTIONS / HTTP/1.1\r\nHost: localhost\r\nAuthorization: {words}\r\n\r\n".encode())
        assert stream.recv(100).startswith(b"HTTP/1.1 200 OK")
    assert b"HTTP/1.1 200" not in server.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), "not without TLS"


def test_the_unit_serves_with_the_options_of_the_call(servers: Servers, demo_database: Path) -> None:
    done = servers.run(
        *("serve", demo_database, "--http", "unix:/run/x/y", "--refresh-every", 60, "--name", "a", "--name", "b"),
        *("--index", "/srv/an index/file", "--unit"),
    )
    assert done.returncode == 0, done.stderr
    assert f"RequiresMountsFor={demo_database}" in done.stdout
    assert "\nRuntimeDirectory=x\n" in done.stdout, "systemd makes the directory of the socket"
    assert '\nReadWritePaths="-/srv/an index"\n' in done.stdout, "the index is written there"
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("ExecStart=")]
    assert "serve --http=unix:/run/x/y " in line
    assert line.endswith(f" --name=a --name=b --refresh-every=60 -- {demo_database}")
    config = servers.directory / "omidbfs.toml"
    config.write_text("[cohorts.left]\npath = 'by-laterality/L'\n")
    done = servers.run("--config", config, "serve", demo_database, "--http", "unix:x", "--unit")
    assert f" --config={config} serve " in done.stdout, "it defines cohorts"
    assert f"--http=unix:{os.getcwd()}/x " in done.stdout, "the service has another current directory"


# Hostile requests ----------------------------------------------------------------------------------------------

KNOWN = "Host: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n"


def test_hostile_paths_are_refused(server: Server) -> None:
    for target, status in (
        ("/../etc/passwd", 400),
        ("/all/../../etc/passwd", 400),
        ("/all/%2e%2e/%2e%2e/etc/passwd", 400),
        ("/all/..%2f..%2fetc", 400),
        ("/all/./", 400),
        ("//all/", 400),
        ("//", 400),
        ("/all//", 400),
        ("/all/%00", 400),
        ("/all/x%00.dcm", 400),
        ("http://evil.example/", 421),
        ("http://localhost/all/", 200),
        (f"http://localhost:{server.port}/nothing", 404),
        ("ftp://localhost/", 400),
        ("all/", 400),
        ("*", 400),
        ("/%ff%fe/", 404),
        ("/all/%%%", 404),
        ("/" + "by-view/CC/" * 500, 414),
        ("/" + "x" * 12_000, 404),
        ("/?" + "&".join(f"a{number}=1" for number in range(100)), 400),
        ("/?page=x", 200),
    ):
        sent = f"GET {target} HTTP/1.1\r\n{KNOWN.format(server.token)}\r\n"
        answer = server.raw(sent.encode())
        assert int(answer.split(b" ")[1]) == status, (target[:60], answer[:200])


def test_hostile_requests_are_refused(server: Server) -> None:
    known = KNOWN.format(server.token)
    for sent, statuses in (
        (f"GET /{'x' * 20_000} HTTP/1.1\r\n{known}\r\n", (431, 414)),
        (f"GET / HTTP/1.1\r\n{known}X: {'y' * 20_000}\r\n\r\n", (431,)),
        (f"GET / HTTP/1.1\r\n{known}" + "X: y\r\n" * 5000 + "\r\n", (431, 400)),
        ("GET / HTTP/1.1\r\n\r\n", (400,)),
        (f"GET / HTTP/1.1\r\n{known}Host: other\r\n\r\n", (400,)),
        (f"GET / HTTP/9.9\r\n{known}\r\n", (400, 505)),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic \xff\xfe\r\nConnection: close\r\n\r\n",
            (401,),
        ),
        ("\x00\x01\x02\r\n\r\n", (400,)),
        (f"GET / HTTP/1.1\r\n{known}X: a\0b\r\n\r\n", (400,)),
        (f"PROPFIND / HTTP/1.1\r\n{known}Depth: 0\r\nContent-Length: 9999999\r\n\r\n{'x' * 70_000}", (413,)),
        (
            f"PROPFIND / HTTP/1.1\r\n{known}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            (400,),
        ),
        (f"PUT /x HTTP/1.1\r\n{known}Expect: 100-continue\r\nContent-Length: 100\r\n\r\n", (403,)),
    ):
        answer = server.raw(sent.encode("latin-1"))
        assert int(answer.split(b" ")[1]) in statuses, (sent[:60], answer[:100])


def test_hostile_xml_is_refused(server: Server) -> None:
    entities = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
    many = "".join(f"<p{number}/>" for number in range(200))
    for body, status in (
        (f'<?xml version="1.0"?>{entities}<propfind xmlns="DAV:"><prop>&b;</prop></propfind>', 400),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><propfind xmlns="DAV:"><prop/></propfind>', 400),
        ("<propfind", 400),
        ("<other/>", 400),
        ('<propfind xmlns="DAV:"/>', 400),
        ("<a>" * 20_000, 400),
        (f'<propfind xmlns="DAV:"><prop>{many}</prop></propfind>', 413),
        (f'<propfind xmlns="DAV:"><prop><{"x" * 2000}/></prop></propfind>', 413),
    ):
        assert server.ask("PROPFIND", "/", body=body, Depth="0").status == status, body[:50]
    assert server.ask("PROPFIND", "/", Depth="7").status == 400


def test_a_listing_that_is_too_large_is_refused(servers: Servers, tmp_path: Path) -> None:
    Tree(tmp_path / "db").client("demd1").study("1.1").image("1.1.1")
    servers.program = _with("omidbfs.http.dav", "LARGEST_LISTING", 3000)
    server = servers(tmp_path / "db")
    answer = server.ask("PROPFIND", "/", Depth="1")
    assert (answer.status, b"<D:number-of-matches-within-limits/>" in answer.body) == (507, True)
    assert server.ask("PROPFIND", "/all/", Depth="1").status == 207


def test_ten_thousand_connections_do_not_keep_a_user_out(server: Server) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 10_000 if hard in (resource.RLIM_INFINITY, max(hard, 10_500)) else hard - 500
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count + 400, hard)), hard))
    opened = []

    def is_let_in() -> bool:
        server.close()  # a connection that is kept may be closed at any time to make room
        return server.get("by-outcome/").status == 200

    try:
        for number in range(count):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", server.port))
            opened.append(one)
            if number % 500 == 499:  # so that the queue of the kernel does not overflow
                started = time.monotonic()
                assert is_let_in()
                assert time.monotonic() - started < 20
        for one in opened[-100:]:
            one.setblocking(True)
            one.sendall(b"GET / HT")
        assert is_let_in()
    finally:
        for one in opened:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
