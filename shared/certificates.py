"""Certificates that the user names. Needs only the standard library, as *Set Up* does."""

from __future__ import annotations

import ssl


def find_bundle_problem(path: str) -> str:
    """Why certificates cannot be read from a file, empty where they can."""
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        return "it holds no certificate"
    except OSError as error:
        return error.strerror or str(error)
    return ""
