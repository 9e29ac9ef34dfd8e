"""How models are run, as settings of ``latentman serve`` and ``latentman generate``; free of torch, so that ``--help`` is quick."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ...shared.settings import Choice, Setting


class LoadOptions(msgspec.Struct, frozen=True):
    """How models are run."""

    dtype: Annotated[
        str,
        Setting(
            "Precision",
            "The numbers that a model computes with",
            choices=(
                Choice("auto", "Automatic", "Half precision on CUDA, single elsewhere"),
                Choice("float32", "Single", "32 bits"),
                Choice("float16", "Half", "16 bits"),
                Choice("bfloat16", "Brain Half", "16 bits with the range of 32"),
            ),
        ),
    ] = "auto"
    compile: Annotated[
        bool, Setting("Compile", "Fuse the networks' operations, which takes minutes to begin and is quicker then")
    ] = False
    offload: Annotated[
        str,
        Setting(
            "Offload",
            "Keep on a GPU only the part of a model that works",
            choices=(
                Choice("auto", "Automatic", "When the model would fill the GPU"),
                Choice("on", "On", "Always"),
                Choice("off", "Off", "Never"),
            ),
        ),
    ] = "auto"
