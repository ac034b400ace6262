"""Any bytes as envelope: a refusal, soon, and nothing is left behind."""

from __future__ import annotations

import contextlib
import gc
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relaycall.errors import MessageRefused, NotForUs
from relaycall.identity.envelope import CONTENT_SIZE, OpeningKey, RecipientKey, open_envelope
from tests.identity.enclosing import (
    ONE_OF_EACH,
    SEALS,
    SIZE,
    enclosed,
    opened,
    selector,
    signed,
)
from tests.identity.people import BOB, LOW_ORDER, Person


def garbage(rng: random.Random) -> Iterator[bytes]:
    """Envelopes from somebody who does not know our keys, and from somebody who does."""
    yield rng.randbytes(SIZE)
    for to in (BOB.to_prekey, BOB.to_identity):
        inner = rng.randbytes(SIZE - 4)
        yield selector(to.id, inner[:1120]) + inner
        yield selector(to.id, inner[:32]) + inner
        short = rng.randbytes(rng.randrange(250, 1120))
        yield (selector(to.id, short.ljust(-(-(len(short) + 4) // 64) * 64 - 4, b"\0")) + short).ljust(SIZE, b"\0")


@given(st.binary(max_size=2 * SIZE) | st.binary(min_size=SIZE, max_size=SIZE))
@example(b"")
@example(bytes(SIZE))
@example(b"\xff" * SIZE)
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(NotForUs):
        opened(data)


@pytest.mark.slow
@given(
    inner=st.binary(max_size=SIZE - 4),
    to=st.sampled_from([BOB.to_prekey, BOB.to_identity]),
    encapsulated=st.sampled_from([32, 1120, None]),
)
@settings(max_examples=300)
def test_any_bytes_under_a_right_selector(inner: bytes, to: RecipientKey, encapsulated: int | None) -> None:
    """`None`: the selector covers all there is, as it does where less than an encapsulated key is left."""
    used = (4 + len(inner.rstrip(b"\0")) + 63) // 64 * 64 - 4
    covered = inner.ljust(SIZE, b"\0")[: used if encapsulated is None else min(encapsulated, used)]
    with pytest.raises(NotForUs):
        opened((selector(to.id, covered) + inner).ljust(SIZE, b"\0"))


@given(plaintext=st.binary(max_size=CONTENT_SIZE), sign=st.booleans())
def test_any_bytes_inside(plaintext: bytes, sign: bool) -> None:
    whole = signed(plaintext, BOB.to_prekey) if sign else plaintext
    with pytest.raises(MessageRefused):
        opened(enclosed(whole, BOB.to_prekey))


def refusal_times(make: Callable[[], Iterator[bytes]], keys: list[OpeningKey]) -> list[float]:
    took = []
    for envelope in make():
        started = time.perf_counter()
        with pytest.raises(MessageRefused):
            open_envelope(envelope, BOB.identity, keys)
        took.append(time.perf_counter() - started)
    return took


def test_a_refusal_takes_less_than_5_ms() -> None:
    rng = random.Random(2)
    others = [Person(f"ring {index}") for index in range(3)]
    retired = [OpeningKey(rng.randbytes(32), None) for _ in range(4)]
    keys = [*(other.keys[0] for other in others), *retired, *BOB.keys]
    took = refusal_times(lambda: (one for _ in range(30) for one in garbage(rng)), keys)
    assert statistics.median(took) < 0.005


def test_refusals_leave_nothing_behind() -> None:
    rng, keys = random.Random(3), BOB.keys

    def held_after(times: int) -> int:
        for _ in range(times):
            for envelope in garbage(rng):
                with contextlib.suppress(MessageRefused):
                    open_envelope(envelope, BOB.identity, keys)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    held_after(20)
    tracemalloc.start()
    try:
        before = held_after(10)
        grown = held_after(200) - before
    finally:
        tracemalloc.stop()
    assert grown < 65536, "1400 envelopes are 5.7 MB"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_thousand_envelopes_changed_at_random() -> None:
    rng, keys = random.Random(), BOB.keys
    for number in range(100_000):
        envelope = bytearray(ONE_OF_EACH[SEALS[number % 4]])
        for at in rng.sample(range(SIZE), rng.randrange(1, 4)):
            envelope[at] ^= rng.randrange(1, 256)
        with pytest.raises(NotForUs):
            open_envelope(bytes(envelope), BOB.identity, keys)


def test_the_low_order_points_are_of_low_order() -> None:
    for point in LOW_ORDER:
        with pytest.raises(ValueError):
            X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(point))
