"""What the panels say of a result, in words. Nothing here uses bpy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

#: up to this mean squared difference of matched surface points (0 to 255, squared) in consecutive frames a shot is called so: a
#: mean texture that is painted back has about 12, shared textures 8 to 40, frames that are made one by one 200 and more
STEADINESS = ((15.0, "very steady"), (60.0, "steady"), (150.0, "flickers a little"), (float("inf"), "flickers"))
#: more of a prompt than there is room for is cut
PROMPT_LENGTH = 300


def write_now() -> str:
    """The time as results store it: ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


def describe_date(created: str, now: datetime | None = None) -> str:
    """``today 14:05``, ``yesterday 9:30``, ``27 Nov`` or ``27 Nov 2025``, by the clock here; empty for what is no date."""
    try:
        then = datetime.fromisoformat(created)
    except ValueError:
        return ""
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    now = (now or datetime.now(UTC)).astimezone()
    then = then.astimezone(now.tzinfo)
    clock = f"{then.hour}:{then.minute:02d}"
    if then.date() == now.date():
        return f"today {clock}"
    if then.date() == (now - timedelta(days=1)).date():
        return f"yesterday {clock}"
    day = f"{then.day} {then:%b}"
    return day if then.year == now.year else f"{day} {then.year}"


def describe_frames(count: int, total: int, made: int = 0, kept: int = 0, *, partial: bool = False) -> str:
    """``8 frames: 1 new, 7 kept``, ``8 frames``, or ``5 of 8 frames: stopped early``."""
    if partial:
        whole = f"{count} of {total} frames" if total > count else count_frames(count)
        return f"{whole}: stopped early"
    text = count_frames(count)
    return f"{text}: {made} new, {kept} kept" if kept and made + kept == count else text


def count_frames(count: int) -> str:
    """``1 frame``, ``8 frames``."""
    return "1 frame" if count == 1 else f"{count} frames"


def describe_steadiness(hmse: float) -> str:
    """A word for the mean squared difference of matched surface points; empty for 0, which stands for what is not known."""
    return next(word for limit, word in STEADINESS if hmse <= limit) if hmse > 0 else ""


def describe_rank(hmse: float, others: Sequence[float]) -> str:
    """How steady a result is among the other versions of its shot: ``steadier than 9 of the 10 others``. What has no figure does
    not count; empty where there is nothing to compare."""
    known = [one for one in others if one > 0]
    if hmse <= 0 or not known:
        return ""
    worse = sum(one > hmse for one in known)
    if len(known) == 1:
        return "steadier than the other version" if worse else "not steadier than the other version"
    if worse == len(known):
        return f"the steadiest of {len(known) + 1} versions"
    return (
        f"steadier than {worse} of the {len(known)} other versions" if worse else f"the least steady of {len(known) + 1} versions"
    )


def describe_consistency(hmse: float, others: Sequence[float]) -> str:
    """Both in one line, such as ``Steady: steadier than 9 of the 10 other versions``; empty where nothing is known."""
    text = ": ".join(filter(None, (describe_steadiness(hmse), describe_rank(hmse, others))))
    return text[:1].upper() + text[1:]


def shorten(text: str, length: int = PROMPT_LENGTH) -> str:
    """A text in one line, cut where it is longer than there is room for."""
    words = " ".join(text.split())
    return words if len(words) <= length else f"{words[: length - 3].rstrip()}..."


def write_removal(names: Sequence[str], users: int, frames: int, wearers: Sequence[str] = (), *, files: bool) -> tuple[str, ...]:
    """What *Remove* says before it removes results called ``names`` with ``frames`` frames on disk, which ``users`` strips, nodes
    and materials show, and whose costumes the characters ``wearers`` wear: sentences."""
    what = f"'{shorten(names[0], 60)}'" if len(names) == 1 else f"{len(names)} results"
    lines = [f"Remove {what} from the list?"]
    if not files:
        lines.append("The files stay where they are.")
        return tuple(lines)
    if frames:
        lines.append(f"{count_frames(frames)} on disk go with it. Undo brings them back until this file is saved and closed.")
    if wearers:
        who = f"'{shorten(wearers[0], 60)}' wears" if len(wearers) == 1 else f"{len(wearers)} characters wear"
        lines.append(f"{who} a costume that is among them and would be gone; Save Costume keeps it as a file.")
    if users:
        lines.append(f"{users} {'place in this file shows' if users == 1 else 'places in this file show'} them and would be empty.")
    return tuple(lines)
