"""In-band control: repeats, acknowledgements, and what a peer cannot make us do."""

from __future__ import annotations

import asyncio
import random
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.call.control import (
    ADDRESS_INTERVAL,
    CHANGE_BURST,
    FIRST_REPEAT,
    INTERVAL,
    LAST_REPEAT,
    SEND_BURST,
    Control,
)
from relaycall.call.control_format import (
    LAST_SEQUENCE,
    ControlMessage,
    ControlState,
    HangupReason,
    decode_control,
    encode_control,
)
from relaycall.errors import CallClosed, MediaError
from relaycall.media.srtp import derive_keys
from relaycall.media.transport import RtpTransport
from relaycall.stun.address import Address
from tests.call.control_network import Network
from tests.media.paths import udp_pair

MUTED = ControlState(muted=True)
VIDEO = ControlState(video=True)
HANGUP = ControlState(hangup=HangupReason.FINISHED)


def control() -> Control:
    return Control(ControlState(), ControlState())


def network(**options: object) -> Network:
    return Network(random.Random(1), **options)  # type: ignore[arg-type]


def message(
    sequence: int, acknowledgement: int = 0, *, asks: bool = True, state: ControlState = MUTED, **changes: object
) -> bytes:
    state = replace(state, **changes)  # type: ignore[arg-type]
    return encode_control(ControlMessage(sequence, acknowledgement, asks, state))


def sent(side: Control) -> list[ControlMessage]:
    found = [decode_control(data, laboratory=True) for data in side.outgoing]
    side.outgoing.clear()
    return found


def test_at_the_start_all_is_known_and_nothing_is_said() -> None:
    ours, theirs = ControlState((Address("9.9.9.1", 5000),)), ControlState((Address("9.9.9.2", 5000),))
    side = Control(ours, theirs)
    assert (side.local, side.remote, side.acknowledged) == (ours, theirs, True)
    assert side.next_timeout() == float("inf")
    side.update(ours, 5.0)
    side.handle_timeout(5.0)
    assert sent(side) == []


def test_a_change_is_sent_at_once_and_repeated_more_and_more_rarely() -> None:
    side = control()
    side.update(MUTED, 7.0)
    times = [7.0]
    for _ in range(12):
        times.append(side.next_timeout())
        side.handle_timeout(times[-1] - 0.001)
        assert len(side.outgoing) == len(times) - 1
        side.handle_timeout(times[-1])
        assert len(side.outgoing) == len(times)
    waits = [after - before for before, after in pairwise(times)]
    assert waits == pytest.approx([0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1, 1, 1, 1, 1, 1])
    assert set(sent(side)) == {ControlMessage(1, 0, asks=True, state=MUTED)}
    assert (FIRST_REPEAT, LAST_REPEAT) == (0.02, 1.0)


def test_a_new_change_is_repeated_quickly_again() -> None:
    side = control()
    side.update(MUTED, 0.0)
    for _ in range(9):
        side.handle_timeout(side.next_timeout())
    side.update(VIDEO, 50.0)
    assert side.next_timeout() == 50.0 + FIRST_REPEAT
    side.receive(message(0, 2, asks=False), 51.0)
    side.update(MUTED, 60.0)
    assert side.next_timeout() == 60.0 + FIRST_REPEAT


def test_the_pace_is_as_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    assert f"sends at most {1 / INTERVAL:.0f} messages a second, after a pause {SEND_BURST} at once" in text
    assert f"takes at most {1 / INTERVAL:.0f} states a second, after a pause {CHANGE_BURST} at once" in text
    slowly = (
        f"of those that name\na new address one in {ADDRESS_INTERVAL:.0f} seconds, after a pause {CHANGE_BURST} at once"
    )
    assert slowly in text


def test_it_never_gives_up() -> None:
    net = network(loss=1.0)
    net.update(0, MUTED)
    net.run(3600)
    assert 3600 < len(net.sent[0]) < 3610
    net.loss = 0.0
    net.run(1.2)
    assert net.settled


def test_an_acknowledgement_ends_the_repeats() -> None:
    side = control()
    side.update(MUTED, 0.0)
    assert not side.acknowledged
    assert side.receive(message(0, 1, asks=False, state=ControlState()), 0.01) is None
    assert side.acknowledged
    assert side.next_timeout() == float("inf")
    assert len(sent(side)) == 1


def test_the_acknowledgement_of_an_earlier_state_does_not() -> None:
    side = control()
    side.update(MUTED, 0.0)
    side.update(VIDEO, 0.001)
    side.receive(message(0, 1, asks=False), 0.01)
    assert not side.acknowledged
    assert side.next_timeout() < 0.1
    side.receive(message(0, 2, asks=False), 0.02)
    side.receive(message(0, 1, asks=False), 0.03)  # a late one takes nothing back
    assert side.acknowledged
    assert side.next_timeout() == float("inf")


def test_a_new_state_is_told_once_and_acknowledged_each_time_it_is_asked() -> None:
    side = control()
    assert side.receive(message(1), 0.0) == MUTED
    assert side.remote == MUTED
    assert side.receive(message(1), 0.1) is None
    assert sent(side) == [ControlMessage(0, 1, asks=False, state=ControlState())] * 2
    assert side.receive(message(1, asks=False), 0.2) is None
    assert sent(side) == []
    assert side.next_timeout() == float("inf")


def test_late_and_repeated_states_change_nothing() -> None:
    side = control()
    assert side.receive(message(5), 0.0) == MUTED
    for number in range(6):
        assert side.receive(message(number, state=VIDEO), 1.0) is None
    assert side.remote == MUTED
    assert side.receive(message(6, state=VIDEO), 2.0) == VIDEO


def test_one_message_may_bring_a_state_and_an_acknowledgement() -> None:
    side = control()
    side.update(MUTED, 0.0)
    assert side.receive(message(1, 1, state=VIDEO), 0.1) == VIDEO
    assert side.acknowledged
    assert sent(side)[-1] == ControlMessage(1, 1, asks=False, state=MUTED)


def test_a_change_takes_one_way_and_two_messages() -> None:
    net = network(delay=(0.005, 0.005))
    net.update(0, MUTED)
    net.run(0.005)
    assert net.sides[1].remote == MUTED
    net.run(10)
    assert net.settled
    assert (len(net.sent[0]), len(net.sent[1])) == (1, 1), "and then silence"


def test_both_sides_at_once() -> None:
    net = network(delay=(0.005, 0.005))
    net.update(0, MUTED)
    net.update(1, VIDEO)
    net.run(10)
    assert net.settled
    assert (len(net.sent[0]), len(net.sent[1])) == (3, 3)


def test_changes_that_come_too_fast_are_merged() -> None:
    net = network()
    for number in range(1000):
        net.update(0, ControlState(receive_limit=8000 + number, muted=number % 2 == 0))
        net.run(0.001)
    assert len(net.sent[0]) <= SEND_BURST + 1 / INTERVAL + 1
    net.run(1.0)
    assert net.sides[1].remote.receive_limit == 8000
    assert not net.sides[1].remote.muted
    assert net.sides[0].acknowledged
    assert net.sides[0]._sequence <= SEND_BURST + 1 / INTERVAL + 1, "only what was sent has a number"


def test_a_hangup_is_final_for_us() -> None:
    side = control()
    side.update(HANGUP, 0.0)
    with pytest.raises(CallClosed):
        side.update(MUTED, 0.1)
    with pytest.raises(CallClosed):
        side.update(ControlState(hangup=HangupReason.ERROR), 0.1)
    side.update(HANGUP, 0.1)
    assert side.local == HANGUP
    side.receive(message(0, 1, asks=False), 0.2)
    assert side.acknowledged


def test_a_hangup_is_final_for_the_peer() -> None:
    side = control()
    assert side.receive(message(1, state=HANGUP), 0.0) == HANGUP
    sent(side)
    for number, state in ((2, MUTED), (3, HANGUP), (LAST_SEQUENCE, HANGUP)):
        assert side.receive(message(number, state=state), 1.0) is None
    assert (side.remote, side.dropped["after_hangup"]) == (HANGUP, 3)
    assert sent(side) == []
    side.receive(message(1, state=HANGUP), 2.0)
    assert [answer.acknowledgement for answer in sent(side)] == [1]
    side.update(HANGUP, 3.0)  # both may hang up
    assert sent(side)[0].state == HANGUP


def test_a_hangup_does_not_wait_behind_a_flood() -> None:
    side = control()
    for number in range(1, 1000):
        side.receive(message(number), 0.0)
    assert side.dropped["flood"] > 900
    assert side.receive(message(1000, state=HANGUP), 0.0) == HANGUP


def test_a_flood_of_states_is_bounded_and_its_last_one_gets_through() -> None:
    side = control()
    taken = answers = 0
    for number in range(1, 10_001):
        now = number / 1000
        taken += side.receive(message(number, receive_limit=8000 + number), now) is not None
        if side.next_timeout() <= now:
            side.handle_timeout(now)
        answers += len(sent(side))
    assert 10 / INTERVAL <= taken <= CHANGE_BURST + 10 / INTERVAL
    assert 10 / INTERVAL * 0.9 <= answers <= SEND_BURST + 10 / INTERVAL
    assert side.dropped == {"flood": 10_000 - taken}
    assert side.receive(message(10_000, video=True), 10.1) is not None, "it is repeated until it is taken"
    assert side._remote_sequence == 10_000


def test_new_addresses_are_taken_slowly() -> None:
    """Each is checked, from every relay of ours."""
    side = control()
    here = Address("192.88.98.7", 5000)
    taken, number = 0, 0
    for number in range(1, 1001):  # 20 a second, as fast as other changes
        there = Address(f"192.88.{number >> 8}.{number & 0xFF}", 5000)
        taken += side.receive(message(number, candidates=(here, there)), number / 20) is not None
    assert 50 / ADDRESS_INTERVAL <= taken <= CHANGE_BURST + 50 / ADDRESS_INTERVAL
    known = side.remote.candidates
    for candidates, muted in ((known, True), (known[::-1], False), (known[1:], True), ((), False)):
        number += 1
        news = side.receive(message(number, candidates=candidates, muted=muted), 50.2 + number)
        assert news is not None, "what names none is not held up"
        assert news.candidates == candidates
    assert side.receive(message(number + 1, candidates=(here,)), 2000.0) is not None, "it is repeated until it is taken"


def test_a_flood_of_questions_is_bounded_and_does_not_hold_up_our_news() -> None:
    side = control()
    answers = []
    for number in range(10_000):
        side.receive(message(1), number / 1000)
        if number == 5000:
            side.update(VIDEO, number / 1000)
        answers += [(number / 1000, answer.state) for answer in sent(side)]
    assert len(answers) <= SEND_BURST + 10 / INTERVAL
    assert min(time for time, state in answers if state == VIDEO) <= 5.0 + INTERVAL + 0.001


def test_a_peer_that_never_acknowledges_gets_a_message_a_second() -> None:
    side = control()
    side.update(MUTED, 0.0)
    for number in range(1, 101):
        side.receive(message(number, asks=False), number / 10)
        side.handle_timeout(number / 10)
    assert 10 <= len(sent(side)) <= 17


def test_what_was_never_sent_cannot_be_acknowledged() -> None:
    side = control()
    side.update(MUTED, 0.0)
    for acknowledgement in (2, LAST_SEQUENCE):
        assert side.receive(message(1, acknowledgement), 0.1) is None
    assert not side.acknowledged
    assert side.remote == ControlState()
    assert side.dropped == {"acknowledgement": 2}
    side.receive(message(1, 1), 0.1)
    side.update(VIDEO, 0.2)
    assert not side.acknowledged, "nothing was acknowledged in advance"


def test_an_update_that_waits_cannot_be_acknowledged() -> None:
    side = control()
    for number in range(SEND_BURST):
        side.update(ControlState(receive_limit=8000 + number), 0.0)
    side.update(MUTED, 0.0)
    assert len(side.outgoing) == SEND_BURST
    side.receive(message(0, SEND_BURST, asks=False), 0.001)
    assert not side.acknowledged
    side.handle_timeout(side.next_timeout())
    assert sent(side)[-1] == ControlMessage(SEND_BURST + 1, 0, asks=True, state=MUTED)


def test_an_answer_that_waits_is_not_forgotten() -> None:
    side = control()
    for number in range(SEND_BURST):
        side.update(ControlState(receive_limit=8000 + number), 0.0)
    sent(side)
    side.receive(message(1), 0.001)
    side.receive(message(1, SEND_BURST, asks=False), 0.002)
    assert sent(side) == []
    side.handle_timeout(side.next_timeout())
    assert [answer.acknowledgement for answer in sent(side)] == [1]
    assert side.next_timeout() == float("inf")


def test_a_peer_that_jumps_to_the_last_number_can_only_hang_up() -> None:
    side = control()
    assert side.receive(message(LAST_SEQUENCE - 1), 0.0) == MUTED
    assert side.receive(message(1, state=VIDEO), 1.0) is None
    assert side.receive(message(LAST_SEQUENCE, state=HANGUP), 2.0) == HANGUP


def test_numbers_do_not_wrap() -> None:
    side = control()
    now = 0.0
    for number in range(1, LAST_SEQUENCE):
        now += INTERVAL
        side.update(MUTED if number % 2 else ControlState(), now)
    assert sent(side)[-1].sequence == LAST_SEQUENCE - 1
    assert not side.local.muted
    with pytest.raises(MediaError):
        side.update(MUTED, now)
    assert not side.local.muted
    side.update(HANGUP, now + 1)
    assert sent(side)[-1] == ControlMessage(LAST_SEQUENCE, 0, asks=True, state=HANGUP)


def test_other_kinds_are_counted_and_ignored() -> None:
    side = control()
    for first in (0x12, 0x21, 0x00, 0xFF):
        assert side.receive(bytes([first]) + message(1)[1:], 0.0) is None
    assert side.dropped == {"kind": 4}
    assert side.receive(b"\x12", 0.0) is None
    assert side.receive(b"", 0.0) is None
    assert side.dropped == {"kind": 4, "malformed": 2}
    assert sent(side) == []


def test_a_candidate_that_is_not_public_refuses_the_message() -> None:
    private = message(1, candidates=(Address("10.0.0.1", 5000),))
    side = control()
    assert side.receive(private, 0.0) is None
    assert side.dropped == {"malformed": 1}
    assert (side.remote, sent(side)) == (ControlState(), [])
    laboratory = Control(ControlState(), ControlState(), laboratory=True)
    assert laboratory.receive(private, 0.0) is not None


@given(st.lists(st.binary(max_size=90) | st.binary(min_size=79, max_size=79).map(b"\x11".__add__), max_size=20))
def test_garbage_never_escapes(payloads: list[bytes]) -> None:
    side = control()
    for payload in payloads:
        side.receive(payload, 0.0)
    assert len(side.outgoing) <= SEND_BURST


def test_the_repr_shows_no_address() -> None:
    side = Control(ControlState((Address("9.9.9.1", 5000),)), ControlState((Address("9.9.9.2", 5000),)))
    assert "9.9.9" not in repr(side)


async def test_over_srtp_and_udp_with_losses() -> None:
    """Each side wired as in a call; every third packet is lost."""
    loop = asyncio.get_running_loop()
    controls = control(), control()
    paths = udp_pair()
    transports = []
    for side, path in enumerate(paths):
        keys = derive_keys(bytes(32), caller=side == 0)
        transport = RtpTransport(path, keys, local_ssrc=1 + side, remote_ssrc=2 - side, payload_type=111)
        transport.open()
        transports.append(transport)

        def take(payload: bytes, control: Control = controls[side]) -> None:
            control.receive(payload, loop.time())

        transport.on_control = take
    controls[0].update(ControlState((Address("9.9.9.1", 5000),), protect=True), loop.time())
    controls[1].update(HANGUP, loop.time())
    count = 0
    async with asyncio.timeout(20):
        while not all(one.acknowledged for one in controls):
            for one, transport in zip(controls, transports, strict=True):
                one.handle_timeout(loop.time())
                while one.outgoing:
                    payload = one.outgoing.popleft()
                    count += 1
                    if count % 3:
                        transport.send_control(payload)
            await asyncio.sleep(0.001)
    assert (controls[0].remote, controls[1].remote) == (controls[1].local, controls[0].local)
    assert all(not any(asdict(transport.counters.dropped).values()) for transport in transports)
    for path in paths:
        path.close()
