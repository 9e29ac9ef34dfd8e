"""MkDocs's hooks: pages from outside ``docs/``, whose links are those of the repository.

A page is written to be read in the repository. On the site README is the front page, and so on (``PAGES``); each relative link is
followed to the file that it means and then written as that file's page. A link to what is not on the site stays as it is, and the
strict build refuses it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
DOCS = "docs/"
#: what of the package has API pages
DOCUMENTED = ("__init__.py", "shared", "backend")
#: file of the repository -> page of the site, for those that do not lie in ``docs/``
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "backend/models/starter/README.md": "models/starter.md",
    "backend/motion/starter/README.md": "models/starter_motion.md",
}
_SOURCES = {page: source for source, page in PAGES.items()}
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_CODE = re.compile(r"`[^`\n]+`")


def on_startup(command: str, dirty: bool) -> None:
    """Link the documented part of the package into a folder of its own: beside the rest lie gigabytes of environments, and a
    search for modules would go through all of them."""
    folder = ROOT / "build" / "documented" / "latentman"
    folder.mkdir(parents=True, exist_ok=True)
    for name in DOCUMENTED:
        link = folder / name
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(ROOT / name)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside ``docs/``."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Make a page's links and tables fit the site."""
    source = _SOURCES.get(page.file.src_uri, DOCS + page.file.src_uri)
    lines, in_code = [], False
    for line in markdown.split("\n"):
        in_code ^= line.startswith("```")
        lines.append(line if in_code else convert_line(line, source))
    return "\n".join(lines)


def convert_line(line: str, source: str) -> str:
    """A line of the file ``source`` of the repository as the site needs it."""
    if line.startswith("|"):
        # GitHub takes a bar in a table's code for the end of a cell unless it is escaped, Python's Markdown does not
        line = _CODE.sub(lambda code: code[0].replace(r"\|", "|"), line)
    return _LINK.sub(lambda link: convert_link(link[0], source), line)


def convert_link(link: str, source: str) -> str:
    """A link in the file ``source`` of the repository, as it must stand in that file's page."""
    path, mark, anchor = link.partition("#")
    if not path or ":" in path:
        return link
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    page = PAGES.get(target)
    if page is None:
        if not target.startswith(DOCS):
            return link
        page = target.removeprefix(DOCS)
    here = PAGES.get(source, source.removeprefix(DOCS))
    return posixpath.relpath(page, posixpath.dirname(here) or ".") + mark + anchor
