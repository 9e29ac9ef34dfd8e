"""A cancel in every state is answered before more than one further step of denoising has ended."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable

from latentman.blender_addon.client import BackendClient, Event
from latentman.shared import messages
from latentman.shared.task import TaskState, new_ticket

from ..client import open_client, play, send_passes
from ..processes import Backend
from ..shots import KINDS, Shot, make_shot
from ..trial import Budget, Figures

#: an answer that takes longer will not come
ANSWER_SECONDS = 60.0
#: pixels along a side and steps: each takes long enough to be told from the next
SIZE, STEPS = 192, 12
#: steps that may end between the cancel and its answer: the one that runs
MOST_STEPS = 1


class Cancelled:
    """How a cancel was answered: in seconds, after so many further steps, and with what."""

    def __init__(self) -> None:
        self.seconds, self.steps, self.answer = 0.0, 0, "nothing"


def cancel_when(
    client: BackendClient, shot: Shot, is_time: Callable[[messages.AnyMessage], bool], *, withhold: bool = False, taken: bool = True
) -> Cancelled:
    """Submit a job, cancel it with the first message for which ``is_time``, and wait for the answer.

    ``withhold`` sends no passes; without ``taken`` no frame is acknowledged.
    """
    ticket, found, asked = new_ticket(), Cancelled(), 0.0
    client.send(messages.SubmitShot(ticket=ticket, request=shot.request))
    end = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < end:
        try:
            event = client.events.get(timeout=1)
        except queue.Empty:
            continue
        if not isinstance(event, Event):
            found.answer = event.reason
            return found
        message = event.message
        if getattr(message, "ticket", "") != ticket:
            continue
        if isinstance(message, (messages.Cancelled, messages.Failed, messages.Finished)):
            found.answer = type(message).__name__
            found.seconds = time.monotonic() - asked if asked else 0.0
            return found
        if asked:
            found.steps += isinstance(message, messages.Progress) and message.state is not TaskState.QUEUED
            continue
        if is_time(message):
            client.send(messages.Cancel(ticket=ticket))
            asked, end = time.monotonic(), time.monotonic() + ANSWER_SECONDS
        if isinstance(message, messages.PassesWanted) and not withhold:
            send_passes(client, shot, message)
        elif isinstance(message, messages.FrameResult) and taken:
            client.send(messages.FrameTaken(ticket=ticket))
    return found


def _is_stage(*words: str, skip: int = 0) -> Callable[[messages.AnyMessage], bool]:
    seen = [0]

    def is_time(message: messages.AnyMessage) -> bool:
        if not isinstance(message, messages.Progress) or not any(word in message.stage for word in words):
            return False
        seen[0] += 1
        return seen[0] > skip

    return is_time


def run(budget: Budget) -> Figures:
    """See ``PARTS``; a trial is a cancel."""
    figures = Figures()
    figures.counts.update(dict.fromkeys(("not answered", "answered too late"), 0))
    backend = Backend(budget.work / "jobs")
    slowest = 0.0
    states = (
        "preparing",
        "waiting for passes",
        "waiting for its turn",
        "loading",
        "running",
        "sending",
        "measuring",
        "ended",
        "unknown",
    )
    try:
        client = open_client(backend.endpoint)
        play(client, make_shot(budget.model, "joint", seed=1))
        for number, chance, _ in budget.trials():
            state = states[number % len(states)]
            shot = make_shot(budget.model, chance.choice(list(KINDS)), seed=number + 2, size=SIZE, steps=STEPS)
            where = f"cancelling --seed {budget.seed}, trial {number} ({state}, '{shot.kind}')"
            found = _cancel_in(state, client, backend, shot, chance.randrange(STEPS), budget.model)
            figures.counts[f"while {state}"] += 1
            slowest = max(slowest, found.seconds)
            if found.answer == "Finished" and state in ("measuring", "sending"):
                figures.counts["finished before the cancel came"] += 1
            elif found.answer != "Cancelled":
                figures.counts["not answered"] += 1
                figures.fault(f"{where}: the answer was {found.answer}")
            elif found.steps > MOST_STEPS:
                figures.counts["answered too late"] += 1
                figures.fault(f"{where}: {found.steps} further steps came before the answer")
        client.close()
    finally:
        if not backend.stop():
            figures.fault("cancelling: the backend does not stop")
    figures.measures["slowest answer"] = f"{slowest * 1000:.0f} ms"
    return figures


def _cancel_in(state: str, client: BackendClient, backend: Backend, shot: Shot, skip: int, model: str) -> Cancelled:
    if state == "preparing":
        return cancel_when(client, shot, lambda message: isinstance(message, messages.PassesWanted))
    if state == "waiting for passes":
        return cancel_when(client, shot, lambda message: isinstance(message, messages.PassesWanted), withhold=True)
    if state == "loading":
        # another model in between: the one before is forgotten
        play(client, make_shot("starter", "per frame", seed=1, size=64, steps=1))
        return cancel_when(client, shot, _is_stage("loading"))
    if state == "running":
        return cancel_when(client, shot, _is_stage("denois", "frame", "key", "step", skip=skip))
    if state == "sending":
        return cancel_when(client, shot, lambda message: isinstance(message, messages.FrameResult), taken=False)
    if state == "measuring":
        return cancel_when(client, shot, _is_stage("measuring"))
    if state == "ended" or state == "unknown":
        return _cancel_nothing(client, shot if state == "ended" else None)
    return _cancel_behind_another(
        client, backend, shot, make_shot(model, "joint", seed=shot.request.sampling.seed + 1000, size=SIZE, steps=STEPS)
    )


def _cancel_nothing(client: BackendClient, shot: Shot | None) -> Cancelled:
    """Cancel a job that has ended, or one that never was."""
    found, tickets = Cancelled(), [new_ticket()]
    if shot is not None:
        tickets.clear()
        play(
            client,
            make_shot(shot.request.sampling.model, shot.kind),
            heard=lambda message: tickets.append(getattr(message, "ticket", "")),
        )
    started = time.monotonic()
    client.send(messages.Cancel(ticket=tickets[0]))
    while time.monotonic() < started + ANSWER_SECONDS:
        try:
            event = client.events.get(timeout=1)
        except queue.Empty:
            continue
        if isinstance(event, Event) and isinstance(event.message, messages.Cancelled) and event.message.ticket == tickets[0]:
            found.answer, found.seconds = "Cancelled", time.monotonic() - started
            return found
    return found


def _cancel_behind_another(client: BackendClient, backend: Backend, shot: Shot, other: Shot) -> Cancelled:
    """A second client's job runs; this one waits behind it."""
    busy = open_client(backend.endpoint)
    ticket = new_ticket()
    busy.send(messages.SubmitShot(ticket=ticket, request=other.request))
    while True:
        event = busy.events.get(timeout=ANSWER_SECONDS)
        if not isinstance(event, Event):
            break
        if isinstance(event.message, messages.PassesWanted):
            send_passes(busy, other, event.message)
        elif isinstance(event.message, messages.Progress) and event.message.state is TaskState.RUNNING:
            break
    found = cancel_when(client, shot, _is_stage("waiting"))
    busy.send(messages.Cancel(ticket=ticket))
    busy.close()
    return found
