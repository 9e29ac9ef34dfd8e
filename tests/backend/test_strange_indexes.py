"""Package indexes and servers of files as some are: pages packed unasked, odd links, cut answers, other pieces than were asked."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import socket
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from latentman.backend.installation import index, transfer
from latentman.backend.installation.failures import InstallationError
from latentman.backend.installation.index import Indexes
from latentman.backend.installation.lock_file import LockedFile
from latentman.backend.installation.network import Network
from latentman.backend.installation.transfer import fetch
from latentman.shared.addresses import MOST_WISHED, hide_credentials, read_wish

DATA = random.Random(27).randbytes(300_000)
SHA = hashlib.sha256(DATA).hexdigest()
NAME = "thing-1.0-py3-none-any.whl"
JSON = "application/vnd.pypi.simple.v1+json"


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    for module in (transfer, index):
        monkeypatch.setattr(module, "PAUSES", (0.001,) * 2)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


class Answering:
    """A server that calls ``page`` for pages and ``file`` for files; ``ranges`` holds what was asked for of files."""

    def __init__(self, page, file, host="127.0.0.1"):
        self.ranges = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                if self.path.startswith("/simple"):
                    page(self)
                else:
                    outer.ranges.append(self.headers.get("Range", ""))
                    file(self)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

            def handle_error(self, *_):
                pass

        self.server = Server((host, 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        base = f"http://{f'[{host}]' if ':' in host else host}:{self.server.server_port}"
        self.network = Network(f"{base}/simple", f"{base}/whl", f"{base}/mirror")


@pytest.fixture
def get(tmp_path):
    """Fetches the file from a server with such pages and files; returns (the server, the bytes or the error)."""
    servers = []

    def get(page, file=None, **more):
        found = Answering(page, file or (lambda handler: send(handler, DATA)), **more)
        servers.append(found)
        indexes, file = Indexes(found.network), LockedFile(NAME, SHA, len(DATA))
        try:
            path = fetch(found.network, lambda: indexes.find(file).url, file, tmp_path, lambda done: None)
        except InstallationError as error:
            return found, error
        return found, path.read_bytes()

    yield get
    for one in servers:
        one.server.shutdown()
        one.server.server_close()


def send(handler, body, kind="application/octet-stream", status=200, length=None, **headers):
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)
    handler.close_connection = length is not None


def write_json(url=f"/files/{NAME}"):
    return json.dumps({"name": "thing", "files": [{"filename": NAME, "url": url, "hashes": {"sha256": SHA.upper()}}]}).encode()


def write_html(link=f"../../files/{NAME}"):
    return f'<html><body><a href="{link}#sha256={SHA.upper()}" data-yanked="old">{NAME}</a></body></html>'.encode()


def plain(handler):
    send(handler, write_json(), JSON)


@pytest.mark.parametrize(
    ("body", "kind", "headers"),
    [
        (gzip.compress(write_json()), JSON, {"Content_Encoding": "gzip"}),
        (gzip.compress(write_html()), "text/html", {"Content_Encoding": "x-gzip"}),
        (zlib.compress(write_html()), "text/html", {"Content_Encoding": "Deflate"}),
        (write_json(), "", {}),
        (b"\xef\xbb\xbf" + write_json(), "text/plain", {}),
        (write_html(f"/files/a b/{NAME}"), "text/html", {}),
        (write_html(f"/files/{NAME}?a=1&amp;b=c d"), "text/html", {}),
        (write_json(f"/files/動画/{NAME}"), JSON, {}),
        (write_html(f"/files/%C3%BC/{NAME}"), "text/html", {}),
    ],
    ids=["gzip", "x-gzip", "deflate", "no type", "mark", "blank", "blank in a query", "letters", "numbers"],
)
def test_pages_that_indexes_send(get, body, kind, headers):
    _, found = get(lambda handler: send(handler, body, kind, **headers))
    assert found == DATA


@pytest.mark.parametrize(
    ("body", "kind", "headers", "code"),
    [
        (gzip.compress(b" " * (1 << 27)), JSON, {"Content_Encoding": "gzip"}, "index"),
        (gzip.compress(write_json())[:-20], JSON, {"Content_Encoding": "gzip"}, "index"),
        (b"no zip at all", JSON, {"Content_Encoding": "gzip"}, "index"),
        (write_json()[:40], JSON, {"length": 5000}, "network"),
        (b'{"files":' + b"[" * 200_000, JSON, {}, "index"),
        (b"", "text/html", {"status": 302}, "address"),
        (b"", "text/html", {"status": 302, "Location": "/simple/thing/"}, "address"),
        (b"", "text/html", {"status": 302, "Location": "ftp://127.0.0.1/x"}, "address"),
        (b"", "text/html", {"status": 302, "Location": "file:///etc/passwd"}, "address"),
        (b"", "text/html", {"status": 451}, "absent"),
        (b"", "text/html", {"status": 418}, "refused"),
        (write_json("file:///etc/passwd"), JSON, {}, "address"),
    ],
)
def test_pages_that_cannot_be_used(get, body, kind, headers, code):
    _, found = get(lambda handler: send(handler, body, kind, **headers))
    assert isinstance(found, InstallationError) and found.code == code, found
    assert found.sentence.endswith(".") and ";" in found.sentence and "\n" not in found.sentence


@pytest.mark.parametrize("wish", ["0", "-5", "soon", "²", "1.5", "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 99 Foo 1970", ""])
def test_a_wish_to_wait_in_any_words(get, wish):
    answers = iter([429, 503])

    def page(handler):
        status = next(answers, 0)
        send(handler, b"", status=status, Retry_After=wish.encode().decode("latin-1")) if status else plain(handler)

    assert get(page)[1] == DATA


def test_wishes():
    assert read_wish("7") == 7 and read_wish(" 100000 ") == MOST_WISHED and read_wish("٣") == 3
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 60))
    assert 50 < read_wish(date) <= 60
    assert read_wish("9" * 5000) == read_wish("Fri, 31 Dec 9999 23:59:59 GMT") == MOST_WISHED


def _cut(handler, data=DATA, content_range="bytes {}-{}/{}", status=206):
    """The first third; of what is asked for behind it, what there is in ``data``."""
    wanted = handler.headers.get("Range")
    if not wanted:
        return send(handler, DATA[:100_000], length=len(DATA))
    start = int(wanted[6:-1])
    body = data[start:] if status == 206 else data
    return send(handler, body, status=status, Content_Range=content_range.format(start, len(DATA) - 1, len(DATA)))


def test_a_server_that_has_another_file_behind_the_first_piece(get):
    """As when two servers answer by turns, one of them with an older file: all of it is fetched once more."""
    server, found = get(plain, lambda handler: _cut(handler, bytes(len(DATA))))
    assert isinstance(found, InstallationError) and found.code == "hash" and server.ranges.count("") == 2
    turns = iter([lambda h: _cut(h), lambda h: _cut(h, bytes(len(DATA))), lambda h: send(h, DATA)])
    server, found = get(plain, lambda handler: next(turns)(handler))
    assert found == DATA and server.ranges == ["", "bytes=100000-", ""]


@pytest.mark.parametrize("content_range", ["bytes 7-{1}/{2}", "", "junk"])
def test_pieces_from_elsewhere_for_ever_end_in_a_sentence(get, content_range):
    server, found = get(plain, lambda handler: _cut(handler, content_range=content_range))
    assert isinstance(found, InstallationError) and found.code == "network" and len(server.ranges) < 12


def test_answers_without_ranges_that_are_cut_anywhere_end_in_a_sentence(get):
    cuts = random.Random(2)
    server, found = get(plain, lambda handler: send(handler, DATA[: cuts.randrange(1, len(DATA) // 2)], length=len(DATA)))
    assert isinstance(found, InstallationError) and found.code == "network" and len(server.ranges) < 40


def test_the_newer_protocol_of_the_internet(get):
    try:
        server, found = get(plain, host="::1")
    except OSError:
        pytest.skip("there is no IPv6 here")
    assert found == DATA and server.ranges == [""]


@pytest.mark.parametrize(
    "base", ["ftp://x/y", "file:///tmp", "http://[bad", "index.x/simple", "https://u:s3#cret@h/s", "https://u:s3/cret@h/s"]
)
def test_an_address_that_is_none_is_said_to_be_none(base):
    with pytest.raises(InstallationError, match="is not an address that can be asked") as raised:
        Indexes(Network(base)).list_offers("thing")
    assert raised.value.code == "address" and "cret" not in raised.value.sentence and "s3" not in raised.value.sentence


def test_a_proxy_whose_address_is_none(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://bob:s3cret@127.0.0.1:port")
    with pytest.raises(InstallationError, match=r"The proxy's address http://127.0.0.1:port cannot be understood") as raised:
        Indexes(Network("http://index.example/simple")).list_offers("thing")
    assert raised.value.code == "proxy" and "s3cret" not in raised.value.sentence


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:p#q@h:1/x", "https://h:1/x"),
        ("https://u:p/q?@h/x", "https://h/x"),
        ("https://u:p@q@h/x", "https://h/x"),
        ("http://u:p@[::1]:9/x", "http://[::1]:9/x"),
        ("see https://u:p@h/x and 'http://token@i/y'", "see https://h/x and 'http://i/y'"),
        # what is no password stays
        ("http://127.0.0.1:80/owner/name@0123", "http://127.0.0.1:80/owner/name@0123"),
        ("http://[::1]:80/owner/name@0123", "http://[::1]:80/owner/name@0123"),
        ("https://h/@scope/x?y=a@b#c@d", "https://h/@scope/x?y=a@b#c@d"),
        ("write to a@b.c or http://h", "write to a@b.c or http://h"),
    ],
)
def test_passwords_with_odd_letters_are_not_shown(text, shown):
    assert hide_credentials(text) == shown
