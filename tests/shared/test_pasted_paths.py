"""Paths as they come out of file managers, terminals and browsers."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentman.shared.pasted_paths import complete_model_name, read_pasted_path, unquote_text


@pytest.mark.parametrize(
    ("pasted", "meant"),
    [
        ("/models/a.safetensors", "/models/a.safetensors"),
        ("  /models/a.safetensors \n", "/models/a.safetensors"),
        ('"/models/a.safetensors"', "/models/a.safetensors"),
        ("'/models/it is.ckpt'", "/models/it is.ckpt"),
        ("“/models/a.ckpt”", "/models/a.ckpt"),
        ("/models/it's.ckpt", "/models/it's.ckpt"),
        ("\u202a/models/a.ckpt", "/models/a.ckpt"),
        ("file:///models/my%20model%40v1.ckpt", "/models/my model@v1.ckpt"),
        ("FILE://localhost/models/a.ckpt", "/models/a.ckpt"),
        ("'file:///models/a.ckpt'", "/models/a.ckpt"),
        ("file:///C:/models/a%20b.ckpt", "C:/models/a b.ckpt"),
        ("file://C:/models/a.ckpt", "C:/models/a.ckpt"),
        ("file:/models/a.ckpt", "/models/a.ckpt"),
        ("file://server/share/a.ckpt", "//server/share/a.ckpt"),
        ("stabilityai/sdxl@0123", "stabilityai/sdxl@0123"),
        ("starter", "starter"),
        ("", ""),
    ],
)
def test_wrappings_are_taken_off(pasted, meant):
    assert read_pasted_path(pasted, exists=lambda path: False) == meant


def test_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("USERPROFILE", "/home/someone")
    for pasted in ("~/a.ckpt", '"~/a.ckpt"'):
        assert read_pasted_path(pasted, exists=lambda path: False) == "/home/someone/a.ckpt"


@pytest.mark.parametrize(
    ("pasted", "there"),
    [
        ("/models/my\\ model\\ (v1).ckpt", "/models/my model (v1).ckpt"),
        ("models\\sd\\a.ckpt", "models/sd/a.ckpt"),
        ('"models\\sd\\a.ckpt"', "models/sd/a.ckpt"),
        ("/odd\\name.ckpt", "/odd\\name.ckpt"),
        ("'quoted'", "'quoted'"),
        ("~", "~"),
    ],
)
def test_what_is_there_decides_what_a_backslash_means(pasted, there):
    assert read_pasted_path(pasted, exists=lambda path: path == there) == there


def test_paths_of_windows_are_left_where_nothing_is_there():
    assert read_pasted_path(r"C:\models\a.ckpt", exists=lambda path: False) == r"C:\models\a.ckpt"


def test_blenders_relative_paths_are_completed(tmp_path):
    base = tmp_path / "project"
    name = "//models/a.ckpt | depth=//control.pth|'//x y.pth'|lora=//l@0.5.safetensors@0.8|starter|/abs//olute"
    parts = complete_model_name(name, base).split("|")
    below = lambda rest: str(base / Path(rest))  # noqa: E731
    assert parts == [
        below("models/a.ckpt"),
        f"depth={below('control.pth')}",
        below("x y.pth"),
        f"lora={below('l@0.5.safetensors@0.8')}",
        "starter",
        "/abs//olute",
    ]
    assert complete_model_name("sd15", base) == "sd15"
    assert complete_model_name("file:///a/b", base) == "file:///a/b"


def test_quotes_around_parts_are_not_those_around_all():
    assert unquote_text('"a"|"b"') == '"a"|"b"' and unquote_text('" a "') == "a" and unquote_text('"') == '"'
