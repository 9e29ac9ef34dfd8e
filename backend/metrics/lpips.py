"""LPIPS (arXiv 1801.03924) between each frame and the one before, laid over it along the exact matches of their surfaces.

It needs AlexNet's weights in torch's cache, where torchvision puts them, and the package ``lpips`` for the five vectors that weigh
its channels. Nothing is fetched, and nothing of that package is run: both files are read as plain tensors.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...shared.logs import get_logger
from ...shared.shot import ShotError
from ..models.network_loading import make_tensor
from ..models.networks import TensorSource
from ..models.weight_files import read_weight_file
from .bands import find_window
from .frames import MeasuredFrame
from .pairs import find_inner, find_matched_points
from .perceptual import GREY
from .sampling import sample_cubic

FIGURE = "lpips"
#: torchvision's file, and the package's
BACKBONE, LINEAR = "alexnet-owt-*.pth", Path("weights", "v0.1", "alex.pth")
#: AlexNet's convolutions: channels in and out, kernel, stride, padding, and whether a pooling comes before
LAYERS = (
    (3, 64, 11, 4, 2, False),
    (64, 192, 5, 1, 2, True),
    (192, 384, 3, 1, 1, True),
    (384, 256, 3, 1, 1, False),
    (256, 256, 3, 1, 1, False),
)
#: torchvision's numbers of these convolutions
NUMBERS = (0, 3, 6, 8, 10)
#: mean and deviation of pictures in [-1, 1] that the vectors were made with
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
#: pixels around the compared points, and the least side of a picture: below it AlexNet's last layer has nothing left
MARGIN, LEAST_SIDE = 8, 64
logger = get_logger(__name__)
#: two pictures (H, W, 3) of levels -> their distance
Distance = Callable[[np.ndarray, np.ndarray], float]


class AlexNetDistance(nn.Module):
    """The distance of two pictures: squared differences of AlexNet's normalised features, weighed and averaged over the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, kernel, stride, padding) for a, b, kernel, stride, padding, _ in LAYERS)
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(layer[1])) for layer in LAYERS)

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """(N,) the distances of pictures (N, 3, H, W) in [-1, 1]."""
        shift, scale = (torch.tensor(value, dtype=one.dtype, device=one.device)[:, None, None] for value in (SHIFT, SCALE))
        x, out = (torch.cat([one, other]) - shift) / scale, one.new_zeros(len(one))
        for (*_, pooled), convolution, weight in zip(LAYERS, self.convolutions, self.weights, strict=True):
            x = torch.relu(convolution(nn.functional.max_pool2d(x, 3, 2) if pooled else x))
            a, b = (x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)).chunk(2)
            out = out + ((a - b).square() * weight[:, None, None]).sum(1).mean((1, 2))
        return out

    @torch.inference_mode()
    def compare(self, one: np.ndarray, other: np.ndarray) -> float:
        """The distance of two pictures (H, W, 3) of levels 0..255."""
        pictures = (torch.from_numpy(image / 127.5 - 1).permute(2, 0, 1)[None].float() for image in (one, other))
        return float(self(*pictures))


def load_distance(backbone: Path, linear: Path) -> AlexNetDistance:
    """The distance of torchvision's file of AlexNet and the package's of the vectors. Raises ``ShotError`` and ``ValueError`` for
    files that hold something else."""
    read = (read_weight_file(path).tensors for path in (backbone, linear))
    network, vectors = ({name: make_tensor(raw, TensorSource(name), torch.float32) for name, raw in one.items()} for one in read)
    out = AlexNetDistance()
    try:
        state = {
            **{
                f"convolutions.{n}.{kind}": network[f"features.{at}.{kind}"]
                for n, at in enumerate(NUMBERS)
                for kind in ("weight", "bias")
            },
            **{f"weights.{n}": vectors[f"lin{n}.model.1.weight"].flatten() for n in range(len(LAYERS))},
        }
        out.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{backbone.name} and {linear.name} are not AlexNet and LPIPS's vectors") from error
    return out.eval().requires_grad_(False)


class PerceptualChange:
    """The mean distance of consecutive frames, which are added one after the other, on the surface points that both show."""

    def __init__(self, distance: Distance) -> None:
        self._distance = distance
        self._previous: MeasuredFrame | None = None
        self._values: list[float] = []

    def add(self, frame: MeasuredFrame) -> None:
        """The next frame."""
        if self._previous is not None:
            laid = lay_over(frame, self._previous)
            if laid is not None:
                self._values.append(self._distance(*laid))
        self._previous = frame

    def figures(self) -> dict[str, float]:
        """The figure by its name; NaN without two frames that show the same surface."""
        return {FIGURE: float(np.mean(self._values)) if self._values else float("nan")}


def lay_over(now: MeasuredFrame, then: MeasuredFrame) -> tuple[np.ndarray, np.ndarray] | None:
    """Two pictures (H, W, 3) float of the points inside that both frames show, at the pixels of the later one and on grey; None
    when there are none. The earlier frame is read between its pixels."""
    points = find_matched_points(now, then)
    points = points.keep(find_inner(points, now, then))
    if not len(points.here):
        return None
    shown = [np.full((now.image.shape[0] * now.image.shape[1], 3), float(GREY)) for _ in range(2)]
    shown[0][points.here] = now.image.reshape(-1, 3)[points.here]
    shown[1][points.here] = sample_cubic(then.image, points.places)
    seen = np.zeros(now.mask.shape, bool)
    seen.ravel()[points.here] = True
    window = find_window(seen, MARGIN)
    one, other = (image.reshape(now.image.shape)[window] for image in shown)
    lacking = [(0, max(0, LEAST_SIDE - side)) for side in one.shape[:2]]
    padded = (np.pad(image, [*lacking, (0, 0)], constant_values=GREY) for image in (one, other))
    first, second = padded
    return first, second


def _find_files(hub: Path, package: Path | None) -> tuple[Path, Path] | None:
    backbones = sorted((hub / "checkpoints").glob(BACKBONE))
    linear = package / LINEAR if package else None
    return (backbones[0], linear) if backbones and linear and linear.is_file() else None


@cache
def find_distance() -> Distance | None:
    """The distance, where its files are at hand and can be read."""
    found = importlib.util.find_spec("lpips")
    package = Path(found.origin).parent if found and found.origin else None
    files = _find_files(Path(torch.hub.get_dir()), package)
    if files is None:
        return None
    try:
        return load_distance(*files).compare
    except (OSError, ValueError, ShotError) as error:
        logger.warning("LPIPS's weights cannot be read (%s); lpips is left out.", error)
        return None


def make_perceptual_change() -> Mapping[str, PerceptualChange]:
    """What gathers the figure, by its name; empty where the weights are not at hand."""
    distance = find_distance()
    return {} if distance is None else {FIGURE: PerceptualChange(distance)}
