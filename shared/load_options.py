"""How models are run: settings of ``latentman serve`` and ``latentman generate``, and of the add-on, which starts backends."""

from __future__ import annotations

from typing import Annotated

import msgspec

from .settings import Choice, Setting, list_settings


class LoadOptions(msgspec.Struct, frozen=True):
    """How models are run."""

    device: Annotated[str, Setting("Device", "What models run on: auto, cuda, cuda:1, xpu, mps or cpu")] = "auto"
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
    weights: Annotated[
        str,
        Setting(
            "Weights",
            "How large models of transformers hold their weights",
            choices=(
                Choice("auto", "As They Are", "In the numbers that are computed with"),
                Choice("8bit", "8 Bits", "Half of the memory; needs the package torchao"),
                Choice(
                    "4bit", "4 Bits", "A quarter of the memory, with a little less detail; needs CUDA and the package bitsandbytes"
                ),
            ),
        ),
    ] = "auto"


def write_arguments(options: LoadOptions) -> list[str]:
    """The arguments of ``latentman serve`` for what is not the default."""
    found: list[str] = []
    for declared in list_settings(LoadOptions):
        value = getattr(options, declared.name)
        if value != declared.default:
            option = "--" + declared.name.replace("_", "-")
            found += [option] if value is True else [option, str(value)]
    return found
