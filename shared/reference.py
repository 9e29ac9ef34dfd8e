"""The picture of a character whose identity frames keep: read where it lies, and named by its contents from there on.

Whoever asks for a shot gives a path in ``Text.reference``. Before the request goes anywhere ``take_reference`` puts the name of the
file's contents in its place, and the contents travel beside it: another machine does not have the file, and another picture makes
another job.
"""

from __future__ import annotations

import errno
import hashlib
import re
from pathlib import Path

from .files import read_file
from .pasted_paths import is_relative_to_blend_file, read_pasted_path
from .settings import with_settings
from .shot import MODELS_STRENGTH, ShotError, ShotRequest

#: bytes that the file of a picture may have
MAX_BYTES = 32 << 20
_PREFIX = "picture:"


def name_picture(data: bytes) -> str:
    """The name of a picture's file by its contents, as a request has it."""
    return _PREFIX + hashlib.blake2b(data, digest_size=20).hexdigest()


def is_picture_name(text: str) -> bool:
    """Whether a text is such a name and no path."""
    return bool(re.fullmatch(_PREFIX + "[0-9a-f]{40}", text))


def take_reference(request: ShotRequest, base: Path | None = None) -> tuple[ShotRequest, bytes]:
    """A request whose reference picture is named by its contents, and the bytes of its file, empty without a picture.

    ``base`` is the folder that Blender's ``//`` stands for. Raises ``ShotError`` for a picture that cannot be read.
    """
    if not request.text.reference.strip():
        # without a picture its strength changes nothing
        return with_settings(request, {"reference": "", "reference_strength": MODELS_STRENGTH}), b""
    path = Path(read_pasted_path(request.text.reference, base))
    if is_relative_to_blend_file(str(path)):
        raise ShotError(
            "reference",
            f"The reference picture '{path}' lies beside a .blend file that is not known here; save that file, or give the whole "
            "path.",
        )
    try:
        data = read_file(path, MAX_BYTES)
    except ValueError as error:  # a name that no file can have
        raise ShotError("reference", f"The reference picture {path} cannot be read ({error}); choose a picture's file.") from error
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise ShotError("reference", f"There is no reference picture {path}; choose a picture's file.") from error
        if error.errno == errno.EFBIG:
            raise ShotError(
                "reference",
                f"The reference picture {path} has more than {MAX_BYTES >> 20} MB; make it smaller, since 1024 pixels along a side "
                "are plenty.",
            ) from error
        reason = (error.strerror or str(error)).rstrip(".")
        raise ShotError("reference", f"The reference picture {path} cannot be read ({reason}); choose a picture's file.") from error
    if not data:
        raise ShotError("reference", f"The reference picture {path} is empty; choose another file.")
    return with_settings(request, {"reference": name_picture(data)}), data


def check_reference(request: ShotRequest, data: bytes) -> None:
    """Raise ``ShotError`` where the bytes beside a request are not those of the picture that it names."""
    wanted = request.text.reference
    if len(data) > MAX_BYTES:
        raise ShotError("reference", f"The reference picture has more than {MAX_BYTES >> 20} MB; make it smaller.")
    if wanted != (name_picture(data) if data else ""):
        raise ShotError(
            "reference", "The reference picture did not come with its shot, or is another one; generate the shot again."
        )
