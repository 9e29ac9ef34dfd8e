"""Keys, logs and folders are their user's alone."""

from __future__ import annotations

import os
import stat

import pytest

from latentman.shared import curve_keys, logs
from latentman.shared.files import make_private_folder
from latentman.shared.folders import LOG_ENVIRONMENT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows keeps them in the user's profile")


def _make_pair():
    return b"a" * 40, b"b" * 40


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def loose():
    """A umask that keeps nothing from anybody."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_new_keys_are_private(tmp_path, loose):
    made = curve_keys.load_or_create(_make_pair, tmp_path / "a" / "b")
    assert curve_keys.load_or_create(_make_pair, tmp_path / "a" / "b") == made
    path = curve_keys.find_keys(tmp_path / "a" / "b")
    assert _mode(path) == 0o600 and {_mode(folder) for folder in (path.parent, tmp_path / "a", tmp_path / "a" / "b")} == {0o700}
    assert [one.name for one in path.parent.iterdir()] == ["curve.txt"], "nothing is left of the writing"


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o602, 0o666, 0o644])
def test_keys_that_others_may_know_are_refused(tmp_path, mode):
    curve_keys.load_or_create(_make_pair, tmp_path)
    path = curve_keys.find_keys(tmp_path)
    path.chmod(mode)
    with pytest.raises(curve_keys.KeysError, match=f"chmod 600 .*delete {path}"):
        curve_keys.load_or_create(_make_pair, tmp_path)
    path.unlink()
    curve_keys.load_or_create(_make_pair, tmp_path)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o777])
def test_a_folder_of_keys_that_others_may_enter_is_refused(tmp_path, mode):
    curve_keys.load_or_create(_make_pair, tmp_path)
    folder = curve_keys.find_keys(tmp_path).parent
    folder.chmod(mode)
    with pytest.raises(curve_keys.KeysError, match="chmod 700"):
        curve_keys.load_or_create(_make_pair, tmp_path)


def test_keys_of_another_user_are_refused(tmp_path, monkeypatch):
    curve_keys.load_or_create(_make_pair, tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(curve_keys.KeysError, match="belongs to another user"):
        curve_keys.load_or_create(_make_pair, tmp_path)


@pytest.mark.parametrize("what", ["a pipe", "a huge file", "a folder", "half", "a file for a folder"])
def test_what_is_no_key_is_said_in_a_sentence(tmp_path, what):
    curve_keys.load_or_create(_make_pair, tmp_path)
    path = curve_keys.find_keys(tmp_path)
    whole = path.read_bytes()
    path.unlink()
    if what == "a pipe":
        os.mkfifo(path, 0o600)
    elif what == "a folder":
        path.mkdir(mode=0o700)
    elif what == "a file for a folder":
        path.parent.rmdir()
        path.parent.write_text("")
    else:
        path.touch(0o600)
        path.write_bytes(whole[:50] if what == "half" else b"x" * 100_000)
    with pytest.raises(curve_keys.KeysError) as caught:
        curve_keys.load_or_create(_make_pair, tmp_path)
    assert str(caught.value).endswith(".") and str(path) in str(caught.value)


def test_a_read_only_configuration_is_said_in_a_sentence(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(curve_keys.KeysError, match=r"Permission denied\); make the folder writable .* LATENTMAN_CONFIG"):
        curve_keys.load_or_create(_make_pair, tmp_path / "config")


def test_logs_are_private(tmp_path, monkeypatch, loose):
    folder = tmp_path / "state" / "logs"
    monkeypatch.setenv(LOG_ENVIRONMENT, str(folder))
    path = logs.start(logs.BLENDER)
    try:
        handler = logs.RunLog(folder / "backend-20260101-000000-1.log", max_bytes=300, backups=2)
        for n in range(20):
            handler.handle(logs.logging.LogRecord("latentman", 20, "", 0, "line %d", (n,), None))
        handler.close()
        output, stream = logs.open_output(folder)
        stream.close()
    finally:
        logs.stop()
    assert path.parent == output.parent == folder and _mode(folder) == 0o700 and _mode(tmp_path / "state") == 0o700
    assert len(list(folder.iterdir())) == 5 and {_mode(one) for one in folder.iterdir()} == {0o600}


def test_logs_of_earlier_versions_are_closed_to_others(tmp_path, monkeypatch):
    monkeypatch.delenv(LOG_ENVIRONMENT, raising=False)
    folder = tmp_path / "logs"
    monkeypatch.setattr(logs, "log_folder", lambda: folder)
    folder.mkdir(mode=0o755)
    old, other = folder / "backend-20260101-000000-4194305.log.1", folder / "notes.txt"
    for path in (old, other):
        path.write_text("x")
        path.chmod(0o644)
    logs.prepare_folder(logs.BACKEND)
    assert _mode(folder) == 0o700 and _mode(old) == 0o600 and _mode(other) == 0o644
    # a folder that the user chose may be meant for others, too
    folder.chmod(0o755)
    monkeypatch.setenv(LOG_ENVIRONMENT, str(folder))
    logs.prepare_folder(logs.BACKEND)
    assert _mode(folder) == 0o755


def test_a_private_folder_keeps_what_is_there(tmp_path, loose):
    (tmp_path / "mine").mkdir(mode=0o755)
    make_private_folder(tmp_path / "mine" / "a" / "b")
    assert [_mode(tmp_path / "mine" / one) for one in (".", "a", "a/b")] == [0o755, 0o700, 0o700]
    make_private_folder(tmp_path / "mine")
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(OSError):
            make_private_folder(path)
