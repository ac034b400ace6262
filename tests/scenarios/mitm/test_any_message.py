"""Any bytes as an envelope, and anything in one that a hostile contact has sealed: refused by type, or of known effect.

RELAYCALL_FUZZ=n runs n cases in each of these tests. What was found that way is an example here.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tracemalloc
from collections import Counter

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relaycall.call.messages import TAG_SIZE, Kind, offer_body
from relaycall.call.record import decode_record, encode_record
from relaycall.call.state import CallState
from relaycall.call.switchboard import MAX_RINGING
from relaycall.errors import HandshakeRefused, MessageRefused, RelaycallError
from relaycall.identity.envelope import CONTENT_SIZE, identity_key_id
from relaycall.identity.handshake import CalleeHandshake
from relaycall.identity.prekeys import SIGNED_SIZE
from relaycall.media.audio import SilenceSource
from tests.identity.enclosing import enclosed, selector
from tests.identity.people import LOW_ORDER
from tests.scenarios.mitm.target import EXAMPLES, Target, target

SIZE = 4096
ROOM = CONTENT_SIZE - SIGNED_SIZE  # bytes of a body
REFUSAL = 0.005  # seconds, median

pytestmark = pytest.mark.timeout(0 if EXAMPLES else 60)

noise = st.integers(0, 2**64).map(lambda seed: random.Random(seed).randbytes(SIZE - 4))
few = settings(max_examples=EXAMPLES or 25)


# --- any bytes --------------------------------------------------------------------------------------------------------


def test_any_bytes_as_an_envelope() -> None:
    with target() as bob:

        @few
        @given(st.binary(max_size=2 * SIZE) | st.binary(min_size=SIZE, max_size=SIZE))
        @example(b"")
        @example(bytes(SIZE))
        def refused(envelope: bytes) -> None:
            assert isinstance(bob.run(bob.take(envelope)), MessageRefused)

        refused()
        assert statistics.median(bob.times) < REFUSAL
        assert bob.bob.calls == ()
        assert bob.world.path.sent == []


def test_any_bytes_behind_a_selector_that_fits() -> None:
    """From somebody who knows our prekey, and our long-term key."""
    with target() as bob:
        ids = [bob.bob.to_prekey.id, identity_key_id(bob.bob.card.identity)]

        @few
        @given(st.sampled_from(ids), noise, st.sampled_from([32, 1120]))
        def refused(key_id: bytes, inner: bytes, covered: int) -> None:
            error = bob.run(bob.take(selector(key_id, inner[:covered]) + inner))
            assert isinstance(error, MessageRefused)

        refused()
        assert statistics.median(bob.times) < REFUSAL


def test_any_bytes_inside_an_envelope() -> None:
    """Signed by a contact or by nobody, in the layout of a message or in none."""
    with target() as bob:
        mallory, to = bob.world.mallory.own.identity, bob.bob.to_prekey
        recipient = bob.bob.card.identity.encode()
        bodies = st.binary(max_size=CONTENT_SIZE + 90)

        @few
        @given(bodies, st.booleans(), st.booleans())
        @example(b"", False, False)
        @example(b"", True, True)
        def refused(inside: bytes, named: bool, sign: bool) -> None:
            content = (mallory.public.encode() + inside if named else inside)[: CONTENT_SIZE + 90]
            if sign:
                content += mallory.sign(b"relaycall envelope signature 1", recipient + to.id + content)
            assert isinstance(bob.run(bob.take(enclosed(content, to))), MessageRefused)

        refused()
        assert statistics.median(bob.times) < REFUSAL


def test_refusals_leave_nothing_behind() -> None:
    """Bytes that nobody sealed, replays, and bodies of all kinds from a contact."""
    rng = random.Random(7)

    async def refuse(bob: Target, times: int) -> None:
        replay = await bob.world.mallory.sealed(bob.bob.card.identity, Kind.RINGING, bytes(16))
        await bob.take(replay)
        for _ in range(times):
            assert await bob.take(rng.randbytes(SIZE)) is not None
            assert await bob.take(replay) is not None
            assert await bob.tell(rng.choice(list(Kind)), rng.randbytes(rng.randrange(600))) is not None
            bob.bob.errors.clear()
            bob.times.clear()

    with target() as bob:
        bob.run(refuse(bob, 30))
        tasks = len(asyncio.all_tasks(bob._runner.get_loop()))
        tracemalloc.start()
        try:
            bob.run(refuse(bob, 10))
            before, _ = tracemalloc.get_traced_memory()
            bob.run(refuse(bob, EXAMPLES // 3 or 40))
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 65536, "40 envelopes alone are 160 KiB"
        assert len(asyncio.all_tasks(bob._runner.get_loop())) == tasks
        assert bob.bob.calls == ()


# --- messages of a hostile contact ------------------------------------------------------------------------------------

NAMES = ("ringing", "calling", "over", "unknown")  # calls that a message may be about
rests = st.one_of(
    st.binary(max_size=300),
    st.binary(min_size=TAG_SIZE, max_size=TAG_SIZE),
    st.sampled_from([b"", b"\0", bytes(64), bytes(96), bytes(ROOM - 16)]),
)
about_a_call = st.tuples(st.sampled_from([kind for kind in Kind if kind > Kind.OFFER]), st.sampled_from(NAMES), rests)
anything = st.tuples(st.integers(0, 255) | st.sampled_from(list(Kind)), st.just(""), st.binary(max_size=ROOM))
cards = st.tuples(
    st.sampled_from([Kind.INTRODUCTION, Kind.WELCOME, Kind.OFFER]),
    st.sampled_from(["mallory", "alice", "bob"]),
    st.lists(st.tuples(st.integers(0, 644), st.integers(1, 255)), max_size=2),
)
keys = st.binary(min_size=32, max_size=32) | st.sampled_from(LOW_ORDER)
record_changes = st.fixed_dictionaries(
    {},
    optional={
        "ufrag": st.sampled_from(["", "a", "x" * 65, "é" * 8, "ab:cd"]),
        "pwd": st.sampled_from(["", "x" * 22, "x" * 65]),
        "candidates": st.sampled_from([(), "twice", "five", "name", "loopback6", "zone"]),
        "key": st.binary(max_size=40),
        "version": st.integers(0, 300),
    },
)
offers = st.tuples(
    st.just(Kind.OFFER),
    st.integers(0, 3),
    st.tuples(keys, keys, record_changes, st.lists(st.tuples(st.integers(0, 400), st.integers(1, 255)), max_size=2)),
)


def flipped(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for at, mask in changes:
        if changed:
            changed[at % len(changed)] ^= mask
    return bytes(changed)


class Hostile:
    """Mallory's messages to a phone, and what may come of each."""

    def __init__(self, bob: Target) -> None:
        self.bob = bob
        self.ids: dict[str, bytes] = {"unknown": b"?" * 16, "over": b"!" * 16}
        self.effects: Counter[str] = Counter()
        self._count = 0

    def secret(self) -> bytes:
        """Another ephemeral key each time, so that no call has the id of an earlier one."""
        self._count += 1
        return self._count.to_bytes(16, "big").center(32, b"\0")  # the bits at both ends do not count

    def body(self, message: tuple[int, object, object]) -> bytes:
        """The bytes of a message that hypothesis has described."""
        kind, what, rest = message
        if isinstance(rest, bytes):
            return (self.ids.get(str(what), b"") + rest)[:ROOM]
        world = self.bob.world
        if isinstance(rest, list):
            own = {"mallory": world.mallory.card, "alice": self.bob.alice.card, "bob": self.bob.bob.card}
            card = flipped(own[str(what)].encode(), rest)
            return offer_body(card, self.bob.offer(self.secret())) if kind == Kind.OFFER else card
        assert isinstance(rest, tuple)
        ephemeral, commitment, changes, flips = rest
        record = decode_record(self.bob.record, laboratory=True)
        entry = record.candidates[0]
        candidates = {
            "twice": (entry, entry),
            "five": tuple(msgspec.structs.replace(entry, port=port) for port in range(2000, 2005)),
            "name": (msgspec.structs.replace(entry, host="localhost"),),
            "loopback6": (msgspec.structs.replace(entry, host="::0001"),),
            "zone": (msgspec.structs.replace(entry, host="fe80::1%lo"),),
        }
        changes = {
            **changes,
            **({"candidates": candidates.get(changes["candidates"], ())} if "candidates" in changes else {}),
        }
        encoded = flipped(encode_record(msgspec.structs.replace(record, **changes)), flips)
        version = what if isinstance(what, int) else 1
        return offer_body(world.mallory.card.encode(), bytes([version]) + ephemeral + commitment + encoded)[:ROOM]

    async def check(self, messages: list[tuple[int, object, object]]) -> None:
        """Each is refused, or does what its kind may do; nobody asks a relay for anything."""
        taken = self.bob.taken()
        for message in messages:
            before = len(self.bob.bob.calls), len(self.bob.world.path.sent)
            error = await self.bob.tell(message[0], self.body(message))
            await self.bob.bob.settled()
            if error is not None:
                assert isinstance(error, RelaycallError)
                self.effects[error.code] += 1
                continue
            self.effects[f"{Kind(message[0]).name} acted on"] += 1
            assert message[0] in list(Kind)
            assert len(self.bob.bob.calls) <= before[0] + (message[0] == Kind.OFFER)
            assert len(self.bob.world.path.sent) <= before[1] + 2
        assert self.bob.taken() <= taken
        ringing = [call for call in self.bob.bob.calls if call.state is CallState.RINGING and not call.caller]
        assert len(ringing) <= MAX_RINGING


def prepared(bob: Target) -> Hostile:
    """With a good record to make offers of."""

    async def make() -> None:
        call, ring = await bob.world.ringing(bob.alice, bob.bob)
        bob.record = call._agreement.calling.offer[65:] if call._agreement.calling is not None else b""
        await call.hang_up()
        await ring.ended()

    bob.run(make())
    return Hostile(bob)


def test_any_message_of_a_contact_while_one_of_his_calls_rings() -> None:
    with target() as bob:
        hostile = prepared(bob)

        async def case(messages: list[tuple[int, object, object]]) -> None:
            call = await bob.rung(hostile.secret())
            hostile.ids["ringing"] = hostile.ids["calling"] = call.id
            await hostile.check(messages)
            await bob.hung_up()
            hostile.ids["over"] = call.id

        @settings(max_examples=EXAMPLES or 12)
        @given(st.lists(st.one_of(about_a_call, anything, cards, offers), min_size=1, max_size=6))
        @example([(Kind.CANCELLED, "ringing", b""), (Kind.CONFIRM, "ringing", bytes(64))])
        @example([(Kind.ANSWER, "ringing", bytes(200)), (Kind.HUNG_UP, "ringing", bytes(32))])
        @example([(Kind.OFFER, 1, (key, key, {}, [])) for key in LOW_ORDER[:6]])
        def does_nothing_else(messages: list[tuple[int, object, object]]) -> None:
            bob.run(case(messages))

        does_nothing_else()
        assert hostile.effects["message_refused"] > 0
        assert sum(bob.bob.phone.refused.values()) > 0


def test_any_message_of_a_contact_who_is_being_called() -> None:
    """Bob's call to Mallory has its relays; no message gets it more of them, and the worst is its end."""
    with target() as bob:
        hostile = prepared(bob)

        async def case(messages: list[tuple[int, object, object]]) -> None:
            call = await bob.bob.phone.call("Mallory", audio=SilenceSource())
            while call.state is CallState.IDLE:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            hostile.ids["calling"] = hostile.ids["ringing"] = call.id
            await hostile.check([one for one in messages if one[0] != Kind.OFFER])
            assert call.state is not CallState.CONNECTED
            await bob.hung_up()
            hostile.ids["over"] = call.id

        @settings(max_examples=EXAMPLES or 6)
        @given(st.lists(st.one_of(about_a_call, anything, cards), min_size=1, max_size=6))
        @example([(Kind.ANSWER, "calling", bytes(96)), (Kind.ANSWER, "calling", bytes(200))])
        @example([(Kind.BUSY, "calling", b""), (Kind.RINGING, "calling", b"")])
        @example([(Kind.CANCELLED, "calling", b""), (Kind.CONFIRM, "calling", bytes(64))])
        def ends_at_worst(messages: list[tuple[int, object, object]]) -> None:
            bob.run(case(messages))

        ends_at_worst()


def test_any_answer_to_a_call() -> None:
    """Sealed, signed and to the right offer; ephemeral key and record are what the callee likes."""
    with target() as bob:
        prepared(bob)

        async def case(key: bytes, record: bytes) -> None:
            call = await bob.bob.phone.call("Mallory", audio=SilenceSource())
            while call._agreement.calling is None or call.state is CallState.IDLE:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            mallory = bob.world.mallory.own.identity
            called = CalleeHandshake(mallory, bob.bob.card.identity, call._agreement.calling.offer)
            answer, _ = called.answer(record, secret=bytes(32), nonce=bytes(32))
            error = await bob.tell(Kind.ANSWER, call.id + answer[:32] + key + answer[64:])
            ended = await call.ended()
            assert ended.reason in ("handshake_refused", "record_refused")
            assert (error is None) == (ended.reason == "record_refused")
            assert error is None or isinstance(error, HandshakeRefused)
            bob.world.path.sent.clear()

        @settings(max_examples=EXAMPLES or 6)
        @given(keys, st.binary(max_size=500))
        @example(bytes(32), b"")
        @example(b"\x09" + bytes(31), b"")
        @example(b"\x09" + bytes(31), b"\x80")
        def fails(key: bytes, record: bytes) -> None:
            bob.run(case(key, record))

        fails()


def test_what_waits_to_be_sent_does_not_grow_by_what_comes_in() -> None:
    """The server takes nothing of ours, and a contact repeats an offer: there is one answer to it that waits."""
    with target() as bob:
        prepared(bob)

        async def case() -> None:
            call = await bob.rung(bytes(32))
            taking = asyncio.Event()
            bob.bob.phone.signaling.send = lambda *_, **__: taking.wait()  # type: ignore[assignment, method-assign]
            offer = offer_body(bob.world.mallory.card.encode(), bob.offer(bytes(32)))
            for _ in range(50):
                assert await bob.tell(Kind.OFFER, offer) is None
            assert len(call._posting.tasks) <= 2
            taking.set()
            await bob.hung_up()

        bob.run(case())
