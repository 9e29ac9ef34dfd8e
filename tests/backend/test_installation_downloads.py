"""Downloads of *Set Up* from an index on loopback that fails in every way that indexes do: each failure is one sentence, and what
has come is gone on with."""

from __future__ import annotations

import base64
import errno
import http.client
import os
import shutil
import socket
import ssl
import subprocess
import threading
import urllib.error

import pytest

from latentman.backend.installation import index as index_module
from latentman.backend.installation import network as network_module
from latentman.backend.installation import transfer
from latentman.backend.installation.failures import InstallationError, Remedy, explain_os_error
from latentman.backend.installation.index import Indexes
from latentman.backend.installation.lock_file import LockedFile
from latentman.backend.installation.network import Network, explain_network_error, may_pass
from latentman.shared.addresses import MOST_WISHED, hide_credentials
from tests.small_set_up import describe
from tests.small_wheels import write_wheel
from tests.stand_in_proxy import StandInProxy
from tools.stand_in_index import StandInIndex

_HOTEL = b"<html><body><h1>Welcome</h1><a href='/login'>Log in</a> <a href='/terms.html'>Terms</a></body></html>"


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """The pauses are there, and short; nothing of this machine's own proxies is used."""
    monkeypatch.setattr(transfer, "PAUSES", (0.001,) * 6)
    monkeypatch.setattr(index_module, "PAUSES", (0.001,) * 3)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def index(tmp_path):
    found = StandInIndex()
    found.folders = {"simple": tmp_path / "simple", "whl/cu126": tmp_path / "torch"}
    yield found
    found.close()


@pytest.fixture
def wheel(tmp_path):
    """A wheel of some pieces, and what the lock says of it."""
    path = write_wheel(tmp_path / "simple", "Big_Wheel", files={"big_wheel/data": os.urandom(400_000)})
    return LockedFile(path.name, exact=True, **describe(path))


class Fetching:
    """Asks the index for a file and downloads it."""

    def __init__(self, index, folder, user="", base=""):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        address = base or index.address.replace("://", f"://{user}@" if user else "://")
        self.network = Network(f"{address}/simple", f"{address}/whl")
        self.reports, self.said = [], []

    def __call__(self, file):
        indexes = Indexes(self.network)
        return transfer.fetch(
            self.network, lambda: indexes.find(file).url, file, self.folder, self.reports.append, self.said.append
        )

    def fail(self, file):
        """The failure, which must be a sentence for people."""
        with pytest.raises(InstallationError) as caught:
            self(file)
        check_sentence(caught.value)
        assert not (self.folder / file.name).exists()
        return caught.value


def check_sentence(error):
    """What every failure is: a code, a remedy, and a sentence that says what happened and, after a semicolon, what to do."""
    assert error.code and isinstance(error.remedy, Remedy)
    sentence = error.sentence
    assert sentence[0].isupper() or sentence[0].isdigit() or "/" in sentence.split()[0] or "." in sentence.split()[0], sentence
    assert sentence.endswith(".") and "\n" not in sentence and ";" in sentence, sentence
    for word in ("Traceback", "None", "errno", "Errno", "<", "secret"):
        assert word not in sentence, sentence


@pytest.fixture
def fetch(index, tmp_path):
    return Fetching(index, tmp_path / "downloads")


@pytest.mark.parametrize("speaks_json", [True, False])
@pytest.mark.parametrize(
    "write_link",
    [
        lambda path: path,
        lambda path: "../.." + path,
        lambda path: path.replace("-", "%2D"),
    ],
    ids=["absolute", "relative", "escaped"],
)
def test_pages_of_both_kinds_with_links_of_every_kind(index, fetch, wheel, speaks_json, write_link):
    index.speaks_json, index.write_link = speaks_json, write_link
    assert fetch(wheel).stat().st_size == wheel.size
    assert fetch.reports[-1] == wheel.size


def test_whole_addresses_and_a_base(index, fetch, wheel):
    index.files_at = index.address
    assert fetch(wheel).exists()
    (fetch.folder / wheel.name).unlink()
    index.files_at, index.speaks_json = "", False
    index.base, index.write_link = f"{index.address}/files/simple/", lambda path: path.rpartition("/")[2]
    assert fetch(wheel).exists()


def test_a_plus_in_a_name_comes_through(index, fetch, tmp_path):
    path = write_wheel(tmp_path / "torch", "torch", "2.13.0+cu126")
    file = LockedFile(path.name, folder="cu126", **describe(path))
    for index.speaks_json in (True, False):
        assert fetch(file).exists()
        (fetch.folder / file.name).unlink()


def test_what_has_come_is_not_asked_for_again(index, fetch, wheel):
    fetch(wheel)
    index.requests.clear()
    assert fetch(wheel).exists() and index.requests == []


@pytest.mark.parametrize("cut", [1, 1000, 65_536, 300_000])
def test_a_cut_download_goes_on_where_it_stopped(index, fetch, wheel, cut):
    index.cut_after, index.cut_count = cut, 1
    fetch(wheel)
    assert [part for path, part in index.requests if path.startswith("/files/")] == ["", f"bytes={cut}-"]


def test_many_cuts_are_no_failure_as_long_as_something_comes(index, fetch, wheel):
    index.cut_after, index.cut_count = 30_000, -1
    assert fetch(wheel).exists()
    assert len([1 for path, _ in index.requests if path.startswith("/files/")]) > 10


def test_a_later_call_goes_on_too(index, fetch, wheel):
    index.cut_after, index.cut_count = 100_000, 1
    index.before = lambda name: setattr(index, "status", 404)
    assert fetch.fail(wheel).code == "absent"
    assert (fetch.folder / f"{wheel.name}.part").stat().st_size == 100_000
    index.status, index.before = 0, lambda name: None
    fetch(wheel)
    assert index.requests[-1][1] == "bytes=100000-"


def test_without_ranges_it_begins_again(index, fetch, wheel):
    index.ranges, index.cut_after, index.cut_count = False, 100_000, 2
    assert fetch(wheel).exists()
    index.cut_count = -1
    (fetch.folder / wheel.name).unlink()
    failure = fetch.fail(wheel)
    assert failure.code == "network" and "try again" in failure.sentence


def test_a_part_that_begins_elsewhere_is_not_taken(index, fetch, wheel):
    index.cut_after, index.cut_count, index.shifted = 100_000, 1, True
    assert fetch(wheel).exists()


@pytest.mark.parametrize("size", [1, 5_000, 10**6])
def test_a_wrong_beginning_of_an_earlier_try_is_thrown_away(index, fetch, wheel, size):
    (fetch.folder / f"{wheel.name}.part").write_bytes(b"x" * size)
    assert fetch(wheel).exists()


@pytest.mark.parametrize("content", [b"", b"half", None], ids=["empty", "half", "as long"])
def test_a_complete_but_damaged_file_is_fetched_again(index, fetch, wheel, content):
    (fetch.folder / wheel.name).write_bytes(b"y" * wheel.size if content is None else content)
    assert fetch(wheel).exists()
    # the same with all of it under the name of what is not complete
    (fetch.folder / wheel.name).unlink()
    (fetch.folder / f"{wheel.name}.part").write_bytes(b"y" * wheel.size)
    assert fetch(wheel).exists()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_an_error_for_a_while_passes(index, fetch, wheel, status):
    index.status, index.status_count = status, 3
    assert fetch(wheel).exists()


@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        (401, "refused", Remedy.NETWORK),
        (403, "refused", Remedy.NETWORK),
        (404, "absent", Remedy.NETWORK),
        (407, "proxy", Remedy.NETWORK),
        (410, "absent", Remedy.NETWORK),
        (429, "server", Remedy.RETRY),
        (500, "server", Remedy.RETRY),
        (503, "server", Remedy.RETRY),
    ],
)
def test_an_error_for_ever_is_a_sentence_and_a_second_try_succeeds(index, fetch, wheel, status, code, remedy):
    index.status = status
    failure = fetch.fail(wheel)
    assert (failure.code, failure.remedy) == (code, remedy)
    # also where it is the file that fails, after the page
    index.status, index.before = 0, lambda name: None
    index.redirects = {"/files/": f"{index.address}/nowhere/"}
    assert fetch.fail(wheel).code == "absent"
    index.redirects = {}
    assert fetch(wheel).exists()


def test_what_a_server_asks_to_wait_is_waited(index, fetch, wheel, monkeypatch):
    slept = []
    monkeypatch.setattr(index_module.time, "sleep", slept.append)
    index.status, index.status_count, index.wish = 429, 1, "7"
    fetch(wheel)
    assert 7.0 in slept
    (fetch.folder / wheel.name).unlink()
    index.status_count, index.wish = 1, "86400"
    fetch(wheel)
    assert max(slept) == MOST_WISHED


@pytest.mark.parametrize("kind", ["as long", "longer", "shorter"])
def test_another_file_of_the_same_name_is_refused(index, fetch, wheel, kind):
    length = {"as long": wheel.size, "longer": wheel.size + 1, "shorter": wheel.size - 1}[kind]
    index.wrong = {wheel.name: os.urandom(length)}
    failure = fetch.fail(wheel)
    assert failure.code == "hash" and "genuine" in failure.sentence
    index.wrong = {}
    assert fetch(wheel).exists()


def test_a_file_that_the_index_itself_announces_differently_is_not_even_asked_for(index, fetch, wheel, tmp_path):
    write_wheel(tmp_path / "simple", "Big_Wheel", files={"big_wheel/data": b"other"})
    assert fetch.fail(wheel).code == "hash"
    assert not [path for path, _ in index.requests if path.startswith("/files/")]


def test_the_page_of_a_hotel(index, fetch, wheel):
    index.page = _HOTEL
    failure = fetch.fail(wheel)
    assert failure.code == "index" and "log in" in failure.sentence
    # and where the hotel comes in between
    index.page, index.before = b"", lambda name: None
    indexes = Indexes(fetch.network)
    url = indexes.find(wheel).url
    index.page = _HOTEL
    with pytest.raises(InstallationError) as caught:
        transfer.fetch(fetch.network, lambda: url, wheel, fetch.folder, fetch.reports.append)
    check_sentence(caught.value)
    assert caught.value.code == "page" and caught.value.remedy is Remedy.NETWORK
    assert len([1 for path, _ in index.requests if path.startswith("/files/")]) == 1
    index.page = b""
    assert fetch(wheel).exists()


@pytest.mark.parametrize("kind", ["text/html", "application/vnd.pypi.simple.v1+json", "application/json"])
@pytest.mark.parametrize("page", [b"{", b"[]", b'{"files": 3}', b'{"files": [{"filename": 1}]}', b"\xff\xfe", b" ", b"<a href=x>"])
def test_pages_that_are_none(index, fetch, wheel, page, kind):
    index.page, index.page_kind = page, kind
    assert fetch.fail(wheel).code == "index"


def test_a_package_or_file_that_the_index_lacks(index, fetch, wheel, tmp_path):
    assert fetch.fail(LockedFile("nobody-1.0-py3-none-any.whl", "0" * 64, 10)).code == "absent"
    failure = fetch.fail(LockedFile("big_wheel-9.9-py3-none-any.whl", "0" * 64, 10))
    assert failure.code == "absent" and "big_wheel-9.9" in failure.sentence


def test_user_and_password_are_for_their_host_alone(index, wheel, tmp_path):
    index.user = "anna:se cret"
    assert Fetching(index, tmp_path / "none").fail(wheel).code == "refused"
    assert Fetching(index, tmp_path / "wrong", "anna:wrong").fail(wheel).code == "refused"
    fetch = Fetching(index, tmp_path / "right", "anna:se%20cret")
    assert fetch(wheel).exists()
    # a redirection to another path keeps them, one to another host does not
    index.redirects = {"/simple/": f"{index.address}/moved/"}
    index.folders["moved"] = tmp_path / "simple"
    (fetch.folder / wheel.name).unlink()
    assert fetch(wheel).exists()
    other = StandInIndex()
    try:
        other.folders = {"simple": tmp_path / "simple"}
        index.redirects = {"/files/": f"{other.address}/files/"}
        (fetch.folder / wheel.name).unlink()
        assert fetch(wheel).exists()
        assert other.requests and not any("Authorization" in headers for headers in other.headers)
        # nor does a link to another host
        other.headers.clear()
        index.redirects, index.files_at = {}, other.address
        (fetch.folder / wheel.name).unlink()
        assert fetch(wheel).exists()
        assert other.headers and not any("Authorization" in headers for headers in other.headers)
    finally:
        other.close()


@pytest.mark.parametrize(
    ("asked", "link", "kept"),
    [
        ("https://u:p@host/simple/a/", "https://host/files/a.whl", True),
        ("http://u:p@host/simple/a/", "https://host/files/a.whl", True),
        ("https://u:p@host/simple/a/", "http://host/files/a.whl", False),
        ("https://u:p@host/simple/a/", "https://host:8443/files/a.whl", False),
        ("https://u:p@host/simple/a/", "https://files.host/a.whl", False),
        ("https://u:p@host/simple/a/", "https://host@evil/a.whl", False),
        ("https://host/simple/a/", "https://host/a.whl", False),
    ],
)
def test_credentials_of_links(asked, link, kept):
    assert ("u:p@" in index_module.keep_credentials(asked, link)) is kept


def test_no_network_at_all(index, fetch, wheel, monkeypatch):
    index.close()
    failure = fetch.fail(wheel)
    assert failure.code == "network" and "127.0.0.1" in failure.sentence

    def know_nobody(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", know_nobody)
    failure = Fetching(index, fetch.folder, base="https://user:secret@pypi.studio").fail(wheel)
    assert failure.code == "network" and "pypi.studio cannot be found" in failure.sentence and "From Files" in failure.sentence


def test_an_index_that_stops_answering(index, fetch, wheel, monkeypatch):
    monkeypatch.setattr(network_module, "STALL_SECONDS", 0.15)
    monkeypatch.setattr(transfer, "PAUSES", (0.001,))
    gate = threading.Event()
    index.before = lambda name: gate.wait(5)
    try:
        failure = fetch.fail(wheel)
        assert failure.code == "network" and "stopped answering" in failure.sentence
        assert fetch.said and "next try" in fetch.said[0]
    finally:
        gate.set()
    index.before = lambda name: None
    assert fetch(wheel).exists()


def test_a_slow_index_is_waited_for(index, fetch, wheel, monkeypatch):
    # slower as a whole than a connection may be silent
    monkeypatch.setattr(network_module, "STALL_SECONDS", 0.2)
    index.pause, index.piece = 0.03, 1 << 15
    assert fetch(wheel).exists()


@pytest.mark.parametrize("base", ["ftp://host/x", "pypi.org", "https://[bad/x", "", "http://host name", "file:///etc"])
def test_addresses_that_are_none(index, fetch, wheel, base):
    fetch.network = Network(f"{base}/simple", f"{base}/whl")
    assert fetch.fail(wheel).remedy is Remedy.NETWORK


@pytest.fixture
def secure(tmp_path):
    """An index with a certificate that nobody has signed, and the file of the certificate."""
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:index.studio"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    both = tmp_path / "both.pem"
    both.write_text(key.read_text() + certificate.read_text())
    found = StandInIndex(both)
    found.folders = {"simple": tmp_path / "simple"}
    yield found, certificate
    found.close()


def test_a_certificate_that_is_not_trusted(secure, wheel, tmp_path, monkeypatch):
    index, certificate = secure
    failure = Fetching(index, tmp_path / "downloads").fail(wheel)
    assert failure.code == "certificate" and "SSL_CERT_FILE" in failure.sentence
    # once, and not again and again
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert Fetching(index, tmp_path / "downloads")(wheel).exists()


def test_no_way_from_a_safe_connection_to_an_open_one(secure, index, wheel, tmp_path, monkeypatch):
    safe, certificate = secure
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    safe.redirects = {"/files/": f"{index.address}/files/"}
    failure = Fetching(safe, tmp_path / "downloads").fail(wheel)
    assert failure.code == "address" and not index.requests


@pytest.mark.parametrize("user", ["", "anna:sesame"])
def test_a_proxy(index, secure, wheel, tmp_path, monkeypatch, user):
    safe, certificate = secure
    proxy = StandInProxy(user)
    proxy.hosts = {"index.studio": index.host, "index.studio:443": safe.host}
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    try:
        for scheme, method in (("http", "GET"), ("https", "CONNECT")):
            folder = tmp_path / scheme
            monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.host}")
            monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host}")
            if user:
                failure = Fetching(None, folder, base=f"{scheme}://index.studio").fail(wheel)
                assert failure.code == "proxy" and "password" in failure.sentence
                monkeypatch.setenv("HTTP_PROXY", f"http://{user}@{proxy.host}")
                monkeypatch.setenv("HTTPS_PROXY", f"http://{user}@{proxy.host}")
            assert Fetching(None, folder, base=f"{scheme}://index.studio")(wheel).exists()
            assert proxy.requests[-1][0] == method
    finally:
        proxy.close()


def test_proxies_that_do_not_help(wheel, tmp_path, monkeypatch):
    proxy = StandInProxy()
    try:
        proxy.refusal = 403
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host}")
        failure = Fetching(None, tmp_path / "a", base="https://index.studio").fail(wheel)
        assert failure.code == "proxy" and "index.studio" in failure.sentence
    finally:
        proxy.close()
    failure = Fetching(None, tmp_path / "b", base="https://index.studio").fail(wheel)
    assert failure.code == "network"
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    failure = Fetching(None, tmp_path / "c", base="https://index.studio").fail(wheel)
    assert failure.code == "proxy" and "http://" in failure.sentence


@pytest.mark.parametrize(
    "error",
    [
        ssl.SSLError(1, "[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC]"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        TimeoutError("timed out"),
        http.client.IncompleteRead(b"", 10),
        OSError(errno.ENETUNREACH, "unreachable"),
        urllib.error.URLError(OSError(errno.EHOSTUNREACH, "no route")),
    ],
)
def test_errors_of_connections_are_tried_again(index, fetch, wheel, monkeypatch, error):
    opened, left = Network.open, [error, error]

    def open_badly(self, url, **headers):
        answer = opened(self, url, **headers)
        if "/files/" in url and left:
            answer.read = lambda *_: (_ for _ in ()).throw(left.pop())
        return answer

    monkeypatch.setattr(Network, "open", open_badly)
    assert fetch(wheel).exists() and not left
    check_sentence(explain_network_error(error, "https://user:secret@index.studio/simple/"))


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "space"), (errno.EDQUOT, "space"), (errno.EIO, "disk"), (errno.EROFS, "permission")]
)
def test_errors_of_the_disk_are_not_the_network_s(index, fetch, wheel, monkeypatch, number, code):
    opened = Network.open

    def open_badly(self, url, **headers):
        answer = opened(self, url, **headers)
        if "/files/" in url:
            read = answer.read

            def read_and_fail(count):
                if len(read(count)):
                    raise OSError(number, os.strerror(number))

            answer.read = read_and_fail
        return answer

    monkeypatch.setattr(Network, "open", open_badly)
    with pytest.raises(OSError) as caught:
        fetch(wheel)
    explained = explain_os_error(caught.value, "fetching", fetch.folder)
    check_sentence(explained)
    assert explained.code == code
    assert len([1 for path, _ in index.requests if path.startswith("/files/")]) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_disk_that_becomes_full(index, wheel, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        fetch = Fetching(index, disk / "downloads")
        with pytest.raises(OSError) as caught:
            fetch(wheel)
        assert explain_os_error(caught.value, "fetching", disk).code == "space"
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        come = (fetch.folder / f"{wheel.name}.part").stat().st_size
        assert fetch(wheel).exists() and come > 0
        assert index.requests[-1][1] == f"bytes={come}-"
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a:b@host/x", "https://host/x"),
        ("https://a@host:1/x", "https://host:1/x"),
        ("https://host/x", "https://host/x"),
        ("https://a:b@[bad/x", "https://[bad/x"),
    ],
)
def test_passwords_are_not_shown(url, shown):
    assert hide_credentials(url) == shown


def test_addresses_come_from_the_environment():
    found = Network.from_environment({"UV_DEFAULT_INDEX": "studio=https://a/simple/", "PIP_INDEX_URL": "https://b/simple"})
    assert found.package_index == "https://a/simple" and found.torch_index.startswith("https://download.pytorch.org")
    found = Network.from_environment({"LATENTMAN_PACKAGE_INDEX": " https://c/simple ", "UV_INDEX_URL": "https://b"})
    assert found.package_index == "https://c/simple"


@pytest.mark.parametrize(
    ("error", "passes"), [(OSError("Tunnel connection failed: 407 x"), False), (OSError("Tunnel connection failed: 503 x"), True)]
)
def test_which_refusals_of_a_proxy_pass(error, passes):
    assert may_pass(error) is passes
    check_sentence(explain_network_error(error, "https://index.studio/"))


def test_the_authorization_is_what_http_says(index, wheel, tmp_path):
    Fetching(index, tmp_path / "d", "ann%C3%A9:p%40ss")(wheel)
    sent = index.headers[0]["Authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")).decode() == "anné:p@ss"
