"""A worker's process under Ray. This module travels to it as it is, so that it may import nothing but the standard library before
``__init__`` has found the package there."""

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


class UnitActor:
    """Makes units; Ray gives it threads enough to hear that it should stop while it works."""

    def __init__(self, launcher: str, options: bytes, make: Callable[[], Any] | None = None) -> None:
        """``launcher`` is the file that makes the package importable, where this is the machine that it is on; on others the
        package must be installed. ``options`` are the ``LoadOptions``, as JSON; ``make`` makes what stands in for a
        ``UnitMaker``."""
        if Path(launcher).is_file():
            runpy.run_path(launcher)["load_package"]()
        self._maker = _make_maker(options) if make is None else make()
        self._ports: dict[str, Any] = {}

    def describe(self) -> Any:
        """Its ``WorkerDescription``."""
        return self._maker.describe()

    def run(self, ticket: str, unit: Any, look: Any, passes: Any) -> Iterator[Any]:
        """The events of a unit, whose ``look`` and ``passes`` came by the object store."""
        from dataclasses import replace

        from latentman.backend.workers.port import UnitPort

        port = self._ports[ticket] = UnitPort()
        try:
            yield from self._maker.run(unit if look is None else replace(unit, look=look, passes=passes), port)
        finally:
            del self._ports[ticket]

    def answer(self, ticket: str, passes: Any) -> None:
        """Passes that a unit wanted."""
        if ticket in self._ports:
            self._ports[ticket].answer(passes)

    def stop(self, ticket: str) -> None:
        """End a unit at its next step."""
        if ticket in self._ports:
            self._ports[ticket].stop()


def _make_maker(options: bytes) -> Any:
    import msgspec

    from latentman.backend.workers.maker import UnitMaker
    from latentman.shared.load_options import LoadOptions

    return UnitMaker(msgspec.json.decode(options, type=LoadOptions))
