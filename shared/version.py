"""The product's version, which the extension's manifest declares, and the wire protocol's."""

from __future__ import annotations

import tomllib
from pathlib import Path

MANIFEST = Path(__file__).resolve().parents[1] / "blender_manifest.toml"
VERSION: str = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))["version"]
#: raised whenever a message or an array changes its meaning; both sides must have the same
PROTOCOL = 18
