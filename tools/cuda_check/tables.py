"""The results as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: columns of the parts with figures, by what stands above them
COLUMNS = {
    "seconds_per_frame": "s/frame",
    "seconds_per_further_frame": "s/further",
    "times_as_fast_as_paper": "x paper",
    "of_usual": "of usual",
    "examples_per_second": "pictures/s",
    "seconds_per_step": "s/step",
    "seconds": "s",
    "peak_mb": "peak MB",
}
#: stages that a row names
SHOWN_STAGES = 3


def format_number(value: Any) -> str:
    """Three digits that count; empty for nothing."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def describe_check(row: Mapping[str, Any]) -> str:
    """A check's outcome in a word."""
    return {True: "passed", False: "FAILED", None: "left out"}[row["passed"]]


def list_figures(row: Mapping[str, Any]) -> str:
    """What a check found, in short."""
    left_out = {"name", "passed", "wanted", "reason"}
    return ", ".join(f"{key} {format_number(value)}" for key, value in row.items() if key not in left_out and _is_short(value))


def _is_short(value: Any) -> bool:
    return isinstance(value, (int, float, str)) and value != ""


def describe_stages(row: Mapping[str, Any], count: int = SHOWN_STAGES) -> str:
    """The stages that take most of the time."""
    return ", ".join(f"{stage} {100 * share:.0f} %" for stage, share in list(row.get("stages", {}).items())[:count])


def pick_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The columns that any of the rows has a value in."""
    return {key: title for key, title in COLUMNS.items() if any(row.get(key) is not None for row in rows)}


def format_results(found: Mapping[str, Any]) -> str:
    """All parts as a table for people."""
    facts = found["facts"]
    lines = [f"{found['made_by']} on {facts.get('device_name', found['device'])}, torch {facts.get('torch', '?')}, {found['date']}"]
    for part in found["parts"].values():
        reason = f": {part['reason']}" if part["reason"] else ""
        lines += ["", f"{part['title']} [{part['state']}, {part['seconds']:.0f} s{reason}]"]
        checks = [row for row in part["rows"] if "passed" in row]
        others = [row for row in part["rows"] if "passed" not in row]
        for row in checks:
            why = f" ({row['reason']})" if row.get("reason") else ""
            lines.append(f"  {row['name']:<34}{describe_check(row):<10}{list_figures(row)}{why}")
        columns = pick_columns(others)
        if others:
            lines.append("  " + " " * 34 + "".join(f"{title:>12}" for title in columns.values()))
        for row in others:
            cells = "".join(f"{format_number(row.get(key)):>12}" for key in columns)
            computed = " (computed)" if row.get("is_computed") else ""
            lines.append(f"  {row['name']:<34}{cells}  {row.get('reason') or describe_stages(row)}{computed}")
    return "\n".join(lines) + "\n"
