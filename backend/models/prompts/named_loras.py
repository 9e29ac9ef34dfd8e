"""The LoRAs that a prompt names, found as files, and made parts of the model's name. Free of torch.

They are looked for in the folder of the model and in those that the web interfaces keep beside it, then in the user's own
(``shared.folders.lora_folders``). As parts of the name, they make another model of it wherever names are compared: in the cache of
loaded models and in the fingerprint of a job.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ....shared.folders import LORA_ENVIRONMENT, lora_folders
from ....shared.pickled import shorten
from ....shared.shot import ShotError, Text
from ..lora_kinds import find_lora_kind
from ..registry import WEIGHTS, find_model
from ..weight_files import read_weight_file
from .parsing import NamedLora, split_loras

#: folders of checkpoints and of LoRAs in the web interfaces and in ComfyUI, in lower case
CHECKPOINT_FOLDERS = ("stable-diffusion", "checkpoints", "diffusion_models", "unet")
LORA_FOLDERS = ("lora", "loras", "lycoris")
#: files that are looked at in one folder with what is below it
MOST_FILES = 20_000
_MOST_NEAR = 3


def name_model(model: str, text: Text) -> str:
    """The name of a model with the LoRAs of a prompt as parts of it; the name itself where the prompt names none.

    Raises ``ShotError`` for a LoRA that is not found, and for one in the negative prompt.
    """
    named = [lora for part in (text.prompt, text.background_prompt) for lora in split_loras(part)[1]]
    refuse_negative_loras(text.negative_prompt)
    if not named:
        return model
    base = find_model(model).base
    paths = [(find_named_lora(lora.name, base), lora.strength) for lora in dict.fromkeys(named)]
    return "|".join([model.rstrip(" |"), *(f"lora={path}@{strength:g}" for path, strength in paths if strength)])


def refuse_negative_loras(negative: str) -> None:
    """``ShotError`` for a negative prompt that names a LoRA."""
    if split_loras(negative)[1]:
        raise ShotError("prompt", "A LoRA cannot be named in the negative prompt; name it in the prompt, with a negative strength.")


def find_named_lora(name: str, base: str) -> Path:
    """The file of a LoRA that is named for a model whose base is ``base``. Raises ``ShotError`` when there is none, or several."""
    folders = list(dict.fromkeys(_list_folders(base)))
    files = list(dict.fromkeys(file for folder, deep in folders for file in _list_files(folder, deep)))
    wanted = name.replace("\\", "/").strip("/").casefold()
    found = [file for file in files if _is_named(file, wanted)] or [file for file in files if _is_called(file, wanted)]
    # the same LoRA in both formats is one, and so is the same file behind a link
    found = list({file.resolve(): file for file in found}.values())
    if len(found) > 1:
        safe = [file for file in found if file.suffix.lower() == ".safetensors"]
        found = safe if len(safe) == 1 and len({file.with_suffix("") for file in found}) == 1 else found
    if len(found) == 1:
        if "|" in str(found[0]):
            raise ShotError("prompt", f"The path of the LoRA {found[0].name} has a bar in it; rename it.")
        return found[0]
    if found:
        which = ", ".join(str(file) for file in found[:_MOST_NEAR])
        raise ShotError(
            "prompt", f"There are {len(found)} LoRAs '{shorten(name)}' ({which}); write the folder before the name, or rename one."
        )
    raise ShotError("prompt", _explain_missing(name, files, [folder for folder, _ in folders]))


def _explain_missing(name: str, files: Sequence[Path], folders: Sequence[Path]) -> str:
    known = {file.stem.casefold(): file.stem for file in files}
    near = [known[match] for match in difflib.get_close_matches(name.casefold(), known, _MOST_NEAR, 0.5)]
    near += [stem for key, stem in known.items() if name.casefold() in key and stem not in near][: _MOST_NEAR - len(near)]
    if near:
        return f"There is no LoRA '{shorten(name)}'; near ones are {', '.join(near)}."
    looked = ", ".join(str(folder) for folder in folders) or "no folder"
    return f"There is no LoRA '{shorten(name)}' (looked in {looked}); name its folder in the variable {LORA_ENVIRONMENT}."


def _list_folders(base: str) -> Iterator[tuple[Path, bool]]:
    """(folder that is there, whether those below it count as well) in which a model's LoRAs may lie."""
    path = Path(base)
    if path.exists():
        # a checkpoint may be a link to where it really lies: both places count
        for place in dict.fromkeys((path.absolute(), path.resolve())):
            own = place if place.is_dir() else place.parent
            yield own, False
            yield from _list_lora_folders(own)
            for folder in (own, *own.parents):
                if folder.name.casefold() in CHECKPOINT_FOLDERS:
                    yield from _list_lora_folders(folder.parent)
                    break
    for folder in lora_folders():
        if folder.is_dir():
            yield folder.resolve(), True


def _list_lora_folders(folder: Path) -> Iterator[tuple[Path, bool]]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if name.casefold() in LORA_FOLDERS and (folder / name).is_dir():
            yield folder / name, True


def _list_files(folder: Path, deep: bool) -> Iterator[Path]:
    """The files with weights in a folder, in a fixed order."""
    count, seen = 0, set[str]()
    for root, below, names in os.walk(folder, followlinks=True):
        # links may lead in a circle
        real = os.path.realpath(root)
        below[:] = sorted(below) if deep and real not in seen else []
        if real in seen:
            continue
        seen.add(real)
        for name in sorted(names):
            count += 1
            if name.lower().endswith(WEIGHTS):
                yield Path(root) / name
        if count > MOST_FILES:
            return


def _is_named(file: Path, wanted: str) -> bool:
    """Whether a name is a file's, with or without its end, perhaps behind folders."""
    parts = wanted.split("/")
    own = [part.casefold() for part in (*file.parts[:-1], file.name)][-len(parts) :]
    return own[:-1] == parts[:-1] and parts[-1] in (own[-1], own[-1].rpartition(".")[0])


def _is_called(file: Path, wanted: str) -> bool:
    """Whether a name is the one that a LoRA was trained under."""
    if file.suffix.lower() != ".safetensors":
        return False
    try:
        found = read_weight_file(file)
    except ShotError:
        return False
    if found.metadata.get("ss_output_name", "").strip().casefold() != wanted:
        return False
    return find_lora_kind({name: raw.shape for name, raw in found.tensors.items()}) is not None


def check_named_loras(text: str, base: str, loaded: Sequence[tuple[str, float]]) -> None:
    """``ShotError`` for a prompt with a LoRA that a model was loaded without: ``loaded`` are its (path, strength)."""
    have = {(str(Path(path).resolve()), strength) for path, strength in loaded}
    for lora in split_loras(text)[1]:
        if lora.strength and (str(find_named_lora(lora.name, base).resolve()), lora.strength) not in have:
            raise _refuse_unloaded(lora)


def refuse_unknown_loras(text: str) -> None:
    """``ShotError`` for any LoRA in the prompt of a pipeline that others loaded."""
    for lora in split_loras(text)[1]:
        raise _refuse_unloaded(lora)


def _refuse_unloaded(lora: NamedLora) -> ShotError:
    return ShotError(
        "prompt",
        f"The loaded model is without the LoRA '{shorten(lora.name)}' of the prompt; give it as a part of the model's name, like "
        "lora=FILE@0.8, or with load_lora_weights, and take it out of the prompt.",
    )
