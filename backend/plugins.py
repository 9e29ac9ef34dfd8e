"""What other packages add by entry points: found by name, loaded only when asked for, checked, and named where it is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from ..shared.shot import ShotError

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Plugins(Generic[Kind]):
    """The plugins of one kind. ``group`` is that of their entry points, ``noun`` what one is called in sentences; ``read`` makes
    one of what an entry point names, given its name, and raises ``TypeError`` or ``ValueError`` with half a sentence for what is
    none. ``built_in`` are names that cannot be taken."""

    group: str
    noun: str
    read: Callable[[str, Any], Kind]
    built_in: Callable[[], tuple[str, ...]] = tuple

    def find(self) -> dict[str, EntryPoint]:
        """The entry points by name, not loaded. Built-in names are not among them."""
        taken = self.built_in()
        found = sorted(entry_points(group=self.group), key=lambda entry: entry.name)
        return {entry.name: entry for entry in found if entry.name not in taken}

    def load(self, name: str) -> Kind:
        """One of them. Raises ``ShotError`` when there is none of that name, or it is broken."""
        found = self.find()
        if name not in found:
            there = ", ".join([*self.built_in(), *found])
            choose = f"choose {there}" if there else f"no package with a {self.noun} is installed in the backend's environment"
            raise ShotError(self.noun, f"There is no {self.noun} '{name[:80]}'; {choose}.")
        try:
            return self.read(name, found[name].load())
        except (Exception, SystemExit) as error:  # what a package does while it is imported is beyond us
            raise ShotError(
                self.noun,
                f"The {self.noun} '{name}' of {origin_of(found[name])} cannot be used ({describe_error(error)}); update that "
                "package, or leave it out.",
            ) from error

    def describe(self, summarise: Callable[[Kind], str]) -> Iterator[str]:
        """A line for each, with where it comes from; broken ones with what is wrong."""
        for name, entry in self.find().items():
            try:
                text = summarise(self.load(name))
            except ShotError as error:
                text = str(error)
            yield f"{name}  [{origin_of(entry)}]  {text}".rstrip()


def describe_error(error: BaseException) -> str:
    """The kind of an error of another package's code and the first line of what it says, for a sentence."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def origin_of(entry: EntryPoint) -> str:
    """The name and version of the package that an entry point belongs to."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
