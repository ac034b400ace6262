"""How long it takes to seal, open and refuse an envelope, and to make each side's part of a call's handshake.

Beside them, in turns and in the same process, the bare HPKE of the cryptography package for the same plaintext: what is
above it is the signature, the selector and the stand-in.
"""

from __future__ import annotations

import itertools
import secrets
import statistics
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from relaycall.errors import NotForUs
from relaycall.identity.envelope import OpeningKey, RecipientKey, from_identity, open_envelope, seal, to_identity
from relaycall.identity.handshake import CalleeHandshake, CallerHandshake
from relaycall.identity.keys import SECRET_SIZE, Identity
from relaycall.identity.prekeys import RANDOM_SIZE, Prekeys
from tests.benchmarks.report import Figure, Report, Table

TITLE = "sealed envelopes and the handshake, beside bare HPKE"
TIMES = 300  # of each in a run; a run counts with the median
PLAINTEXT = 4096 - 1124 - 16  # bytes inside an envelope
RECORD = 400  # bytes: a call record with two candidates has about as many
NOW = 1_700_000_000.0
TARGETS = {"seal": 1.0, "open": 1.0, "refuse": 5.0, "caller": 5.0, "callee": 5.0}  # ms

Step = Callable[[], object]


async def measure(runs: int, *, tiny: bool = False) -> Report:
    """Every step in turns."""
    steps = _steps()
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(runs):
        took: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(5 if tiny else TIMES):
            for name, step in steps.items():
                started = time.perf_counter()
                step()
                took[name].append((time.perf_counter() - started) * 1000)
        for name, values in took.items():
            found[name].append(statistics.median(values))
    return _report(found, runs)


def _steps() -> dict[str, Step]:
    alice, bob = Identity(secrets.token_bytes(SECRET_SIZE)), Identity(secrets.token_bytes(SECRET_SIZE))
    ring = Prekeys.make(NOW, secrets.token_bytes(RANDOM_SIZE))
    mine = ring.current
    to = {"prekey": RecipientKey(mine.id, mine.public.hpke_key()), "identity": to_identity(bob.public)}
    other = Prekeys.make(NOW, secrets.token_bytes(RANDOM_SIZE)).current
    keys = [OpeningKey(one.id, one.hpke_key()) for one in (other, mine)]
    keys += [OpeningKey(secrets.token_bytes(32), None) for _ in range(4)]
    keys.append(from_identity(bob))

    def sealed(kind: str) -> bytes:
        return seal(alice, bob.public, to[kind], kind=16, body=bytes(1000), counter=1, now=NOW)

    def refused(envelope: bytes) -> None:
        try:
            open_envelope(envelope, bob, keys)
        except NotForUs:
            return
        raise RuntimeError("an altered envelope was opened")

    suites = {
        "prekey": Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305),
        "identity": Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305),
    }
    private = {"prekey": mine.hpke_key(), "identity": bob.agreement_key()}
    envelopes = {kind: sealed(kind) for kind in to}
    bare = {kind: suites[kind].encrypt(bytes(PLAINTEXT), to[kind].key, b"") for kind in to}
    noise = secrets.token_bytes(4096)
    altered = envelopes["prekey"][:-1] + bytes([envelopes["prekey"][-1] ^ 1])
    steps: dict[str, Step] = {}
    for kind in to:
        steps[f"seal to {kind}"] = lambda kind=kind: sealed(kind)
        steps[f"bare seal to {kind}"] = lambda kind=kind: suites[kind].encrypt(bytes(PLAINTEXT), to[kind].key, b"")
        steps[f"open to {kind}"] = lambda kind=kind: open_envelope(envelopes[kind], bob, keys)
        steps[f"bare open to {kind}"] = lambda kind=kind: suites[kind].decrypt(bare[kind], private[kind], b"")
    steps["refuse noise"] = lambda: refused(noise)
    steps["refuse altered"] = lambda: refused(altered)
    return steps | _handshake(alice, bob)


def _handshake(alice: Identity, bob: Identity) -> dict[str, Step]:
    """Each side's whole part of a call, with what the other side said prepared."""
    record = bytes(RECORD)
    ready = CallerHandshake(alice, bob.public, record, secret=secrets.token_bytes(32), nonce=bytes(32))
    answer, _ = CalleeHandshake(bob, alice.public, ready.offer).answer(
        record, secret=secrets.token_bytes(32), nonce=bytes(32)
    )
    secret = secrets.token_bytes(32)
    fixed = CallerHandshake(alice, bob.public, record, secret=secret, nonce=bytes(32))
    to_fixed, _ = CalleeHandshake(bob, alice.public, fixed.offer).answer(record, secret=bytes(32), nonce=bytes(32))
    ready.accept(answer)
    confirm = ready.confirm()
    numbers = itertools.count()

    def caller() -> None:
        calling = CallerHandshake(alice, bob.public, record, secret=secret, nonce=bytes(32))
        calling.accept(to_fixed)
        calling.confirm()

    def callee() -> None:
        called = CalleeHandshake(bob, alice.public, ready.offer)
        called.answer(record, secret=next(numbers).to_bytes(32, "big"), nonce=bytes(32))
        called.confirmed(confirm)

    return {"caller's handshake": caller, "callee's handshake": callee}


def _report(found: dict[str, list[float]], runs: int) -> Report:
    report = Report()
    table = Table(
        f"Sealing in ms, median (least–most) of {runs} medians",
        ["", "relaycall", "bare HPKE", "ratio", "target"],
    )
    for name, values in found.items():
        figure = Figure.of(values)
        report.figures[f"sealing_{name.replace(chr(39), '').replace(' ', '_')}_ms"] = figure
        if name.startswith("bare "):
            continue
        bare = found.get(f"bare {name}")
        limit = next(limit for part, limit in TARGETS.items() if name.startswith(part))
        target = f"{limit:.0f}: {'met' if figure.median <= limit else 'MISSED'}"
        beside = (Figure.of(bare), f"{figure.median / statistics.median(bare):.2f}") if bare else ("", "")
        table.add(name, figure, *beside, target)
    table.notes += [
        "seal, open: an envelope of 4096 bytes with a body of 1000; bare: HPKE alone, of as many bytes.",
        "refuse noise: random bytes, against seven keys of ours; refuse altered: the last byte of one for us.",
        "handshake: offer to confirmation on one side, without envelopes.",
    ]
    report.tables.append(table)
    return report
