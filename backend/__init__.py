"""The diffusion backend: a program of its own, in an environment of its own.

Shots come in over a loopback socket or from a folder of saved passes; frames go out as they are finished. Everything
that needs torch lives here. ``LatentManPipeline`` and ``LatentManXLPipeline`` are the method as diffusers pipelines.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["LatentManPipeline", "LatentManXLPipeline"]


def say_missing(error: ModuleNotFoundError) -> str:
    """One sentence about a library that is not there."""
    return (
        f"{error.name} is not installed in {sys.executable}; install the backend's packages there: pip install 'latentman[backend]'"
    )


def __getattr__(name: str) -> Any:
    # imported on demand: torch takes seconds, and whoever only asks for a version has no need of it
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from . import latentman_pipeline
    except ModuleNotFoundError as error:
        raise ImportError(say_missing(error)) from error
    return getattr(latentman_pipeline, name)
