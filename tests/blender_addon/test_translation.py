"""Texts in other languages: catalogues that are read, sentences that are recognised, lines that are as wide as their place."""

from __future__ import annotations

import ast
import re
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path

import bpy
import pytest

from latentman.blender_addon import result_words
from latentman.blender_addon.properties import LatentManSettings
from latentman.blender_addon.result_properties import LatentManResult
from latentman.blender_addon.shot_notice import write_notice
from latentman.blender_addon.time_estimate import write_duration, write_time_left
from latentman.blender_addon.translation import CONTEXT, language
from latentman.blender_addon.translation.language import CATALOGUES, LOCALES
from latentman.blender_addon.translation.po_file import CatalogueError, read_messages
from latentman.blender_addon.translation.translator import Translator, fill
from latentman.blender_addon.translation.wrapping import measure_width, wrap
from tools.translations import collect, find_faults, has_the_places, read_source

MESSAGES = {
    "Seed": "Startwert",
    "frame": "Bild",
    "{} frames": "{} Bilder",
    "{} of {}": "{} von {}",
    "{}: {} frames of '{}'": "{2} Bilder von „{3}“ in {1}",
    "There is no file {}; choose another.": "Die Datei {} gibt es nicht; wählen Sie eine andere.",
    "There is no file {}": "Es gibt keine Datei {}",
    "The shot failed: {}": "Die Einstellung ist misslungen: {}",
    "The disk is full.": "Die Platte ist voll.",
    "{}{}": "never",
    "The {}": "never",
    "is linked from another file": "ist aus einer anderen Datei verknüpft",
    "is {} long": "ist {} lang",
    "Camera": "Kamera",
    "{} missing frame{} filled in": "{1} fehlende Bilder ergänzt",
    "{}{} cannot be used": "{}{} ist nicht zu gebrauchen",
    "and {} more": "und {} weitere",
}
PO = r"""# a comment
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"

#: panels.py
msgid "Seed"
msgstr "Startwert"

#, fuzzy
msgid "Steps"
msgstr "Stufen"
msgid "a \"quoted\"\n"
"text"
msgstr ""
"ein \"zitierter\"\n"
"Text"

msgid "not yet"
msgstr ""

#~ msgid "gone"
#~ msgstr "weg"
"""


def test_a_catalogue_is_read():
    assert read_messages(PO) == {"Seed": "Startwert", 'a "quoted"\ntext': 'ein "zitierter"\nText'}
    assert read_messages("\ufeff" + PO.replace("\n", "\r\n")) == read_messages(PO)
    assert read_messages("") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('msgid "a"\nmsgstr "b"\nmsgid "a"\nmsgstr "c"\n', "twice"),
        ('msgid "a"\n', "no msgstr"),
        ('msgstr "a"\n', "belongs to no message"),
        ('msgid "a"\nmsgid "b"\nmsgstr "c"', "belongs to no message"),
        ('"a"\n', "continues no text"),
        ('msgid "a', "line 1 cannot be read"),
        ('msgid "a\\q"\nmsgstr "b"', "unknown escape"),
        ('msgctxt "x"\nmsgid "a"\nmsgstr "b"', "line 1 cannot be read"),
    ],
)
def test_a_damaged_catalogue_is_refused(text, words):
    with pytest.raises(CatalogueError, match=words):
        read_messages(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Seed", "Startwert"),
        ("seed", "seed"),
        ("", ""),
        ("24", "24"),
        ("24 frames", "24 Bilder"),
        ("3 of 7", "3 von 7"),
        ("walk: 24 frames of 'Anna'", "24 Bilder von „Anna“ in walk"),
        # the longer of two that fit
        ("There is no file /a b/c.bvh; choose another.", "Die Datei /a b/c.bvh gibt es nicht; wählen Sie eine andere."),
        # a sentence within one
        ("The shot failed: The disk is full.", "Die Einstellung ist misslungen: Die Platte ist voll."),
        ("The shot failed: some driver said no", "Die Einstellung ist misslungen: some driver said no"),
        # several, and with or without the full stop
        ("The disk is full. 24 frames · Seed", "Die Platte ist voll. 24 Bilder · Startwert"),
        ("The disk is full", "Die Platte ist voll"),
        ("Seed.", "Startwert."),
        # a part that is unknown leaves all of it alone
        ("The disk is full. Nobody knows this.", "The disk is full. Nobody knows this."),
        ("24 frames · unheard of", "24 frames · unheard of"),
        ("Seed · cuda:1", "Startwert · cuda:1"),
        ("  Seed ", "  Startwert "),
        # a name is not translated, though it is called as a label is
        ("There is no file Camera", "Es gibt keine Datei Camera"),
        ("walk: 2 frames of 'frame'", "2 Bilder von „frame“ in walk"),
        ("Camera", "Kamera"),
        # what is said of a name
        ("'hand.L' is linked from another file", "'hand.L' ist aus einer anderen Datei verknüpft"),
        ("My old rig is linked from another file.", "My old rig ist aus einer anderen Datei verknüpft."),
        ("Rig is linked from another file, Seed", "Rig ist aus einer anderen Datei verknüpft, Startwert"),
        ("Rig is 3 m long", "Rig ist 3 m lang"),
        # endings that may be empty, and what is behind them
        ("1 missing frame filled in", "1 fehlende Bilder ergänzt"),
        ("3 missing frames filled in", "3 fehlende Bilder ergänzt"),
        ("a.bvh and 3 more cannot be used", "a.bvh und 3 weitere ist nicht zu gebrauchen"),
        ("a.bvh cannot be used", "a.bvh ist nicht zu gebrauchen"),
        # a message with hardly a word of its own is not everybody's sentence
        ("The end is near", "The end is near"),
        ("3 of Anna", "3 of Anna"),
    ],
)
def test_a_text_is_translated_as_a_whole(text, expected):
    assert Translator(MESSAGES).translate(text) == expected


def test_values_are_filled_in_their_order():
    assert fill("{} of {}", ("1", "2")) == "1 of 2" and fill("{2} of {1}", ("a", "{}")) == "{} of a"
    with pytest.raises(IndexError):
        fill("{} {}", ("1",))
    # braces in what is filled in are no places
    assert Translator(MESSAGES).translate("walk: {} frames of '{}'") == "{} Bilder von „{}“ in walk"


@pytest.mark.parametrize("text", ["x" * 50_000, "There is no file " * 500, "{}" * 300, ". A" * 400])
def test_no_text_is_too_strange(text):
    assert Translator(MESSAGES).translate(text)


def test_lines_are_as_wide_as_their_place():
    assert wrap("one two three", 7) == ["one two", "three"]
    assert wrap("", 10) == [] and wrap("  ", 10) == []
    assert wrap("/a/very/long/path", 9) == ["/a/very/", "long/path"] and wrap("abcdefghij", 4) == ["abcd", "efgh", "ij"]
    # a Chinese character is as wide as two, a line breaks between any two, and none begins with a full stop
    assert measure_width("中文abc") == 7 and measure_width("e\u0301") == 1
    assert wrap("没有这个文件。请选择另一个。", 12) == ["没有这个文", "件。请选择另", "一个。"]
    assert wrap("「中文」と", 4) == ["「中", "文」", "と"]
    for width in (2, 5, 20, 31):
        text = "画像モデル starter が読み込めません（メモリ不足）。小さいサイズを選んでください。 The end"
        lines = wrap(text, width)
        assert all(measure_width(line) <= max(width, 4) for line in lines)
        assert "".join("".join(lines).split()) == "".join(text.split())


ADD_ON = Path(__file__).resolve().parents[2] / "blender_addon"
#: the ways by which a text comes into the window, and the module that has each translated
BUTTONS = {"operator", "prop", "prop_search", "prop_enum", "prop_menu_enum", "operator_menu_enum", "menu", "popover", "progress"}
EDGES = {"label": "panel_base.py", "report": "reports.py", "poll_message_set": "polls.py", "invoke_confirm": "dialogs.py"}


def test_every_text_of_the_window_is_translated():
    """What draws or reports a text passes by the few functions that translate; a registered class has the extension's context."""
    bypassing = []
    for path in sorted(ADD_ON.rglob("*.py")):
        if path.name == "typed_access.py" or "commands" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            name, text = node.func.attr, given.get("text")
            is_blank = isinstance(text, ast.Constant) and text.value == ""
            if name in EDGES and path.name != EDGES[name] and not (name == "label" and is_blank):
                bypassing.append(f"{path.name}:{node.lineno} {name}")
            # a text of a button that is given is looked up among Blender's own, unless it is said where
            shown = [given[key] for key in ("text", "placeholder") if key in given]
            shown = [value for value in shown if not (isinstance(value, ast.Constant) and value.value == "")]
            if name in BUTTONS and shown and not given.keys() & {"translate", "text_ctxt"}:
                bypassing.append(f"{path.name}:{node.lineno} {name}")
            if name in ("register_class", "register_classes_factory") and path.name not in ("registering.py", "engine.py"):
                bypassing.append(f"{path.name}:{node.lineno} {name}")
    assert not bypassing


def test_names_are_looked_up_in_the_extensions_context(registered_operators):
    for kind in (LatentManSettings, LatentManResult):
        own = [found for found in kind.bl_rna.properties if found.identifier not in ("rna_type", "name")]
        assert own and all(found.translation_context == CONTEXT for found in own)
    found = bpy.ops.latentman.generate.get_rna_type()
    assert found.translation_context == CONTEXT


@cache
def collect_once():
    """The texts of the window, which take seconds to collect."""
    return collect()


@pytest.mark.parametrize("locale", LOCALES)
def test_a_catalogue_has_every_text_with_its_places(locale):
    messages = collect_once()
    translations = read_messages((CATALOGUES / f"{locale}.po").read_text(encoding="utf-8"))
    assert find_faults(locale, messages, translations) == []


def list_put_together() -> list[str]:
    """Texts that the panels put together from words, numbers and other texts, in all their shapes."""
    rates = [
        result_words.describe_consistency(hmse, others) for hmse in (5, 50, 100, 500) for others in ([], [70], [7, 8], [1, 600])
    ]
    notices = [
        write_notice(*counts, seconds)
        for counts in ((1, 1, 1, 0), (8, 8, 1, 7), (3, 8, 3, 0), (1, 1, 0, 1))
        for seconds in (0, 4, 40, 300, 9000, 36000)
    ]
    frames = [result_words.describe_frames(*counts) for counts in ((1, 1), (8, 8), (8, 8, 1, 7))]
    stopped = [result_words.describe_frames(count, total, partial=True) for count, total in ((1, 1), (1, 2), (5, 8), (8, 8))]
    removals = [
        sentence
        for names in (["starter"], ["starter", "starter"])
        for users in (0, 1, 2)
        for sentence in result_words.write_removal(names, users, 1 + users, files=users > 0)
    ]
    now = datetime(2026, 5, 2, 12, tzinfo=UTC)
    dates = [result_words.describe_date((now - timedelta(days=days)).isoformat(), now) for days in (0, 1)]
    lists = [f"{one} · 256x144 · {date}" for one in (*frames, *stopped) for date in dates]
    left = [f"denoising · 4 frames · {write_time_left(seconds)}" for seconds in (3, 20, 100, 4000, 7200)]
    return [
        *rates,
        *notices,
        *removals,
        *lists,
        *left,
        *map(write_duration, (1, 30, 500, 5000, 7200)),
        "Surface · starter · seed 0",
    ]


@pytest.mark.parametrize("locale", ["ja", "zh_HANS"])
def test_texts_that_are_put_together_are_in_one_language(locale):
    translator = Translator(read_messages((CATALOGUES / f"{locale}.po").read_text(encoding="utf-8")))
    mixed = {text: translator.translate(text) for text in list_put_together() if text}
    # the one word that is a name
    mixed = {text: found for text, found in mixed.items() if re.search("[A-Za-z]{2,}|[sh]( |$)", re.sub("starter|x144", "", found))}
    assert not mixed


def test_german_has_what_the_others_have():
    translator = Translator(read_messages((CATALOGUES / "de.po").read_text(encoding="utf-8")))
    same = [text for text in list_put_together() if text and translator.translate(text) == text]
    # units are the same
    assert all(re.fullmatch(r"(\d+ (s|min|h) ?)+", text) for text in same), same


def test_messages_are_collected_from_the_source():
    source = (
        'def f(x):\n    """A docstring."""\n    logger.info("Not shown to anybody")\n    g(icon="FILE_FOLDER", text="Open it")\n'
        '    raise E(f"There is no {x!r:>5} in {x}; choose another.")\n    re.compile("some pattern here")\n'
        '    k["a key here"] = "Seed"\n'
        "    h(f'seed {x}', f'{x} s', f'{x} px', f'{x}{x} {x}', f'frame_{x}', f'tcp://{x}', f'{x / y:.0f} MB')\n"
        '    h(f\'{"about" if x else "roughly"} {x}\', f\'{x} frame{"" if x == 1 else "s"} left\')\n'
        "    threading.Thread(name=f'worker {x}')\n"
    )
    assert list(read_source(source)) == [
        "Open it",
        "There is no {} in {}; choose another.",
        "Seed",
        *("seed {}", "{} s", "{} px"),
        *("about {}", "roughly {}", "{} frame left", "{} frames left"),
    ]
    assert has_the_places("{} of {}", "{2} / {1}") and has_the_places("{} of {}", "{}/{}") and not has_the_places("{} of {}", "{}")
    assert has_the_places("{} frame{} left", "{1} Bilder") and not has_the_places("{} frame{} left", "{2} Bilder")
    assert not has_the_places("{} of {}", "{1} of {1}") and not has_the_places("plain", "{}") and not has_the_places("{}", "{2}")


def test_tooltips_that_are_put_together_are_looked_up_whole(monkeypatch):
    monkeypatch.setattr(language, "_given", {"24 frames", "The disk is full", "Nobody knows this", "Seed"})
    monkeypatch.setattr(language, "_read_catalogue", lambda name: MESSAGES)
    monkeypatch.setattr(language, "_make_translator", lambda name: Translator(MESSAGES))
    table = language._make_table("de")
    assert table["LatentMan", "24 frames"] == table["*", "24 frames"] == "24 Bilder"
    assert table["*", "Seed"] == "Startwert" and ("*", "Nobody knows this") not in table


def test_what_somebody_has_written_is_not_translated():
    translator = Translator({**MESSAGES, "Said: {}": "Gesagt: {}"})
    assert translator.fill_in("Said: {}", ("Seed",)) == "Gesagt: Seed" and translator.fill_in("Seen: {}", ("Seed",)) == "Seen: Seed"


def test_a_long_list_of_words_is_given_up_soon():
    """A prompt may come where a sentence is expected: what is looked up does not grow with the square of its parts."""
    asked = []
    translator = Translator(MESSAGES)
    look_up = translator._translate_anew
    translator._translate = lru_cache(maxsize=1024)(lambda text: asked.append(text) or look_up(text))
    tags = ", ".join(f"tag number {n}" for n in range(24))
    assert translator.translate(tags) == tags and len(asked) < 60
