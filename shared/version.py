"""The product's version and the wire protocol's."""

from __future__ import annotations

VERSION = "0.1.0"
#: raised whenever a message or an array changes its meaning; both sides must have the same
PROTOCOL = 5
