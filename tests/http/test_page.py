"""The pages for browsers: what they show, who can use them, and that nothing of the source becomes code."""

import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from programs import needs
from servers import Server, Servers
from test_credentials import _with
from trees import MARK, PIXELS, Tree

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class Reader(HTMLParser):
    """The elements of a page: name and attributes; the text; and what a person who cannot see it lacks."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def links(self) -> list[str]:
        return [attributes["href"] for attributes in self.all("a")]


def page(server: Server, path: str, query: str = "") -> Reader:
    answer = server.ask("GET", f"/{quote(path)}{query}", **HTML)
    assert (answer.status, answer["Content-Type"]) == (200, "text/html; charset=utf-8"), path
    assert "script-src 'self'" in answer["Content-Security-Policy"]
    assert "unsafe" not in answer["Content-Security-Policy"]
    return Reader(answer.body)


def test_a_cohort_shows_its_counts_as_the_command_does(
    server: Server, session_servers: Servers, demo_database: Path
) -> None:
    cohort = "by-outcome/malignant"
    told = json.loads(session_servers.run("facets", demo_database, cohort, "--json").stdout)
    numbers = json.loads(session_servers.run("count", demo_database, cohort, "--json").stdout)
    shown = page(server, f"{cohort}/")
    units = [int(one["data-n"]) for one in shown.all("dd")]
    assert units == [numbers[unit] for unit in ("clients", "studies", "images")]
    for facet in ("view", "laterality", "manufacturer", "marked"):
        part = server.ask("GET", f"/{cohort}/?facet={facet}", **HTML)
        values = re.findall(rf'href="/{cohort}/by-{facet}/([^"/]+)/">.*?data-n="(\d+)"', part.body.decode())
        assert {value: int(count) for value, count in values} == told[facet]
        listed = re.findall(
            r'href="/by-(?:.*?)/([^"/]+)/"><span>[^<]*</span> <span class="n" data-n="(\d+)"',
            server.ask("GET", f"/{cohort}/by-{facet}/", **HTML).body.decode(),
        )
        assert {value: int(count) for value, count in listed} == told[facet]
    assert server.ask("GET", f"/{cohort}/?facet=nonsense", **HTML).status == 404


def test_all_that_a_page_leads_to_is_there(server: Server) -> None:
    cohort = "by-outcome/malignant/by-view/MLO"
    shown = page(server, f"{cohort}/")
    images = [link for link in shown.links() if "?image=" in link]
    assert images
    one = page(server, "", images[0].removeprefix("/"))
    pictures = [attributes["src"] for attributes in shown.all("img")] + [one.all("image")[0]["href"]]
    assert all(
        server.ask("GET", picture)["Content-Type"] == "image/png" for picture in pictures[:3] + pictures[-1:]
    )
    followed = {link for link in (*shown.links(), *one.links()) if link.startswith("/")}
    assert {f"/{cohort}/.omidbfs/index.csv", "/by-outcome/malignant/", "/by-view/MLO/"} <= followed
    for link in sorted(followed)[::9]:
        assert server.ask("GET", link, **HTML).status == 200, link


def test_an_image_shows_its_marks_and_why_it_is_there(
    server: Server, session_servers: Servers, demo_database: Path
) -> None:
    shown = page(server, "by-marked/yes/")
    link = next(link for link in shown.links() if "?image=" in link)
    uid = link.partition("?image=")[2]
    facts = json.loads(session_servers.run("describe", demo_database, uid, "--json").stdout)[0]
    one = page(server, "", link.removeprefix("/"))
    boxes = [[float(mark[side]) for side in ("x", "y", "width", "height")] for mark in one.all("rect")]
    wanted = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in (mark["box"] for mark in facts["marks"])]
    assert boxes == wanted
    (box,) = [attributes["viewbox"] for attributes in one.all("svg")]
    assert re.fullmatch(r"0 0 \d+ \d+", box)
    assert facts["episode"]["why"] in one.text
    assert server.ask("GET", "/by-marked/no/?image=" + uid, **HTML).status == 404


def test_the_path_can_be_edited_and_pages_turned(server: Server) -> None:
    answer = server.ask("GET", "/?go=%20/by-view/MLO,CC//by-laterality/L%20", **HTML)
    assert (answer.status, answer["Location"]) == (303, "/by-view/MLO%2CCC/by-laterality/L")
    first, second = page(server, "all/"), page(server, "all/", "?page=2")
    one, two = ({link for link in shown.links() if "?image=" in link} for shown in (first, second))
    assert len(one) == 60
    assert not one & two
    assert server.ask("GET", "/all/?page=0", **HTML).status == 404
    assert server.ask("GET", "/all/?page=-1", **HTML).status == 404
    assert page(server, "all/", "?page=99999").all("img") == []


def test_a_path_that_does_not_exist_can_be_edited_and_says_what_may_be_meant(server: Server) -> None:
    for path, said in (
        ("by-outcome/malignat/by-view/CC/", "; did you mean malignant?"),
        ("by-veiw/", "; did you mean by-view?"),
        ("cohorts/nothing", "."),
        ("<b>", "."),
        ("all/nothing.dcm", "."),
    ):
        answer = server.ask("GET", f"/{quote(path)}", **HTML)
        shown = Reader(answer.body)
        assert (answer.status, shown.all("b")) == (404, [])
        assert f"There is nothing at this path{said}" in shown.text
        assert [one["value"] for one in shown.all("input")] == [path.rstrip("/")]
        assert server.get(path)["Content-Type"] == "text/plain; charset=utf-8", "for programs"


def test_pages_can_be_used_with_a_keyboard_and_a_screen_reader(server: Server) -> None:
    link = next(link for link in page(server, "all/").links() if "?image=" in link)
    for shown in (page(server, ""), page(server, "by-view/"), page(server, "", link.removeprefix("/"))):
        assert shown.all("html") == [{"lang": "en"}]
        assert len(shown.all("h1")) == len(shown.all("main")) == len(shown.all("title")) == 1
        levels = [int(name[1]) for name, _ in shown.elements if re.fullmatch("h[1-6]", name)]
        assert all(image["alt"] for image in shown.all("img"))
        assert all(drawing["aria-label"] for drawing in shown.all("svg"))
        assert all(nav["aria-label"] for nav in shown.all("nav"))
        assert shown.links()[0] == "#main", "a way past the facets"
        assert set(levels) <= {1, 2, 3}
        labelled = {label.get("for") for label in shown.all("label")}
        assert {one["id"] for one in shown.all("input") if "id" in one} <= labelled
        assert not [name for name, attributes in shown.elements if any(key.startswith("on") for key in attributes)]


def test_hostile_texts_are_shown_as_text(servers: Servers, tmp_path: Path) -> None:
    evil = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"
    tree = Tree(tmp_path / "db")
    client = tree.client("demd1").episode("1", "M", PatientAge=evil)
    client.study("1.1", "1", day=evil).image(
        "1.1.1", ManufacturerModelName=evil, ViewPosition=evil, marks=MARK, **PIXELS
    )
    client.study("2<b>", "1").image("1.1.<i>2", **PIXELS)
    server = servers(tree.root)
    paths = ("", "all/", "by-model/", "by-study/", "by-client/demd1/", f"by-model/{evil.replace('/', '')}/")
    shown = [page(server, path) for path in paths[:-1]]
    shown += [page(server, "all/", f"?image={name}") for name in ("1.1.1", "1.1.%253Ci%253E2")]
    assert server.ask("GET", f"/{quote(paths[-1])}", **HTML).status == 404
    for one in shown:
        assert [attributes.get("src") for attributes in one.all("script")] == ["/.page/page.js"]
        assert one.all("i") == one.all("b") == []
        assert not [name for name, attributes in one.elements if any(key.startswith("on") for key in attributes)]
    assert "alert(1)" in shown[5].text, "and nothing is hidden"
    for query in (f"?image={quote(evil)}", f"?facet={quote(evil)}", f"?page={quote(evil)}"):
        answer = server.ask("GET", f"/all/{query}", **HTML)
        assert (answer.status, answer["Content-Type"]) == (404, "text/plain; charset=utf-8")
        assert b"<script>" not in answer.body


def browsed(server: Server, place: Path, path: str, *options: str) -> tuple[str, list[str]]:
    """Return what Chromium shows at a path, and the messages on its console."""
    quiet = ("background-networking", "component-update", "sync", "quic", "gpu", "dev-shm-usage", "extensions")
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--no-first-run",
        f"--user-data-dir={place / 'profile'}",
        "--enable-logging=stderr",
        "--virtual-time-budget=30000",
        *(f"--disable-{what}" for what in quiet),
        *options,
        f"{server.url}{path}{'&' if '?' in path else '?'}token={server.token}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.unmeasured
@needs("chromium")
def test_a_browser_shows_the_pages_without_a_warning(
    servers: Servers, session_servers: Servers, demo_database: Path, tmp_path: Path
) -> None:
    servers.program = _with("omidbfs.http.cohort_page", "_COUNTING", -1)  # the script has to ask for every facet
    server = servers(demo_database)
    sent = page(server, "by-marked/yes/")
    assert [one for _, one in sent.elements if one.get("aria-busy") == "true"]
    dom, console = browsed(server, tmp_path, "/by-marked/yes/", "--dump-dom")
    assert console == []
    shown = Reader(dom.encode())
    assert not [one for _, one in shown.elements if one.get("aria-busy") == "true"]
    told = json.loads(session_servers.run("facets", demo_database, "by-marked/yes", "--json").stdout)
    found = re.findall(r'href="/by-marked/yes/by-view/([^"/]+)/">.*?data-n="(\d+)"', dom)
    assert {value: int(count) for value, count in found} == told["view"]
    link = next(link for link in shown.links() if "?image=" in link)
    picture = tmp_path / "image.png"
    _, console = browsed(server, tmp_path, link, f"--screenshot={picture}", "--window-size=1200,900")
    assert console == []
    from PIL import Image

    with Image.open(picture) as image:
        colours = image.convert("RGB").getcolors(1 << 24) or []
    assert any(colour == (255, 210, 63) for _, colour in colours), "the box of a mark is drawn"
