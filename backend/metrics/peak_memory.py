"""How much memory a piece of work takes at most."""

from __future__ import annotations

import threading

import torch

#: seconds between two readings of the process's memory
INTERVAL = 0.02


class PeakMemory:
    """A ``with`` block whose peak memory is measured: ``megabytes``, known afterwards, is the most that was taken beyond what was
    there before. On the CPU it is the process's resident memory, on CUDA the allocator's."""

    def __init__(self, device: torch.device) -> None:
        self._cuda, self._done = device.type == "cuda", threading.Event()
        self._start = self._peak = self.megabytes = 0.0

    @staticmethod
    def _read_resident() -> float:
        try:
            with open("/proc/self/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * 4096 / 1e6
        except OSError:
            return float("nan")

    def _sample(self) -> None:
        while not self._done.wait(INTERVAL):
            self._peak = max(self._peak, self._read_resident())

    def __enter__(self) -> PeakMemory:
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        self._start = self._peak = self._read_resident()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.megabytes = torch.cuda.max_memory_allocated() / 1e6 if self._cuda else self._peak - self._start
