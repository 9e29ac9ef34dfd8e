"""MDM's checkpoint folders: ``model*.pt`` or ``.safetensors``, ``args.json``, HumanML3D's ``Mean.npy`` and ``Std.npy``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # what torch's own restricted unpickler raises; nothing is unpickled here
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ...shared.motion import MotionError
from .network import FEATURES, MDM, Architecture

#: what args.json leaves out in older checkpoints
DEFAULTS: dict[str, Any] = {
    "arch": "trans_enc",
    "text_encoder_type": "clip",
    "mask_frames": False,
    "use_ema": False,
    "diffusion_steps": 1000,
    "pred_len": 0,
    "latent_dim": 512,
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
        data = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, UnpicklingError, EOFError, KeyError) as error:
        raise MotionError(f"{path.name} cannot be read as a checkpoint; download it again.") from error
    for key in ("model_avg", "model"):
        if isinstance(data, dict) and isinstance(data.get(key), dict):
            data = data[key]
            break
    if not isinstance(data, dict) or not all(isinstance(value, torch.Tensor) for value in data.values()):
        raise MotionError(f"{path.name} holds no network; choose a model*.pt of MDM.")
    return {name: value for name, value in data.items() if not name.startswith("clip_model.") and not name.endswith(".pe")}


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
    arguments = DEFAULTS | _read_arguments(path.with_name("args.json"))
    if arguments["dataset"] != "humanml":
        raise MotionError(f"The checkpoint was trained on '{arguments['dataset']}'; only HumanML3D's layout is understood.")
    if arguments["multi_target_cond"]:
        raise MotionError("The checkpoint takes targets for joints as well; choose one that takes a text alone.")
    if arguments["arch"] not in ("trans_enc", "trans_dec") or arguments["emb_trans_dec"]:
        raise MotionError(f"The architecture '{arguments['arch']}' is unknown; trans_enc and trans_dec are supported.")
    kind = arguments["text_encoder_type"]
    if kind not in TEXT_WIDTHS:
        raise MotionError(f"The text encoder '{kind}' is unknown; clip and bert are supported.")
    state = _read_state(path)
    shape = Architecture(
        latent=int(arguments["latent_dim"]),
        layers=int(arguments["layers"]),
        decoder=arguments["arch"] == "trans_dec",
        feedforward=int(arguments.get("ff_size", 1024)),
        heads=int(arguments.get("num_heads", 4)),
        mask_frames=bool(arguments["mask_frames"]),
        context=int(arguments["context_len"]) if arguments["pred_len"] else 0,
        predicted=int(arguments["pred_len"]),
        time_token=arguments["emb_policy"] != "add",
        text_width=int(arguments.get("text_width", TEXT_WIDTHS[kind])),
    )
    network = MDM(shape)
    wanted = {name for name in network.state_dict() if not name.endswith(".pe")}
    missing, unknown = sorted(wanted - set(state)), sorted(set(state) - wanted)
    if missing or unknown:
        name, what = (missing[0], "lacks") if missing else (unknown[0], "has the unknown")
        raise MotionError(
            f"{path.name} {what} parameter '{name}'; it is not of the architecture that args.json names "
            f"({arguments['arch']}, {arguments['layers']} layers)."
        )
    try:
        network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise MotionError(
            f"{path.name} has parameters of other sizes than args.json says: {str(error).splitlines()[-1].strip()}"
        ) from error
    mean, std = _read_statistics(statistics or path.parent, float(arguments["root_emphasis"]))
    return MotionModel(
        network.eval().requires_grad_(False),
        int(arguments["diffusion_steps"]),
        kind,
        mean,
        std,
        float(arguments["toe_height"]),
        float(arguments["guidance"]),
        path.parent,
    )


def _read_arguments(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise MotionError(f"{path} is missing or unreadable; it lies beside MDM's checkpoints.") from error
    return found if isinstance(found, dict) else {}


def _read_statistics(folder: Path, emphasis: float) -> tuple[np.ndarray, np.ndarray]:
    try:
        mean, std = (np.load(folder / f"{name}.npy", allow_pickle=False).astype(np.float32) for name in ("Mean", "Std"))
    except (OSError, ValueError) as error:
        raise MotionError(
            f"{folder} holds no readable Mean.npy and Std.npy; copy HumanML3D's there, or name their folder with --statistics."
        ) from error
    if mean.shape != (FEATURES,) or std.shape != (FEATURES,) or not np.isfinite(mean).all() or not (std > 0).all():
        raise MotionError(f"The statistics in {folder} are no {FEATURES} means and positive deviations; copy HumanML3D's.")
    if float(std[1:3].min()) * emphasis < LEAST_ROOT_STD:
        raise MotionError(
            f"The statistics in {folder} are those of the evaluators, which would crush the root's motion; copy "
            "HumanML3D's own Mean.npy and Std.npy."
        )
    return mean, std
