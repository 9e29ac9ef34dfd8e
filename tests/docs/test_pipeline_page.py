"""The examples of the pipeline run as they are printed, and its page has every argument."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latentman.backend import LatentManPipeline, latentman_pipeline  # noqa: E402
from latentman.shared import passes_folder  # noqa: E402
from latentman.shared.manifest import PassesManifest  # noqa: E402
from tests import samples  # noqa: E402
from tests.checkout import ROOT  # noqa: E402

PAGE = (ROOT / "docs" / "api" / "pipeline.md").read_text(encoding="utf-8")
METHOD = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")


def list_examples() -> list[str]:
    return [code for text in (latentman_pipeline.__doc__, PAGE, METHOD) for code in re.findall(r"```python\n(.*?)```", text, re.S)]


def test_there_are_examples():
    assert len(list_examples()) == 4


@pytest.mark.parametrize("number", range(4))
def test_an_example_runs_as_it_is_printed(number, tmp_path, monkeypatch, capsys):
    passes_folder.save(tmp_path / "passes", samples.passes(1, 32), PassesManifest(32, 32, 20.0, (1,), 1.0, 2.0))
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    exec(compile(list_examples()[number], "<example>", "exec"), found)
    if "clip" in found:
        indices = found["clip"].frame_indices
        assert indices == [0]
        if isinstance(found["clip"].frames, np.ndarray):
            assert capsys.readouterr().out.splitlines()[-1] == f"({len(indices)}, 32, 32, 3) {indices}"
        else:
            assert list(tmp_path.glob("*.png"))
    else:
        assert len(found["frames"]) == 1


def test_the_page_has_every_argument():
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)} - {"negative_"}
    own = set(inspect.signature(LatentManPipeline.__call__).parameters) - {"self"}
    negative = {"negative_original_size", "negative_crops_coords_top_left", "negative_target_size"}
    assert own - negative - named <= {"pooled_prompt_embeds", "negative_pooled_prompt_embeds"}
    assert named <= own
