"""A model hub on loopback for the window's test: one gated model, which is slow to come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from latentman.backend.models.library.catalogue import find_entry
from tools.stand_in_hub import StandInHub
from tools.window_names import NAME, TOKEN

#: the model's repository and file
REPOSITORY, FILE = "ByteDance/Hyper-SD", "Hyper-SD15-8steps-lora.safetensors"
LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
#: seconds between two pieces of the file
PAUSE = 0.05


@contextmanager
def serve_hub(folder: Path) -> Iterator[dict[str, str]]:
    """The hub; ``folder`` is for its files. Gives the environment variables that name it."""
    entry = find_entry(NAME)
    assert entry is not None and entry.revision is not None and entry.repository == REPOSITORY
    folder.mkdir(parents=True)
    # as much of a LoRA as the library looks at
    save_file({f"{LAYER}.lora_down.weight": np.random.default_rng(1).random((4, 65_536), np.float32)}, folder / FILE)
    hub = StandInHub()
    try:
        hub.repositories = {REPOSITORY: (entry.revision, folder)}
        hub.gated, hub.tokens, hub.pause = {REPOSITORY}, {REPOSITORY: TOKEN}, PAUSE
        yield {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder.parent / "hub-cache")}
    finally:
        hub.close()
