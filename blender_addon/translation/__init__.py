"""The extension's texts in the languages of Blender's window.

``catalogues/<locale>.po`` holds the translations, in the format of gettext. ``tr`` writes a text in the window's language; Blender
looks up names, tooltips and the texts of buttons by itself. ``tools/translations.py`` collects the texts and says what is missing.
"""

from .language import CONTEXT, register, tr, tr_filled, unregister
from .registering import register_class

__all__ = ["CONTEXT", "register", "register_class", "tr", "tr_filled", "unregister"]
