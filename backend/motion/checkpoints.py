"""MDM's checkpoint folders as they are shipped: ``model*.pt`` or ``.safetensors`` beside ``args.json``, and the optimiser's
``opt*.pt``, which is never read; HumanML3D's ``Mean.npy`` and ``Std.npy`` lie there, too, or where MDM has its data."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...shared.files import read_file
from ...shared.motion import MotionError
from ...shared.npy import read_npy
from ...shared.pickled import shorten
from .diffusion import SCHEDULES
from .network import FEATURES, KINDS, MAX_FRAMES, MAX_POSITIONS, MDM, Architecture
from .weights import read_weights

#: what args.json leaves out in older checkpoints
DEFAULTS: dict[str, Any] = {
    "arch": "trans_enc",
    "text_encoder_type": "clip",
    "mask_frames": False,
    "use_ema": False,
    "diffusion_steps": 1000,
    "pred_len": 0,
    "latent_dim": 512,
    "ff_size": 1024,
    "num_heads": 4,
    "layers": 8,
    "dataset": "humanml",
    "emb_trans_dec": False,
    "context_len": 0,
    "emb_policy": "add",
    "multi_target_cond": False,
    "toe_height": 0.0,
    "root_emphasis": 1.0,
    "guidance": 2.5,
    "cond_mode": "text",
    "unconstrained": False,
    "cond_mask_prob": 0.1,
    "lambda_target_loc": 0.0,
    "noise_schedule": "cosine",
    "sigma_small": True,
    "pos_embed_max_len": MAX_POSITIONS,
}
#: why a data set's checkpoints are not for sentences that become HumanML3D's motions
OTHER_DATA = {
    "kit": "KIT-ML, whose skeleton has 21 joints of its own at 12.5 frames a second",
    "humanact12": "HumanAct12, whose 12 actions are asked for by number and not in words",
    "uestc": "UESTC, whose 40 actions are asked for by number and not in words",
}
#: numbers of KIT-ML's vectors
KIT_FEATURES = 251
#: folders that MDM has HumanML3D's statistics in, seen from a folder that its ``save`` lies in
STATISTICS = ("dataset/HumanML3D", "HumanML3D")
#: bytes of args.json, and of a mean or a standard deviation
MAX_ARGUMENTS, MAX_STATISTICS = 1 << 20, 1 << 20
#: where a file has the network: its running average (EMA) first
AVERAGES = ("model_avg", "ema", "model_ema", "model", "state_dict")
TEXT_WIDTHS = {"clip": 512, "bert": 768}
#: the least standard deviation of root velocities in HumanML3D's own statistics; the evaluators' are 25 times smaller
LEAST_ROOT_STD = 0.01


@dataclass(frozen=True)
class MotionModel:
    """A loaded network and what sampling needs: the chain's length, the text encoder's kind, the features' statistics
    (263,) float32, how high in metres the lowest joint stands in its training data, the guidance scale that suits it, and the
    folder it came from. ``noise_schedule`` and ``large_variance`` are the chain's; ``guided`` says that it was trained without
    texts, too, which guidance needs."""

    network: MDM
    diffusion_steps: int
    text_encoder: str
    mean: np.ndarray
    std: np.ndarray
    toe_height: float
    guidance: float
    folder: Path
    noise_schedule: str = "cosine"
    large_variance: bool = False
    guided: bool = True


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    try:
        data = read_weights(path)
    except OSError as error:
        raise MotionError(f"{path.name} cannot be read as a checkpoint: {error.strerror or error}.") from error
    except (ValueError, MemoryError) as error:
        raise MotionError(f"{path.name} cannot be read as a checkpoint ({error}); download it again.") from error
    for key in AVERAGES:
        if isinstance(data, dict) and isinstance(data.get(key), dict):
            data = data[key]
            break
    if isinstance(data, dict) and {"state", "param_groups"} <= set(data):
        raise MotionError(f"{path.name} is the optimiser's state and no network; choose the model*.pt beside it.")
    if not isinstance(data, dict) or not data or not all(isinstance(value, torch.Tensor) for value in data.values()):
        raise MotionError(f"{path.name} holds no network; choose a model*.pt of MDM.")
    named = {str(name): value for name, value in data.items()}
    # what wraps a network while it is trained on several devices, or is averaged, puts its own name before all others
    if all(name.startswith("module.") or name == "n_averaged" for name in named):
        named = {name.removeprefix("module."): value for name, value in named.items() if name != "n_averaged"}
    return {name: value for name, value in named.items() if not name.startswith("clip_model.") and not name.endswith(".pe")}


def find_model(path: Path) -> Path:
    """The file of weights that a path means: itself, or the last step's of its folder, or of the only checkpoint in that.

    An ``args.json`` stands for its folder. Raises ``MotionError``.
    """
    if path.name == "args.json":
        path = path.parent
    if not path.is_dir():
        if path.name.startswith("opt"):
            raise MotionError(f"{path.name} is the optimiser's state and no network; choose the model*.pt beside it.")
        return path
    found = _list_models(path)
    if not found:
        # an archive unpacked into a folder of its own name
        inner = [folder for folder in sorted(path.iterdir()) if (folder / "args.json").is_file() and _list_models(folder)]
        if len(inner) > 1:
            raise MotionError(f"{path} holds {len(inner)} checkpoints; choose one, such as {inner[0]}.")
        found = _list_models(inner[0]) if inner else []
    if not found:
        raise MotionError(f"{path} holds no model*.pt or .safetensors file; choose the folder of an MDM checkpoint.")
    return found[-1]


def _list_models(folder: Path) -> list[Path]:
    """The files of networks in a folder, those of later steps last."""

    def step(path: Path) -> tuple[bool, int, bool, str]:
        number = re.search(r"(\d+)$", path.stem)
        return path.name.startswith("model"), int(number[1]) if number else -1, path.suffix == ".safetensors", path.name

    files = [path for path in folder.iterdir() if path.suffix in (".pt", ".safetensors") and not path.name.startswith("opt")]
    return sorted(files, key=step)


def load_checkpoint(path: Path, statistics: Path | None = None) -> MotionModel:
    """Read a checkpoint: its ``.pt`` file, its ``args.json``, or a folder with them. ``statistics`` is the folder of ``Mean.npy``
    and ``Std.npy``; when None, the checkpoint's own or that of the copy of MDM that it lies in.

    Raises ``MotionError`` in one sentence for everything that does not fit.
    """
    path = find_model(Path(path))
    arguments = _read_arguments(path.with_name("args.json"))
    shape, kind = _read_architecture(arguments)
    steps = arguments.get_whole("diffusion_steps", 1, min(10_000, shape.positions))
    toe_height = arguments.get_number("toe_height", 0.0, 1.0)
    emphasis, guidance = arguments.get_number("root_emphasis", 1e-3, 1e3), arguments.get_number("guidance", 0.0, 100.0)
    schedule = arguments.get_text("noise_schedule")
    if schedule not in SCHEDULES:
        raise MotionError(f"The noise schedule '{schedule}' is unknown; MDM has {' and '.join(SCHEDULES)}.")
    guided = arguments.get_number("cond_mask_prob", 0.0, 1.0) > 0
    state = _read_state(path)
    _check_fit(shape, state, path, f"{shape.kind}, {shape.layers} layers")
    network = MDM(shape)
    network.load_state_dict(state, strict=False)
    mean, std = _read_statistics(statistics or _find_statistics(path.parent), emphasis)
    return MotionModel(
        network.eval().requires_grad_(False),
        steps,
        kind,
        mean,
        std,
        toe_height,
        guidance if guided else 1.0,
        path.parent,
        schedule,
        not arguments.get_switch("sigma_small"),
        guided,
    )


def _read_architecture(arguments: _Arguments) -> tuple[Architecture, str]:
    """The architecture that ``args.json`` names, and the kind of text encoder."""
    dataset = arguments.get_text("dataset")
    if dataset in OTHER_DATA:
        raise MotionError(f"The checkpoint was trained on {OTHER_DATA[dataset]}; choose one that was trained on HumanML3D.")
    if dataset != "humanml":
        raise MotionError(f"The checkpoint was trained on '{dataset}'; only HumanML3D's layout is understood.")
    condition = arguments.get_text("cond_mode")
    if arguments.get_switch("unconstrained") or condition == "no_cond":
        raise MotionError("The checkpoint was trained without texts and makes whatever it likes; choose one trained on texts.")
    if "text" not in condition:
        raise MotionError(f"The checkpoint is asked by '{condition}' and not in words; choose one trained on texts.")
    if arguments.get_switch("multi_target_cond") or arguments.get_number("lambda_target_loc", 0.0, 1e9) > 0:
        raise MotionError("The checkpoint takes targets for joints as well; choose one that takes a text alone.")
    arch, encoder = arguments.get_text("arch"), arguments.get_text("text_encoder_type")
    if arch not in KINDS:
        raise MotionError(f"The architecture '{arch}' is unknown; MDM has {', '.join(KINDS)}.")
    if encoder not in TEXT_WIDTHS:
        raise MotionError(f"The text encoder '{encoder}' is unknown; clip and bert are supported.")
    if encoder == "bert" and arch != "trans_dec":
        raise MotionError(f"args.json pairs the text encoder bert with {arch}; MDM has it with trans_dec only, so correct it.")
    policy = arguments.get_text("emb_policy")
    if policy not in ("add", "concat"):
        raise MotionError(f"The emb_policy '{policy}' is unknown; MDM has add and concat.")
    if policy == "concat" and encoder != "bert":
        raise MotionError("args.json has the emb_policy concat without the text encoder bert, which MDM does not have; correct it.")
    context = arguments.get_whole("context_len", 0, MAX_FRAMES)
    # without a length of its own a prediction is as long as what it goes on from
    predicted = arguments.get_whole("pred_len", 0, MAX_FRAMES) or context
    if predicted and not context:
        raise MotionError("args.json has a pred_len but no context_len; correct it.")
    if predicted and arch == "gru":
        raise MotionError("args.json has a context_len with gru, which MDM does not have; correct it.")
    shape = Architecture(
        latent=arguments.get_whole("latent_dim", 2, 8192),
        layers=arguments.get_whole("layers", 1, 96),
        kind=arch,
        leading_time=arch == "trans_dec" and arguments.get_switch("emb_trans_dec"),
        feedforward=arguments.get_whole("ff_size", 1, 65_536),
        heads=arguments.get_whole("num_heads", 1, 256),
        mask_frames=arguments.get_switch("mask_frames"),
        context=context,
        predicted=predicted,
        time_token=policy == "concat",
        text_width=arguments.get_whole("text_width", 1, 65_536, TEXT_WIDTHS[encoder]),
        positions=arguments.get_whole("pos_embed_max_len", max(MAX_FRAMES, context + predicted) + 1, 100_000),
    )
    if shape.latent % 2 or (arch != "gru" and shape.latent % shape.heads):
        raise MotionError(f"args.json has a latent_dim of {shape.latent}, which {shape.heads} heads cannot share; correct it.")
    return shape, encoder


def _check_fit(shape: Architecture, state: dict[str, torch.Tensor], path: Path, described: str) -> None:
    """Raise ``MotionError`` unless a network of this architecture, which is not made yet, has these parameters."""
    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in MDM(shape).state_dict().items() if not name.endswith(".pe")}
    missing, unknown = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    if missing or unknown:
        name, what = (missing[0], "lacks") if missing else (unknown[0], "has the unknown")
        raise MotionError(
            f"{path.name} {what} parameter '{shorten(name)}'; it is not of the architecture that args.json names ({described})."
        )
    for name, size in wanted.items():
        found = state[name]
        if tuple(found.shape) != size:
            raise MotionError(
                f"{path.name} has parameters of other sizes than args.json says: '{name}' is {tuple(found.shape)}, expected {size}."
            )
        if not found.is_floating_point() or not bool(torch.isfinite(found).all()):
            raise MotionError(f"{path.name} has parameters that are not numbers ('{name}'); download it again.")


@dataclass(frozen=True)
class _Arguments:
    """The values of ``args.json`` with the defaults for what it leaves out."""

    values: dict[str, Any]
    path: Path

    def _refuse(self, name: str, wanted: str) -> MotionError:
        given = shorten(json.dumps(self.values[name]))
        return MotionError(f"{self.path} has '{name}': {given}, expected {wanted}; take the args.json of the checkpoint.")

    def get_text(self, name: str) -> str:
        """A word."""
        value = self.values[name]
        if not isinstance(value, str) or len(value) > 80 or not value.isprintable():
            raise self._refuse(name, "a word")
        return value

    def get_switch(self, name: str) -> bool:
        """A truth value."""
        value = self.values[name]
        if value not in (True, False, None):
            raise self._refuse(name, "true or false")
        return bool(value)

    def get_number(self, name: str, least: float, most: float) -> float:
        """A number from ``least`` to ``most``."""
        value = self.values[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise self._refuse(name, f"a number from {least:g} to {most:g}")
        return float(value)

    def get_whole(self, name: str, least: int, most: int, default: int | None = None) -> int:
        """A whole number from ``least`` to ``most``."""
        if default is not None and name not in self.values:
            return default
        value = self.values[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most or value != int(value):
            raise self._refuse(name, f"a whole number from {least} to {most}")
        return int(value)


def _read_arguments(path: Path) -> _Arguments:
    try:
        found = json.loads(read_file(path, MAX_ARGUMENTS))
    except (OSError, ValueError, RecursionError) as error:
        raise MotionError(f"{path} is missing or unreadable; it lies beside MDM's checkpoints.") from error
    if not isinstance(found, dict):
        raise MotionError(f"{path} does not list settings; take the args.json of the checkpoint.")
    return _Arguments(DEFAULTS | found, path)


def _find_statistics(folder: Path) -> Path:
    """Where the statistics of a checkpoint lie: beside it, or in the copy of MDM that it lies in, as ``save/NAME/model*.pt``."""
    places = [folder, *(above / place for above in list(folder.absolute().parents)[:4] for place in STATISTICS)]
    return next((place for place in places if (place / "Mean.npy").is_file() and (place / "Std.npy").is_file()), folder)


def _read_statistics(folder: Path, emphasis: float) -> tuple[np.ndarray, np.ndarray]:
    try:
        mean, std = (read_npy(read_file(folder / f"{name}.npy", MAX_STATISTICS)).astype(np.float32) for name in ("Mean", "Std"))
    except (OSError, ValueError, TypeError) as error:
        raise MotionError(
            f"{folder} holds no readable Mean.npy and Std.npy; copy HumanML3D's there, or name their folder with --statistics."
        ) from error
    if KIT_FEATURES in (mean.size, std.size):
        raise MotionError(f"The statistics in {folder} are KIT-ML's; copy HumanML3D's own Mean.npy and Std.npy.")
    if (
        mean.shape != (FEATURES,)
        or std.shape != (FEATURES,)
        or not np.isfinite(mean).all()
        or not (np.isfinite(std) & (std > 0)).all()
    ):
        raise MotionError(f"The statistics in {folder} are no {FEATURES} means and positive deviations; copy HumanML3D's.")
    if float(std[1:3].min()) * emphasis < LEAST_ROOT_STD:
        raise MotionError(
            f"The statistics in {folder} are those of the evaluators, which would crush the root's motion; copy "
            "HumanML3D's own Mean.npy and Std.npy."
        )
    return mean, std
