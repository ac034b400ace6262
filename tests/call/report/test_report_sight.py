"""Who could see what, for calls of every kind: as docs/threat-model.md says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relaycall.call.report.facts import CallFacts, RelayFact
from relaycall.call.report.naming import Naming
from relaycall.call.report.sight import COLUMNS, Row, Sees, remarks, sight
from tests.call.report.reports import NEVER_CONNECTED, TLS, UDP, call_facts

YES, PARTLY, NO, UNKNOWN = Sees
THREAT_MODEL = (Path(__file__).parents[3] / "docs" / "threat-model.md").read_text()


def rows(facts: CallFacts, used: set[str] | None = None) -> dict[str, Row]:
    naming = Naming(facts, (), addresses=False)
    return {row.who: row for row in sight(facts, {UDP} if used is None else used, naming)}


def seen(row: Row) -> list[Sees]:
    assert len(row.cells) == len(COLUMNS)
    return [cell.sees for cell in row.cells]


def relays(*shared: bool | None, transport: Any = "udp") -> tuple[RelayFact, ...]:
    return tuple(RelayFact(name, transport, shared=one) for name, one in zip((UDP, TLS), shared, strict=False))


# Your address, their address, that you two talk, when and how long, what was said, whether there was video.
def test_a_call_over_two_relays() -> None:
    found = rows(call_facts())
    assert {who: seen(row) for who, row in found.items()} == {
        "Who runs your relay A: Example": [YES, NO, PARTLY, YES, NO, YES],
        "Who runs your relay B": [YES, NO, PARTLY, YES, NO, PARTLY],
        "Who runs their relay": [NO, YES, PARTLY, YES, NO, YES],
        "The signaling server": [YES, YES, PARTLY, PARTLY, NO, NO],
        "The other side": [NO, YES, YES, YES, YES, YES],
        "Your network": [YES, NO, NO, YES, NO, YES],
        "Their network": [NO, YES, NO, YES, NO, PARTLY],
        "The contacts on this machine": [NO, NO, PARTLY, NO, NO, NO],
        "Whoever gets this page": [NO, NO, YES, YES, NO, YES],
    }


def test_nobody_but_the_other_side_could_hear_any_call() -> None:
    for facts in (call_facts(), call_facts(relays=relays(True)), call_facts(signaling="ws"), NEVER_CONNECTED):
        hearing = [who for who, row in rows(facts).items() if row.cells[4].sees not in (NO, UNKNOWN)]
        assert hearing == (["The other side"] if facts.connected else [])


def test_the_other_side_never_has_our_address_nor_its_network() -> None:
    for facts in (call_facts(), call_facts(relays=relays(True)), call_facts(contact=False), NEVER_CONNECTED):
        found = rows(facts)
        assert found["The other side"].cells[0].sees is NO
        assert all(found[who].cells[0].sees is NO for who in found if who == "Their network")


def test_a_relay_that_served_both_knows_both_addresses() -> None:
    found = rows(call_facts(relays=relays(True, False)))
    assert seen(found["Who runs your relay A"]) == [YES, YES, YES, YES, NO, YES]
    assert "served both sides" in found["Who runs your relay A"].note
    assert seen(found["Who runs your relay B"])[1] is NO
    assert "Who runs their other relays, if there were any" in found
    assert not any("If the same people" in one for one in remarks(call_facts(relays=relays(True))))
    assert any("If the same people" in one for one in remarks(call_facts()))


def test_what_is_not_known_of_a_relay_is_said() -> None:
    found = rows(call_facts(relays=relays(None)))
    assert seen(found["Who runs your relay A"])[1] is UNKNOWN


def test_a_relay_that_was_kept_ready_saw_no_media_but_that_there_was_a_call() -> None:
    row = rows(call_facts())["Who runs your relay B"]
    assert row.note == "over TLS; kept ready"
    assert row.cells[3].sees is YES
    assert rows(call_facts(), {UDP, TLS})["Who runs your relay B"].note == "over TLS; carried the call"
    assert rows(call_facts(), set())["Who runs your relay B"].note == "over TLS; carried the call"


def test_tls_hides_their_relay_from_our_network() -> None:
    bare = rows(call_facts(relays=relays(False, transport="tcp")))["Your network"]
    hidden = rows(call_facts(relays=relays(False, transport="tls")))["Your network"]
    assert (bare.cells[1].how, hidden.cells[1].how) == ("only their relay's", "not even their relay's")
    assert (bare.cells[5].sees, hidden.cells[5].sees) == (YES, PARTLY)
    mixed = rows(call_facts())["Your network"]
    assert mixed.cells[1].how == "only their relay's"


@pytest.mark.parametrize("kind", ["ws", "http"])
def test_a_server_without_tls_shows_mailboxes_to_our_network(kind: Any) -> None:
    found = rows(call_facts(signaling=kind))
    assert found["Your network"].cells[2].sees is PARTLY
    assert "without TLS" in found["The signaling server"].note


def test_signaling_by_hand_and_within_a_program() -> None:
    by_hand = rows(call_facts(signaling="manual"))
    assert "The signaling server" not in by_hand
    assert seen(by_hand["Who carried the texts, or saw them"]) == [NO, NO, PARTLY, PARTLY, NO, NO]
    assert seen(rows(call_facts(signaling="memory"))["The signaling server"]) == [NO] * 6
    own = rows(call_facts(signaling="other"))["What carried your messages"]
    assert seen(own) == [UNKNOWN, UNKNOWN, UNKNOWN, PARTLY, NO, NO]


@pytest.mark.parametrize(
    ("verified", "compared", "there"),
    [(False, None, True), (True, None, False), (False, True, False), (False, False, True), (True, False, True)],
)
def test_somebody_in_between_is_ruled_out_by_comparing(verified: bool, compared: bool | None, there: bool) -> None:
    found = rows(call_facts(verified=verified, words_compared=compared))
    assert ("Somebody in between" in found) == there
    if there:
        said = found["Somebody in between"].cells[4].sees
        assert said is (YES if compared is False else UNKNOWN)


# --- calls that were not connected ------------------------------------------------------------------------------------


def test_who_declines_asks_nobody_for_anything() -> None:
    found = rows(NEVER_CONNECTED)
    assert set(found) == {
        *("The signaling server", "What carried your messages", "The other side", "Somebody in between"),
        *("Your network", "The contacts on this machine", "Whoever gets this page"),
    } - {"The signaling server"}
    assert found["The other side"].cells[0].how == "not even your relay's"


def test_who_is_declined_has_shown_their_address_to_their_own_relay() -> None:
    facts = call_facts(to_accept=None, to_connected=None, connected=None, ended="declined")
    found = rows(facts, set())
    assert seen(found["Who runs your relay A: Example"]) == [YES, NO, NO, PARTLY, NO, NO]
    assert "Who runs their relay" not in found
    assert "Their network" not in found
    assert "your relay's" in found["The other side"].cells[0].how
    assert "not even" not in found["The other side"].cells[0].how


def test_a_call_that_found_no_path_showed_the_relays_to_each_other() -> None:
    found = rows(call_facts(to_connected=None, connected=None, ended="no_path"), set())
    assert seen(found["Who runs your relay A: Example"]) == [YES, NO, PARTLY, PARTLY, NO, NO]
    assert seen(found["Who runs their relay"]) == [NO, YES, PARTLY, PARTLY, NO, NO]
    assert seen(found["The other side"]) == [NO, YES, YES, YES, NO, NO]
    assert list(remarks(call_facts(connected=None))) == []


def test_who_has_no_name_here_has_none_on_the_page() -> None:
    found = rows(call_facts(party="", contact=False))
    assert seen(found["Whoever gets this page"])[2] is NO
    assert seen(found["The contacts on this machine"])[2] is NO
    assert found["The other side"].note == "a stranger"


# --- the threat model -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sentence",
    [
        "## The other side of the call",
        "## The signaling server",
        "## The relay you use",
        "## The operators of both relays together, or of one that serves both sides",
        "## Your network: the provider, the Wi-Fi, the employer",
        "## Who watches all networks",
        "## Who is in between when two people first meet",
        "## Who carries texts by hand, or sees them",
        "## Who has your device",
        "your round trip to each in steps of 5 ms",
        "see over UDP or TCP the address of the other side's relay; not over TLS",
        "see which mailboxes a connection reads and sends to",
        "see that two texts are of the same two mailboxes",
        "see the volume and timing, which tell that it is a call",
        "relaycall does not hide timing",
    ],
)
def test_the_threat_model_still_says_what_the_table_says(sentence: str) -> None:
    assert sentence in THREAT_MODEL
