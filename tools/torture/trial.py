"""What every kind of trouble has in common: how long it may go on, what it counts, and what went wrong."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Figures:
    """The counts of a part, by name, and every fault as a sentence that says how to see it again."""

    counts: Counter[str] = field(default_factory=Counter)
    #: what is no count, such as megabytes
    measures: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def fault(self, sentence: str) -> None:
        """Write down what went wrong, and say it at once."""
        self.faults.append(sentence)
        print(f"    FAULT: {sentence}", flush=True)


@dataclass(frozen=True)
class Budget:
    """How long a part may go on: until ``goal`` trials are done or the time is over, and one trial in any case.

    ``seed`` decides every trial, so that the same seed and number give the same trouble.
    """

    seed: int
    goal: int
    #: of ``time.monotonic``
    end: float
    work: Path
    #: the folder of the tiny image model
    model: str

    def trials(self) -> Iterator[tuple[int, random.Random, Path]]:
        """(number, generator of its own, fresh folder of its own), one after the other."""
        for number in range(self.goal):
            if number and time.monotonic() > self.end:
                return
            folder = self.work / f"trial-{number}"
            folder.mkdir(parents=True)
            yield number, random.Random(f"{self.seed} {self.work.name} {number}"), folder
