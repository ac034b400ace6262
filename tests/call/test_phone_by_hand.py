"""A call whose offer and answer people carry."""

from __future__ import annotations

from relaycall.call.phone import Phone
from relaycall.signaling.manual import ManualText, ManualTransport
from tests.call.phones import (
    Mouth,
    both_hear,
    connected,
    ended,
    house,
    next_ring,
    nobody_else_writes,  # noqa: F401 - for every test here
)
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import until


def texts_of(phone: Phone) -> list[str]:
    """What people have to carry."""
    assert isinstance(phone.signaling, ManualTransport)
    texts: list[str] = []

    async def show(text: ManualText) -> None:
        texts.append(text.text)

    phone.signaling.on_text = show
    return texts


async def give(phone: Phone, text: str) -> None:
    assert isinstance(phone.signaling, ManualTransport)
    await phone.signaling.accept(text)


async def test_two_texts_make_a_call_and_no_words_are_told() -> None:
    """The third message is not carried, so only one side could know the words: then neither is told any."""
    async with house(1) as home:
        alice, bob = await home.friends(signaling="manual:")
        alices, bobs, words = texts_of(alice), texts_of(bob), []
        call = await alice.call("bob", audio=Mouth())
        call.on("spoken_words", words.append)
        await until(lambda: alices != [])
        await give(bob, alices[0])
        answered = (await next_ring(bob)).accept(audio=Mouth())
        answered.on("spoken_words", words.append)
        await until(lambda: bobs != [])
        await give(alice, bobs[0])
        await connected(call, answered)
        await both_hear(call, answered)
        assert (call.spoken_words, answered.spoken_words, words) == ("", "", [])
        await call.hang_up()
        assert await ended(answered) == ["peer_hung_up"]
        assert (len(alices), len(bobs)) == (1, 1)
