"""How alike an image encoder finds the characters of consecutive frames: CLIP's and DINO's, where their weights are at hand.

Nothing is fetched: an encoder counts when its files lie in the hub's cache. The encoders see the character alone, on grey. They are
weak judges: anything that looks like the same picture is alike to them, so that steady clips all come close to 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image
from transformers import CLIPVisionModelWithProjection, Dinov2Model

from ...shared.logs import get_logger
from .bands import find_window
from .frames import MeasuredFrame

#: figure -> the hub's name of its encoder
ENCODERS = {"clip_similarity": "openai/clip-vit-base-patch32", "dino_similarity": "facebook/dinov2-small"}
#: what pictures are normalised by where a folder does not say it
CLIP_MEAN, CLIP_DEVIATION = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
#: level of what is not the character, and pixels around it
GREY, MARGIN = 128, 8
logger = get_logger(__name__)
#: (H, W, 3) uint8 -> (D,) what the encoder makes of it
Encode = Callable[[np.ndarray], np.ndarray]


def cut_out(frame: MeasuredFrame) -> np.ndarray | None:
    """(S, S, 3) uint8: the characters of a frame on a grey square; None when it shows none."""
    if not frame.mask.any():
        return None
    window = find_window(frame.mask, MARGIN)
    shown = np.where(frame.mask[window][..., None], frame.image[window], GREY).astype(np.uint8)
    height, width = shown.shape[:2]
    side = max(height, width)
    out = np.full((side, side, 3), GREY, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    out[top : top + height, left : left + width] = shown
    return out


class PerceptualSimilarity:
    """The mean cosine between what an encoder makes of consecutive frames, which are added one after the other."""

    def __init__(self, name: str, encode: Encode) -> None:
        """``name`` is the figure's."""
        self._name, self._encode = name, encode
        self._previous: np.ndarray | None = None
        self._values: list[float] = []

    def add(self, frame: MeasuredFrame) -> None:
        """The next frame; one without characters is passed over, and is not compared with the next."""
        shown = cut_out(frame)
        made = None if shown is None else self._encode(shown)
        if made is not None:
            made = made / max(float(np.linalg.norm(made)), 1e-9)
            if self._previous is not None:
                self._values.append(float(made @ self._previous))
        self._previous = made

    def figures(self) -> dict[str, float]:
        """The figure by its name; NaN without two frames."""
        return {self._name: float(np.mean(self._values)) if self._values else float("nan")}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no configuration")
    return found


def load_encoder(folder: Path) -> Encode:
    """The encoder in a folder of transformers' CLIP (with its projection) or DINOv2, from safetensors only, on the CPU.

    Raises ``OSError`` or ``ValueError`` when the folder holds no such encoder."""
    kind = str(_read_json(folder / "config.json").get("model_type"))
    if not kind.startswith(("clip", "dinov2")):
        raise ValueError(f"{folder} holds no CLIP and no DINOv2")
    network_class = CLIPVisionModelWithProjection if kind.startswith("clip") else Dinov2Model
    network = network_class.from_pretrained(str(folder), local_files_only=True, use_safetensors=True).eval()
    settings = _read_json(folder / "preprocessor_config.json")
    crop = settings.get("crop_size") or network.config.image_size
    side = int(crop["height"] if isinstance(crop, dict) else crop)
    mean, deviation = (
        torch.tensor(settings.get(name) or default)[:, None, None]
        for name, default in (("image_mean", CLIP_MEAN), ("image_std", CLIP_DEVIATION))
    )

    def encode(image: np.ndarray) -> np.ndarray:
        small = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
        pixels = (torch.from_numpy(small).permute(2, 0, 1) - mean) / deviation
        with torch.inference_mode():
            out = network(pixel_values=pixels[None].float())
        found: torch.Tensor = out.image_embeds if kind.startswith("clip") else out.pooler_output
        return np.asarray(found[0].double().numpy())

    return encode


@cache
def find_encoders() -> dict[str, Encode]:
    """figure -> the encoder, of ``ENCODERS`` that are in the hub's cache and can be read."""
    found: dict[str, Encode] = {}
    for figure, name in ENCODERS.items():
        try:
            found[figure] = load_encoder(Path(huggingface_hub.snapshot_download(name, local_files_only=True)))
        except LocalEntryNotFoundError:
            continue
        except (OSError, ValueError) as error:
            logger.warning("%s in the hub's cache cannot be read (%s); %s is left out.", name, error, figure)
    return found


def make_similarities() -> dict[str, PerceptualSimilarity]:
    """figure -> what gathers it, for each of ``find_encoders``."""
    return {figure: PerceptualSimilarity(figure, encode) for figure, encode in find_encoders().items()}
