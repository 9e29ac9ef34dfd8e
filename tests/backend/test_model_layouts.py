"""Every layout of model files makes, without a connection, the pictures of diffusers' own pipeline; the manual's table says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")

import torch

from tests.model_layouts import MARKS, PAGE, Figures, Layout, Networks, list_layouts, measure, write_table

LAYOUTS = list_layouts()
#: the families beside the first share what reads and names their files
CASES = [pytest.param(own, id=f"{own.family} {own.title}", marks=[pytest.mark.slow] * (own.family != "sd1")) for own in LAYOUTS]


@pytest.fixture(scope="module")
def networks():
    """The networks of each family, made once."""
    return {family: Networks(family) for family in {layout.family for layout in LAYOUTS}}


@pytest.mark.slow
@pytest.mark.parametrize("layout", CASES)
def test_a_layout_makes_the_pictures_of_diffusers(networks, layout, tmp_path):
    figures = measure(layout, networks[layout.family], tmp_path)
    assert figures == replace(figures, recognised=True, loads=True, said="") and figures.level <= 1, figures


@pytest.mark.slow
@pytest.mark.parametrize("part", ["unet", "control", "vae", "encoders"])
def test_other_weights_would_be_noticed(networks, part, tmp_path):
    """A single matrix of a network that is another shows in the picture."""

    def write(own, folder):
        changed = own.copy()
        network = changed.encoders[0] if part == "encoders" else getattr(changed, part)
        torch.manual_seed(2)
        network.get_parameter(_CHANGED[part]).data.normal_()
        case = LAYOUTS[0].write(own, folder)
        return replace(case, pipeline=changed.make_pipeline())

    figures = measure(Layout("changed", "sd1", write), networks["sd1"], tmp_path)
    assert figures.level > 1, figures


_CHANGED = {
    "unet": "mid_block.resnets.0.conv1.weight",
    "control": "mid_block.resnets.0.conv1.weight",
    "vae": "decoder.mid_block.resnets.0.conv1.weight",
    "encoders": "encoder.layers.0.mlp.fc1.weight",
}


def test_the_manuals_table_is_of_these_layouts():
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index(MARKS[0]) + len(MARKS[0]) : text.index(MARKS[1])].strip()
    good = write_table({layout: Figures(True, True, 0) for layout in LAYOUTS}).strip()
    assert table.replace("(1)", "(0)") == good
