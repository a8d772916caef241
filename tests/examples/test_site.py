"""The built site: complete, nothing in it from elsewhere, and no link that leads nowhere.

Sphinx itself reports links between pages that lead nowhere, and names in docstrings that do not
exist, as warnings, which are errors. Whether other projects' pages still exist is not asked, as
tests use no network; where links may lead is written down here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from .documents import ROOT

pytest.importorskip("sphinx")
pytest.importorskip("furo")
pytest.importorskip("sphinx_copybutton")

KNOWN_HOSTS = {
    "csrc.nist.gov",
    "docs.python.org",
    "github.com",
    "pypi.org",
    "semver.org",
    "www.rabbitmq.com",
    "www.rfc-editor.org",
}
"""Where links of the pages lead. Look at a new one before you add it."""

FETCHED = {
    "audio": "src", "embed": "src", "iframe": "src", "image": "href", "img": "src",
    "input": "src", "object": "data", "script": "src", "source": "src", "track": "src",
    "use": "href", "video": "src",
}  # fmt: skip
"""The elements for which a browser fetches something, and by which attribute."""

OUR_SOURCES = r"https://github\.com/[\w-]+/miros-rabbitmq/(?:blob|tree)/\w+/(.+)"

RELATIONS = {"icon", "stylesheet", "preload", "prefetch", "preconnect", "dns-prefetch", "manifest"}


class Page(HTMLParser):
    """What a page fetches, where its links lead, and which places it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.title = ""
        self._in_title = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name.removeprefix("xlink:"): value or "" for name, value in attributes}
        self._in_title = self._in_title or tag == "title"
        self.places |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag in FETCHED and values.get(FETCHED[tag]):
            self.fetched.append(values[FETCHED[tag]])
        if "srcset" in values:
            self.fetched += [part.split()[0] for part in values["srcset"].split(",")]
        if tag == "link" and RELATIONS & set(values.get("rel", "").split()):
            self.fetched.append(values.get("href", ""))
        self.fetched += re.findall(r"url\(['\"]?([^'\")]+)", values.get("style", ""))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])

    def handle_endtag(self, tag: str) -> None:
        self._in_title = self._in_title and tag != "title"

    def handle_data(self, data: str) -> None:
        if self._in_title and not self.title:
            self.title = data.strip()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a secret is in the environment of the build, and a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    built = subprocess.run(
        [*command, "-d", str(folder / "trees"), str(ROOT / "docs"), str(folder / "html")],
        env={**os.environ, "RABBIT_SECRET": "sesame-of-the-builder", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> list[Page]:
    return [Page(path) for path in sorted(site.rglob("*.html"))]


def is_elsewhere(address: str) -> bool:
    return bool(urlsplit(address).netloc) or urlsplit(address).scheme not in ("", "data")


def test_no_page_fetches_anything_from_elsewhere(pages: list[Page]) -> None:
    assert len(pages) > 15
    for page in pages:
        assert page.fetched, page.path.name
        for address in page.fetched:
            assert not is_elsewhere(address), (page.path.name, address)


def test_no_style_and_no_picture_fetches_anything_from_elsewhere(site: Path) -> None:
    styles = list(site.rglob("*.css"))
    assert styles
    for style in styles:
        text = style.read_text(encoding="utf-8")
        for address in re.findall(r"url\(['\"]?([^'\")]+)", text) + imports_of(text):
            assert not is_elsewhere(address), (style.name, address)
    for picture in site.rglob("*.svg"):
        text = picture.read_text(encoding="utf-8")
        for address in re.findall(r"(?:href|src)=['\"]([^'\"]+)|url\(['\"]?([^'\")]+)", text):
            assert not is_elsewhere("".join(address)), (picture.name, address)


def imports_of(style: str) -> list[str]:
    return re.findall(r"@import\s+['\"]([^'\"]+)", style)


def local_files(page: Page, addresses: list[str]) -> Iterator[tuple[str, Path, str]]:
    for address in addresses:
        parts = urlsplit(address)
        if not is_elsewhere(address) and parts.scheme != "data":
            path = page.path if not parts.path else page.path.parent / unquote(parts.path)
            yield address, path.resolve(), unquote(parts.fragment)


def test_every_link_within_the_site_leads_to_a_place_that_exists(pages: list[Page]) -> None:
    places = {page.path.resolve(): page.places for page in pages}
    for page in pages:
        for address, path, place in local_files(page, page.links + page.fetched):
            assert path.is_file(), (page.path.name, address)
            if place and path in places:
                assert place in places[path], (page.path.name, address)


def test_links_to_elsewhere_are_well_formed_and_lead_where_we_have_looked(
    pages: list[Page],
) -> None:
    for page in pages:
        for address in filter(is_elsewhere, page.links):
            parts = urlsplit(address)
            assert parts.scheme == "https", (page.path.name, address)
            assert parts.hostname in KNOWN_HOSTS, (page.path.name, address)
            assert not re.search(r"[\s<>\"{}|\\^`]|\.$|,$|\)$", address), (page.path.name, address)


def test_links_to_our_own_sources_name_files_that_exist(pages: list[Page]) -> None:
    for page in pages:
        for address in page.links:
            named = re.match(OUR_SOURCES, address)
            assert not named or (ROOT / named[1].partition("#")[0]).exists(), address


def test_every_page_has_a_title_of_its_own(pages: list[Page]) -> None:
    titles = [page.title for page in pages]
    assert all(titles)
    assert len(titles) == len(set(titles))


def test_the_site_can_be_searched(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    for word in ("quick_start", "routing", "rabbit_host"):
        assert word in index


QUESTIONS = {
    "firewall": "installation", "password": "security", "nobody listens": "troubleshooting",
    "windows": "installation", "key rotation": "recipes_keys", "change key": "recipes_keys",
    "asyncio": "recipes_programs", "log file": "recipes_programs", "docker": "deployment",
    "lost events": "troubleshooting", "tls": "security", "pytest": "testing", "json": "recipes",
}  # fmt: skip
"""What readers look for, and the page that answers."""


def test_the_search_finds_the_answer_to_usual_questions_first(site: Path) -> None:
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text[len("Search.setIndex(") : text.rindex(")")])
    for question, page in QUESTIONS.items():
        # What has a mark of its own (``.. index:: ! firewall``) comes before what has the words.
        places = index["indexentries"][question]
        assert [(index["docnames"][at], is_main) for at, _, is_main in places] == [(page, True)]


def test_each_page_says_what_it_is_about(pages: list[Page]) -> None:
    said = {}
    for page in pages:
        text = page.path.read_text(encoding="utf-8")
        found = re.findall(r'<meta name="description" content="([^"]*)">', text)
        assert len(found) == (page.path.stem not in ("genindex", "search")), page.path.name
        said[page.path] = "".join(found)
        assert not found or 20 < len(found[0]) <= 220, (page.path.name, found)
        assert not found or f'<meta property="og:description" content="{found[0]}">' in text
    assert len(set(said.values())) >= len(said) - 1


def table_of(site: Path, page: str, head: str) -> str:
    tables = re.findall(r"<table.*?</table>", (site / page).read_text(encoding="utf-8"), re.DOTALL)
    (found,) = (one for one in tables if head in one)
    return str(found)


def test_on_a_phone_sentences_are_a_list_and_figures_stay_a_table(site: Path) -> None:
    two = table_of(site, "delivery.html", "what holds")
    assert re.match(r'<table class="[^"]*\bstacked\b', two)
    assert "data-label" not in two, "the second of two columns needs no label"
    more = table_of(site, "kinds.html", "it handles a signal by")
    assert re.match(r'<table class="[^"]*\blabelled stacked\b', more)
    assert '<td data-label="NetworkedFactory"' in more
    numbers = table_of(site, "wire_format.html", "padding up to")
    assert '<td data-label="bytes"><p>1 to 16</p>' in numbers, "a number says of what it is"
    figures = table_of(site, "delivery.html", "the stranger floods")
    assert "stacked" not in figures
    assert re.search(r'<td class="[^"]*\bnumber\b[^>]*><p>13 / 266 ms', figures)


def test_bold_words_of_a_table_are_said_once(site: Path) -> None:
    text = table_of(site, "performance.html", "ratio")
    assert text.count("<strong>Throughput</strong>") == 1
    assert "<p>charts</p>" in text


def test_long_names_may_break_where_a_part_of_them_ends(site: Path) -> None:
    text = (site / "security.html").read_text(encoding="utf-8")
    assert "tests/<wbr>unit/<wbr>test_<wbr>small_<wbr>file.py" in text
    assert "rabbit_host" in text, "a short name stays whole"
    text = (site / "deployment.html").read_text(encoding="utf-8")
    assert '<span class="pre whole">--ask-become-pass</span>' in text


def test_nothing_of_the_machine_that_built_the_site_is_in_it(site: Path) -> None:
    for file in site.rglob("*"):
        if file.suffix in (".html", ".js", ".txt", ".css", ".svg"):
            text = file.read_text(encoding="utf-8", errors="replace")
            assert "sesame-of-the-builder" not in text, file
            assert str(ROOT) not in text, file
