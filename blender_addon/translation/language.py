"""Which language the window has, and the texts in it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import bpy

from ...shared import logs
from .po_file import CatalogueError, read_messages
from .translator import Translator, fill

logger = logs.get_logger(__name__)
CATALOGUES = Path(__file__).with_name("catalogues")
#: what tells the extension's texts from Blender's own of the same letters: "Surface" is a preset here, and a modifier's tab there
CONTEXT = "LatentMan"
#: catalogue -> the names that versions of Blender have for its language
LOCALES = {"de": ("de", "de_DE"), "ja": ("ja", "ja_JP"), "zh_HANS": ("zh_HANS", "zh_CN")}
_NAME = __package__.rpartition(".")[0]
_given: set[str] = set()


@cache
def _read_catalogue(name: str) -> dict[str, str]:
    """The messages of a catalogue; none for one that cannot be read, which the log says."""
    path = CATALOGUES / f"{name}.po"
    try:
        return read_messages(path.read_text(encoding="utf-8"))
    except (CatalogueError, OSError, UnicodeError) as error:
        logger.warning("the texts in %s cannot be used: %s", path, error)
        return {}


@cache
def _make_translator(name: str) -> Translator:
    """What translates by a catalogue."""
    return Translator(_read_catalogue(name))


def _find_translator() -> Translator | None:
    """What translates into the window's language; None where there is no catalogue of it."""
    locale = get_locale()
    return next((_make_translator(name) for name, locales in LOCALES.items() if locale in locales), None)


def get_locale() -> str:
    """The language that the window's texts are shown in, such as ``de_DE``; empty for English."""
    view = bpy.context.preferences.view if bpy.context.preferences else None
    return bpy.app.translations.locale if view is not None and view.use_translate_interface else ""


def tr(text: str) -> str:
    """A text of the extension in the window's language, put together or not; as it is where the language has no words for it."""
    translator = _find_translator()
    return translator.translate(text) if translator else text


def tr_filled(message: str, *values: str) -> str:
    """A message with ``{}`` in the window's language, filled with what somebody has written, such as a prompt, letter by letter."""
    translator = _find_translator()
    return translator.fill_in(message, values) if translator else fill(message, values)


def note(text: str) -> None:
    """Remember a name or tooltip that Blender is given, which may be put together and then is no message by itself."""
    if text:
        _given.add(text)


def _make_table(name: str) -> dict[tuple[str, str], str]:
    """(context, text) -> translation: the messages, and what was put together from them."""
    messages = _read_catalogue(name)
    translator = _make_translator(name)
    put_together = {text: translator.translate(text) for text in _given if text not in messages}
    known = messages | {text: translation for text, translation in put_together.items() if translation != text}
    return {(context, text): translation for text, translation in known.items() for context in (CONTEXT, "*")}


def register() -> None:
    """Give Blender the texts that it looks up by itself: names in the extension's context, tooltips in the common one. Classes are
    registered before."""
    tables = {name: _make_table(name) for name in LOCALES}
    table: Any = {locale: tables[name] for name, locales in LOCALES.items() for locale in locales}
    bpy.app.translations.register(_NAME, table)


def unregister() -> None:
    """Take them back."""
    bpy.app.translations.unregister(_NAME)
