"""Tests that make test leaves to make test-slow: of large matrices all but a few rows, which stand for the others.

Whoever changes what such a file tests runs all of it: ``pytest -m "slow or not slow" FILE``.
"""

from __future__ import annotations

import importlib.metadata
import re

import pytest

#: file -> what the names of its rarer tests hold, with their parameters
RARE = {
    # of the families of transformers Z-Image and Qwen-Image stand for the others, whose tiny models take several times as long
    "test_transformer_families.py": r"\[(sd3|flux)|flux_depth|surface_fast|Flux|small_auto_encoders|another_precision",
    "test_transformer_loras.py": r"sd3|flux|kohya|lycoris|xlabs|text_encoders_learn|alphas_of_peft|numbers_that_are_none",
    "test_transformer_files.py": r"wan_vace|sd3|flux|gguf|stable_diffusion_3_5",
    "test_clip_models.py": r"\[False\]|surface_fast|keyframes2",
    "test_wan_animate.py": r"\[4\.0|memory_is_planned",
    "test_single_files.py": r"sd2|CKPT|half|odd|sd1-ema|emb_params|plans_of_the_real_networks",
    "test_schedulers.py": r"karras|sde|tcd|euler_a|heun|pndm|-(sample|v_prediction)-",
    "test_figures.py": r"faulty_clip_loses.*(of [1-6](\.\d)?-|diagonally|slowly|sideways|on the surface|thin-|noise-|frozen)",
    "test_pipeline_calls.py": r"nonsense.*-\d\d\]|inference_mode.*latentman|steps\[(Euler|UniPC)|saved_pipelines_are_read",
    "test_look_files.py": r"\[parts[13]\]",
    "test_command_line.py": r"signal_ends.*\[(generate-backend|passes-rendering)",
    "test_kept_extents.py": r"\[(lens|modifier|hidden|map|mesh)\]",
    "test_rig_families.py": r"\[False-body|numbered|no colon|English names|Blender's names|dance|random",
    "test_installation.py": r"repair\[(?!byte)|fetched_python",
    "test_workers.py": r"worker_that_dies.*\[(?!.*0\])",
}
#: the version of Blender that all else is tried with
LEADING = "4.5"
#: the same in other versions of Blender: long tests of what happens beside Blender, in the backend and in files
RARE_ELSEWHERE = {
    "test_generation.py": r"exit_codes|a_tweak_makes_only",
    "test_wardrobe.py": r"instances_of_one_name",
    "test_extension.py": r"test_the_zip",
    "test_dressing.py": r"opened_again_meanwhile|wears_its_costume_in_shots",
    "test_moving.py": r"saved_for_the_first_time|takes_no_frames|an_unfinished_shot|fetched_again|backend_does_not_have",
    "test_queue.py": r"cancelling_a_row|marked_shots_are_made|a_lost_backend|a_stopped_backend|settings_stay|what_is_gone",
    "test_kept_extents.py": r"what_has_changed",
    "test_keys.py": r"stays_over_its_feet|travels_as_far|locked_feet",
}


def list_rare(name: str) -> list[str]:
    """The patterns for a file in the environment that runs the tests."""
    try:
        leads = importlib.metadata.version("bpy").startswith(LEADING)
    except importlib.metadata.PackageNotFoundError:
        leads = True
    return [table[name] for table in ((RARE,) if leads else (RARE, RARE_ELSEWHERE)) if name in table]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark them, before pytest leaves out what is marked."""
    for item in items:
        if any(re.search(pattern, item.name) for pattern in list_rare(item.path.name)):
            item.add_marker(pytest.mark.slow)
