"""Telling a full temporary folder from other reasons why a pass file cannot be written or read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...shared import shot

#: what a pass file takes at most for each of its pixels, and the largest file that is written to try whether there is room
BYTES_PER_PIXEL, MOST_TRIED = 96, 256 << 20


@contextmanager
def explain_storage(path: Path, width: int, height: int) -> Iterator[None]:
    """Within the block Blender writes a pass file of that size to ``path``, in a folder of its own in the temporary folder, and it
    is read. Where either fails because there is no room, ``ShotError`` with the code ``temporary`` is raised instead.

    Not every library says why it could not write, and some write half a file: so the folder is tried out.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        reason = _find_obstacle(path.parent, min(width * height * BYTES_PER_PIXEL, MOST_TRIED))
        if reason:
            raise shot.ShotError(
                "temporary",
                f"The temporary folder {path.parent.parent} cannot take a frame's passes ({reason}); make room there, or set "
                "TMPDIR to another folder.",
            ) from error
        raise


def _find_obstacle(folder: Path, size: int) -> str:
    """Why a folder does not take a file of ``size`` bytes, "" when it does."""
    trial = folder / "trial"
    try:
        with trial.open("wb") as stream:
            for _ in range(-(-size // (1 << 20))):
                stream.write(bytes(1 << 20))
    except OSError as error:
        return error.strerror or str(error)
    finally:
        try:
            trial.unlink(missing_ok=True)
        except OSError:
            pass  # the folder itself is gone
    return ""
