"""The documentation's site is built without a warning, complete, and fetches nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.checkout import ROOT
from tools.documentation.hooks import PAGES, convert_line, convert_link


class Page(HTMLParser):
    """The links, the resources and the anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links, self.resources, self.anchors = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag in ("img", "script", "source", "iframe") and found.get("src"):
            self.resources.append(found["src"])
        if tag == "link" and found.get("href") and found.get("rel") != "canonical":
            self.resources.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site, and what was said on the way."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(ROOT / "mkdocs.yml"), "--site-dir", str(folder)],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout + done.stderr


def test_it_is_built_without_a_warning(site):
    assert "Documentation built" in site[1] and "WARNING" not in site[1], site[1]
    assert "not included in the" not in site[1], "every page is in the navigation"


def test_every_page_is_there(site):
    pages = [*PAGES.values(), *(page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md"))]
    for page in pages:
        name = page.replace("README.md", "index.md").replace(".md", ".html")
        assert (site[0] / name).is_file(), page


def test_nothing_is_fetched_from_elsewhere(site):
    for file in site[0].rglob("*.html"):
        for resource in Page(file).resources:
            assert not urlsplit(resource).netloc, f"{file.name} fetches {resource}"
    for file in site[0].rglob("*.css"):
        assert not re.search(r"url\([\"']?https?:|@import", file.read_text(encoding="utf-8")), file.name


def test_links_pictures_and_anchors_exist(site):
    pages = {file: Page(file) for file in site[0].rglob("*.html") if file.name != "404.html"}
    for file, page in pages.items():
        for link in page.links + page.resources:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{file.relative_to(site[0])} leads to {link}"
            # the template's own link to the top of the page
            if parts.fragment and target in pages and parts.fragment != "__skip":
                assert unquote(parts.fragment) in pages[target].anchors, f"{file.relative_to(site[0])} leads to {link}"


def test_docstrings_settings_and_comments_are_on_the_api_pages(site):
    def text(name):
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", (site[0] / "api" / name).read_text(encoding="utf-8")))

    assert "Generate a clip whose frames fit passes." in text("pipeline.html")
    assert "How much of a frame's own light stays. 0 to 10. In the panel: Shading." in text("shot.html")
    assert "per-frame arrays of a shot: name -&gt; (dtype, trailing dimensions" in text("shot.html")
    assert "matched surface points" in text("metrics.html")
    assert "The latents (F, C, h, w) that the networks and the scheduler are to see" in text("techniques.html")
    assert "Annotated" not in text("shot.html")


@pytest.mark.parametrize(
    "link, source, expected",
    [
        ("docs/motion.md", "README.md", "motion.md"),
        ("docs/images/demo.png", "README.md", "images/demo.png"),
        ("CONTRIBUTING.md#the-map", "README.md", "contributing.md#the-map"),
        ("../CONTRIBUTING.md", "docs/settings.md", "contributing.md"),
        ("../images/tweak.png", "docs/results/README.md", "../images/tweak.png"),
        ("../../CONTRIBUTING.md", "docs/development/add_a_preset.md", "../contributing.md"),
        ("https://example.org/a.md", "README.md", "https://example.org/a.md"),
        ("#install", "README.md", "#install"),
        ("backend/server.py", "README.md", "backend/server.py"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(link, source, expected):
    assert convert_link(link, source) == expected


def test_bars_in_the_code_of_tables():
    assert convert_line(r"| `BASE\|CONTROL` | a \| b |", "README.md") == r"| `BASE|CONTROL` | a \| b |"
