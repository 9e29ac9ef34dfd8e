"""Addresses as they may be shown: without the user and the password that may be part of them. Needs only the standard library."""

from __future__ import annotations

import re

#: an address up to the ``@`` that ends user and password, which may hold what parts an address: not all write that as numbers
CREDENTIALS = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)(?:[^\s\"'@/?#\[]*:(?!\d+[/?#])[^\s\"']*|[^\s\"'@/?#]*)@")


def hide_credentials(text: str) -> str:
    """The address, or a text with addresses in it, without users and passwords."""
    return CREDENTIALS.sub(r"\g<1>", text)
