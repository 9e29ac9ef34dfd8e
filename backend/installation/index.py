"""Package indexes: where they have a file.

The simple repository API, as JSON (https://packaging.python.org/en/latest/specifications/simple-repository-api/) or as HTML.
"""

from __future__ import annotations

import http.client
import json
import re
import time
import zlib
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from ...shared.addresses import hide_credentials
from .failures import InstallationError, Remedy
from .lock_file import LockedFile
from .network import Network, check_address, explain_network_error, get_host, get_wish, may_pass

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
#: bytes of a page; the largest of PyPI's have a tenth of it
_MOST = 64 << 20
#: how the names of an index's files end
_ENDS = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".egg", ".exe", ".msi", ".rpm", ".tgz")
#: seconds before a page is asked for again
PAUSES = (1.0, 3.0, 9.0)


@dataclass(frozen=True)
class Offer:
    """A file that an index has; ``sha256`` is empty and ``size`` 0 where the index does not say."""

    name: str
    url: str
    sha256: str
    size: int


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.base = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if href and tag == "base":
            self.base = self.base or href
        elif href and tag == "a":
            self.links.append(href)


def read_page(data: bytes, kind: str, url: str) -> tuple[Offer, ...]:
    """The files of an index's page for one package, which was asked for at ``url`` and is of the MIME type ``kind``. Raises
    ``ValueError`` for what is something else."""
    if kind.endswith("json") or data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
        found = json.loads(data)
        if not isinstance(found, dict) or not isinstance(found.get("files"), list):
            raise ValueError("it names no files")
        return tuple(
            Offer(
                str(file["filename"]),
                urljoin(url, str(file["url"])),
                str((file.get("hashes") or {}).get("sha256") or "").lower(),
                int(file.get("size") or 0),
            )
            for file in found["files"]
        )
    parser = _Links()
    parser.feed(data.decode("utf-8", "replace"))
    offers = []
    base = urljoin(url, parser.base)
    for link in parser.links:
        whole, fragment = urldefrag(urljoin(base, link))
        name = unquote(urlsplit(whole).path.rpartition("/")[2])
        if not name.endswith(_ENDS):
            continue
        digest = re.search(r"(?:^|&)sha256=([0-9a-fA-F]{64})(?:&|$)", fragment)
        offers.append(Offer(name, whole, digest[1].lower() if digest else "", 0))
    if not offers:
        # the page on which a network wants people to log in has links, too
        raise ValueError("it names no files")
    return tuple(offers)


def read_whole(answer: http.client.HTTPResponse) -> bytes:
    """A page, unpacked where it came packed, which some servers do unasked. Raises ``http.client.IncompleteRead`` for one that was
    cut off, and ``ValueError`` for one that cannot be unpacked or is too large."""
    data = answer.read(_MOST)
    if answer.length:
        raise http.client.IncompleteRead(data, answer.length)
    coding = (answer.headers.get("Content-Encoding") or "identity").strip().lower()
    if coding in ("gzip", "x-gzip", "deflate") and data:
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
        try:
            data = unpacker.decompress(data, _MOST)
        except zlib.error as error:
            raise ValueError("it cannot be unpacked") from error
        if not unpacker.eof:
            raise ValueError("it is cut off, or too large")
    return data


class Indexes:
    """The pages of the indexes, each asked for once."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._pages: dict[str, tuple[Offer, ...]] = {}

    def find(self, file: LockedFile) -> Offer:
        """Where a file is. Raises ``InstallationError``."""
        found = next((offer for offer in self.list_offers(file.package, file.folder) if offer.name == file.name), None)
        if found is None:
            host = hide_credentials(self._get_base(file.folder))
            raise InstallationError(
                "absent",
                f"{host} does not have {file.name}; use an index that has all of PyPI's files, or *From Files*.",
                Remedy.NETWORK,
            )
        if found.sha256 and found.sha256 != file.sha256:
            raise explain_wrong_file(file, found.url)
        return found

    def list_offers(self, package: str, folder: str = "") -> tuple[Offer, ...]:
        """All files of a package, on the package index or in a folder of torch's. Raises ``InstallationError``."""
        return self._list(f"{self._get_base(folder)}/{package}/")

    def _get_base(self, folder: str) -> str:
        return f"{self._network.torch_index}/{folder}" if folder else self._network.package_index

    def _list(self, url: str) -> tuple[Offer, ...]:
        if url not in self._pages:
            self._pages[url] = self._fetch(url)
        return self._pages[url]

    def _fetch(self, url: str) -> tuple[Offer, ...]:
        check_address(url)
        for pause in (*PAUSES, None):
            try:
                with self._network.open(url, Accept=ACCEPT) as answer:
                    data = read_whole(answer)
                    kind = answer.headers.get_content_type()
                    offers = read_page(data, kind, answer.geturl())
                return tuple(replace(offer, url=keep_credentials(url, offer.url)) for offer in offers)
            except (OSError, http.client.HTTPException) as error:
                if pause is None or not may_pass(error):
                    raise explain_network_error(error, url) from error
                time.sleep(max(pause, get_wish(error)))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise InstallationError(
                    "index",
                    f"What answers at {hide_credentials(url)} is not a package index; open a web page to see whether your network "
                    "wants you to log in first, then check the address.",
                    Remedy.NETWORK,
                ) from error
        raise AssertionError


def keep_credentials(asked: str, link: str) -> str:
    """A link of a page that was asked for at ``asked``, with the user and password of the index where it is on the same host, and
    not without the encryption that the page came with."""
    parts, found = urlsplit(asked), urlsplit(link)
    same = parts.netloc.rpartition("@")[2] == found.netloc and found.scheme in (parts.scheme, "https")
    if "@" in parts.netloc and "@" not in found.netloc and same:
        return found._replace(netloc=parts.netloc).geturl()
    return link


def explain_wrong_file(file: LockedFile, url: str) -> InstallationError:
    """The sentence for a file that is not the one that is locked."""
    return InstallationError(
        "hash",
        f"{get_host(url)} offers a {file.name} that is not the genuine one (its checksum is another), so it is not used; try "
        "again, or use another address.",
        Remedy.NETWORK,
    )
