"""The guides say what the extension says: every quoted sentence and every label in them is one of the source."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from latentman.blender_addon.translation.translator import Template
from tools.translations import collect

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
#: what Blender itself calls its menus, boxes and settings, and emphasis
BLENDERS = {
    "Clip Start",
    "Edit > Preferences > Get Extensions",
    "Install from Disk",
    "Preferences > System > Network > Allow Online Access",
    "Marker > Bind Camera to Markers",
}


@pytest.fixture(scope="module")
def messages():
    return collect()


def _strip(label):
    """A label without a box's number and without dots."""
    return re.sub(r"^\d +", "", label).strip(". ")


def _read(name):
    return (GUIDES / name).read_text(encoding="utf-8")


def test_quoted_sentences_are_said(messages):
    templates = [Template(message) for message in messages if len(message) > 20]
    rows = re.findall(r"^\| `(.+?)` \|", _read("troubleshooting.md"), re.MULTILINE)
    assert len(rows) > 20
    unsaid = [row for row in rows if not any(found.match(row.replace("\\|", "|")) is not None for found in templates)]
    assert not unsaid


@pytest.mark.parametrize("name", sorted(path.name for path in GUIDES.glob("*.md")))
def test_labels_are_those_of_the_window(name, messages):
    labels = set(re.findall(r"(?<!\*)\*([A-Z0-9.][^*\n]*(?:\n[^*\n]+)?)\*(?!\*)", _read(name)))
    labels = {" ".join(label.split()) for label in labels}
    known = {_strip(message) for message in (*messages, *BLENDERS, "LatentMan")}
    # a way leads over several labels
    unknown = [
        label for label in labels if _strip(label) not in known and not {_strip(step) for step in label.split(" > ")} <= known
    ]
    assert not unknown
