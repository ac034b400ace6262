"""Bytes as text that people carry."""

from __future__ import annotations

import pickle
import re
import string
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.errors import TextAltered, TextOfOtherKind, TextOfOtherVersion, TextRefused, TextTruncated
from relaycall.signaling.armor import MAX_PAYLOAD, MAX_TEXT, MAX_TEXTS, armor, dearmor, dearmor_all

PAYLOAD = bytes(range(0, 250, 7))
TEXT = armor("card", PAYLOAD)
BODY = TEXT.index(":1:") + 3
END = ":RELAYCALL"
payloads = st.binary(max_size=200)
# What chats, mail programs and people put into a text or around it.
NOISE = " \t\n\r>|*_`~\"'“”…‘’«»\u00a0\u200b\u200d\u2060\ufeff\u00ad"


def outcome(text: str) -> bytes | TextRefused:
    try:
        return dearmor("card", text)
    except TextRefused as error:
        return error


def test_a_known_answer() -> None:
    assert armor("card", b"hello") == "RELAYCALL-CARD:1:AACWQZLMNRX6ND3UJI:RELAYCALL"
    assert dearmor("card", "RELAYCALL-CARD:1:AACWQZLMNRX6ND3UJI:RELAYCALL") == b"hello"


@given(payloads)
def test_it_is_one_line_of_what_qr_codes_hold_densely(payload: bytes) -> None:
    text = armor("envelope", payload)
    assert set(text) <= set(string.ascii_uppercase + string.digits + ":-")
    assert len(text) == 31 + -(-(len(payload) + 6) * 8 // 5)
    assert dearmor("envelope", text) == payload


def test_the_longest() -> None:
    assert dearmor("card", armor("card", bytes(MAX_PAYLOAD))) == bytes(MAX_PAYLOAD)
    with pytest.raises(ValueError, match="too long"):
        armor("card", bytes(MAX_PAYLOAD + 1))


def test_one_that_is_longer_than_any_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("relaycall.signaling.armor.MAX_PAYLOAD", 2 * MAX_PAYLOAD)
        text = armor("card", bytes(MAX_PAYLOAD + 1))
        assert dearmor("card", text) == bytes(MAX_PAYLOAD + 1)
    assert isinstance(outcome(text), TextAltered)


# --- what does no harm -----------------------------------------------------------------------------------------------


@given(payloads, st.data())
def test_noise_anywhere_does_no_harm(payload: bytes, data: st.DataObject) -> None:
    noise = st.text(NOISE, max_size=3)
    text = "".join(character + data.draw(noise) for character in armor("card", payload))
    assert dearmor("card", data.draw(noise) + text) == payload


@given(payloads, st.integers(1, 120), st.sampled_from(["", "> ", ">> ", "| ", "    ", "\u00a0"]), st.booleans())
def test_wrapped_lines_and_quotes_do_no_harm(payload: bytes, width: int, quote: str, lower: bool) -> None:
    text = armor("card", payload)
    lines = [text[at : at + width] for at in range(0, len(text), width)]
    wrapped = "".join(f"{quote}{line}\r\n" for line in lines)
    assert dearmor("card", wrapped.lower() if lower else wrapped) == payload


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Here it is: ", " - have fun"),
        ("On Monday, Alice wrote:\n> ", "\n\n-- \nAlice\nSent with relaycall"),
        ("my relaycall card:", ":RELAYCALL"),
        ("relaycall:", ": see you"),
        ("«", "»."),
        ("RELAYCALL-", "RELAYCALL-"),
        ("Привет! ", " 👋"),
    ],
)
def test_other_text_around_does_no_harm(before: str, after: str) -> None:
    assert dearmor("card", before + TEXT + after) == PAYLOAD


@given(st.text(), st.text())
def test_any_text_around_does_no_harm(before: str, after: str) -> None:
    if "elaycall" not in (before + after).casefold():
        assert dearmor("card", f"{before} {TEXT} {after}") == PAYLOAD


@pytest.mark.parametrize("dash", "‐‑‒–—−﹣－")
def test_typographic_characters_do_no_harm(dash: str) -> None:
    assert dearmor("card", TEXT.replace("-", dash).replace(":", "：")) == PAYLOAD


def test_hyphens_at_the_end_of_a_line_do_no_harm() -> None:
    assert dearmor("card", TEXT[:BODY] + "-\n".join(textwrap.wrap(TEXT[BODY:], 20))) == PAYLOAD


# --- what is told ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(len(TEXT)))
def test_each_changed_character_is_noticed(at: int) -> None:
    for other in string.ascii_uppercase + string.digits + ":- é":
        if other != TEXT[at]:
            assert isinstance(outcome(TEXT[:at] + other + TEXT[at + 1 :]), TextRefused)


@pytest.mark.parametrize("at", range(BODY, len(TEXT) - len(END) + 1))
def test_each_added_character_is_noticed(at: int) -> None:
    for added in string.ascii_letters + string.digits + ":":
        assert isinstance(outcome(TEXT[:at] + added + TEXT[at:]), TextRefused)


@given(st.integers(0, len(TEXT)), st.text(max_size=3))
def test_whatever_is_added_is_noticed_or_does_no_harm(at: int, added: str) -> None:
    found = outcome(TEXT[:at] + added + TEXT[at:])
    assert found == PAYLOAD or isinstance(found, TextRefused)


@given(st.integers(BODY + 4, len(TEXT) - 17), st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=6, max_size=6))
def test_up_to_six_neighbouring_characters_are_noticed(at: int, others: str) -> None:
    changed = TEXT[:at] + others + TEXT[at + 6 :]
    if changed != TEXT:
        assert isinstance(outcome(changed), TextAltered)


@pytest.mark.parametrize("length", range(len(TEXT)))
def test_each_truncation_is_named(length: int) -> None:
    for cut, where in ((TEXT[:length], "end"), (TEXT[-length:] if length else "", "beginning")):
        error = outcome(cut)
        if length >= len(END):
            assert isinstance(error, TextTruncated)
            assert error.where == where
            assert where in error.sentence
        else:
            assert type(error) is TextRefused


@given(
    st.integers(BODY + 4, len(TEXT) - len(END) - 1), st.integers(1, len(TEXT)), st.sampled_from(["", "…", " [...] "])
)
def test_a_missing_middle_is_named(at: int, length: int, instead: str) -> None:
    until = min(at + length, len(TEXT) - len(END))
    error = outcome(TEXT[:at] + instead + TEXT[until:])
    assert isinstance(error, TextTruncated)
    assert error.where == "middle"


def test_a_truncated_text_within_others_is_named() -> None:
    error = outcome(f"Hello, here is it:\n\n{TEXT[:-20]}\n\nBest, Alice (by relaycall)")
    assert isinstance(error, TextTruncated)
    assert error.where == "end"


def test_other_kinds_and_versions_are_told_apart() -> None:
    with pytest.raises(TextOfOtherKind, match="it is a contact card, not an envelope of a call"):
        dearmor("envelope", TEXT)
    with pytest.raises(TextOfOtherKind, match="it is something else, not a contact card"):
        dearmor("card", TEXT.replace("CARD", "PIGEON"))
    with pytest.raises(TextOfOtherVersion):
        dearmor("card", TEXT.replace(":1:", ":2:"))
    assert isinstance(outcome(armor("envelope", PAYLOAD).replace("ENVELOPE", "CARD")), TextAltered)


def test_what_is_not_ours() -> None:
    for text in ("", "hello", "I use relaycall", "https://example.org", "A" * 5000, "RELAYCALL", "\ud800"):
        assert type(outcome(text)) is TextRefused


def test_several_texts() -> None:
    other = armor("card", b"other")
    assert dearmor("card", TEXT + TEXT) == PAYLOAD
    assert dearmor("card", f"{TEXT[:-15]} {TEXT} {armor('envelope', b'')}") == PAYLOAD
    with pytest.raises(TextRefused, match="several"):
        dearmor("card", TEXT + other)
    found = dearmor_all("card", f"{TEXT}\n{other[:-1]}\n> {other}")
    assert [found[0], found[2]] == [PAYLOAD, b"other"]
    assert isinstance(found[1], TextTruncated)


def test_there_is_an_end_to_what_is_looked_at() -> None:
    assert outcome(TEXT.ljust(MAX_TEXT)) == PAYLOAD
    assert "65536 characters" in str(outcome(TEXT.ljust(MAX_TEXT + 1)))
    assert len(dearmor_all("card", "RELAYCALL-CARD:1:" * MAX_TEXTS)) == MAX_TEXTS
    assert "more than 64 texts" in str(outcome("RELAYCALL-CARD:1:" * (MAX_TEXTS + 1)))


@given(
    st.text() | st.text("RELAYC-:1AD2 \n>") | st.lists(st.sampled_from([*re.split("([:-])", TEXT), "> "])).map("".join)
)
def test_any_text_is_refused_or_read(text: str) -> None:
    found = outcome(text)
    assert found == PAYLOAD or isinstance(found, TextRefused | bytes)


@given(st.text(min_size=4))
def test_a_refusal_repeats_nothing(text: str) -> None:
    canary = f"canary{text}"
    for pasted in (canary, TEXT[:-30] + canary, TEXT[:BODY] + canary + TEXT[BODY:]):
        error = outcome(pasted)
        assert isinstance(error, TextRefused)
        assert "canary" not in f"{error} {error!r} {error.args} {pickle.dumps(error)!r} {error.__context__!r}"
