"""CLIP's tokenizer, from the merges that are shipped: nothing is asked of a hub."""

from __future__ import annotations

from pathlib import Path

from transformers import CLIPTokenizer

MERGES = Path(__file__).resolve().parent / "clip_tokenizer" / "merges.txt"
START, END = "<|startoftext|>", "<|endoftext|>"
#: tokens that a text encoder reads at once
MAX_TOKENS = 77


def _list_byte_letters() -> list[str]:
    """A printable letter for each byte: those of Latin-1 that can be seen stand for themselves, and come first."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [*map(chr, seen), *(chr(256 + n) for n in range(256 - len(seen)))]


def make_clip_tokenizer(pad: str = END) -> CLIPTokenizer:
    """CLIP's tokenizer, with its 49,408 entries. ``pad`` fills up short texts: SDXL's second encoder and Stable Diffusion 2.x
    have ``!``."""
    merges = [(left, right) for left, right in map(str.split, MERGES.read_text(encoding="utf-8").splitlines())]
    letters = _list_byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(left + right for left, right in merges), START, END]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad, model_max_length=MAX_TOKENS)
