"""The diffusion backend: a program of its own, in an environment of its own.

Shots come in over a loopback socket or from a folder of saved passes; frames go out as they are finished. Everything
that needs torch lives here. ``LatentManPipeline`` and ``LatentManXLPipeline`` are the method as diffusers pipelines.
"""

from __future__ import annotations

from typing import Any

from .missing import explain_missing

__all__ = ["LatentManPipeline", "LatentManXLPipeline"]


def __getattr__(name: str) -> Any:
    # imported on demand: torch takes seconds, and whoever only asks for a version has no need of it
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from . import latentman_pipeline
    except ModuleNotFoundError as error:
        raise ImportError(explain_missing(error.name or "")) from error
    return getattr(latentman_pipeline, name)
