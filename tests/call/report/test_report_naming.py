"""No address in a text, unless it was asked for, whoever wrote it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.call.report.facts import RelayFact
from relaycall.call.report.naming import MAX_TEXT, Naming, visible
from tests.call.report.reports import TLS, UDP, call_facts

HIDING = Naming(call_facts(), (), addresses=False)
SHOWING = Naming(call_facts(), (), addresses=True)
around = st.sampled_from(["", " ", "(", ")", "[", "]", ":", ".", ",", "x", "relay ", " is gone", "/", "=", "-", "\n"])


def test_relays_are_named_by_letters_in_order_of_preference() -> None:
    naming = Naming(call_facts(), ["turn:third.example:1?transport=udp"], addresses=False)
    assert [naming.letter(name) for name in (UDP, TLS, "turn:third.example:1?transport=udp")] == ["A", "B", "C"]
    assert (naming.relay(TLS), naming.relay(""), naming.letter("")) == ("relay B", "no relay", "–")
    assert SHOWING.relay(UDP) == f"relay A ({UDP})"


def test_many_relays_have_names_of_their_own() -> None:
    relays = tuple(RelayFact(f"turn:r{i}.example:3478?transport=udp", "udp") for i in range(40))
    naming = Naming(call_facts(relays=relays), (), addresses=False)
    assert len({naming.letter(relay.name) for relay in relays}) == 40


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (f"{UDP} is silent", "relay A is silent"),
        (f"moved to {TLS}.", "moved to relay B."),
        ("RELAY-CANARY.example did not answer", "(a host) did not answer"),
        ("nothing from [2001:db8::1]:3478", "nothing from (a host):3478"),
        ("at turn:unknown.example:1 and wss://x.example/a", "at (a server) and (a server)"),
        ("fe80::1%eth0: no route", "(an address)%eth0: no route"),
        ("from 2001:10:: or ::10:20", "from (an address) or (an address)"),
        ("from 192.0.2.7, port 9", "from (an address), port 9"),
        ("at 1:02, and at 1:02:03.", "at 1:02, and at 1:02:03."),
        ("30 frames, 1280x720, 0.5 %, 24.0 kbit/s", "30 frames, 1280x720, 0.5 %, 24.0 kbit/s"),
    ],
)
def test_hosts_and_addresses_are_taken_out_and_nothing_else(text: str, cleaned: str) -> None:
    assert HIDING.clean(text) == cleaned
    assert SHOWING.clean(text) == visible(text)


@given(st.ip_addresses(), around, around)
def test_no_address_passes(address: IPv4Address | IPv6Address, before: str, after: str) -> None:
    cleaned = HIDING.clean(f"{before}{address}{after}")
    if len(str(address)) > 2:  # "::" is the address of nobody
        assert str(address) not in cleaned


@given(st.text(max_size=400))
def test_what_is_shown_is_printable_and_short(text: str) -> None:
    for naming in (HIDING, SHOWING):
        cleaned = naming.clean(text)
        assert cleaned.isprintable()
        assert len(cleaned) <= 10 * MAX_TEXT
        cleaned.encode()


@pytest.mark.slow
def test_a_long_text_is_looked_at_in_no_time_and_cut() -> None:
    for text in ("1:" * 10**6, "1." * 10**6, "turn:" * 10**6, "f" * 10**6):
        assert len(HIDING.clean(text)) <= MAX_TEXT


def test_a_relay_on_a_host_of_one_word_does_not_spoil_the_words() -> None:
    naming = Naming(call_facts(relays=(RelayFact("turn:a:3478?transport=udp", "udp"),)), (), addresses=False)
    assert naming.clean("a relay at a.b has a name") == "(a host) relay at (a host).b has (a host) name"
    assert naming.clean("relays change") == "relays change"
