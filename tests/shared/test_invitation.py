"""The text for pairing, as people paste it."""

from __future__ import annotations

import pytest
import zmq
from zmq.utils import z85

from latentman.shared.invitation import Invitation, PairingError, read_invitation, write_invitation

# always the same: it stands in the names of tests, which every worker must find alike
PUBLIC = zmq.curve_public(z85.encode(bytes(range(32))))
SECRET = bytes(range(16))
TEXT = write_invitation(Invitation("tcp://box.local:5000", PUBLIC, SECRET))


def test_a_text_is_one_short_line_and_comes_back():
    assert TEXT.startswith("latentman://box.local:5000?key=") and len(TEXT) < 110 and TEXT.isascii() and " " not in TEXT
    assert read_invitation(TEXT) == Invitation("tcp://box.local:5000", PUBLIC, SECRET)


@pytest.mark.parametrize(
    "pasted",
    [
        f"  {TEXT}\n",
        f'"{TEXT}"',
        f"<{TEXT}>",
        f"'{TEXT[:50]}\r\n  {TEXT[50:]}'",
        TEXT.replace("latentman://", "LatentMan://"),
        TEXT.replace("?key", "/?key"),
    ],
)
def test_what_mail_and_terminals_add_does_not_matter(pasted):
    assert read_invitation(pasted) == read_invitation(TEXT)


def test_another_host_can_be_written_where_the_guess_was_wrong():
    found = read_invitation(TEXT.replace("box.local", "10.0.0.7"))
    assert (found.endpoint, found.secret) == ("tcp://10.0.0.7:5000", SECRET)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not a text for pairing"),
        ("tcp://box.local:5000", "not a text for pairing"),
        ("latentman://box.local:5000", "not a text for pairing"),
        ("latentman://?key=abc", "not a text for pairing"),
        ("latentman://box:99999?key=abc", "address in the text"),
        (TEXT[:-1], "incomplete or changed"),
        (TEXT[:-30], "incomplete or changed"),
        (TEXT[:40] + ("A" if TEXT[40] != "A" else "B") + TEXT[41:], "incomplete or changed"),
        (TEXT + "A", "incomplete or changed"),
        (TEXT.partition("=")[0] + "=", "incomplete or changed"),
        ("latentman://box:1?key=" + "A" * 4000, "incomplete or changed"),
        ("latentman://" + "x" * 10_000_000, "not a text for pairing"),
        ("латентман://box:1?key=abc", "not a text for pairing"),
    ],
)
def test_what_is_no_text_or_was_cut_is_a_sentence(text, sentence):
    with pytest.raises(PairingError, match=sentence) as caught:
        read_invitation(text)
    assert str(caught.value).endswith("copy the whole line that latentman serve --pair prints.")


def test_the_key_of_the_first_connection_comes_from_the_secret_alone():
    first = Invitation("tcp://a:1", PUBLIC, SECRET).derive_keys(zmq.curve_public)
    assert Invitation("tcp://b:2", PUBLIC, SECRET).derive_keys(zmq.curve_public) == first
    assert Invitation("tcp://a:1", PUBLIC, bytes(16)).derive_keys(zmq.curve_public) != first
    assert zmq.curve_public(first[1]) == first[0] and z85.decode(first[1]) != SECRET + SECRET
