"""Streams that go on after a break: every message comes once and as it was, whatever is lost on the way."""

from __future__ import annotations

import random

import pytest

from latentman.shared.messages import MAX_BYTES, MAX_PARTS
from latentman.shared.streams import NumberedOutbox, StreamError, StreamReceiver, StreamSender


def _make_messages(rng, count):
    return [[rng.randbytes(rng.choice((0, 1, 5, 700, 3000))) for _ in range(rng.randint(1, 4))] for _ in range(count)]


@pytest.mark.parametrize("seed", range(8))
def test_every_message_comes_once_in_order_whenever_it_breaks(seed):
    rng = random.Random(seed)
    sent, heard = _make_messages(rng, 40), []
    sender, receiver = StreamSender(piece=512, window=4096), StreamReceiver()
    waiting, on_the_way, answers, breaks = list(sent), [], [], 0
    while len(heard) < len(sent):
        action = rng.random()
        if action < 0.3 and waiting:
            sender.put(waiting.pop(0))
        elif action < 0.7:
            piece = sender.next_piece()
            if piece is not None:
                on_the_way.append(piece)
                assert len(piece[1]) <= 512 and sum(len(one) for _, one in on_the_way) <= 4096
        elif action < 0.9 and on_the_way:
            heard += [[bytes(part) for part in parts] for parts in receiver.add(*on_the_way.pop(0))]
            answers.append(receiver.taken)
        elif action < 0.96 and answers:
            sender.acknowledge(answers.pop(0))
        elif action >= 0.98:
            breaks += 1
            on_the_way, answers = [], []
            sender.go_on_from(receiver.taken)
    assert heard == sent and breaks > 3
    assert sender.given_out - receiver.taken <= breaks * 4096, "no more than what was on its way is sent again"


def test_pieces_that_come_again_or_leave_a_gap_are_let_go_of():
    sender, receiver = StreamSender(piece=10, window=100), StreamReceiver()
    sender.put([b"0123456789abcdef"])
    pieces = [sender.next_piece() for _ in range(3)]
    assert list(receiver.add(*pieces[1])) == [] and receiver.taken == 0
    assert list(receiver.add(*pieces[0])) == [] and receiver.taken == 10
    assert list(receiver.add(*pieces[0])) == [] and receiver.taken == 10
    # one that overlaps what has come
    whole = pieces[0][1] + pieces[1][1] + pieces[2][1]
    assert [bytes(parts[0]) for parts in receiver.add(4, whole[4:])] == [b"0123456789abcdef"]
    assert receiver.taken == len(whole) and receiver.waiting_bytes == 0


def test_many_messages_of_one_piece_are_not_copied_one_by_one():
    sender, receiver = StreamSender(), StreamReceiver()
    for number in range(500):
        sender.put([bytes([number % 256]), b""])
    found = receiver.add(*sender.next_piece())
    assert [[bytes(part) for part in parts] for parts in found] == [[bytes([number % 256]), b""] for number in range(500)]
    assert len({id(part.obj) for parts in found for part in parts}) == 1 and receiver.waiting_bytes == 0


def test_claims_that_cannot_be_are_refused():
    sender = StreamSender()
    sender.put([b"abc"])
    with pytest.raises(StreamError, match="never sent"):
        sender.acknowledge(1)
    piece = sender.next_piece()
    sender.acknowledge(len(piece[1]))
    with pytest.raises(StreamError, match="forgotten"):
        sender.go_on_from(2)
    for head in (
        b"\0\0",
        (MAX_PARTS + 1).to_bytes(2, "little"),
        b"\2\0" + MAX_BYTES.to_bytes(4, "little") * 2,
    ):
        with pytest.raises(StreamError):
            list(StreamReceiver().add(0, head))


def test_what_was_not_heard_is_told_again():
    outbox = NumberedOutbox()
    assert [outbox.add([part]) for part in (b"a", b"b", b"c")] == [1, 2, 3] and outbox.waiting_bytes == 3
    outbox.forget(2)
    assert outbox.list_kept() == [(3, [b"c"])] and outbox.add([b"d"]) == 4
    outbox.forget(9)
    assert outbox.list_kept() == [] and outbox.waiting_bytes == 0
