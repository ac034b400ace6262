"""Who may use the TURN server: challenges, nonces, algorithms, time-limited credentials."""

from __future__ import annotations

from typing import Any

import pytest

from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.message import Class, Message, Method
from relaycall.stun.turn_auth import ALGORITHMS, NONCE_COOKIE, rest_password
from tests.stun.turn_world import ALICE, ALLOCATE, BOB, PEER, UNIX, Client, World, code


def test_a_stranger_is_challenged_and_leaves_nothing_behind() -> None:
    world = World()
    for port in range(1, 500):
        request = Message(Method.ALLOCATE, Class.REQUEST, bytes(12), ALLOCATE)
        answer = world.receive(("198.51.100.9", port), request.encode())
        assert answer is not None
        assert code(answer) == 401
        assert answer.get(a.REALM) == "example"
        assert (answer.get(a.NONCE) or "").startswith(NONCE_COOKIE)
        assert answer.get(a.PASSWORD_ALGORITHMS) == ALGORITHMS
        assert not answer.integrity_at
    assert not world.server.allocations
    assert not world.server._reservations
    assert not world.opened
    assert world.server.counters.refused == 0


@pytest.mark.parametrize("algorithm", [None, *ALGORITHMS])
def test_every_answer_is_signed_the_way_the_request_was(algorithm: a.PasswordAlgorithm | None) -> None:
    client = Client(World(), algorithm=algorithm)
    client.allocate()
    assert client.permit(PEER).kind is Class.SUCCESS
    assert code(client.bind(1, PEER)) == 400


@pytest.mark.parametrize(("algorithm", "sha256"), [(ALGORITHMS[1], False), (None, True)])
def test_who_uses_either_part_of_sha256_is_answered_with_it(algorithm: Any, sha256: bool) -> None:
    world = World()
    client = Client(world, algorithm=algorithm)
    attributes = [*ALLOCATE, a.USERNAME("alice"), a.REALM("example"), a.NONCE(client.challenge())]
    if algorithm is not None:
        attributes += [a.PASSWORD_ALGORITHMS(ALGORITHMS), a.PASSWORD_ALGORITHM(algorithm)]
    request = Message(Method.ALLOCATE, Class.REQUEST, bytes(12), attributes)
    answer = world.receive(ALICE, request.encode(client.key, sha256=sha256))
    assert answer is not None
    assert answer.kind is Class.SUCCESS
    assert answer.has(a.MESSAGE_INTEGRITY_SHA256)
    assert answer.verify(client.key)


def test_an_allocation_says_what_was_granted() -> None:
    world = World()
    client = Client(world)
    answer = client.request(Method.ALLOCATE, *ALLOCATE)
    assert answer.get(a.XOR_RELAYED_ADDRESS) == world.opened[0].address
    assert answer.get(a.XOR_MAPPED_ADDRESS) == Address(*ALICE)
    assert answer.get(a.LIFETIME) == 600
    assert world.server.counters.allocations == 1


@pytest.mark.parametrize(("username", "password"), [("alice", "wrong"), ("nobody", "a-pass"), ("alice", "b-pass")])
def test_wrong_credentials_get_401_and_count(username: str, password: str) -> None:
    world = World()
    client = Client(world, username=username, password=password)
    client.nonce = client.challenge()
    answer = client.send(Method.ALLOCATE, *ALLOCATE)
    assert code(answer) == 401
    assert answer.has(a.NONCE)
    assert not answer.integrity_at
    assert world.server.counters.refused == 1
    assert not world.opened


@pytest.mark.parametrize("missing", [a.USERNAME, a.REALM, a.NONCE])
def test_incomplete_credentials_get_400(missing: a.Attribute[str]) -> None:
    world = World()
    client = Client(world)
    given_ = [a.USERNAME("alice"), a.REALM("example"), a.NONCE(client.challenge())]
    attributes = [*ALLOCATE, *(pair for pair in given_ if pair[0] is not missing)]
    answer = world.receive(ALICE, Message(Method.ALLOCATE, Class.REQUEST, bytes(12), attributes).encode(client.key))
    assert answer is not None
    assert code(answer) == 400
    assert not answer.integrity_at


@pytest.mark.parametrize(
    "extra",
    [
        [a.PASSWORD_ALGORITHM(ALGORITHMS[1])],
        [a.PASSWORD_ALGORITHMS(ALGORITHMS)],
        [a.PASSWORD_ALGORITHMS(ALGORITHMS[1:]), a.PASSWORD_ALGORITHM(ALGORITHMS[1])],
        [a.PASSWORD_ALGORITHMS(ALGORITHMS), a.PASSWORD_ALGORITHM(a.PasswordAlgorithm(9))],
    ],
)
def test_algorithms_that_were_not_offered_get_400(extra: list[Any]) -> None:
    """RFC 8489, section 9.2.4: somebody on the way may have taken SHA-256 off the list."""
    client = Client(World())
    client.nonce = client.challenge()
    assert code(client.send(Method.ALLOCATE, *ALLOCATE, *extra)) == 400


def test_a_nonce_expires_with_438_and_a_fresh_one() -> None:
    world = World()
    world.now = 1800.0 * 5
    client = Client(world)
    client.allocate()
    old = client.nonce
    world.now = 1800.0 * 7 - 0.001
    assert client.send(Method.REFRESH, a.LIFETIME(600)).integrity_at  # 437, but the nonce was good
    world.now = 1800.0 * 7
    answer = client.send(Method.ALLOCATE, *ALLOCATE)
    assert code(answer) == 438
    assert world.server.counters.refused == 1  # the 437 alone
    fresh = answer.get(a.NONCE)
    assert fresh is not None
    assert fresh != old
    assert answer.get(a.REALM) == "example"
    assert answer.get(a.PASSWORD_ALGORITHMS) == ALGORITHMS
    client.nonce = fresh
    client.allocate()


def test_a_nonce_is_good_for_its_source_only() -> None:
    world = World()
    nonce = Client(world).challenge()
    for source in (BOB, (ALICE[0], ALICE[1] + 1)):
        other = Client(world, source)
        other.nonce = nonce
        assert code(other.send(Method.ALLOCATE, *ALLOCATE)) == 438


@pytest.mark.parametrize("change", ["", "x", "obMatJos2AAAA", "é" * 20])
def test_a_forged_nonce_gets_438(change: str) -> None:
    client = Client(World())
    client.nonce = change + client.challenge()[len(change) :] if change else ""
    assert code(client.send(Method.ALLOCATE, *ALLOCATE)) == 438


def test_time_limited_credentials() -> None:
    world = World()
    name = f"{int(UNIX) + 60}:alice"
    Client(world, username=name, password=rest_password("shared", name)).allocate()
    assert rest_password("north", "1700000000:ninefingers") == "BolPTOD5PfwR9mBZDLLqyT3MLj4="

    world.unix += 60
    late = Client(world, BOB, name, rest_password("shared", name))
    late.nonce = late.challenge()
    assert code(late.send(Method.ALLOCATE, *ALLOCATE)) == 401


def test_an_allocation_outlives_its_time_limited_credentials() -> None:
    world = World()
    name = f"{int(UNIX) + 60}"
    client = Client(world, username=name, password=rest_password("shared", name))
    client.allocate()
    world.unix += 61
    assert client.request(Method.REFRESH, a.LIFETIME(600)).get(a.LIFETIME) == 600
    world.now += 600
    assert code(client.send(Method.REFRESH, a.LIFETIME(600))) == 401


@pytest.mark.parametrize("name", ["", ":x", "soon:x", "-5:x", "9" * 13, "٣٣٣٣٣٣٣٣٣٣٣"])
def test_a_name_without_an_expiry_is_nobody(name: str) -> None:
    client = Client(World(), username=name, password=rest_password("shared", name))
    client.nonce = client.challenge()
    assert code(client.send(Method.ALLOCATE, *ALLOCATE)) == 401


def test_nothing_secret_is_shown() -> None:
    world = World()
    sock = Client(world).allocate()
    assert sock.allocation is not None
    shown = f"{sock.allocation!r} {sock.allocation.login!r} {world.server.counters!r}"
    assert "a-pass" not in shown
    assert "198.51" not in shown
