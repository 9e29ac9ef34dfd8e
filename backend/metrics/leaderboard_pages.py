"""A leaderboard as CSV, Markdown and HTML. Texts of others are shown as they are and mean nothing to any of the three."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable, Sequence

import numpy as np

from .leaderboard import SHOWN, Leaderboard, Standing
from .packed_shots import BenchmarkManifest
from .report import STYLE
from .statistics import ENOUGH_PAIRS


def _escape_markdown(text: str) -> str:
    """A text of others, of which no sign means anything."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def _link_markdown(text: str, address: str) -> str:
    # what is in the address was checked, but for the signs that Markdown ends it with
    return f"[{_escape_markdown(text)}](<{address}>)" if address else _escape_markdown(text)


def _link_html(text: str, address: str) -> str:
    return f'<a rel="nofollow noopener" href="{html.escape(address)}">{html.escape(text)}</a>' if address else html.escape(text)


def _guard_cell(text: str) -> str:
    """A text that spreadsheets do not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def list_columns(board: Leaderboard) -> list[str]:
    """The figures that a table shows."""
    return [board.figure, *(name for name in SHOWN if name != board.figure)]


def _describe_losses(standing: Standing) -> str:
    return ", ".join(f"{name} {standing.ratios[name]}" for name in standing.losses)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _introduce(board: Leaderboard, manifest: BenchmarkManifest, plain: Callable[[str], str]) -> str:
    shots, prompts, seeds = len(manifest.shots), len(manifest.prompts), len(manifest.seeds)
    counts = ", ".join(_count(number, what) for number, what in ((shots, "shot"), (prompts, "prompt"), (seeds, "seed")))
    clips = shots * prompts * seeds
    trial = f" Fewer than {ENOUGH_PAIRS} pairs: a trial, not a finding." if clips < ENOUGH_PAIRS else ""
    return (
        f"Benchmark {plain(manifest.fingerprint)}: {counts}, {_count(clips, 'clip')} of each entry. Ranked by `{board.figure}`; "
        f"figures are geometric means of the ratios to {plain(board.baseline)}, over pairs of the same shot, prompt and seed, with "
        "95 % intervals. An entry's rank is 1 and one more for each entry that is better beyond chance; ties are entries that it "
        f"cannot be told from.{trial}"
    )


def _list_cells(standing: Standing, board: Leaderboard, link: Callable[[str, str], str], plain: Callable[[str], str]) -> list[str]:
    metadata = standing.entry.metadata
    return [
        str(standing.rank),
        link(metadata.name, metadata.link),
        *(str(standing.ratios[name]) for name in list_columns(board)),
        _describe_losses(standing),
        plain(", ".join(standing.tied)),
        plain(metadata.model),
        f"{metadata.seconds_per_frame:.3g}",
        plain(metadata.device),
        plain(", ".join(metadata.authors)),
        plain(metadata.licence),
        plain(metadata.date),
        "measured again" if standing.entry.verified else "as submitted",
    ]


def _list_heads(board: Leaderboard) -> list[str]:
    heads = ("worse beyond chance", "ties", "model", "seconds a frame", "device", "authors", "licence", "date", "figures")
    return ["rank", "name", *list_columns(board), *heads]


def format_markdown(board: Leaderboard, manifest: BenchmarkManifest, refused: Sequence[str]) -> str:
    """The table in Markdown, and sentences about what was left out."""
    heads = _list_heads(board)
    lines = ["# Leaderboard", "", _introduce(board, manifest, _escape_markdown), ""]
    lines += ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    lines += ["| " + " | ".join(_list_cells(one, board, _link_markdown, _escape_markdown)) + " |" for one in board.standings]
    if refused:
        lines += ["", "Left out:", "", *(f"- {_escape_markdown(' '.join(sentence.split()))}" for sentence in refused)]
    return "\n".join(lines) + "\n"


def format_html(board: Leaderboard, manifest: BenchmarkManifest, refused: Sequence[str]) -> str:
    """The same as a page."""
    rows = ["<tr>" + "".join(f"<th>{html.escape(head)}</th>" for head in _list_heads(board)) + "</tr>"]
    rows += [
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in _list_cells(one, board, _link_html, html.escape)) + "</tr>"
        for one in board.standings
    ]
    left = "<h2>Left out</h2><ul>" + "".join(f"<li>{html.escape(one)}</li>" for one in refused) + "</ul>" if refused else ""
    return (
        f"<!doctype html><meta charset=utf-8><title>Leaderboard</title><style>{STYLE}</style><h1>Leaderboard</h1>"
        f"<p>{_introduce(board, manifest, html.escape)}</p><table>{''.join(rows)}</table>{left}\n"
    )


def format_csv(board: Leaderboard, manifest: BenchmarkManifest) -> str:
    """The same as numbers: of each figure the ratio, its interval and its pairs."""
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    figures = list(board.standings[0].ratios)
    heads = [f"{name}{part}" for name in figures for part in ("", "_low", "_high", "_pairs")]
    words = ("worse", "ties", "model", "seconds_per_frame", "device", "authors", "licence", "date", "link", "verified")
    writer.writerow(["benchmark", "baseline", "ranked_by", "rank", "name", *heads, *words])
    for one in board.standings:
        metadata = one.entry.metadata
        numbers: list[object] = []
        for ratio in one.ratios.values():
            numbers += ["" if np.isnan(value) else round(value, 5) for value in (ratio.mean, ratio.low, ratio.high)]
            numbers.append(ratio.count)
        texts = (metadata.device, "; ".join(metadata.authors), metadata.licence, metadata.date, metadata.link)
        writer.writerow(
            [manifest.fingerprint, _guard_cell(board.baseline), board.figure, one.rank, _guard_cell(metadata.name), *numbers]
            + ["; ".join(one.losses), _guard_cell("; ".join(one.tied)), _guard_cell(metadata.model), metadata.seconds_per_frame]
            + [*map(_guard_cell, texts), one.entry.verified]
        )
    return table.getvalue()
