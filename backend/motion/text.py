"""The sentence as MDM's networks take it: one CLIP vector, or DistilBERT's tokens."""

from __future__ import annotations

import json
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...shared import logs
from ...shared.files import read_file
from ...shared.motion import MotionError
from ..models.hub import fetch_text_encoder
from ..models.registry import split_revision
from .weights import read_weights

logger = logs.get_logger(__name__)
#: MDM cuts CLIP's texts to 20 tokens between the two marks
CLIP_TOKENS = 22
#: files of weights in the order they are looked for
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
#: bytes of the weights and of any other file; layers, and any other number of a configuration
MAX_BYTES, MAX_TEXT_BYTES, MAX_LAYERS, MAX_NUMBER = 4 << 30, 64 << 20, 96, 1 << 20
HUB = {"clip": "openai/clip-vit-base-patch32", "bert": "distilbert/distilbert-base-uncased"}


@dataclass(frozen=True)
class EncodedText:
    """``vectors`` (1, S, W) and ``padding`` (1, S), True where there is no token; ``cut`` says that the end was left out, and
    ``left_out`` what it was."""

    vectors: torch.Tensor
    padding: torch.Tensor | None
    cut: bool
    left_out: str = ""


class TextEncoder:
    """A frozen text encoder of one of the two kinds."""

    def __init__(self, kind: str, source: str | None, device: torch.device) -> None:
        """``source`` is a folder or a hub id; the kind's own hub id when None. Raises ``MotionError`` when it is missing."""
        import transformers

        self._kind, self._device = kind, device
        # a text encoder that lies beside its checkpoint was trained with it and reads all it can
        self._tokens = CLIP_TOKENS if source is None or not (Path(source).parent / "args.json").exists() else sys.maxsize
        name, revision = split_revision(source or HUB[kind])
        try:
            _check_folder(Path(name))
            if not Path(name).is_dir():
                fetch_text_encoder(name, revision)
            weights = read_weights(_find_file(name, revision, *WEIGHTS))
            config = _read_config(name, revision)
            model: Any = transformers.CLIPTextModelWithProjection if kind == "clip" else transformers.AutoModel
            network = _check_size(model, config, weights)
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(name, revision=revision or "main", trust_remote_code=False)
            loaded, found = network.from_pretrained(
                None, config=config, state_dict=weights, dtype=torch.float32, output_loading_info=True
            )
        except Exception as error:  # whatever the library stumbles over in a folder that is not what it should be
            logger.info("The text encoder '%s' cannot be loaded", name, exc_info=True)
            reason = str(error).strip().splitlines()[0].rstrip(".")[:200] if str(error).strip() else type(error).__name__
            raise MotionError(
                f"The text encoder '{name}' cannot be loaded ({reason}); it is '{HUB[kind]}' on the model hub. Without a "
                "connection, give its folder with --text-encoder."
            ) from error
        if found["missing_keys"] or found["mismatched_keys"]:
            raise MotionError(
                f"The text encoder '{name}' lacks a part of its weights; download '{HUB[kind]}' from the model hub again."
            )
        self._model = loaded.to(device).eval()

    @torch.no_grad()
    def __call__(self, text: str) -> EncodedText:
        """Encode a sentence: CLIP's pooled vector, not normalised, or DistilBERT's token vectors."""
        whole = self._tokenizer(text, truncation=False, verbose=False).input_ids
        most = self._model.config.max_position_embeddings
        if self._kind == "clip":
            most = min(self._tokens, most)
        # the marks at both ends stay
        ids = whole if len(whole) <= most else [*whole[: most - 1], whole[-1]]
        rest = whole[most - 1 : -1] if len(whole) > most else []
        left_out = self._tokenizer.decode(rest).strip() if rest else ""
        row = torch.tensor([ids], device=self._device)
        if self._kind == "clip":
            return EncodedText(self._model(input_ids=row).text_embeds[:, None], None, bool(rest), left_out)
        vectors = self._model(input_ids=row, attention_mask=torch.ones_like(row)).last_hidden_state
        return EncodedText(vectors, torch.zeros_like(row, dtype=torch.bool), bool(rest), left_out)


def _check_folder(folder: Path) -> None:
    """``ValueError`` for a folder with pipes or devices in it, which would block whoever reads them, or with huge files."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        found = path.stat()
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise ValueError(f"{path.name} is not a regular file")
        if found.st_size > (MAX_BYTES if path.suffix in (".safetensors", ".bin") else MAX_TEXT_BYTES):
            raise ValueError(f"{path.name} has {found.st_size / 1e6:.0f} MB, more than a text encoder needs")


def _find_file(name: str, revision: str | None, *files: str) -> Path:
    """The first of these files that a folder or the model hub has."""
    from transformers.utils import cached_file

    for file in files:
        found = cached_file(name, file, revision=revision or "main", _raise_exceptions_for_missing_entries=False)
        if found is not None:
            return Path(found)
    raise ValueError(f"it has no {' or '.join(files)}")


def _read_config(name: str, revision: str | None) -> Any:
    """A configuration whose numbers are those of a text encoder; ``ValueError`` for others."""
    import transformers

    try:
        _check_numbers(json.loads(read_file(_find_file(name, revision, "config.json"), MAX_TEXT_BYTES)))
    except RecursionError as error:
        raise ValueError("its config.json is damaged") from error
    return transformers.AutoConfig.from_pretrained(name, revision=revision or "main", trust_remote_code=False)


def _check_numbers(value: Any, key: str = "") -> None:
    if isinstance(value, dict):
        for name, part in value.items():
            _check_numbers(part, name)
    elif isinstance(value, list):
        for part in value:
            _check_numbers(part, key)
    elif isinstance(value, (int, float)) and not abs(value) <= (MAX_LAYERS if "layers" in key else MAX_NUMBER):
        raise ValueError(f"its config.json has '{key[:40]}': {value:.6g}, which no text encoder has")


def _check_size(model: Any, config: Any, weights: Any) -> Any:
    """The network's class; ``ValueError`` when the network, which is not made yet, would be larger than its weights."""
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ValueError("its file of weights holds no network")
    with torch.device("meta"):
        network = model._from_config(config) if hasattr(model, "_from_config") else model.from_config(config)
    needed = sum(parameter.numel() for parameter in network.parameters())
    given = sum(value.numel() for value in weights.values())
    if needed > given:
        raise ValueError(f"its config.json asks for {needed} weights, its file has {given}")
    return type(network)
