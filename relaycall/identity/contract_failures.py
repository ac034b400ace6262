"""The cases of the sealers' contract in which keys are lost, and programs and stores fail. `contract` lists them."""

from __future__ import annotations

from relaycall.errors import IdentityDamaged, MessageReplayed, PrekeyRetired, StoreError
from relaycall.identity.contact import counters_entry
from relaycall.identity.prekeys import DELETE_AFTER
from relaycall.identity.rig import KIND, Person, Rig, refused, talk
from relaycall.redact import Secret


async def a_deleted_prekey_is_told(rig: Rig) -> None:
    """What was sealed to it is refused as such, and with the present one all goes on."""
    alice, bob = await rig.pair()
    rig.now += DELETE_AFTER - 10
    envelope = await alice.write(bob, b"at the last moment")
    rig.now += 20
    alice.rotate()
    bob.rotate()
    await refused(bob.open(envelope), PrekeyRetired)
    assert not await alice.sealer.knows_prekey(bob.identity.public)
    await alice.learn_prekey(bob)
    await bob.learn_prekey(alice)
    await talk(alice, bob, rounds=2)
    await refused(bob.open(envelope), PrekeyRetired)


async def two_devices_with_one_identity(rig: Rig) -> None:
    """What each sends is accepted, once; an answer can be read on the one that wrote last, if not on both."""
    alice, bob = await rig.pair()
    other = await rig.again(alice)
    for round_ in range(4):
        for device in (alice, other) if round_ % 2 else (other, alice):
            envelope = await device.write(bob, b"it is me")
            opened = await bob.open(envelope)
            assert (opened.body, opened.sender) == (b"it is me", alice.identity.public)
            await refused(bob.open(envelope), MessageReplayed)
        answer = await bob.write(alice, b"which one?")
        assert await device.read(answer) == b"which one?"
        await refused(device.open(answer), MessageReplayed)


async def nothing_comes_twice_after_a_crash(rig: Rig) -> None:
    """At whatever change to the store the program dies while it opens an envelope.

    What was handed out before does not come again. What was being opened comes at most once, and the next one comes.
    """
    alice, bob = await rig.pair()
    handed_out: list[bytes] = []
    for number in range(4):
        envelope, later = await alice.write(bob, b"this"), await alice.write(bob, b"later")
        begin = len(bob.store.snapshots) - 1
        assert await bob.read(envelope) == b"this"
        moments = bob.store.snapshots[begin:]
        assert len(moments) > 1
        for moment in moments:
            survivor = await rig.again(bob, moment)
            for known in handed_out:
                await refused(survivor.open(known), MessageReplayed)
            if moment is moments[-1] or await _is_lost(survivor, envelope):
                await refused(survivor.open(envelope), MessageReplayed)
            assert await survivor.read(later) == b"later"
        handed_out.append(envelope)
        if number == 1:
            await talk(bob, alice)


async def _is_lost(survivor: Person, envelope: bytes) -> bool:
    """Opens it, and again if it was accepted; in the end it must not be."""
    try:
        assert await survivor.read(envelope) == b"this"
    except MessageReplayed:
        return True
    await refused(survivor.open(envelope), MessageReplayed)
    return False


async def no_counter_or_key_is_used_twice_after_a_crash(rig: Rig) -> None:
    """At whatever change to the store the program dies while it seals: what it seals afterwards is accepted.

    The clock stands still meanwhile, so that only what was kept can tell.
    """
    alice, bob = await rig.pair()
    for number in range(3):
        begin = len(alice.store.snapshots) - 1
        envelope = await alice.sealer.seal(bob.identity.public, KIND, b"this")
        moments = alice.store.snapshots[begin:]
        assert len(moments) > 1
        for moment in moments:
            survivor, reader = await rig.again(alice, moment), await rig.again(bob)
            if moment is moments[-1]:
                assert await reader.read(envelope) == b"this"
            again = await survivor.sealer.seal(bob.identity.public, KIND, b"again")
            assert await reader.read(again) == b"again"
        assert await bob.read(envelope) == b"this"
        if number == 1:
            await talk(bob, alice)


async def a_store_that_fails_loses_nothing(rig: Rig) -> None:
    """At whatever call it fails, the same envelope may be opened again, and the same message sealed again."""
    for acquainted in (False, True):
        alice, bob = await (rig.acquainted() if acquainted else rig.pair())
        for failing in (_opening_fails, _sealing_fails):
            calls = 0
            while await failing(rig, alice, bob, calls):
                calls += 1
            assert calls > 1
            await talk(alice, bob)


async def _opening_fails(rig: Rig, alice: Person, bob: Person, calls: int) -> bool:
    """Whether the store fails, which answers so many calls."""
    bob = await rig.again(bob)
    envelope = await (await rig.again(alice)).write(bob, b"this")
    bob.store.calls_left = calls
    try:
        opened = await bob.open(envelope)
    except StoreError:
        opened = await bob.open(envelope)
        failed = True
    else:
        failed = bob.store.calls_left is None
        bob.store.calls_left = None
    assert opened.body == b"this"
    await refused(bob.open(envelope), MessageReplayed)
    return failed


async def _sealing_fails(rig: Rig, alice: Person, bob: Person, calls: int) -> bool:
    alice, bob = await rig.again(alice), await rig.again(bob)
    alice.store.calls_left = calls
    try:
        envelope = await alice.write(bob, b"this")
    except StoreError:
        envelope = await alice.write(bob, b"this")
        failed = True
    else:
        failed = False
        alice.store.calls_left = None
    assert await bob.read(envelope) == b"this"
    return failed


async def a_damaged_contact_is_no_stranger(rig: Rig) -> None:
    """What they send is refused as long as their entry or counters cannot be read, and accepted when it is restored."""
    alice, bob = await rig.acquainted()
    envelope = await alice.write(bob, b"hello")
    contact = bob.contacts.get("Alice").entry
    whole = bob.store.snapshots[-1]
    for entry in (contact, counters_entry(contact)):
        assert entry in whole
        damaged = await rig.again(bob, {**whole, entry: Secret("damaged")})
        await refused(damaged.open(envelope), IdentityDamaged)
        await refused(damaged.write(alice, b"hello"), IdentityDamaged)
        assert damaged.store.snapshots[-1][entry] == Secret("damaged")
    assert await bob.read(envelope) == b"hello"
