"""``python backend/launch.py serve ...``: runs the backend of this very copy of the package, installed or not.

Blender starts it this way in the Python that has the backend's packages: the folder around may have any name, and nothing
beside it must become importable. Written so that an old Python can read it and say that it is too old.
"""

import importlib.util
import json
import os
import sys

OLDEST, NEWEST = (3, 11), (3, 14)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def load_package() -> None:
    """Make the folder that this file is in importable as ``latentman``."""
    spec = importlib.util.spec_from_file_location("latentman", os.path.join(ROOT, "__init__.py"), submodule_search_locations=[ROOT])
    assert spec and spec.loader
    package = importlib.util.module_from_spec(spec)
    sys.modules["latentman"] = package
    spec.loader.exec_module(package)


def tell(event: str, code: str, sentence: str, **more: str) -> None:
    """Say why nothing was begun: to programs as the last event of ``--json``, to people on the standard error."""
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps(dict(event=event, code=code, message=sentence, **more)) + "\n")
        sys.stdout.flush()
    else:
        sys.stderr.write(sentence + "\n")


def main() -> int:
    """Check the Python, then hand over to the command line; returns the exit code."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        tell(
            "failed",
            "environment",
            f"Python {sys.version_info[0]}.{sys.version_info[1]} runs here ({sys.executable}); LatentMan's backend "
            f"needs {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}. Choose another Python.",
        )
        return 2
    # the folder of this script must not shadow anybody's modules
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != os.path.dirname(os.path.abspath(__file__))]
    load_package()
    from latentman.backend.installation.changing import claim_own
    from latentman.backend.missing import explain_missing

    # until this process ends: *Set Up* leaves the environment alone that it runs in
    claimed = claim_own()

    try:
        try:
            from latentman.backend.__main__ import main as command_line
        except ModuleNotFoundError as error:
            tell("failed", "environment", f"{sys.executable}: {explain_missing(error.name or '')}")
            return 2
        return command_line()
    except KeyboardInterrupt:
        tell("interrupted", "interrupted", "It was stopped before it began.", signal="SIGINT")
        return 130
    finally:
        if claimed:
            claimed.close()


if __name__ == "__main__":
    sys.exit(main())
