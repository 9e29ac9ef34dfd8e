"""The report of an evaluation: tables as JSON, CSV and Markdown, and an HTML page with plots, contact sheets, flicker maps and
animations of the variants side by side."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ...shared.files import write_atomically
from ...shared.passes import FramePasses
from ..models.registry import BUNDLED
from ..pictures import write_png
from ..video.correspondence import match_surfaces
from .clip_measurer import PARTS
from .evaluator import COLUMNS, Row, Shot, compute_means, read_run, round_means
from .figures import BY_NAME, MAIN
from .making import describe_making, describe_rivals
from .run_identity import summarise_provenance
from .statistics import format_ratios
from .surface import LAGS
from .variants import ANIMATEDIFF, RIVALS

#: the figures of which variants are compared pair by pair
COMPARED = tuple(name for name in MAIN if BY_NAME[name].better != "reads")
#: the columns of the table in Markdown
TABLE = (*MAIN, *(name for name in COLUMNS if name not in BY_NAME))
#: figures behind others, which no table shows: levels of a clip's own beside the ratios to the baseline's, and single lags
BEHIND = (
    *(f"{name}_level" for name in PARTS["contrast"][1]),
    *(f"surface_variance_{band}_lag{lag}" for band in ("low", "high") for lag in LAGS),
)
#: frames in a contact sheet, the height of a picture in it, and the width of the labels beside them, in pixels
SHEET_FRAMES, SHEET_HEIGHT, SHEET_LABEL = 6, 128, 150
#: a change of this much (0..255) or more is white in a flicker map
FLICKER_WHITE = 60.0
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1200px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.25em .7em;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}img{max-width:100%;image-rendering:auto}figcaption{color:#555;font-size:13px}
@media(prefers-color-scheme:dark){body{background:#1b1b1b;color:#ddd}td,th{border-color:#444}figcaption{color:#aaa}}"""


def get_columns(table: dict[str, dict[str, float]]) -> list[str]:
    """The ``COLUMNS`` for which any variant has a figure, and the figures of other packages' metrics behind them."""
    more = dict.fromkeys(key for figures in table.values() for key in figures if key not in COLUMNS and key not in BEHIND)
    return [key for key in (*COLUMNS, *more) if any(not np.isnan(figures.get(key, float("nan"))) for figures in table.values())]


def _format_figure(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else format(value, ".4g")


def format_table(table: dict[str, dict[str, float]]) -> str:
    """The mean ``MAIN`` figures of every variant as a table in Markdown."""
    columns = [key for key in get_columns(table) if key in TABLE or key not in COLUMNS]
    lines = ["| variant | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    lines += [
        "| " + " | ".join([name, *(_format_figure(figures.get(key)) for key in columns)]) + " |" for name, figures in table.items()
    ]
    return "\n".join(lines) + "\n"


def write_tables(rows: list[Row], out: Path) -> None:
    """Write ``results.json`` and ``results.csv`` with a line for every run and what it was made with, ``results.md`` with the means
    of every variant and their ratios to the baseline, and ``made_of.json``, by which it is known when they are out of date."""
    ratios = format_ratios(rows, COMPARED)
    made_with = f"\nMade with {summarise_provenance(rows)}\n"
    _write(out / "results.md", format_table(compute_means(rows)) + (f"\n{ratios}" if ratios else "") + made_with)
    models = {row["model"]: row["model_fingerprint"] for row in rows if row["model"]}
    bundled = next((name for name in BUNDLED if set(models) == {name}), "starter")
    other = {} if set(models) <= {bundled} else {"weights": ", ".join(models.values())}
    variants = {row["variant"] for row in rows}
    if any(name in (*RIVALS, ANIMATEDIFF) for name in variants):
        other["rivals"] = describe_rivals()
    _write(out / "made_of.json", json.dumps(describe_making(bundled, variants) | other, indent=1) + "\n")
    clean = [{key: None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()} for row in rows]
    _write(
        out / "results.json",
        json.dumps({"runs": clean, "means": round_means(rows)}, indent=1),
    )
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(clean[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(clean)
    _write(out / "results.csv", table.getvalue())


def _write(path: Path, text: str) -> None:
    # another evaluation may write there at the same time
    write_atomically(path, text.encode())


def make_flicker_maps(images: np.ndarray, passes: FramePasses) -> np.ndarray:
    """(F, H, W, 3) uint8: how much each surface point changed since the previous frame; grey where it is not matched."""
    height, width = images.shape[1:3]
    matches = match_surfaces(passes, height, width, "prev")
    out = np.full(images.shape, 40, np.uint8)
    for n in range(1, len(images)):
        here, there = matches.target_pixels[n], matches.reference_pixels[n]
        change = np.abs(images[n].reshape(-1, 3)[here].astype(float) - images[n - 1].reshape(-1, 3)[there]).mean(1)
        shade = np.clip(change / FLICKER_WHITE, 0, 1)[:, None]
        # black, red, yellow, white
        out[n].reshape(-1, 3)[here] = (np.clip(shade * 3 - [0, 1, 2], 0, 1) * 255).astype(np.uint8)
    return out


def make_contact_sheet(rows: list[tuple[str, np.ndarray]]) -> Image.Image:
    """A row of pictures for each (name, frames (F, H, W, 3) uint8), its frames spread evenly over the clip."""
    label = SHEET_LABEL
    count = min(SHEET_FRAMES, len(rows[0][1]))
    shape = rows[0][1].shape
    width = round(SHEET_HEIGHT * shape[2] / shape[1])
    sheet = Image.new("RGB", (label + count * width, SHEET_HEIGHT * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for line, (name, frames) in enumerate(rows):
        draw.text((6, line * SHEET_HEIGHT + SHEET_HEIGHT // 2), name, fill="black")
        for column, n in enumerate(np.linspace(0, len(frames) - 1, count).round().astype(int)):
            sheet.paste(Image.fromarray(frames[n]).resize((width, SHEET_HEIGHT)), (label + column * width, line * SHEET_HEIGHT))
    return sheet


def encode_animation(rows: list[tuple[str, np.ndarray]], fps: float) -> bytes:
    """The clips side by side, as the bytes of an animated WebP."""
    frames = [make_contact_sheet([(name, clip[n : n + 1]) for name, clip in rows]) for n in range(len(rows[0][1]))]
    buffer = io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0, quality=80)
    return buffer.getvalue()


def _draw_bar_chart(table: dict[str, dict[str, float]], key: str) -> str:
    """A figure of all variants as a bar chart in SVG; empty when none has it."""
    values = {name: figures[key] for name, figures in table.items() if not np.isnan(figures.get(key, float("nan")))}
    if not values:
        return ""
    top, lines = max(values.values()) or 1.0, []
    for n, (name, value) in enumerate(values.items()):
        y = 18 * n
        lines.append(
            f'<text x="170" y="{y + 13}" text-anchor="end">{html.escape(name)}</text>'
            f'<rect x="176" y="{y + 3}" width="{max(260 * value / top, 1):.1f}" height="12" fill="#4c78a8"/>'
            f'<text x="{182 + 260 * value / top:.1f}" y="{y + 13}">{value:.4g}</text>'
        )
    return (
        f'<figure style="display:inline-block;margin:0 2em 1em 0"><figcaption>{key}</figcaption><svg width="520" '
        f'height="{18 * len(values) + 4}" font-size="12" fill="currentColor">{"".join(lines)}</svg></figure>'
    )


def _encode_webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()


def write_report(rows: list[Row], shots: dict[str, Shot], out: Path, title: str, command: str) -> None:
    """Write the files of ``write_tables``, ``report.html`` with everything inside, ``contact_sheet.png`` of the first shot, and for
    the first prompt and seed of every shot ``<shot>_motion.webp``, ``<shot>_frames.webp`` and ``<shot>_flicker.webp``."""
    write_tables(rows, out)
    table = compute_means(rows)
    columns = get_columns(table)
    parts = [
        f"<h1>{html.escape(title)}</h1><p>Made by <code>{html.escape(command)}</code>.</p>",
        f"<p>{html.escape(summarise_provenance(rows))}</p><table><tr><th>variant</th>",
        *(f"<th>{key}</th>" for key in columns),
        "</tr>",
    ]
    for name, figures in table.items():
        cells = "".join(f"<td>{_format_figure(figures.get(key))}</td>" for key in columns)
        parts.append(f"<tr><td>{html.escape(name)}</td>{cells}</tr>")
    parts.append("</table><h2>Plots</h2>" + "".join(_draw_bar_chart(table, key) for key in columns))
    first, pictured = True, set[str]()
    for group in dict.fromkeys((row["shot"], row["prompt"], row["seed"]) for row in rows):
        own = [row for row in rows if (row["shot"], row["prompt"], row["seed"]) == group]
        shot = shots[group[0]]
        clips = [
            (row["variant"], frames)
            for row in own
            if (frames := read_run(out / row["folder"], shot.passes.frame_count)) is not None
        ]
        flicker = [(name, make_flicker_maps(frames, shot.passes)) for name, frames in clips]
        sheet = make_contact_sheet(clips)
        if first:
            write_png(out / "contact_sheet.png", np.asarray(sheet))
            first = False
        parts.append(f"<h2>{html.escape(group[0])}: {html.escape(group[1])} (seed {group[2]})</h2>")
        for name, data, caption in (
            ("motion", encode_animation(clips, shot.fps), "in motion"),
            ("frames", _encode_webp(sheet), "frames"),
            (
                "flicker",
                _encode_webp(make_contact_sheet(flicker)),
                f"change of each surface point since the previous frame; white is {FLICKER_WHITE:g} of 255 or more",
            ),
        ):
            if group[0] not in pictured:
                write_atomically(out / f"{group[0]}_{name}.webp", data)
            source = "data:image/webp;base64," + base64.b64encode(data).decode()
            parts.append(f'<figure><img src="{source}"><figcaption>{caption}</figcaption></figure>')
        pictured.add(group[0])
    _write(
        out / "report.html",
        f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>{''.join(parts)}",
    )
