"""Has the asset library made by a second Blender, while this one goes on."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from ...shared import logs
from ...shared.disk_errors import explain_disk_error, find_path
from ...shared.folders import assets_folder
from ...shared.shot import ShotError
from ...shared.version import VERSION
from ..passes.second_blender import SecondBlender
from . import library
from .arrivals import FILE
from .contents import STAMP

logger = logs.get_logger(__name__)
MODULE = "assets.contents"
FAILED = "The asset library could not be made: the Blender that writes it has failed, and the log says why."


class LibraryBuild:
    """One making of the library: ``start``, ``poll`` until it returns True, or ``close``. ``sentence`` says then how it ended and
    ``has_failed`` whether badly."""

    def __init__(self) -> None:
        self.sentence, self.has_failed = "", False
        self._second: SecondBlender | None = None

    @property
    def busy(self) -> bool:
        """Whether a library is being made."""
        return self._second is not None

    def start(self) -> None:
        """Begin. Raises ``ShotError`` where no second Blender can be run."""
        self.sentence, self.has_failed = "", False
        try:
            folder = Path(tempfile.mkdtemp(prefix="latentman-"))
        except OSError as error:
            raise ShotError("disk", explain_disk_error(error, tempfile.gettempdir(), "written")) from error
        self._second = SecondBlender(folder)
        try:
            (folder / "assets.json").write_text(json.dumps({"version": VERSION}), encoding="utf-8")
            self._second.start(MODULE, opens_copy=False)
        except OSError as error:
            self.close()
            raise ShotError("assets", f"A second Blender, which makes the library, cannot be run ({error}).") from error

    def poll(self) -> bool:
        """Take the library over once it is made. Whether all is over."""
        if self._second is None:
            return True
        if self._second.is_running:
            return False
        self._finish(self._second)
        return True

    def wait(self) -> None:
        """Wait until it is made, and take it over."""
        if self._second is not None and self._second.process is not None:
            self._second.process.wait()
        self.poll()

    def close(self) -> None:
        """End it; nothing that was there is changed."""
        second, self._second = self._second, None
        if second is not None:
            second.close()
            shutil.rmtree(second.folder, ignore_errors=True)

    def _finish(self, second: SecondBlender) -> None:
        try:
            if not all((second.folder / name).is_file() for name in (FILE, STAMP)):
                second.log("the Blender that makes the asset library has failed")
                self.sentence, self.has_failed = FAILED, True
                return
            renewed = bool(library.read_version())
            library.take_over(second.folder)
            library.register_library()
            done = "The asset library is renewed." if renewed else "The asset library is in the Asset Browser."
            self.sentence = done + library.explain_saving()
        except OSError as error:
            where = find_path(error, assets_folder())
            self.sentence = explain_disk_error(error, where, "written", "name another folder in LATENTMAN_DATA")
            self.has_failed = True
        finally:
            self.close()


#: what the preferences show
build = LibraryBuild()
