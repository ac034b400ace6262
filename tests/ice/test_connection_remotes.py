"""The peer's addresses while two connections talk: what it tells, and where it comes from without a word."""

from __future__ import annotations

import asyncio
import os

import pytest

from relaycall.ice import remotes
from relaycall.ice.events import PathLost, PathSelected, RelayGone
from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.message import Class, Message, Method
from tests.ice.connecting import IP, PACKET, LenderLog, Side, Site, server, talking
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.waiting import eventually


def check_of(peer: Side, to: Side) -> bytes:
    """A check that only this peer can have made."""
    attributes = [
        a.USERNAME(f"{to.local_username}:{peer.local_username}"),
        a.ICE_CONTROLLED(1),
        a.PRIORITY(1),
    ]
    message = Message(Method.BINDING, Class.REQUEST, os.urandom(12), attributes)
    return message.encode(to.local_password.encode(), fingerprint=True)


# --- a peer that comes from elsewhere ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("controlling", [True, False], ids=["controlling", "controlled"])
async def test_a_peer_that_had_to_allocate_anew_is_found_without_a_word(site: Site, controlling: bool) -> None:
    """Its relay restarted: same host, another port, and no path to tell it on."""
    near, far, anew = [await site.relay() for _ in range(3)]
    lenders = LenderLog(), LenderLog()
    left, right = await site.pair([server(near, "tcp")], [server(far, "tcp")])
    mover, stays, relay, lender = (left, right, near, lenders[0]) if controlling else (right, left, far, lenders[1])
    mover._held._lender = lender
    async with talking(left, right) as voices:
        await relay.close()
        await eventually(lambda: lender.gone)
        new = await site.allocation(server(anew))
        mover.add_allocation(new)
        for voice in voices:
            await voice.hears()
        assert new.relayed in [candidate.address for candidate in stays.remote_candidates]
        assert mover.selected()[-1] == server(anew).name
        assert not stays.told(RelayGone)
        assert stays.error is None


@pytest.mark.slow
async def test_a_peer_on_another_host_is_not_found_until_it_tells(site: Site) -> None:
    """A relay lets packets in by the host they come from."""
    near, far, other = await site.relay(), await site.relay(), await site.relay(host="127.0.0.2")
    lender = LenderLog()
    alice, bob = await site.pair([server(near)], [server(far, "tcp")], lender=lender)
    async with talking(alice, bob) as voices:
        await far.close()
        await eventually(lambda: lender.gone)
        new = await site.allocation(server(other))
        bob.add_allocation(new)
        await asyncio.sleep(0.5)
        assert new.relayed not in [candidate.address for candidate in alice.remote_candidates]
        alice.set_remotes([new.relayed])
        for voice in voices:
            await voice.hears()


async def test_strangers_that_are_not_the_peer_change_nothing(site: Site) -> None:
    near, far = await site.relay(), await site.relay()
    alice, bob = await site.pair([server(near)], [server(far)])
    stranger = await site.allocation(server(far))
    ours = alice.local_candidates[0].address
    stranger.add_peer(ours)
    await asyncio.sleep(0.02)
    forged = bytearray(check_of(bob, alice))
    forged[-20] ^= 1
    answer = Message(Method.BINDING, Class.SUCCESS, bytes(12), [a.XOR_MAPPED_ADDRESS(ours)])
    for data in (
        bytes(forged),
        check_of(alice, bob),
        answer.encode(alice.local_password.encode()),
        b"\x00",
        b"\x01" * 40,
    ):
        stranger.send(ours, data)
    await eventually(lambda: alice.dropped["stranger"] == 5)
    assert len(alice.remote_candidates) == 1
    assert len(alice.path_stats()) == 1
    stranger.send(ours, check_of(bob, alice))
    await eventually(lambda: len(alice.remote_candidates) == 2)


async def test_a_stranger_on_a_port_no_relay_gives_is_refused(site: Site) -> None:
    near, far = await site.relay(), await site.relay()
    alice, bob = await site.pair([server(near)], [server(far)])
    for port in (0, 53, 1023):
        alice.relay_stranger(0, Address(IP, port), check_of(bob, alice))
    assert alice.dropped["stranger"] == 3
    assert len(alice.remote_candidates) == 1


async def test_strangers_before_the_connect_and_after_the_end(site: Site) -> None:
    near, far = await site.relay(), await site.relay()
    alice, bob = await site.pair([server(near)], [server(far)], connect=False)
    alice.relay_stranger(0, Address(IP, 5000), check_of(bob, alice))
    assert len(alice.remote_candidates) == 1
    await asyncio.gather(alice.connect(), bob.connect())
    closing = asyncio.ensure_future(alice.close())
    await asyncio.sleep(0)
    alice.relay_stranger(0, Address(IP, 5000), check_of(bob, alice))
    await closing
    assert len(alice.remote_candidates) == 1


async def test_of_many_addresses_four_are_kept(site: Site) -> None:
    near, far = await site.relay(), await site.relay()
    alice, bob = await site.pair([server(near)], [server(far)])
    for port in range(5000, 5020):
        alice.relay_stranger(0, Address(IP, port), check_of(bob, alice))
        assert len(alice.remote_candidates) <= 5
    assert [candidate.port for candidate in alice.remote_candidates[1:]] == [5016, 5017, 5018, 5019]


@pytest.mark.slow
async def test_a_peer_that_comes_from_everywhere_harms_nobody(site: Site) -> None:
    near, far = await site.relay(), await site.relay()
    alice, bob = await site.pair([server(near)], [server(far)])
    for port in range(20_000, 24_200):
        alice.relay_stranger(0, Address(IP, port), check_of(bob, alice))
        if port % 100 == 0:
            await asyncio.sleep(0)
    assert len(alice.remote_candidates) <= 5


async def test_a_peer_that_tells_ever_new_addresses_is_forgotten(site: Site) -> None:
    near, far = await site.relay(), await site.relay()
    alice, _ = await site.pair([server(near)], [server(far)])
    (allocation,) = alice._held.allocations.values()
    allocation._client._numbers.update({Address("9.9.9.9", 2000 + n): 0x4001 + n for n in range(4095)})  # all used
    for number in range(30):
        try:
            alice.set_remotes([Address(IP, 30_000 + 4 * number + n) for n in range(4)])
        except ValueError:
            continue  # that it comes out of here is the other half
    assert len(alice.remote_candidates) <= 4


# --- what the peer tells ----------------------------------------------------------------------------------------------


async def test_a_relay_the_peer_tells_is_used_and_one_it_gives_up_is_left(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far, other = [await site.relay() for _ in range(3)]
    alice, bob = await site.pair([server(near)], [server(far)])
    async with talking(alice, bob) as voices:
        old = bob.local_candidates[0].address
        new = await site.allocation(server(other))
        bob.add_allocation(new)
        alice.set_remotes([old, new.relayed])
        await eventually(lambda: [path.healthy for path in alice.path_stats()] == [True, True])
        assert alice.remote_candidates[1].address == new.relayed
        monkeypatch.setattr(remotes, "LINGER", 0.1)
        seen = len(alice.events)
        alice.set_remotes([new.relayed])
        assert [candidate.address for candidate in alice.remote_candidates] == [new.relayed]
        (moved,) = [event for event in alice.events[seen:] if isinstance(event, PathSelected)]
        assert moved == PathSelected(server(near).name, 1, failed=False)
        for voice in voices:
            await voice.hears()
        await eventually(lambda: len(alice.path_stats()) == 1)
        assert not alice.told(PathLost)


async def test_an_empty_list_changes_nothing(site: Site) -> None:
    near, far = await site.relay(), await site.relay()
    alice, bob = await site.pair([server(near)], [server(far)])
    before = alice.remote_candidates
    alice.set_remotes([])
    assert alice.remote_candidates == before
    alice.send_packet(PACKET)
    assert await bob.recv() == PACKET
    await alice.close()
    alice.set_remotes([Address(IP, 5000)])
    assert alice.remote_candidates == before


@pytest.mark.slow
@pytest.mark.parametrize("controlling", [True, False], ids=["controlling", "controlled"])
async def test_a_relay_that_the_peer_exchanges_costs_no_packet(site: Site, controlling: bool) -> None:
    """As when its credentials are renewed: a new allocation, the old one retired at once, and both ends told."""
    near, far = await site.relay(), await site.relay()
    (slow, through), (slow_far, through_far) = await site.lossy(near), await site.lossy(far)
    both = await site.pair([through], [through_far])
    for proxy in (slow, slow_far):
        proxy.set("both", delay=0.025)
    side, peer = both if controlling else both[::-1]
    side._held._lender = LenderLog()
    loop = asyncio.get_running_loop()
    side.on_candidates = lambda: loop.call_later(
        0.05, peer.set_remotes, [candidate.address for candidate in side.local_candidates]
    )
    async with talking(*both) as voices:
        await asyncio.sleep(1.0)
        (old,) = side._held.allocations.values()
        new = await site.allocation(through if controlling else through_far)
        side.add_allocation(new)
        side.retire_allocation(old)
        await asyncio.sleep(1.0)
        for voice in voices:
            await voice.hears()
        assert [one.told(PathLost) for one in both] == [[], []]
        assert [voice.missing for voice in voices] == [0, 0]


@pytest.mark.slow
async def test_the_only_path_that_works_is_kept_though_the_peer_would_rather_have_another(site: Site) -> None:
    """The new relay of the peer's is forbidden to reach ours; the retired one still carries the call."""
    near, far, strict = await site.relay(), await site.relay(), await site.relay(laboratory=False)
    alice, bob = await site.pair([server(near)], [server(far)], lender=LenderLog())
    bob.on_candidates = lambda: alice.set_remotes([candidate.address for candidate in bob.local_candidates])
    async with talking(alice, bob) as voices:
        (old,) = bob._held.allocations.values()
        bob.add_allocation(await site.allocation(server(strict)))
        bob.retire_allocation(old)
        await asyncio.sleep(0.3)
        for voice in voices:
            await voice.hears(timeout=1.0)
