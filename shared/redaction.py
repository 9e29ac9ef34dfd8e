"""Leaves out of a text what is nobody's business: the home folder's and the user's name, and prompts.

Pure functions; ``Private`` says what this user's names are.
"""

from __future__ import annotations

import getpass
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .addresses import CREDENTIALS

HOME, USER, PROMPT, SECRET = "~", "<user>", "<prompt left out>", "<left out>"
#: settings, arguments and fields whose value a person has written in own words
PROMPT_NAMES = ("prompt", "negative_prompt", "background_prompt", "negative", "background", "text", "reference")
#: names of accounts and machines that tell nothing of a person, and would spoil a text where they are words
_ANYBODY = frozenset(
    ("root", "user", "users", "admin", "administrator", "guest", "home", "ubuntu", "debian", "fedora", "blender", "latentman")
    + ("backend", "localhost", "runner", "docker", "nobody", "python", "default", "system", "public", "desktop", "laptop")
)


@dataclass(frozen=True)
class Private:
    """What must not be in a text: ``homes`` are folders, ``names`` words, ``prompts`` whole texts."""

    homes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()


def find_private(prompts: tuple[str, ...] = ()) -> Private:
    """This user's home folder and names."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = ""
    homes = {str(Path.home()), os.path.expanduser("~"), os.environ.get("USERPROFILE", "")}
    names = {user, os.environ.get("USER", ""), os.environ.get("USERNAME", ""), *(_last_part(home) for home in homes)}
    return Private(tuple(sorted(homes - {""})), tuple(sorted(names - {""})), prompts)


def _last_part(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    instead: str


#: one separator, doubled where it stands in JSON or in Python's repr
_SLASH = r"(?:\\+|/+)"
#: other people's homes, and this user's on another system
_ANY_HOME = _Rule(
    re.compile(
        rf"(?i)((?:\b[a-z]:{_SLASH}(?:users|documents and settings)|(?<![\w.~-])/(?:home|users)|/mnt/[a-z]/users){_SLASH})"
        r"[^\\/\s\"'<>:|;,)\]]+"
    ),
    r"\g<1>" + USER,
)
_QUOTED = (
    r"(?:\"(?:[^\"\\\n]|\\.)*\""  # "..."
    r"|'(?:[^'\\\n]|\\.)*'"  # '...'
    r"|\\\"(?:(?!\\\").)*\\\""  # \"...\" of JSON within JSON
    r"|\[[^\]\n]*\])"  # a list of them
)
_NAMES = "|".join(PROMPT_NAMES).replace("_", "[-_ ]")
_PROMPT_RULES = (
    # prompt='...', "prompt": "...", --prompt "..."
    _Rule(re.compile(rf"(?i)((?<!\w)(?:{_NAMES})\\*[\"']?(?:\s*[=:]\s*|[ \t]+)){_QUOTED}"), r"\g<1>" + PROMPT),
    # latentman motion "a person waves"
    _Rule(re.compile(rf"(?i)(\bmotion[ \t]+){_QUOTED}"), r"\g<1>" + PROMPT),
    # --prompt-at 24 "..."
    _Rule(re.compile(rf"(?i)(--prompt-at[ \t]+-?\d+[ \t]+)(?:{_QUOTED}|\S+)"), r"\g<1>" + PROMPT),
    # --prompt word
    _Rule(re.compile(rf"(?i)(--(?:{_NAMES})(?:=|[ \t]+))(?![\"'<-])\S+"), r"\g<1>" + PROMPT),
    # Prompt: words to the end of the line
    _Rule(re.compile(r"(?im)((?<!-)\bprompt\b[ \t]*[=:][ \t]*)(?![\"'\\<\[ \t]).+$"), r"\g<1>" + PROMPT),
)
_SECRET = _Rule(
    re.compile(r"(?im)^([ \t]*\w*(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY)\w*(?:[ \t]*[=:][ \t]*|[ \t]+))\S.*$"), r"\g<1>" + SECRET
)
#: the user and password in an address
_CREDENTIALS = _Rule(CREDENTIALS, r"\g<1>" + SECRET + "@")


def _home_rules(homes: tuple[str, ...]) -> list[_Rule]:
    rules = []
    for home in sorted(homes, key=len, reverse=True):
        pieces = [piece for piece in re.split(r"[\\/]+", home) if piece]
        drive = bool(pieces) and re.fullmatch(r"[A-Za-z]:", pieces[0]) is not None
        # "/" and "C:\" are nobody's home
        if len(pieces) <= drive:
            continue
        start = r"\b" if drive else r"(?<![\w.~-])" + _SLASH
        whole = start + _SLASH.join(map(re.escape, pieces)) + r"(?![\w-]|\.\w)"
        rules.append(_Rule(re.compile(whole, re.IGNORECASE if drive else 0), HOME))
    return rules


def _name_rules(names: tuple[str, ...]) -> list[_Rule]:
    words = sorted({name for name in names if len(name) > 1 and name.lower() not in _ANYBODY}, key=len, reverse=True)
    # an underscore parts words too
    return [_Rule(re.compile(rf"(?i)(?<![^\W_]){re.escape(name)}(?![^\W_])"), USER) for name in words]


def _known_prompt_rules(prompts: tuple[str, ...]) -> list[_Rule]:
    # as typed, and as it stands in JSON
    texts = {form for text in prompts if len(text.strip()) > 2 for form in (text.strip(), json.dumps(text.strip())[1:-1])}
    return [_Rule(re.compile(rf"(?<!\w){re.escape(text)}(?!\w)"), PROMPT) for text in sorted(texts, key=len, reverse=True)]


def redact(text: str, private: Private) -> str:
    """The text without the home folder's name, the user's names, and prompts wherever they can be told from other words."""
    rules = [
        *_known_prompt_rules(private.prompts),
        *_PROMPT_RULES,
        _SECRET,
        _CREDENTIALS,
        *_home_rules(private.homes),
        _ANY_HOME,
        *_name_rules(private.names),
    ]
    for rule in rules:
        text = rule.pattern.sub(rule.instead, text)
    return text
