"""What keeps a hub's answers from coming, in words: its address, the proxy, and certificates."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # the HTTP library's own

from ...shared.addresses import hide_credentials
from ...shared.certificates import find_bundle_problem
from .hub_variables import find_address_problem

_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
_ADVICE = "write it as http://proxy:8080, and odd letters of a password as numbers, such as %23 for #"


def explain_connection(error: BaseException | None, status: int | None, endpoint: str) -> str | None:
    """A sentence without its full stop for an answer's status, 407, or an error that is the connection's own fault; None for any
    other. ``endpoint`` is the hub's address."""
    problem = find_address_problem(endpoint)
    if problem:
        return problem
    errors = list(_list_causes(error))
    if status == 407 or any(re.search(r"\b407\b", str(one)) for one in errors if _is_of_http(one)):
        return "the proxy asks for a user and a password; write them into its address, as in http://user:password@proxy:8080"
    if any(isinstance(one, ImportError) and "SOCKS" in str(one) for one in errors):
        return "only proxies whose addresses begin with http:// can be used; name another one"
    if any(type(one).__name__ == "InvalidURL" or "nknown scheme for proxy" in str(one) for one in errors):
        return f"the proxy's address {_find_proxy()} cannot be understood; {_ADVICE}"
    bundle = os.environ.get("SSL_CERT_FILE", "")
    if bundle and any(isinstance(one, OSError) for one in errors) and (why := find_bundle_problem(bundle)):
        return f"the certificates {bundle} of SSL_CERT_FILE cannot be read ({why}); name a file in the format PEM there"
    if any(isinstance(one, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(one) for one in errors):
        host = urlsplit(hide_credentials(endpoint)).netloc
        return (
            f"the certificate of {host} is not trusted; check the date of this computer, and if your network has certificates of "
            "its own, name their file in the environment variable SSL_CERT_FILE"
        )
    return None


def _list_causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it was raised from."""
    seen = 0
    while error is not None and seen < 16:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1


def _is_of_http(error: BaseException) -> bool:
    return isinstance(error, HTTPError) or "httpcore" in type(error).__module__


def _find_proxy() -> str:
    named = (os.environ.get(name) or os.environ.get(name.lower()) for name in _PROXIES)
    return hide_credentials(next(filter(None, named), ""))
