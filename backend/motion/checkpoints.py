"""MDM's checkpoint folders: ``model*.pt`` or ``.safetensors``, ``args.json``, HumanML3D's ``Mean.npy`` and ``Std.npy``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...shared.files import read_file
from ...shared.motion import MotionError
from ...shared.npy import read_npy
from ...shared.pickled import shorten
from .network import FEATURES, MAX_FRAMES, MDM, Architecture
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
}
#: bytes of args.json, and of a mean or a standard deviation
MAX_ARGUMENTS, MAX_STATISTICS = 1 << 20, 1 << 20
TEXT_WIDTHS = {"clip": 512, "bert": 768}
#: the least standard deviation of root velocities in HumanML3D's own statistics; the evaluators' are 25 times smaller
LEAST_ROOT_STD = 0.01


@dataclass(frozen=True)
class MotionModel:
    """A loaded network and what sampling needs: the chain's length, the text encoder's kind, the features' statistics
    (263,) float32, how high in metres the lowest joint stands in its training data, the guidance scale that suits it, and the
    folder it came from."""

    network: MDM
    diffusion_steps: int
    text_encoder: str
    mean: np.ndarray
    std: np.ndarray
    toe_height: float
    guidance: float
    folder: Path


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    try:
        data = read_weights(path)
    except OSError as error:
        raise MotionError(f"{path.name} cannot be read as a checkpoint: {error.strerror or error}.") from error
    except (ValueError, MemoryError) as error:
        raise MotionError(f"{path.name} cannot be read as a checkpoint ({error}); download it again.") from error
    for key in ("model_avg", "model"):
        if isinstance(data, dict) and isinstance(data.get(key), dict):
            data = data[key]
            break
    if not isinstance(data, dict) or not all(isinstance(value, torch.Tensor) for value in data.values()):
        raise MotionError(f"{path.name} holds no network; choose a model*.pt of MDM.")
    named = {str(name): value for name, value in data.items()}
    return {name: value for name, value in named.items() if not name.startswith("clip_model.") and not name.endswith(".pe")}


def load_checkpoint(path: Path, statistics: Path | None = None) -> MotionModel:
    """Read a checkpoint: its ``.pt`` file, or a folder with one. ``statistics`` is the folder of ``Mean.npy`` and ``Std.npy``,
    the checkpoint's own when None.

    Raises ``MotionError`` in one sentence for everything that does not fit.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.pt")) or sorted(path.glob("model*.safetensors"))
        if not files:
            raise MotionError(f"{path} holds no .pt or .safetensors file; choose the folder of an MDM checkpoint.")
        path = files[-1]
    arguments = _read_arguments(path.with_name("args.json"))
    if arguments.get_text("dataset") != "humanml":
        raise MotionError(
            f"The checkpoint was trained on '{arguments.get_text('dataset')}'; only HumanML3D's layout is understood."
        )
    if arguments.get_switch("multi_target_cond"):
        raise MotionError("The checkpoint takes targets for joints as well; choose one that takes a text alone.")
    arch, kind = arguments.get_text("arch"), arguments.get_text("text_encoder_type")
    if arch not in ("trans_enc", "trans_dec") or arguments.get_switch("emb_trans_dec"):
        raise MotionError(f"The architecture '{arch}' is unknown; trans_enc and trans_dec are supported.")
    if kind not in TEXT_WIDTHS:
        raise MotionError(f"The text encoder '{kind}' is unknown; clip and bert are supported.")
    predicted = arguments.get_whole("pred_len", 0, MAX_FRAMES)
    shape = Architecture(
        latent=arguments.get_whole("latent_dim", 2, 8192),
        layers=arguments.get_whole("layers", 1, 96),
        decoder=arch == "trans_dec",
        feedforward=arguments.get_whole("ff_size", 1, 65_536),
        heads=arguments.get_whole("num_heads", 1, 256),
        mask_frames=arguments.get_switch("mask_frames"),
        context=arguments.get_whole("context_len", 0, MAX_FRAMES) if predicted else 0,
        predicted=predicted,
        time_token=arguments.get_text("emb_policy") != "add",
        text_width=arguments.get_whole("text_width", 1, 65_536, TEXT_WIDTHS[kind]),
    )
    if shape.latent % 2 or shape.latent % shape.heads:
        raise MotionError(f"args.json has a latent_dim of {shape.latent}, which {shape.heads} heads cannot share; correct it.")
    if predicted and not shape.context:
        raise MotionError("args.json has a pred_len but no context_len; correct it.")
    steps = arguments.get_whole("diffusion_steps", 1, 10_000)
    toe_height = arguments.get_number("toe_height", 0.0, 1.0)
    emphasis, guidance = arguments.get_number("root_emphasis", 1e-3, 1e3), arguments.get_number("guidance", 0.0, 100.0)
    state = _read_state(path)
    _check_fit(shape, state, path, f"{arch}, {shape.layers} layers")
    network = MDM(shape)
    network.load_state_dict(state, strict=False)
    mean, std = _read_statistics(statistics or path.parent, emphasis)
    return MotionModel(network.eval().requires_grad_(False), steps, kind, mean, std, toe_height, guidance, path.parent)


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


def _read_statistics(folder: Path, emphasis: float) -> tuple[np.ndarray, np.ndarray]:
    try:
        mean, std = (read_npy(read_file(folder / f"{name}.npy", MAX_STATISTICS)).astype(np.float32) for name in ("Mean", "Std"))
    except (OSError, ValueError, TypeError) as error:
        raise MotionError(
            f"{folder} holds no readable Mean.npy and Std.npy; copy HumanML3D's there, or name their folder with --statistics."
        ) from error
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
