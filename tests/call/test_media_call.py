"""A whole audio call over embedded relays: what works, what is refused and why, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest

from relaycall.call.ends import MediaOptions
from relaycall.call.events import CallEvent, Ended
from relaycall.call.media_call import MediaCall
from relaycall.call.record import decode_record, encode_record
from relaycall.errors import (
    CallClosed,
    NoPath,
    NoRelay,
    RecordRefused,
    RelayRefused,
    RelayRefusedCredentials,
    RelaysLost,
    RelayTimeout,
)
from relaycall.ice import holdings
from relaycall.ice.events import ConnectionEvent, PathSelected
from relaycall.media.audio import AudioSource, SilenceSource, ToneSource
from relaycall.media.files import FileSink
from relaycall.relays.pool import PoolEvent
from relaycall.relays.server import RelayServer
from tests.coturn import free_port
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.media.listening import envelope, read_samples, tone_share
from tests.scenarios.calling import PASSWORD, USERNAME, close, connect, embedded_relays, heard, session, until
from tests.scripted import black_hole

CLOSE_LIMIT = 2.0  # seconds, P9


class Ear:
    """A sink that keeps the sound."""

    def __init__(self) -> None:
        self.pcm = bytearray()
        self.closed = 0

    def write(self, frame: object) -> None:
        self.pcm += bytes(frame.planes[0])  # type: ignore[attr-defined]

    def close(self) -> None:
        self.closed += 1


class Mouth(SilenceSource):
    """A source that notes its end."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def party(relays: list[RelayServer], *, caller: bool, source: AudioSource | None = None, **more: object) -> MediaCall:
    options = MediaOptions(laboratory=True)
    return MediaCall(relays, caller=caller, source=source or SilenceSource(), options=options, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_both_sides_hear_each_other(transport: str, tmp_path: Path) -> None:
    async with embedded_relays(2, transport) as (_, relays):
        at_alice, at_bob = FileSink(tmp_path / "alice.wav"), FileSink(tmp_path / "bob.wav")
        async with (
            party(relays, caller=True, source=ToneSource(440), sink=at_alice) as alice,
            party(relays[::-1], caller=False, source=ToneSource(660), sink=at_bob) as bob,
        ):
            await connect(alice, bob)
            await heard(alice, bob, frames=30)
            for call in (alice, bob):
                stats = session(call).stats()
                assert stats.lost == 0
                assert len(stats.transport.sent_sizes) == len(stats.transport.received_sizes) == 1
                assert {found.type for found in call.connection.local_candidates} == {"relay"}
    assert tone_share(read_samples(tmp_path / "alice.wav"), 660) > 0.8
    assert tone_share(read_samples(tmp_path / "bob.wav"), 440) > 0.8


@pytest.mark.slow
async def test_a_muted_side_sends_as_before_and_is_not_heard(tmp_path: Path) -> None:
    async with embedded_relays(1) as (_, relays):
        sink = FileSink(tmp_path / "bob.wav")
        async with (
            party(relays, caller=True, source=ToneSource(440)) as alice,
            party(relays, caller=False, sink=sink) as bob,
        ):
            await connect(alice, bob)
            session(alice).muted = True
            before = session(alice).frames_sent
            await heard(bob, frames=25)
            assert session(alice).frames_sent - before >= 20
            session(alice).muted = False
            await heard(bob, frames=25)
            assert len(session(bob).stats().transport.received_sizes) == 1
    loudness = envelope(read_samples(tmp_path / "bob.wav"))
    assert max(loudness[5:20]) < 50  # of 32767
    assert max(loudness[30:]) > 2000


async def test_without_the_call_key_not_a_frame_is_heard() -> None:
    """The path stands, for the ICE credentials are right; the record's key was changed on the way."""
    async with embedded_relays(1) as (_, relays):
        alice, bob = party(relays, caller=True, source=ToneSource()), party(relays, caller=False, source=ToneSource())
        async with alice, bob:
            for_bob, for_alice = await asyncio.gather(alice.prepare(), bob.prepare())
            record = decode_record(for_bob, laboratory=True)
            key = bytearray(record.key)
            key[-1] ^= 1
            altered = encode_record(msgspec.structs.replace(record, key=bytes(key)))
            await asyncio.gather(alice.connect(for_alice), bob.connect(altered))
            await until(
                lambda: all(session(call).stats().transport.dropped.authentication > 20 for call in (alice, bob))
            )
            for call in (alice, bob):
                assert session(call).frames_received == session(call).frames_heard == 0


async def test_connecting_before_preparing() -> None:
    async with embedded_relays(1) as (_, relays), party(relays, caller=True) as alice:
        with pytest.raises(CallClosed):
            await alice.connect(b"")


async def test_no_relay_no_call_and_a_reason_for_each() -> None:
    async with embedded_relays(1) as (_, [relay]):
        refusing = RelayServer.parse(f"turn:127.0.0.1:{free_port('127.0.0.1')}", username=USERNAME, password=PASSWORD)
        wrong = relay.with_credentials(USERNAME, "wrong")
        async with party([refusing, wrong], caller=True) as alice:
            with pytest.raises(NoRelay) as found:
                await alice.prepare()
            assert [type(failure) for failure in found.value.failures] == [RelayRefused, RelayRefusedCredentials]
            with pytest.raises(CallClosed):
                await alice.connect(b"")


async def test_one_relay_of_two_is_enough() -> None:
    events: list[CallEvent] = []
    async with embedded_relays(1) as (_, [relay]):
        wrong = relay.with_credentials(USERNAME, "wrong")
        async with (
            party([wrong, relay], caller=True, on_event=events.append) as alice,
            party([relay], caller=False) as bob,
        ):
            await connect(alice, bob)
            await heard(alice, bob)
            told = [event for event in events if isinstance(event, PoolEvent)]
            assert {(event.kind, event.relay, type(event.error)) for event in told} == {
                ("failed", wrong.name, RelayRefusedCredentials),
                ("allocated", relay.name, type(None)),
            }
            assert alice.connection.failures == []


@pytest.mark.parametrize("what", ["our own", "garbage", "a private address"])
async def test_a_record_that_breaks_the_rules_starts_nothing(what: str) -> None:
    async with embedded_relays(1) as (relays, servers):
        alice = MediaCall(servers, caller=True, source=SilenceSource(), options=MediaOptions(laboratory=True))
        async with alice:
            mine = await alice.prepare()
            if what == "a private address":
                alice._laboratory = False
            theirs = b"garbage" if what == "garbage" else mine
            with pytest.raises(RecordRefused):
                await alice.connect(theirs)
            await asyncio.sleep(0.05)
            assert alice.session is None
            assert relays[0].counters.to_peers == 0
            assert alice.connection.remote_candidates == []


async def test_a_peer_that_is_not_there_is_no_path_in_time() -> None:
    async with (
        embedded_relays(1) as (_, relays),
        party(relays, caller=True) as alice,
        party(relays, caller=False) as bob,
    ):
        _, for_alice = await asyncio.gather(alice.prepare(), bob.prepare())
        with pytest.raises(NoPath):
            await alice.connect(for_alice, timeout=0.3)


async def test_a_call_connects_once() -> None:
    async with (
        embedded_relays(1) as (_, relays),
        party(relays, caller=True) as alice,
        party(relays, caller=False) as bob,
    ):
        for_bob, for_alice = await asyncio.gather(alice.prepare(), bob.prepare())
        await asyncio.gather(alice.connect(for_alice), bob.connect(for_bob))
        before = alice.session
        with pytest.raises(CallClosed):
            await alice.connect(for_alice)
        assert alice.session is before
        await heard(alice, bob)


async def test_events_name_relays_and_a_handler_that_fails_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    events: list[ConnectionEvent] = []

    def handler(event: ConnectionEvent) -> None:
        events.append(event)
        raise RuntimeError("a handler of the user's")

    async with (
        embedded_relays(1) as (_, relays),
        party(relays, caller=True, on_event=handler) as alice,
        party(relays, caller=False) as bob,
    ):
        await connect(alice, bob)
        await heard(alice, bob)
    assert PathSelected(relays[0].name, 0) in events
    assert "an event handler failed" in caplog.text


# --- the end ----------------------------------------------------------------------------------------------------------


async def timed_close(*calls: MediaCall) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    await close(*calls)
    assert loop.time() - start < CLOSE_LIMIT


async def test_closing_twice_and_at_once() -> None:
    async with embedded_relays(1) as (embedded, relays):
        source, sink = Mouth(), Ear()
        alice = party(relays, caller=True, source=source, sink=sink)
        bob = party(relays, caller=False)
        await connect(alice, bob)
        await heard(alice, bob)
        await timed_close(alice, alice, bob)
        await timed_close(alice)
        assert source.closed >= 1
        assert sink.closed >= 1
        assert (await alice.ended()) == Ended("hung_up")
        assert embedded[0].active == 0
        with pytest.raises(CallClosed):
            await alice.prepare()
        with pytest.raises(CallClosed):
            await alice.connect(b"")


async def test_closing_what_was_never_used_releases_source_and_sink() -> None:
    async with embedded_relays(1) as (_, relays):
        source, sink = Mouth(), Ear()
        alice = party(relays, caller=True, source=source, sink=sink)
        await timed_close(alice)
        assert source.closed == sink.closed == 1
        with pytest.raises(CallClosed):
            await alice.prepare()


async def test_closing_while_preparing() -> None:
    """The relay never answers; whoever waits for it is told at once."""
    with black_hole() as port:
        relay = RelayServer.parse(f"turn:127.0.0.1:{port}", username=USERNAME, password=PASSWORD)
        alice = party([relay], caller=True)
        preparing = asyncio.ensure_future(alice.prepare())
        await asyncio.sleep(0.1)
        await timed_close(alice)
        assert preparing.done() or (await asyncio.wait([preparing], timeout=0.1))[0]
        with pytest.raises(CallClosed):
            await preparing


async def test_cancelling_prepare_leaves_nothing_allocated() -> None:
    async with embedded_relays(1) as (embedded, [relay]):
        with black_hole() as port:
            dead = RelayServer.parse(f"turn:127.0.0.1:{port}", username=USERNAME, password=PASSWORD)
            alice = party([relay, dead], caller=True)
            preparing = asyncio.ensure_future(alice.prepare())
            await until(lambda: embedded[0].active == 1)
            preparing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await preparing
            await timed_close(alice)
            await until(lambda: embedded[0].active == 0)


async def test_closing_while_connecting() -> None:
    async with embedded_relays(1) as (_, relays):
        alice, bob = party(relays, caller=True), party(relays, caller=False)
        _, for_alice = await asyncio.gather(alice.prepare(), bob.prepare())
        connecting = asyncio.ensure_future(alice.connect(for_alice))
        await asyncio.sleep(0.05)
        await timed_close(alice, bob)
        with pytest.raises(CallClosed):
            await connecting


@pytest.mark.slow
async def test_closing_while_the_relay_is_frozen() -> None:
    """Every socket of the relay stays open and answers nothing."""
    async with embedded_relays(1) as (embedded, relays):
        alice, bob = party(relays, caller=True), party(relays, caller=False)
        await connect(alice, bob)
        await heard(alice, bob)
        assert embedded[0]._udp is not None
        asyncio.get_running_loop().remove_reader(embedded[0]._udp._socket)
        await asyncio.sleep(0.1)
        await timed_close(alice, bob)


@pytest.mark.slow
@pytest.mark.parametrize("patience", [1.0, pytest.param(13.0, marks=pytest.mark.slow)])
async def test_the_only_relay_dies_and_the_call_ends_with_the_reason(
    patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if patience < 13.0:
        monkeypatch.setattr(holdings, "RELAYLESS", patience)
    assert patience == holdings.RELAYLESS
    async with embedded_relays(1, "tcp") as (embedded, relays):
        alice, bob = party(relays, caller=True), party(relays, caller=False)
        await connect(alice, bob)
        await heard(alice, bob)
        await embedded[0].close()
        started = asyncio.get_running_loop().time()
        async with asyncio.timeout(patience + 2):
            end = await alice.ended()
        assert asyncio.get_running_loop().time() - started > patience - 0.5
        assert end.reason == "relays_lost"
        assert isinstance(end.error, RelaysLost)
        assert end.error.failures
        await timed_close(alice, bob)


async def test_a_source_that_raises_ends_in_silence_and_says_so() -> None:
    class Broken(SilenceSource):
        def read(self) -> bytes | None:
            raise OSError("canary")

    async with (
        embedded_relays(1) as (_, relays),
        party(relays, caller=True, source=Broken()) as alice,
        party(relays, caller=False) as bob,
    ):
        await connect(alice, bob)
        await heard(bob)
        assert "canary" not in str(session(alice).source_error)
        assert session(alice).source_error is not None


def test_a_call_shows_only_its_role(caplog: pytest.LogCaptureFixture) -> None:
    async def make() -> str:
        relay = RelayServer.parse("turn:192.0.2.7", username=USERNAME, password=PASSWORD)
        call = MediaCall([relay], caller=True, source=SilenceSource())
        try:
            return f"{call!r} {call} {call.connection!r}"
        finally:
            await call.close()

    with caplog.at_level(logging.DEBUG):
        shown = asyncio.run(make())
    assert "192.0.2.7" not in shown
    assert USERNAME not in shown + caplog.text
    assert PASSWORD not in shown + caplog.text
    assert "caller" in shown


@pytest.mark.slow
async def test_a_relay_that_never_answers_is_a_timeout_in_five_seconds() -> None:
    with black_hole() as port:
        relay = RelayServer.parse(f"turn:127.0.0.1:{port}", username=USERNAME, password=PASSWORD)
        async with party([relay], caller=True) as alice:
            start = asyncio.get_running_loop().time()
            with pytest.raises(NoRelay) as found:
                await alice.prepare()
            assert asyncio.get_running_loop().time() - start < 6
            assert [type(failure) for failure in found.value.failures] == [RelayTimeout]
