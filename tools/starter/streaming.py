"""Training pictures that are rendered while the training runs: by other processes, which write them into memory-mapped arrays."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from latentman.blender_addon.character.body_model import MANNEQUIN, load

from . import captions
from .dataset import CAPTIONS
from .dressed import render
from .scenery import SCENES
from .sewing import Mannequin

#: pictures that a process renders before it reports
CHUNK = 16
_FINISHED, _IMAGES, _DEPTHS = "finished.json", "images.npy", "depths.npy"

_mannequin: Mannequin | None = None


def _render_chunk(folder: Path, first_seed: int, rows: range) -> tuple[range, list[int], list[list[str]]]:
    """Render some rows of the arrays; returns them with their places and captions."""
    global _mannequin
    # one process a core: more threads would only wait for each other
    torch.set_num_threads(1)
    _mannequin = _mannequin or Mannequin(load(MANNEQUIN))
    images, depths = (np.load(folder / name, mmap_mode="r+") for name in (_IMAGES, _DEPTHS))
    places, texts = [], []
    for row in rows:
        example = render(_mannequin, first_seed + row, images.shape[1])
        images[row], depths[row] = example.image, example.depth
        other = np.random.default_rng((first_seed + row, 1))
        style = example.hair
        texts.append(
            [
                example.caption,
                *(captions.describe(example.outfit, example.scene, other, style=style) for _ in range(CAPTIONS - 1)),
            ]
        )
        places.append(SCENES.index(example.scene))
    return rows, places, texts


class StreamedRenders:
    """As many pictures as are there by now: ``collect`` takes those that were rendered meanwhile, while ``make`` is open.

    ``scenes`` (N,) are indices of places in ``SCENES``, and ``captions`` describe every picture in ``CAPTIONS`` ways. What an
    earlier run rendered into the same folder is there from the beginning.
    """

    def __init__(self, folder: Path, size: int, count: int, first_seed: int, device: str) -> None:
        """Up to ``count`` pictures of ``size`` by ``size`` pixels. Raises ``ValueError`` for a folder with pictures of others."""
        self._folder, self._first_seed, self._device = folder, first_seed, torch.device(device)
        self.captions: list[list[str]] = []
        self._rows: list[int] = []
        self._places: list[int] = []
        made_of = {"size": size, "count": count, "seed": first_seed}
        folder.mkdir(parents=True, exist_ok=True)
        finished = folder / _FINISHED
        self._todo = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
        if finished.exists():
            known = json.loads(finished.read_text())
            if known["made_of"] != made_of:
                raise ValueError(f"{folder} holds pictures of another kind ({known['made_of']}); name another folder.")
            self._rows, self._places, self.captions = known["rows"], known["places"], known["captions"]
            done = set(self._rows)
            self._todo = [rows for rows in self._todo if rows[0] not in done]
        else:
            for name, shape in ((_IMAGES, (count, size, size, 3)), (_DEPTHS, (count, size, size))):
                np.lib.format.open_memmap(folder / name, "w+", np.uint8, shape).flush()
        self._made_of = made_of
        self._disk = [torch.from_numpy(np.load(folder / name, mmap_mode="r+")) for name in (_IMAGES, _DEPTHS)]
        #: on a GPU a copy of what is there, in the order of ``_rows``
        self._near = self._disk
        if self._device.type != "cpu":
            self._near = [torch.empty(array.shape, dtype=torch.uint8, device=self._device) for array in self._disk]
        self._copied = 0
        self._finished: Iterator[tuple[range, list[int], list[list[str]]]] = iter(())
        self._copy()

    @contextmanager
    def make(self, workers: int) -> Iterator[None]:
        """Within the block ``workers`` processes render what is missing."""
        # a process that was forked could not use CUDA, and CUDA's threads do not like to be forked
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            self._finished = pool.imap_unordered(partial(_render_chunk, self._folder, self._first_seed), self._todo)
            yield
            self._finished = iter(())
            pool.terminate()
        self.save()

    def save(self) -> None:
        """Note what is there, for the next run."""
        known = {"made_of": self._made_of, "rows": self._rows, "places": self._places, "captions": self.captions}
        part = self._folder / f"{_FINISHED}.part"
        part.write_text(json.dumps(known))
        part.replace(self._folder / _FINISHED)

    def _take(self, chunk: tuple[range, list[int], list[list[str]]]) -> None:
        rows, places, texts = chunk
        self._rows += rows
        self._places += places
        self.captions += texts
        self._copy()

    def _copy(self) -> None:
        if self._near is self._disk:
            return
        new = torch.tensor(self._rows[self._copied :], dtype=torch.long)
        for near, disk in zip(self._near, self._disk, strict=True):
            near[self._copied : self._copied + len(new)] = disk[new].to(self._device)
        self._copied += len(new)

    def wait_for(self, least: int) -> None:
        """Wait until ``least`` pictures are there, or all."""
        while len(self) < least:
            try:
                self._take(next(self._finished))
            except StopIteration:
                return

    def collect(self) -> None:
        """Take what has been rendered meanwhile."""
        while isinstance(self._finished, multiprocessing.pool.IMapUnorderedIterator):
            try:
                self._take(self._finished.next(timeout=0.001))
            except (multiprocessing.TimeoutError, StopIteration):
                return

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def scenes(self) -> torch.Tensor:
        """(N,) indices of the places."""
        return torch.tensor(self._places, dtype=torch.long)

    @property
    def size(self) -> int:
        """The side of the pictures in pixels."""
        return int(self._disk[0].shape[1])

    def rows(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (M, S, S, 3) and depths (M, S, S), uint8, of some pictures (M,), on the training's device."""
        if self._near is self._disk:
            index = torch.tensor(self._rows)[index.cpu()]
        return self._near[0][index], self._near[1][index]
