"""Addresses as they may be shown, without the user and the password that may be part of them, and what servers ask for. Needs only
the standard library."""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

#: seconds that a server may ask to be left alone for
MOST_WISHED = 120.0
#: an address up to the ``@`` that ends user and password, which may hold what parts an address: not all write that as numbers
CREDENTIALS = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)(?:[^\s\"'@/?#\[]*:(?!\d+[/?#])[^\s\"']*|[^\s\"'@/?#]*)@")


def hide_credentials(text: str) -> str:
    """The address, or a text with addresses in it, without users and passwords."""
    return CREDENTIALS.sub(r"\g<1>", text)


def is_web_address(text: str) -> bool:
    """Whether a text is an address that can be asked by HTTP."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def read_wish(retry_after: str) -> float:
    """The seconds that a server asks to wait for before the next request, by its header ``Retry-After``: a number, or a date; 0 for
    none, ``MOST_WISHED`` at the most."""
    text = retry_after.strip()
    try:
        seconds = float(text) if text.isdecimal() else parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError, TypeError):
        return 0.0
    return min(max(seconds, 0.0), MOST_WISHED)
