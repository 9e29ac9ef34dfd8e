"""Collects the texts of the window and keeps the catalogues of their translations.

``python -m tools.translations`` adds new messages, with no translation yet, to ``blender_addon/translation/catalogues/*.po`` and
takes out what is no longer said. ``--check`` changes nothing; it names what is missing or wrong, and exits with 1. ``--missing
LOCALE`` prints the messages without a translation, one to a line, as JSON.

A message is a text of the source: a label, a tooltip, a sentence. What an f-string fills in is ``{}``.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from latentman.blender_addon.technique_properties import STRUCTS, make_title
from latentman.blender_addon.translation.language import CATALOGUES, LOCALES
from latentman.blender_addon.translation.po_file import CatalogueError, read_messages
from latentman.shared.settings import summarise

ROOT = Path(__file__).resolve().parents[1]
EXCEPTIONS = ROOT / "tools" / "not_messages.json"
#: whose texts come into the window
PACKAGES = ("blender_addon", "shared", "backend")
#: what only a terminal, a file or a page of the documentation shows, and tables of names that are matched, not shown
LEFT_OUT = (
    "blender_addon/__main__.py",
    "blender_addon/command_line.py",
    "blender_addon/commands/*",
    "blender_addon/assembling.py",
    "blender_addon/passes/pooled_render.py",
    "blender_addon/passes/pooled_worker.py",
    "blender_addon/passes/process_count.py",
    "blender_addon/character/bone_names.py",
    "blender_addon/motion/bone_words.py",
    "blender_addon/reference_shots/*",
    "blender_addon/templates/*",
    "blender_addon/typed_access.py",
    "blender_addon/windows_job.py",
    "blender_addon/view_colours.py",
    "blender_addon/compat.py",
    "blender_addon/passes/render_worker.py",
    "backend/__main__.py",
    "backend/*command.py",
    "backend/*/command.py",
    "backend/*/*/command.py",
    "backend/doctor.py",
    "backend/exports/*",
    "backend/latentman_pipeline.py",
    "backend/logs.py",
    "backend/maps/*",
    "backend/metrics/*",
    "backend/metrics/*/*",
    "backend/models/caller_options.py",
    "backend/pipeline_calls/*",
    "shared/arguments.py",
    "shared/console.py",
    "shared/environment_variables.py",
    "shared/events.py",
    "shared/machine.py",
    "shared/prompt_completion.py",
    "shared/redaction.py",
    "shared/schedule_arguments.py",
)
#: calls whose texts are for the log, for a pattern or for a program
_SILENT = re.compile(
    r"(logger|logging|re|struct|subprocess|threading)\.|.*(add_argument|ArgumentParser|getLogger|_pattern|cast|TypeVar|overload)$"
)
#: properties of calls and classes that hold identifiers
_IDENTIFIERS = frozenset(("icon", "bl_idname", "bl_category", "bl_space_type", "bl_region_type", "subtype", "options", "encoding"))
#: words in lower case that the window shows by themselves or fills in, and who says them
WORDS = {
    "blender_addon/connection.py": ("connecting", "running", "starting", "loading"),
    "blender_addon/shot_progress.py": ("cancelling", "decoding", "denoising", "matching", "measuring"),
    "shared/task.py": ("queued", "preparing", "failed", "finished", "cancelled"),
    "blender_addon/result_words.py": ("flickers", "steady"),
    "backend/models/library/verifying.py": ("intact", "damaged", "missing", "unknown"),
    "backend/models/library/fit.py": ("machine",),
    "blender_addon/motion/source_shape.py": ("legs", "arms"),
    "blender_addon/motion/source_bones.py": ("thigh", "shin", "foot", "collar", "head", "neck", "spine"),
    "blender_addon/set_up/state.py": (
        "checking",
        "installing",
        "moving",
        "planning",
        "removing",
        "resolving",
        "trying",
        "unpacking",
    ),
}


def _find_left_out(tree: ast.Module) -> set[ast.AST]:
    """The nodes whose texts are no messages: docstrings, patterns, identifiers, annotations, and the parts of f-strings."""
    found: set[ast.AST] = set()

    def leave_out(node: ast.AST | None) -> None:
        if node is not None:
            found.update(ast.walk(node))

    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                leave_out(first)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            leave_out(node.returns)
        if isinstance(node, ast.arg):
            leave_out(node.annotation)
        if isinstance(node, ast.JoinedStr):
            found.update(value for value in node.values if isinstance(value, ast.Constant))
            # said as parts of the whole
            found.update(
                part
                for value in node.values
                if isinstance(value, ast.FormattedValue) and _list_alternatives(value) != ["{}"]
                for part in ast.walk(value)
            )
        if isinstance(node, ast.Call):
            if _SILENT.match(ast.unparse(node.func)):
                leave_out(node)
            for keyword in node.keywords:
                if keyword.arg in _IDENTIFIERS:
                    leave_out(keyword.value)
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id in _IDENTIFIERS | {"__all__"} for target in targets):
                leave_out(node.value)
        if isinstance(node, (ast.Subscript, ast.Dict)):
            keys = [node.slice] if isinstance(node, ast.Subscript) else node.keys
            for key in keys:
                if isinstance(key, ast.Constant):
                    found.add(key)
    return found


def _is_message(text: str) -> bool:
    """Whether a text of the source is one that is read: words, or a name that begins with a capital."""
    plain = text.replace("{}", "").strip()
    if "\n" in text or plain.startswith(("--", "-", "<", "%(", "(?", "//")) or "__" in plain:
        return False
    if " " in plain:
        return len(re.findall(r"[A-Za-z]{2,}", plain)) >= 1
    # a word beside what is filled in, such as "seed {}"
    if "{}" in text and re.search(r"(^| )([a-z]{2,}:?|[sh])( |$)", text.strip(", ")):
        return True
    return bool(re.fullmatch(r"[A-Z][a-z]+(-[A-Za-z]+)?(:|\.\.\.)?", plain))


def read_source(text: str) -> Iterator[str]:
    """The messages of a module's source."""
    tree = ast.parse(text)
    left_out = _find_left_out(tree)
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Constant, ast.JoinedStr)) and node not in left_out]
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset)):
        if isinstance(node, ast.JoinedStr):
            texts = ["".join(parts) for parts in itertools.product(*map(_list_alternatives, node.values))]
        else:
            texts = [re.sub(r"\{\w*\}", "{}", node.value)] if isinstance(node.value, str) else []
        yield from (text.strip() for text in texts if _is_message(text))


def _list_alternatives(value: ast.expr) -> list[str]:
    """What a part of an f-string may be: a place, but for one that is filled with either of two texts."""
    if isinstance(value, ast.Constant):
        return [str(value.value)]
    if isinstance(value, ast.FormattedValue) and isinstance(value.value, ast.IfExp):
        ends = (value.value.body, value.value.orelse)
        if all(isinstance(end, ast.Constant) and isinstance(end.value, str) for end in ends):
            return [str(end.value) for end in ends if isinstance(end, ast.Constant)]
    return ["{}"]


def read_exceptions() -> dict[str, list[str]]:
    """module -> the texts in it that look like messages and are names of data, patterns or words that are typed."""
    return json.loads(EXCEPTIONS.read_text(encoding="utf-8"))


def find_words(module: str, text: str) -> list[str]:
    """The single words of a module; raises ``LookupError`` for one that it does not say any more."""
    words = WORDS.get(module, ())
    for word in words:
        if not re.search(rf"[\"']{word}[\"']", text):
            raise LookupError(f"{module} does not say '{word}' any more; take it out of WORDS.")
    return list(words)


def list_technique_texts() -> list[str]:
    """The names and tooltips of techniques, which the panel makes of the names and docstrings in the source."""
    return [text for name, struct in STRUCTS.items() for text in (make_title(name), summarise(struct))]


def collect() -> dict[str, str]:
    """message -> the module, relative to the project, that says it first."""
    found: dict[str, str] = {}
    exceptions = read_exceptions()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT)
            if not any(name.match(pattern) for pattern in LEFT_OUT):
                text = path.read_text(encoding="utf-8")
                said = [*read_source(text), *find_words(name.as_posix(), text)]
                left_out = set(exceptions.get(name.as_posix(), ()))
                for message in said:
                    if message not in left_out:
                        found.setdefault(message, name.as_posix())
    for message in list_technique_texts():
        found.setdefault(message, "shared/shot.py")
    return found


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'


def write_catalogue(locale: str, messages: dict[str, str], translations: dict[str, str]) -> str:
    """The text of a catalogue, its messages in the order of the modules that say them."""
    lines = ['msgid ""', 'msgstr ""', f'"Language: {locale}\\n"', '"MIME-Version: 1.0\\n"']
    lines += ['"Content-Type: text/plain; charset=UTF-8\\n"', '"Content-Transfer-Encoding: 8bit\\n"', ""]
    for message, module in messages.items():
        lines += [f"#: {module}", f"msgid {_quote(message)}", f"msgstr {_quote(translations.get(message, ''))}", ""]
    return "\n".join(lines)


def has_the_places(message: str, text: str) -> bool:
    """Whether every value of a message has its place in a translation, in the message's order or by number. What stands behind a
    letter, as the plural's s does, may be left out where the places are numbered."""
    places = re.findall(r"\{(\d*)\}", text)
    count = message.count("{}")
    if places == [""] * count:
        return True
    endings = {str(number) for number, match in enumerate(re.finditer(r"(\w?)\{\}", message), 1) if match[1]}
    every, found = set(map(str, range(1, count + 1))), set(places)
    return len(places) == len(found) and every - endings <= found <= every


def find_faults(locale: str, messages: dict[str, str], translations: dict[str, str]) -> list[str]:
    """What is wrong with a catalogue, in sentences."""
    faults = [
        f"{locale}: no translation of '{message}' ({module})" for message, module in messages.items() if message not in translations
    ]
    for message, text in translations.items():
        if not has_the_places(message, text):
            faults.append(f"{locale}: the places of '{message}' are not those of '{text}'")
        if message not in messages:
            faults.append(f"{locale}: nobody says '{message}'")
    return faults


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.translations", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, and name what is missing or wrong")
    parser.add_argument("--missing", metavar="LOCALE", choices=tuple(LOCALES), help="print what a catalogue has no translation of")
    args = parser.parse_args(argv)
    messages = collect()
    faults = []
    for locale in LOCALES:
        path = CATALOGUES / f"{locale}.po"
        try:
            translations = read_messages(path.read_text(encoding="utf-8")) if path.exists() else {}
        except CatalogueError as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
        if locale == args.missing:
            print("\n".join(json.dumps(message, ensure_ascii=False) for message in messages if message not in translations))
        faults += find_faults(locale, messages, translations)
        if not (args.check or args.missing):
            path.write_text(write_catalogue(locale, messages, translations), encoding="utf-8")
    if args.check:
        print("\n".join(faults))
    return int(args.check and bool(faults))


if __name__ == "__main__":
    sys.exit(main())
