"""Where things are fetched from, and asking for them by HTTP: proxies, certificates, users and passwords."""

from __future__ import annotations

import base64
import contextlib
import errno
import http.client
import os
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from ...shared import environment_variables
from ...shared.addresses import hide_credentials, is_web_address, read_wish
from ...shared.certificates import find_bundle_problem
from .failures import InstallationError, Remedy

PACKAGE_INDEX = "https://pypi.org/simple"
TORCH_INDEX = "https://download.pytorch.org/whl"
PYTHON_MIRROR = "https://github.com/astral-sh/python-build-standalone/releases/download"
#: what names them; the second ones are those of pip and uv, which a studio has set already
PACKAGE_VARIABLES = (environment_variables.PACKAGE_INDEX, "UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
TORCH_VARIABLES = (environment_variables.TORCH_INDEX,)
PYTHON_VARIABLES = (environment_variables.PYTHON_MIRROR, "UV_PYTHON_INSTALL_MIRROR")
#: seconds without a byte after which a connection counts as broken
STALL_SECONDS = 30.0
#: where systems keep the certificates that they trust, should this Python have been built for another place
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_AGENT = "latentman-setup"
#: letters of an address that stay as they are
_PLAIN = "%/:=&?~+!$,;'@()*[]-._"


@dataclass(frozen=True)
class Network:
    """The addresses of the package index, of torch's index and of the mirror of Pythons."""

    package_index: str = PACKAGE_INDEX
    torch_index: str = TORCH_INDEX
    python_mirror: str = PYTHON_MIRROR

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Network:
        """Those that environment variables name, else the usual ones."""

        def find(names: tuple[str, ...], usual: str) -> str:
            named = next((value for name in names if (value := environment.get(name, "").strip())), usual)
            # uv lets an index have a name
            return re.sub(r"^[\w-]+=(?=https?://)", "", named).rstrip("/")

        return cls(
            find(PACKAGE_VARIABLES, PACKAGE_INDEX), find(TORCH_VARIABLES, TORCH_INDEX), find(PYTHON_VARIABLES, PYTHON_MIRROR)
        )

    @cached_property
    def _opener(self) -> urllib.request.OpenerDirector:
        return urllib.request.build_opener(urllib.request.HTTPSHandler(context=make_tls_context()), _CarefulRedirect())

    def open(self, url: str, **headers: str) -> http.client.HTTPResponse:
        """Ask for something. Raises ``urllib.error.HTTPError`` for answers from 400 on, and ``OSError`` and
        ``http.client.HTTPException`` for what keeps an answer from coming."""
        address, authorization = split_credentials(url)
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{hide_credentials(address)} is not an address of the web")
        # pages name files with letters that may not stand in a request
        address = parts._replace(path=quote(parts.path, _PLAIN), query=quote(parts.query, _PLAIN)).geturl()
        check_proxy(address)
        request = urllib.request.Request(address, headers={"User-Agent": _AGENT, **headers})
        if authorization:
            request.add_unredirected_header("Authorization", authorization)
        return cast(http.client.HTTPResponse, self._opener.open(request, timeout=STALL_SECONDS))


def check_address(url: str) -> None:
    """Raises ``InstallationError`` for what is no address of the web."""
    if not is_web_address(url):
        raise explain_network_error(ValueError("it is not an address of the web"), url)


class UnusableProxyError(ValueError):
    """A proxy of a kind that the standard library does not speak with."""


def check_proxy(address: str) -> None:
    """Raises ``urllib.error.URLError`` where the proxy for an address is none of HTTP."""
    parts = urlsplit(address)
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    if proxy.lower().startswith("socks") and not urllib.request.proxy_bypass(parts.hostname or ""):
        raise urllib.error.URLError(UnusableProxyError("it is no proxy of HTTP"))


class InsecureRedirectError(ValueError):
    """A redirection from a safe connection to an open one."""


class _CarefulRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirection from a safe connection to an open one, and keeps user and password for the host that they are for."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]  # as the class above declares it
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise urllib.error.URLError(InsecureRedirectError("it leads from https to another kind of connection"))
        if not newurl.lower().startswith(("http:", "https:")):
            raise urllib.error.URLError(ValueError("it leads out of the web"))
        found = super().redirect_request(req, fp, code, msg, headers, newurl)
        authorization = req.unredirected_hdrs.get("Authorization")
        if found is not None and authorization and urlsplit(req.full_url)[:2] == urlsplit(newurl)[:2]:
            found.add_unredirected_header("Authorization", authorization)
        return found


def split_credentials(url: str) -> tuple[str, str]:
    """(the address without user and password, the header for them or nothing)."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, ""
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host)), "Basic " + base64.b64encode(pair.encode()).decode()


def make_tls_context() -> ssl.SSLContext:
    """What connections are checked with; ``SSL_CERT_FILE`` comes first, as everywhere."""
    context = ssl.create_default_context()
    if context.cert_store_stats()["x509_ca"] or os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
        return context
    bundles = [Path(bundle) for bundle in _BUNDLES]
    with contextlib.suppress(ImportError):
        import certifi

        bundles.insert(0, Path(certifi.where()))
    for bundle in bundles:
        with contextlib.suppress(OSError, ssl.SSLError):
            context.load_verify_locations(cafile=str(bundle))
            break
    return context


def get_host(url: str) -> str:
    """The host of an address, as it may be shown."""
    try:
        return urlsplit(hide_credentials(url)).netloc or url
    except ValueError:
        return hide_credentials(url)


def get_status(error: BaseException) -> int:
    """The status of an answer, 0 where there was none."""
    return error.code if isinstance(error, urllib.error.HTTPError) else 0


def _get_reason(error: BaseException) -> BaseException | str:
    """What is behind an error of urllib's."""
    return error.reason if isinstance(error, urllib.error.URLError) and not get_status(error) else error


def _get_tunnel_status(reason: BaseException | str) -> int:
    """What a proxy has answered that was to connect to another host, 0 where it is something else."""
    found = re.match(r"Tunnel connection failed: (\d+)", str(reason))
    return int(found[1]) if found else 0


def _may_status_pass(status: int) -> bool:
    return status in (408, 425, 429) or (status >= 500 and status not in (501, 505))


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    reason = _get_reason(error)
    status = get_status(error) or _get_tunnel_status(reason)
    if status:
        return _may_status_pass(status)
    # a reason in words is one of urllib's own, as for a kind of proxy that it does not know
    return not isinstance(reason, (ssl.SSLCertVerificationError, ValueError, http.client.InvalidURL, str))


def get_wish(error: BaseException) -> float:
    """The seconds that a server asks to wait for before the next request, as ``read_wish`` has them."""
    if not isinstance(error, urllib.error.HTTPError):
        return 0.0
    return read_wish(str(error.headers.get("Retry-After") or ""))


def explain_network_error(error: BaseException, url: str) -> InstallationError:
    """What kept something from being fetched, in words."""
    host, reason, status = get_host(url), _get_reason(error), get_status(error)
    found = _explain_proxy(reason, status, host)
    if found is None and status:
        found = _explain_status(status, host, hide_credentials(url))
    return found or _explain_certificate(reason, host) or _explain_address(reason, host, url) or _explain_connection(reason, host)


def _explain_proxy(reason: BaseException | str, status: int, host: str) -> InstallationError | None:
    tunnel = _get_tunnel_status(reason)
    if 407 in (status, tunnel):
        sentence = (
            "The proxy asks for a user and a password; write them into the proxy's address, as in http://user:password@proxy:8080."
        )
    elif tunnel:
        sentence = f"The proxy does not connect to {host} ({tunnel}); check the proxy, or ask who runs it."
    elif isinstance(reason, UnusableProxyError) or (isinstance(reason, str) and "unknown url type" in reason):
        sentence = "Only proxies whose addresses begin with http:// can be used; name another one."
    else:
        return None
    return InstallationError("proxy", sentence, Remedy.NETWORK)


def _explain_status(status: int, host: str, shown: str) -> InstallationError:
    """``shown`` is the address as it may be shown."""
    if status == 429:
        return InstallationError(
            "server", f"{host} has been asked too often (429); try again in some minutes, and it goes on where it stopped."
        )
    if not 300 <= status < 500 or _may_status_pass(status):
        return InstallationError(
            "server", f"{host} answers with an error ({status}); try again later, and it goes on where it stopped."
        )
    if status in (401, 403):
        code = "refused"
        sentence = (
            f"{host} refuses to answer ({status}); if it wants a user and a password, write them into its address, as in "
            "https://user:password@index.studio/simple."
        )
    elif status == 404:
        code, sentence = "absent", f"{host} has nothing at {shown}; check the address, or use another one."
    elif status in (410, 451):
        code, sentence = "absent", f"{host} has taken away what is at {shown} ({status}); use another address."
    elif status < 400:
        code = "address"
        sentence = f"{host} leads on to nothing that can be used ({status}); check the address, or use another one."
    else:
        code, sentence = "refused", f"{host} does not answer what it is asked ({status}); check the address and the proxy."
    return InstallationError(code, sentence, Remedy.NETWORK)


def _explain_certificate(reason: BaseException | str, host: str) -> InstallationError | None:
    if not isinstance(reason, ssl.SSLError):
        return None
    bundle = os.environ.get("SSL_CERT_FILE", "")
    if bundle and (problem := find_bundle_problem(bundle)):
        sentence = (
            f"The certificate of {host} cannot be checked with those of SSL_CERT_FILE, {bundle} ({problem}); name a file in the "
            "format PEM there."
        )
    else:
        sentence = (
            f"The certificate of {host} is not trusted ({getattr(reason, 'verify_message', '') or reason}); check the date of this "
            "computer, and if your network has certificates of its own, name their file in the environment variable SSL_CERT_FILE."
        )
    return InstallationError("certificate", sentence, Remedy.NETWORK)


def _explain_address(reason: BaseException | str, host: str, url: str) -> InstallationError | None:
    if isinstance(reason, InsecureRedirectError):
        code, sentence = "address", f"{host} leads on to an address without https, which is not safe; use another one."
    elif isinstance(reason, http.client.InvalidURL) and (proxy := urllib.request.getproxies().get(urlsplit(url).scheme)):
        code = "proxy"
        sentence = (
            f"The proxy's address {hide_credentials(proxy)} cannot be understood; write it as http://proxy:8080, and odd letters "
            "of a password as numbers, such as %23 for #."
        )
    elif isinstance(reason, (ValueError, http.client.InvalidURL)):
        code = "address"
        sentence = (
            f"{hide_credentials(url)} is not an address that can be asked; write it out, beginning with https://, and odd letters "
            "of a password as numbers, such as %23 for #."
        )
    else:
        return None
    return InstallationError(code, sentence, Remedy.NETWORK)


def _explain_connection(reason: BaseException | str, host: str) -> InstallationError:
    if isinstance(reason, socket.gaierror):
        sentence = (
            f"{host} cannot be found; check the connection to the internet, then the addresses and the proxy. Without internet, "
            "use *From Files*."
        )
    elif isinstance(reason, TimeoutError):
        sentence = f"{host} stopped answering; try again, and it goes on where it stopped."
    else:
        number = reason.errno if isinstance(reason, OSError) else None
        detail = os.strerror(number) if number in errno.errorcode and number is not None else str(reason)
        if isinstance(reason, http.client.HTTPException):
            detail = "the answer broke off"
        sentence = (
            f"{host} cannot be reached ({detail}); check the connection and the proxy, and try again: it goes on where it stopped."
        )
    return InstallationError("network", sentence, Remedy.NETWORK)
