"""What a report leaves out, and what it keeps."""

from __future__ import annotations

import json

import msgspec
import pytest

from latentman.shared import diagnostics
from latentman.shared.motion_request import MotionRequest
from latentman.shared.redaction import PROMPT, PROMPT_NAMES, Private, find_private, redact
from latentman.shared.settings import list_settings
from latentman.shared.shot import Text
from tests import samples

JANE = Private(homes=("/home/jane",), names=("jane",))
WINDOWS = Private(homes=(r"C:\Users\Jane Doe",), names=("Jane Doe", "jdoe"))


@pytest.mark.parametrize(
    ("private", "text", "left"),
    [
        (JANE, "in /home/jane/shots/a.blend", "in ~/shots/a.blend"),
        (JANE, "in /home/jane.", "in ~."),
        (JANE, "file:///home/jane/x, /home/jane", "file:~/x, ~"),
        (JANE, "of jane@work, JANE_TOOLS, janet and janes", "of <user>@work, <user>_TOOLS, janet and janes"),
        (JANE, "/home/peter/x and /Users/peter", "/home/<user>/x and /Users/<user>"),
        (JANE, "/home/janet/x", "/home/<user>/x"),
        (JANE, "/mnt/jane/x", "/mnt/<user>/x"),
        (JANE, "/srv/home/films/x", "/srv/home/films/x"),
        (WINDOWS, r"C:\Users\Jane Doe\AppData\a.log", r"~\AppData\a.log"),
        (WINDOWS, r"c:\users\jane doe\x", r"~\x"),
        (WINDOWS, json.dumps({"path": r"C:\Users\Jane Doe\x"}), r'{"path": "~\\x"}'),
        (WINDOWS, "C:/Users/Jane Doe/x", "~/x"),
        (WINDOWS, r"D:\Users\peter\x", r"D:\Users\<user>\x"),
        (WINDOWS, r"\\server\share\jdoe\x", r"\\server\share\<user>\x"),
        (Private(homes=("/root",), names=("root",)), "/root/x: the root cause in /rooted", "~/x: the root cause in /rooted"),
        (Private(homes=("/",), names=("",)), "/usr/bin", "/usr/bin"),
        (Private(homes=("C:\\",)), r"C:\Program Files", r"C:\Program Files"),
        (Private(homes=("/home/j.d",)), "/home/j.d/x /home/j.d.old/x", "~/x /home/<user>/x"),
    ],
)
def test_homes_and_names(private, text, left):
    assert redact(text, private) == left


@pytest.mark.parametrize(
    "text",
    [
        "--prompt 'a red knight' --steps 4",
        '--prompt "a red knight" --steps 4',
        '--prompt="a red knight" --steps 4',
        '{"prompt": "a red knight", "steps": 4}',
        "Text(prompt='a red knight', steps=4)",
        '{"negative_prompt":"a \\"red\\" knight","steps": 4}',
        "background_prompt='it\\'s red', steps=4",
        json.dumps(json.dumps({"prompt": "a red knight", "steps": 4})) + " steps 4",
        'latentman motion "a red knight waves" --steps 4',
        "--text 'a red knight' steps 4",
        '--negative "red" --steps 4',
        "'prompt': ['a red knight', 'red'], steps 4",
        "steps 4\nPrompt: a red knight in a wood",
        "--prompt red --steps 4",
    ],
)
def test_prompts_in_requests_and_commands(text):
    left = redact(text, Private())
    assert "red" not in left.lower().replace("redacted", "") and "knight" not in left and PROMPT in left
    assert "steps" in left and "4" in left


@pytest.mark.parametrize(
    "text",
    [
        "The prompt is empty; describe the character and the place.",
        "Text encoder: loads; text embeddings of 77 tokens",
        "motion of 24 frames in 'out'",
        "background 12.5, negative 3",
    ],
)
def test_other_words_stay(text):
    assert redact(text, JANE) == text


def test_every_text_that_a_person_writes_is_known():
    free = [d.name for kind in (Text, MotionRequest) for d in list_settings(kind) if d.kind is str and not d.setting.choices]
    assert set(free) - {"model"} <= set(PROMPT_NAMES) and len(free) >= 4


def test_a_request_dump_tells_its_settings_but_no_words():
    request = samples.request(prompt="zebra", negative_prompt="yak", background_prompt="xylophone")
    for dump in (repr(request), msgspec.json.encode(request).decode(), json.dumps(msgspec.json.encode(request).decode())):
        left = redact(dump, Private())
        assert not any(word in left for word in ("zebra", "yak", "xylophone")) and "sampling" in left


def test_known_prompts_go_wherever_they_stand():
    private = Private(prompts=('a "red" knight', "ab", "walk"))
    left = redact('no LoRA for a "red" knight; a \\"red\\" knight; ab; a walk, walking', private)
    assert left == f"no LoRA for {PROMPT}; {PROMPT}; ab; a {PROMPT}, walking"


def test_this_users_names_are_found(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("USERPROFILE", r"C:\Users\Some Body")
    found = find_private()
    assert redact("/home/somebody/x", found) == "~/x" and redact(r"C:\Users\Some Body\x", found) == r"~\x"
    assert "somebody" in found.names and "Some Body" in found.names


def test_a_report_is_one_text_and_private_only_when_asked_for(tmp_path):
    (tmp_path / "backend-20260101-000000-1.log").write_text("could not open /home/jane/a.png\n")
    sections = [
        diagnostics.make_environment_section({"LATENTMAN_DATA": "/home/jane/data", "LATENTMAN_TOKEN": "abc", "OTHER": "x"}),
        *diagnostics.make_log_sections(tmp_path),
    ]
    open_text = diagnostics.compose(sections, None)
    assert "/home/jane/a.png" in open_text and "/home/jane/data" in open_text and "OTHER" not in open_text
    text = diagnostics.compose(sections, JANE)
    assert "jane" not in text and "could not open ~/a.png" in text and "~/data" in text and "abc" not in text
    assert "== Log: backend, backend-20260101-000000-1.log ==" in text and "== Log: blender ==\n(nothing)" in text
