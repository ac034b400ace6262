"""Bytes as words, and back from whatever somebody types."""

from __future__ import annotations

import hashlib
import statistics
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relaycall.errors import CodeMalformed
from relaycall.identity.one_time_code import OneTimeCode, parse_code
from relaycall.identity.words import MAX_TEXT, WORDS, bytes_to_words, complete, split_words, words_to_bytes
from tests.store.shown import shown


def test_the_list_is_the_published_one() -> None:
    """Its size, some words at places that everybody has, and the hash of all of it."""
    two, three = WORDS
    assert len(two) == len(three) == 256
    assert len({*two, *three}) == 512
    assert all(word.isascii() and word.isalpha() and word.islower() for word in two + three)
    assert (two[0], two[0x82], two[0xFF], three[0], three[0x82], three[0xFF]) == (
        ("aardvark", "miser", "zulu", "adroitness", "istanbul", "yucatan")
    )
    assert list(two) == sorted(two)
    assert sorted(three) != list(three)  # the published list has applicant before Apollo
    digest = hashlib.sha256("\n".join(two + three).encode()).hexdigest()
    assert digest == "41db18a831d9c40dc35b374ef36f0bf616d4f563768fcc1a5aa11c7b6530cf5e"


def test_the_published_example() -> None:
    """The fingerprint that Juola and Zimmermann's list is shown with everywhere."""
    data = bytes.fromhex("E58294F2E9A227486E8B061B31CC528FD7FA3F19")
    assert " ".join(bytes_to_words(data)) == (
        "topmost istanbul pluto vagabond treadmill pacific brackish dictator goldfish medusa afflict bravado chatter "
        "revolver dupont midsummer stopwatch whimsical cowbell bottomless"
    )


@given(st.binary(max_size=40))
def test_there_and_back(data: bytes) -> None:
    assert words_to_bytes(bytes_to_words(data)) == data


@pytest.mark.parametrize(
    "text",
    [
        "absurd bravado",
        "Absurd-Bravado",
        "  ABSURD , bravado. ",
        "absurd\u2013bravado",
        "absurd\n\tbravado",
        "absurd--bravado",
        "ａｂｓｕｒｄ bravado",
    ],
)
def test_typing_is_forgiven(text: str) -> None:
    assert words_to_bytes(split_words(text)) == b"\x01\x1b"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("absurd", "canary"), "word 2 is not in the list"),
        (("canary",), "word 1 is not in the list"),
        (("bravado", "absurd"), "word 1 is not in its place"),
        (("absurd", "absurd"), "word 2 is not in its place"),
        (("",), "word 1 is not in the list"),
    ],
)
def test_what_is_not_in_the_list(words: tuple[str, ...], what: str) -> None:
    with pytest.raises(CodeMalformed, match=what) as refused:
        words_to_bytes(words)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("prefix", "position", "words"),
    [
        ("br", 0, ("brackish", "breadline", "breakup", "brickyard", "briefcase")),
        ("BRA", 1, ("bradbury", "bravado", "brazilian")),
        ("bra", 2, ("brackish",)),
        ("bravado", 1, ("bravado",)),
        ("bravado", 0, ()),
        ("x", 0, ()),
        ("(", 0, ()),
    ],
)
def test_completion(prefix: str, position: int, words: tuple[str, ...]) -> None:
    assert complete(prefix, position) == words


def test_completion_of_nothing() -> None:
    assert complete("", 0) == WORDS[0]
    assert complete("", 1) == tuple(sorted(WORDS[1]))


# --- one-time codes ---------------------------------------------------------------------------------------------------

CODE = OneTimeCode(7, b"\x01\x1b")


def test_a_code() -> None:
    assert CODE.reveal() == "7-absurd-bravado"
    assert OneTimeCode(1234, b"\x01\x1b\xff").reveal() == "1234-absurd-bravado-zulu"
    assert repr(CODE) == "OneTimeCode(nameplate=7)"


@given(st.integers(1, 2**32 - 1), st.binary(min_size=2, max_size=3))
def test_a_code_there_and_back(nameplate: int, secret: bytes) -> None:
    code = OneTimeCode(nameplate, secret)
    assert parse_code(code.reveal()) == code
    assert parse_code("  " + code.reveal().upper().replace("-", "  ")) == code


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "does not begin with a number"),
        ("absurd-bravado", "does not begin with a number"),
        ("-7", "2 or 3 words"),
        ("7-absurd", "2 or 3 words"),
        ("7-absurd-bravado-absurd-bravado", "2 or 3 words"),
        ("7-absurd-absurd", "word 2 is not in its place"),
        ("7-absurd-canary", "word 2 is not in the list"),
        ("0-absurd-bravado", "its number"),
        ("4294967296-absurd-bravado", "its number"),
        ("99999999999-absurd-bravado", "does not begin with a number"),
        ("7-absurd-bravado" * 100, "too long"),
    ],
)
def test_what_is_no_code(text: str, what: str) -> None:
    with pytest.raises(CodeMalformed, match=what):
        parse_code(text)


@given(
    st.text(max_size=60) | st.lists(st.sampled_from([*"0179-_ \u0663\u00b2", "absurd", "zulu", "bravado"])).map("".join)
)
@example("1" * (MAX_TEXT + 1))
@example("\u0661\u2460\u2466-absurd-bravado")
def test_any_text_is_a_code_or_refused(text: str) -> None:
    try:
        code = parse_code(text)
    except CodeMalformed:
        return
    assert parse_code(code.reveal()) == code


@pytest.mark.parametrize("text", ["7-absurd-canary", "absurd-canary", "canary", "7-canary-bravado-zulu"])
def test_a_refused_code_is_shown_nowhere(text: str) -> None:
    with pytest.raises(CodeMalformed) as refused:
        parse_code(text)
    assert "canary" not in shown(refused.value)
    assert refused.value.__context__ is None


def test_figures_of_any_form() -> None:
    assert parse_code("\u00b2-absurd-bravado") == parse_code("\u0662 absurd bravado") == OneTimeCode(2, b"\x01\x1b")


REFUSED = {
    "no words": "7",
    "no word of the list": "7-absurd-canary",
    "too many words": "7-absurd-bravado-adult-bravado",
    "as many words as can be": "7-" + "absurd-" * 140,
    "characters that stand for eighteen others": "\ufdfa" * MAX_TEXT,
    "far too long": "absurd " * 50_000,
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_takes_little_time(text: str) -> None:
    """However long it is. The best of some medians: a busy machine is not a defect."""

    def median() -> float:
        times = []
        for _ in range(50):
            start = time.perf_counter()
            with pytest.raises(CodeMalformed):
                parse_code(text)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    assert min(median() for _ in range(3)) < 0.005
