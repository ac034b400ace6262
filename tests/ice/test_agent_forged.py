"""What an agent does not believe, and what no input and no order of calls may do to it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relaycall.ice.agent import Agent
from relaycall.ice.agent_events import Reached, Selected
from relaycall.ice.candidate import priority
from relaycall.ice.pair import PairState
from relaycall.stun import attributes as a
from relaycall.stun.address import IPV4, Address
from relaycall.stun.message import Class, Message, Method, decode
from tests.ice.network import Network, Side, check_invariants

Pairs = Iterable[tuple[a.Attribute[Any], Any]]

REMOTES = [Address("2.2.2.1", 50000), Address("2.2.2.2", 50000), Address("2.2.2.3", 50000)]


def snapshot(agent: Agent) -> object:
    """All there is to know of an agent, but for its counters."""
    fields = [name for name in Agent.__dataclass_fields__ if name not in ("dropped", "random")]
    return [repr(getattr(agent, name)) for name in fields] + [
        [repr(getattr(pair, name)) for name in type(pair).__dataclass_fields__] for pair in agent.pairs.values()
    ]


class Scene:
    """Two connected agents with two relays each, and forgeries for `a` as if from `b`."""

    def __init__(self) -> None:
        self.network = Network(rtt=0.05)
        self.network.connect(2, 2)
        self.a: Side = self.network.a
        self.b: Side = self.network.b
        self.source = self.b.relays[0]
        self.username = f"{self.a.agent.ufrag}:{self.b.agent.ufrag}"

    def request(self, *attributes: tuple[a.Attribute[Any], Any], username: str | None = None, key: str = "") -> bytes:
        """A check for `a` that nominates another path than the chosen one."""
        username = self.username if username is None else username
        pairs = [a.USERNAME(username), a.ICE_CONTROLLED(1), a.PRIORITY(1), a.USE_CANDIDATE(None), *attributes]
        message = Message(Method.BINDING, Class.REQUEST, b"forged check", pairs)
        return message.encode((key or self.a.agent.pwd).encode(), fingerprint=True)

    def answer(self, tid: bytes, key: str, kind: Class = Class.SUCCESS, *attributes: Any) -> bytes:
        return Message(Method.BINDING, kind, tid, attributes).encode(key.encode(), fingerprint=True)

    def refused(self, data: bytes, reason: str, *, local: int = 0, source: Address | None = None) -> None:
        """Have `a` receive this: it is counted, unanswered, and changes nothing."""
        before, count = snapshot(self.a.agent), self.a.agent.dropped[reason]
        self.a.agent.receive(local, source or self.source, data, self.network.now)
        assert snapshot(self.a.agent) == before
        assert self.a.agent.dropped[reason] == count + 1

    def pending(self) -> tuple[int, Address, bytes]:
        """A check of `a` whose answer is not there yet."""
        self.network.run(2, lambda network: len(network.a.agent.pairs[0, self.source].outstanding) > 0)
        return 0, self.source, next(iter(self.a.agent.pairs[0, self.source].outstanding))


@pytest.fixture
def scene() -> Scene:
    return Scene()


# --- forged checks ----------------------------------------------------------------------------------------------------


def test_the_forger_could_do_it_right(scene: Scene) -> None:
    """Or the tests below prove nothing."""
    scene.a.agent.receive(0, scene.source, scene.request(), scene.network.now)
    _, _, answer = scene.a.agent.outgoing[-1]
    assert decode(answer).kind is Class.SUCCESS
    assert decode(answer).verify(scene.a.agent.pwd.encode())


def test_a_check_with_another_user_name(scene: Scene) -> None:
    ours, theirs = scene.username.split(":")
    for username in ("", ":", ours, f"{ours}:", f":{theirs}", f"{theirs}:{ours}", f"{ours}:{theirs}x", f"x:{theirs}"):
        scene.refused(scene.request(username=username), "unauthenticated")


def test_a_check_with_another_password(scene: Scene) -> None:
    scene.refused(scene.request(key="x"), "unauthenticated")
    scene.refused(scene.request(key=scene.b.agent.pwd), "unauthenticated")


def test_a_check_without_integrity_or_without_user_name(scene: Scene) -> None:
    pairs = [a.USERNAME(scene.username), a.ICE_CONTROLLED(1)]
    scene.refused(Message(Method.BINDING, Class.REQUEST, bytes(12), pairs).encode(), "unauthenticated")
    signed = Message(Method.BINDING, Class.REQUEST, bytes(12)).encode(scene.a.agent.pwd.encode())
    scene.refused(signed, "unauthenticated")


def test_a_check_from_an_address_that_is_no_candidate(scene: Scene) -> None:
    scene.refused(scene.request(), "unknown_pair", source=Address("6.6.6.6", 50000))
    scene.refused(scene.request(), "unknown_pair", source=Address(scene.source.host, 50001))
    scene.refused(scene.request(), "unknown_pair", local=7)


def test_what_is_not_a_check(scene: Scene) -> None:
    pwd = scene.a.agent.pwd.encode()
    pairs = [a.USERNAME(scene.username)]
    scene.refused(Message(Method.ALLOCATE, Class.REQUEST, bytes(12), pairs).encode(pwd), "not_a_check")
    unknown = a.Attribute.__new__(a.Attribute)
    unknown.type, unknown.name, unknown.pack = 0x7FFF, "unknown", lambda value, _: value
    scene.refused(scene.request((unknown, b"")), "not_a_check")
    scene.refused(b"", "malformed")
    scene.refused(scene.request()[:-4], "malformed")


def test_an_indication_is_ignored(scene: Scene) -> None:
    before = snapshot(scene.a.agent)
    scene.a.agent.receive(
        0, scene.source, Message(Method.BINDING, Class.INDICATION, bytes(12)).encode(), scene.network.now
    )
    assert snapshot(scene.a.agent) == before
    assert not scene.a.agent.dropped


def test_a_check_that_is_repeated_brings_one_check_back_and_not_one_each() -> None:
    """A pair that was not answered yet is checked at once when the peer is heard of."""
    scene = Scene()
    silent = Address("3.3.3.3", 50000)
    scene.a.learn(silent, 1)
    scene.network.run(1)
    scene.a.checks.clear()
    for _ in range(100):
        scene.a.agent.receive(0, silent, scene.request(), scene.network.now)
    scene.network.pump()
    assert len(scene.a.checks) <= 1


def test_a_forged_nomination_moves_nobody() -> None:
    scene = Scene()
    b, path = scene.b, scene.b.selected
    assert path is not None
    username = f"{b.agent.ufrag}:{scene.a.agent.ufrag}"
    pairs = [a.USERNAME(username), a.ICE_CONTROLLING(1), a.USE_CANDIDATE(None), a.NOMINATION(2**32 - 1)]
    other = Message(Method.BINDING, Class.REQUEST, bytes(12), pairs)
    b.agent.receive(1, scene.a.relays[1], other.encode(b"guess", fingerprint=True), scene.network.now)
    scene.network.run(5)
    assert b.selected == path
    b.agent.receive(1, scene.a.relays[1], other.encode(b.agent.pwd.encode()), scene.network.now)
    scene.network.pump()
    assert b.selected == (b.relays[1], scene.a.relays[1])  # with the password it would have


# --- forged answers ---------------------------------------------------------------------------------------------------


def test_an_answer_to_no_question(scene: Scene) -> None:
    scene.refused(scene.answer(bytes(12), scene.b.agent.pwd), "unexpected_response")
    scene.refused(scene.answer(bytes(12), scene.b.agent.pwd, Class.ERROR), "unexpected_response")


def test_an_answer_with_another_password(scene: Scene) -> None:
    local, source, tid = scene.pending()
    for key in ("x", scene.a.agent.pwd):
        for kind in (Class.SUCCESS, Class.ERROR):
            scene.refused(
                scene.answer(tid, key, kind, a.ERROR_CODE(a.ErrorCode(487))),
                "unauthenticated",
                local=local,
                source=source,
            )


def test_an_answer_on_another_path(scene: Scene) -> None:
    _, _, tid = scene.pending()
    answer = scene.answer(tid, scene.b.agent.pwd)
    scene.refused(answer, "unexpected_response", local=1)
    scene.refused(answer, "unexpected_response", source=scene.b.relays[1])


def test_an_answer_again(scene: Scene) -> None:
    local, source, tid = scene.pending()
    answer = scene.answer(tid, scene.b.agent.pwd)
    scene.a.agent.receive(local, source, answer, scene.network.now)
    assert not scene.a.agent.dropped
    scene.refused(answer, "unexpected_response", local=local, source=source)


def test_replayed_answers_do_not_prolong_consent(scene: Scene) -> None:
    network = scene.network
    network.dead = set(scene.a.relays.values())
    network.run(1)
    answers = [entry for entry in network.delivered if entry[0] is scene.a and entry[3][0] == 1]
    assert len(answers) > 10
    for _ in range(31):
        network.run(1)
        for _, local, source, data in answers:
            scene.a.agent.receive(local, source, data, network.now)
    assert scene.a.selected is None


def test_a_role_conflict_that_was_answered_twice_switches_once(scene: Scene) -> None:
    """Two checks under way, both answered with 487: the second one was sent in the role given up by then."""
    agent = scene.a.agent
    scene.network.dead = set(scene.a.relays.values())
    scene.network.run(3, lambda network: len(network.a.agent.pairs[0, scene.source].outstanding) >= 2)
    first, second, *_ = agent.pairs[0, scene.source].outstanding
    for tid in (first, second):
        error = scene.answer(tid, scene.b.agent.pwd, Class.ERROR, a.ERROR_CODE(a.ErrorCode(487)))
        agent.receive(0, scene.source, error, scene.network.now)
    assert not agent.controlling


# --- any bytes, any order ---------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_no_bytes_have_an_effect(inputs: list[bytes]) -> None:
    agent = Agent(True, "ufrag", "password-of-22-characters", random.Random(1).randbytes)
    agent.set_remote("other", "password-of-22-charactery")
    agent.add_local(0, IPV4, priority(0), 0.0)
    agent.add_remote(REMOTES[0], priority(0), 0.0)
    agent.handle_timeout(0.0)
    before = snapshot(agent)
    for data in inputs:
        agent.receive(0, REMOTES[0], data, 0.0)
    assert snapshot(agent) == before


class AnyOrder(RuleBasedStateMachine):
    """One agent, and a peer that knows the passwords and does as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.agent = Agent(True, "ufrag", "password-of-22-characters", random.Random(1).randbytes)
        self.agent.set_remote("other", "password-of-22-charactery")
        self.told: tuple[int, Address] | None = None

    @rule(local=st.integers(0, 2))
    def add_local(self, local: int) -> None:
        self.agent.add_local(local, IPV4, priority(local), self.now)

    @rule(remote=st.sampled_from(REMOTES))
    def add_remote(self, remote: Address) -> None:
        self.agent.add_remote(remote, priority(REMOTES.index(remote)), self.now)

    @rule(local=st.integers(0, 2))
    def remove_local(self, local: int) -> None:
        self.agent.remove_local(local, self.now)

    @rule(remote=st.sampled_from(REMOTES))
    def remove_remote(self, remote: Address) -> None:
        self.agent.remove_remote(remote, self.now)

    @rule(local=st.integers(0, 2), remote=st.sampled_from(REMOTES))
    def refuse_pair(self, local: int, remote: Address) -> None:
        self.agent.refuse_pair(local, remote, self.now)

    @rule(local=st.integers(0, 2))
    def suspect_local(self, local: int) -> None:
        self.agent.suspect_local(local, self.now)

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.05, 0.3, 1.0, 5.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.agent.handle_timeout(self.now)
        assert self.agent.next_timeout() > self.now or not self.agent.pairs

    @precondition(lambda self: self.agent.pairs)
    @rule(which=st.integers(0, 8), age=st.integers(0, 3), code=st.sampled_from([0, 0, 0, 0, 400, 487]))
    def answer(self, which: int, age: int, code: int) -> None:
        pair = list(self.agent.pairs.values())[which % len(self.agent.pairs)]
        if pair.outstanding:
            tid = list(pair.outstanding)[-1 - age % len(pair.outstanding)]
            kind = Class.ERROR if code else Class.SUCCESS
            pairs = [a.ERROR_CODE(a.ErrorCode(code))] if code else []
            data = Message(Method.BINDING, kind, tid, pairs).encode(self.agent._remote_pwd)
            self.agent.receive(pair.local, pair.remote, data, self.now)

    @precondition(lambda self: self.agent.pairs)
    @rule(
        which=st.integers(0, 8),
        controlling=st.booleans(),
        tie_breaker=st.sampled_from([0, 2**64 - 1]),
        nominate=st.booleans(),
        number=st.one_of(st.none(), st.integers(0, 5)),
    )
    def request(self, which: int, controlling: bool, tie_breaker: int, nominate: bool, number: int | None) -> None:
        pair = list(self.agent.pairs.values())[which % len(self.agent.pairs)]
        role = a.ICE_CONTROLLING if controlling else a.ICE_CONTROLLED
        pairs = [a.USERNAME("ufrag:other"), role(tie_breaker)]
        if nominate:
            pairs.append(a.USE_CANDIDATE(None))
        if number is not None:
            pairs.append(a.NOMINATION(number))
        data = Message(Method.BINDING, Class.REQUEST, bytes(12), pairs).encode(self.agent.pwd.encode())
        self.agent.receive(pair.local, pair.remote, data, self.now)

    @invariant()
    def what_was_told_is_what_is(self) -> None:
        check_invariants(self.agent)
        while self.agent.events:
            event = self.agent.events.popleft()
            if isinstance(event, Reached):
                assert self.told is None, "there is a better one"
                continue
            told = (event.local, event.remote) if isinstance(event, Selected) else None
            assert told != self.told  # no news otherwise
            self.told = told
        chosen = self.agent.selected
        assert self.told == (None if chosen is None else (chosen.local, chosen.remote))
        assert chosen is None or chosen.state is PairState.VALID
        assert self.agent.all_refused <= (not self.agent.pairs)


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase
