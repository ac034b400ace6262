"""One-time codes over signaling: in memory, and over a real server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator

import pytest

from relaycall.errors import (
    ConfigError,
    MessageTooLarge,
    NameplateUnknown,
    PairingFailed,
    PairingTimeout,
    SignalingRefused,
)
from relaycall.identity import code_exchange
from relaycall.identity.code_exchange import offer_code, use_code
from relaycall.identity.one_time_code import OneTimeCode, parse_code
from relaycall.identity.pairing import MAX_PAYLOAD, UserPairing
from relaycall.server.signaling import SignalingServer
from relaycall.signaling.opening import open_signaling
from relaycall.signaling.rendezvous import Rendezvous
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here

OURS, THEIRS = b"our card and prekey", bytes(MAX_PAYLOAD)
_numbers = itertools.count()


@pytest.fixture
def memory() -> str:
    return f"memory:codes-{next(_numbers)}"


@pytest.fixture(params=["memory", "ws", "http"])
async def url(request: pytest.FixtureRequest, memory: str) -> AsyncIterator[str]:
    if request.param == "memory":
        yield memory
    else:
        async with SignalingServer() as server:
            yield f"{request.param}://127.0.0.1:{server.port}"


def wrong(code: OneTimeCode) -> OneTimeCode:
    return OneTimeCode(code.nameplate, bytes(byte ^ 1 for byte in code.secret))


async def use(url: str, code: OneTimeCode) -> bytes:
    return await use_code(open_signaling(url), code, THEIRS)


async def is_free(url: str, code: OneTimeCode) -> bool:
    """Whether the number leads nowhere any more."""
    async with open_signaling(url) as signaling:
        assert isinstance(signaling, Rendezvous)
        try:
            await signaling.claim_nameplate(code.nameplate)
        except NameplateUnknown:
            return True
        return False


async def test_two_people(url: str) -> None:
    async with offer_code(open_signaling(url), OURS) as offer:
        typed = offer.code.reveal().upper().replace("-", " ")
        used_before = offer.used
        got, given = await asyncio.gather(offer.peer_payload(), use(url, parse_code(typed)))
        assert (used_before, offer.used) == (False, True)
    assert (got, given) == (THEIRS, OURS)
    with pytest.raises(NameplateUnknown):
        await use(url, offer.code)


async def test_a_wrong_word_fails_on_both_sides_and_uses_up_the_code(url: str) -> None:
    async with offer_code(open_signaling(url), OURS) as offer:
        outcomes = await asyncio.gather(offer.peer_payload(), use(url, wrong(offer.code)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [PairingFailed, PairingFailed]
        with pytest.raises(NameplateUnknown):
            await use(url, offer.code)


async def test_many_at_once(memory: str) -> None:
    async def one(number: int) -> bytes:
        async with offer_code(open_signaling(memory), bytes((number,)), words=3) as offer:
            assert len(offer.code.secret) == 3
            mine, _ = await asyncio.gather(
                offer.peer_payload(), use_code(open_signaling(memory), offer.code, bytes((number, number)))
            )
            return mine

    assert await asyncio.gather(*map(one, range(12))) == [bytes((number, number)) for number in range(12)]


async def test_codes_are_not_the_same(memory: str) -> None:
    """Guards against a constant: 16 bits come out the same twice in 65,536 times."""
    secrets = set()
    for _ in range(4):
        async with offer_code(open_signaling(memory), OURS) as offer:
            secrets.add(offer.code.secret)
    assert len(secrets) > 1


async def test_a_number_that_nobody_gave_out(url: str) -> None:
    with pytest.raises(NameplateUnknown):
        await use(url, OneTimeCode(9, b"\x01\x1b"))


async def test_nobody_comes(url: str) -> None:
    async with offer_code(open_signaling(url), OURS, lifetime=0.1) as offer:
        with pytest.raises(PairingTimeout) as failed:
            await offer.peer_payload()
        assert failed.value.__context__ is None
    assert await is_free(url, offer.code)


async def test_who_claims_and_goes_away(url: str) -> None:
    async with offer_code(open_signaling(url), OURS, lifetime=0.5) as offer:
        assert not await is_free(url, offer.code)  # claims it
        with pytest.raises(PairingTimeout):
            await offer.peer_payload()


async def test_the_user_goes_away_after_the_first_message(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_exchange, "ANSWER_TIMEOUT", 0.1)
    async with offer_code(open_signaling(url), OURS) as offer:
        async with open_signaling(url) as signaling:
            assert isinstance(signaling, Rendezvous)
            maker = await signaling.claim_nameplate(offer.code.nameplate)
            user = UserPairing(offer.code, THEIRS, signaling.mailbox, maker, entropy=os.urandom)
            await signaling.send(maker, user.outgoing[0])
        with pytest.raises(PairingTimeout):
            await offer.peer_payload()


async def test_the_maker_goes_away(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_exchange, "ANSWER_TIMEOUT", 0.1)
    async with offer_code(open_signaling(memory), OURS) as offer:
        with pytest.raises(PairingTimeout):  # it never looks into its mailbox
            await use(memory, offer.code)


@pytest.mark.parametrize("garbage", [bytes(4096), b"\x01" * 4096, b"\x01" + bytes(32) + b"B" + bytes(4062)])
async def test_garbage_is_a_failed_attempt(url: str, garbage: bytes) -> None:
    async with offer_code(open_signaling(url), OURS) as offer, open_signaling(url) as eve:
        assert isinstance(eve, Rendezvous)
        await eve.send(await eve.claim_nameplate(offer.code.nameplate), garbage)
        with pytest.raises(PairingFailed):
            await offer.peer_payload()


@pytest.mark.parametrize("waiting", [False, True])
async def test_cancelled(url: str, waiting: bool) -> None:
    """Ctrl-C: the number leads nowhere any more, and nothing is left behind."""
    shown: asyncio.Future[OneTimeCode] = asyncio.get_running_loop().create_future()

    async def make() -> None:
        async with offer_code(open_signaling(url), OURS) as offer:
            shown.set_result(offer.code)
            await (offer.peer_payload() if waiting else asyncio.sleep(60))

    making = asyncio.create_task(make())
    code = await shown
    await asyncio.sleep(0.02)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert await is_free(url, code)


async def test_an_error_of_the_callers_own(memory: str) -> None:
    with pytest.raises(ZeroDivisionError):
        async with offer_code(open_signaling(memory), OURS) as offer:
            _ = 1 / 0
    assert await is_free(memory, offer.code)


@pytest.mark.slow
async def test_the_server_dies_and_the_maker_gives_up() -> None:
    """Nothing can be released any more, and it ends all the same."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(SignalingServer())
        async with asyncio.timeout(15):
            async with offer_code(open_signaling(f"ws://127.0.0.1:{server.port}"), OURS, lifetime=0.3) as offer:
                await stack.aclose()
                with pytest.raises(PairingTimeout):
                    await offer.peer_payload()


async def test_no_server(memory: str) -> None:
    nowhere = "ws://127.0.0.1:1"
    with pytest.raises(SignalingRefused):
        await use(nowhere, OneTimeCode(7, b"\x01\x1b"))
    with pytest.raises(SignalingRefused):
        async with offer_code(open_signaling(nowhere), OURS):
            pass


async def test_what_cannot_begin(memory: str) -> None:
    """It is refused before a number is asked for or used up."""
    with pytest.raises(MessageTooLarge):
        async with offer_code(open_signaling(memory), bytes(MAX_PAYLOAD + 1)):
            pass
    async with offer_code(open_signaling(memory), OURS) as offer:
        with pytest.raises(MessageTooLarge):
            await use_code(open_signaling(memory), offer.code, bytes(MAX_PAYLOAD + 1))
        assert not await is_free(memory, offer.code)
    with pytest.raises(ConfigError, match="no one-time codes"):
        await use("manual:", OneTimeCode(7, b"\x01\x1b"))


async def test_nothing_is_shown(memory: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with offer_code(open_signaling(memory), OURS) as offer:
        outcomes = await asyncio.gather(offer.peer_payload(), use(memory, wrong(offer.code)), return_exceptions=True)
        words = offer.code.reveal().split("-")[1:]
        text = repr(offer) + caplog.text + "".join(map(repr, outcomes))
    assert repr(offer) == f"<offer of OneTimeCode(nameplate={offer.code.nameplate})>"
    assert not any(word in text for word in words)
