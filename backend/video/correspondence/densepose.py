"""DensePose as the source of parts and texture coordinates: the paper's own, for comparison with rendered passes.

Needs detectron2 with its DensePose project, which the user installs; everything else runs without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from scipy.spatial import cKDTree

from ....shared.passes import FramePasses
from ....shared.shot import ShotError

PARTS = 24
#: the configuration that the released models are named after
CONFIG = "densepose_rcnn_R_50_FPN_s1x.yaml"
#: (H, W, 3) uint8 RGB -> (H, W, 3) uint8: part 0..24, U, V
Predictor = Callable[[np.ndarray], np.ndarray]


def make_iuv(boxes: np.ndarray, results: list[tuple[np.ndarray, np.ndarray]], height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 IUV image of detections.

    ``boxes`` (N, 4) are x, y, width, height in pixels; each result is labels (h, w) of parts 0..24 and coordinates
    (2, h, w) in [0, 1], of its box's size. Earlier detections lie over later ones.
    """
    out = np.zeros((height, width, 3), np.uint8)
    for (left, top, *_), (labels, uv) in zip(boxes.astype(int), results, strict=True):
        h, w = labels.shape
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + w, width), min(top + h, height)
        if x1 <= x0 or y1 <= y0:
            continue
        part = labels[y0 - top : y1 - top, x0 - left : x1 - left]
        coordinates = np.clip(uv[:, y0 - top : y1 - top, x0 - left : x1 - left] * 255, 0, 255)
        window = out[y0:y1, x0:x1]
        free = (window[..., 0] == 0) & (part > 0)
        window[free] = np.concatenate([part[None], coordinates]).transpose(1, 2, 0).astype(np.uint8)[free]
    return out


def make_predictor(weights: Path, config: Path | None = None) -> Predictor:
    """The user's DensePose; ``ShotError`` when detectron2 or its files are missing.

    ``weights`` is a released DensePose checkpoint (``model_final_*.pkl``), ``config`` its configuration file.
    """
    try:
        import densepose
        from densepose import add_densepose_config
        from densepose.vis.extractor import DensePoseResultExtractor
        from detectron2.config import get_cfg
        from detectron2.engine import DefaultPredictor
    except ImportError as error:
        raise ShotError(
            "densepose",
            f"DensePose is not installed ({error}); install detectron2 and its DensePose project, or use the rendered passes.",
        ) from error
    file = config or Path(densepose.__file__).parents[1] / "configs" / CONFIG
    for path in (weights, file):
        if not path.exists():
            raise ShotError("densepose", f"{path} does not exist; give the DensePose checkpoint and its configuration file.")
    settings = get_cfg()
    add_densepose_config(settings)
    settings.merge_from_file(str(file))
    settings.MODEL.WEIGHTS = str(weights)
    return adapt_detectron(DefaultPredictor(settings), DensePoseResultExtractor())


def adapt_detectron(detector: Callable[[np.ndarray], dict[str, Any]], extractor: Callable[[Any], Any]) -> Predictor:
    """A predictor from detectron2's ``DefaultPredictor`` and DensePose's ``DensePoseResultExtractor``."""

    def predict(image: np.ndarray) -> np.ndarray:
        instances = detector(image[..., ::-1])["instances"]
        results, boxes = extractor(instances)
        if results is None or boxes is None:
            return np.zeros(image.shape, np.uint8)
        found = [(r.labels.cpu().numpy(), r.uv.cpu().numpy()) for r in results]
        return make_iuv(boxes.cpu().numpy(), found, *image.shape[:2])

    return predict


def replace_parts_by_iuv(passes: FramePasses, images: np.ndarray) -> FramePasses:
    """The passes with parts and texture coordinates from IUV images (F, H, W, 3) uint8; everything else stays.

    Raises ``ShotError`` when the images do not fit.
    """
    if images.shape != (*passes.mask.shape, 3) or images.dtype != np.uint8 or images[..., 0].max(initial=0) > PARTS:
        raise ShotError(
            "densepose",
            f"The IUV images are {images.dtype}{list(images.shape)}; expected "
            f"uint8{[*passes.mask.shape, 3]} with parts 0 to {PARTS}.",
        )
    return replace(passes, part=np.ascontiguousarray(images[..., 0]), uv=images[..., 1:].astype(np.float32) / 255)


@dataclass(frozen=True)
class SurfaceMap:
    """DensePose's coordinates as SMPL vertices, from the user's ``UV_Processed.mat`` (see ``load_map``)."""

    trees: dict[int, tuple[cKDTree, np.ndarray]]

    def vertices(self, iuv: np.ndarray) -> np.ndarray:
        """(..., 3) uint8 IUV -> (...) int64 index of the nearest SMPL vertex, -1 for the background."""
        out = np.full(iuv.shape[:-1], -1, np.int64)
        for part, (tree, vertex) in self.trees.items():
            here = iuv[..., 0] == part
            if here.any():
                out[here] = vertex[tree.query(iuv[here][:, 1:] / 255.0)[1]]
        return out


def load_map(path: Path) -> SurfaceMap:
    """Read ``UV_Processed.mat``: ``All_Faces`` (F, 3) 1-based into split vertices, ``All_FaceIndices`` (F,) parts 1..24,
    ``All_U_norm`` and ``All_V_norm`` of the split vertices, ``All_vertices`` their 1-based SMPL vertices.

    Raises ``ShotError`` when it is another file.
    """
    try:
        data = loadmat(path)
        faces = np.asarray(data["All_Faces"], np.int64) - 1
        parts = np.asarray(data["All_FaceIndices"]).ravel()
        uv = np.stack([np.asarray(data[name], np.float64).ravel() for name in ("All_U_norm", "All_V_norm")], 1)
        vertex = np.asarray(data["All_vertices"], np.int64).ravel() - 1
        if faces.min() < 0 or faces.max() >= len(uv) or len(vertex) != len(uv) or len(parts) != len(faces):
            raise ValueError("its arrays do not fit each other")
    except (OSError, KeyError, ValueError, NotImplementedError, MatReadError) as error:
        raise ShotError("densepose", f"{path} is not UV_Processed.mat: {error}.") from error
    trees = {}
    for part in range(1, PARTS + 1):
        used = np.unique(faces[parts == part])
        if len(used):
            trees[part] = (cKDTree(uv[used]), vertex[used])
    return SurfaceMap(trees)
