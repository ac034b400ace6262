"""Who could see what in one call: docs/threat-model.md, applied to the facts of that call.

It says what each could see by where they stood, not what they did see or keep. Where this side cannot know, it says so.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from relaycall.call.report.facts import CallFacts, RelayFact
from relaycall.call.report.naming import Naming

COLUMNS = (
    "your address",
    "their address",
    "that you two talk",
    "when and how long",
    "what was said",
    "whether there was video",
)


class Sees(enum.StrEnum):
    """Whether somebody could see something."""

    YES = "yes"
    PARTLY = "partly"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Cell:
    """One answer, and what there is to add to it."""

    sees: Sees
    how: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """What one observer could see.

    Attributes:
        who: the observer.
        note: which part they had in this call.
        cells: an answer for each of `COLUMNS`.
    """

    who: str
    note: str
    cells: tuple[Cell, Cell, Cell, Cell, Cell, Cell]


def yes(how: str = "") -> Cell:
    return Cell(Sees.YES, how)


def partly(how: str) -> Cell:
    return Cell(Sees.PARTLY, how)


def no(how: str = "") -> Cell:
    return Cell(Sees.NO, how)


def unknown(how: str) -> Cell:
    return Cell(Sees.UNKNOWN, how)


_NOTHING_SAID = no("nothing was said")
_NO_VIDEO = no("there was none")


def sight(facts: CallFacts, used: set[str], naming: Naming) -> list[Row]:
    """The rows of the table.

    Args:
        used: the names of our relays that media went over; if there is none, it is taken that it went over all.
    """
    accepted, connected = facts.to_accept is not None, facts.connected is not None
    rows = [_our_relay(relay, not used or relay.name in used, facts, naming) for relay in facts.relays]
    if accepted:
        rows.append(_their_relay(facts))
    rows.append(_signaling(facts, naming))
    rows.append(_other_side(facts, accepted, connected))
    if facts.words_compared is False or not (facts.verified or facts.words_compared):
        rows.append(_in_between(facts, connected))
    rows.append(_our_network(facts, accepted, connected))
    if accepted:
        rows.append(_their_network(facts, connected))
    rows += [_contacts(facts), _this_page(facts, connected)]
    return rows


def remarks(facts: CallFacts) -> Iterator[str]:
    """What no row of the table says."""
    if facts.connected is not None and not facts.shared:
        yield "If the same people run your relay and theirs, or the operators compare notes, they know both addresses."
    if facts.connected is not None:
        yield "Who watches both networks can match the timing of packets. relaycall does not hide timing."


# --- the rows ---------------------------------------------------------------------------------------------------------


def _our_relay(relay: RelayFact, used: bool, facts: CallFacts, naming: Naming) -> Row:
    who = f"Who runs your {naming.relay(relay.name)}" + (f": {naming.clean(relay.operator)}" if relay.operator else "")
    over = relay.transport.upper()
    if facts.to_accept is None:
        cells = yes(), no(), no(), partly("that you asked for a place on it"), _NOTHING_SAID, no()
        return Row(who, f"over {over}; there was no call", cells)
    if relay.shared:
        addresses = yes("it served both of you"), yes("that these two addresses talk; no names")
    elif relay.shared is None:
        addresses = unknown("unless it served both of you, it saw their relay's"), partly("no names")
    else:
        addresses = (
            no("it saw their relay's"),
            partly("that somebody at your address talks through their relay; no names"),
        )
    if facts.connected is None:
        note, rest = "no path came about", (partly("that a call was tried"), _NOTHING_SAID, _NO_VIDEO)
    elif used:
        note = "carried the call" + ("; served both sides" if relay.shared else "")
        rest = yes(), no("speech looks like silence"), yes("by the packets' headers")
    else:
        note = "kept ready"
        rest = (
            yes("it was checked all the time"),
            no(),
            partly("if media went over two paths for a moment"),
        )
    return Row(who, f"over {over}; {note}", (yes(), *addresses, *rest))


def _their_relay(facts: CallFacts) -> Row:
    who = "Who runs their other relays, if there were any" if facts.shared else "Who runs their relay"
    video = yes("by the packets' headers") if facts.connected is not None else _NO_VIDEO
    cells = (
        no("it saw your relay's"),
        yes(),
        partly("that somebody at their address talks through your relay; no names"),
        yes() if facts.connected is not None else partly("that a call was tried"),
        no() if facts.connected is not None else _NOTHING_SAID,
        video,
    )
    return Row(who, "their choice", cells)


def _signaling(facts: CallFacts, naming: Naming) -> Row:
    if facts.signaling == "manual":
        cells = (
            no(),
            no(),
            partly("that two texts are of the same two mailboxes"),
            partly("when the texts were made"),
            no(),
            no(),
        )
        return Row("Who carried the texts, or saw them", "by hand, without a server", cells)
    if facts.signaling == "memory":
        return Row(
            "The signaling server", "there was none: both were in one program", (no(), no(), no(), no(), no(), no())
        )
    envelopes = partly("when envelopes passed; not which is a call, nor its length")
    if facts.signaling == "other":
        depends = unknown("depends on how it is built")
        return Row(
            "What carried your messages", "a way of your own", (depends, depends, depends, envelopes, no(), no())
        )
    host = f" {naming.clean(facts.signaling_host)}" if naming.addresses and facts.signaling_host else ""
    bare = facts.signaling in ("ws", "http")
    cells = (
        yes(),
        yes("if they were there, too"),
        partly("that mailboxes at these addresses exchange envelopes; no names"),
        envelopes,
        no("it keeps sealed envelopes"),
        no(),
    )
    return Row(f"The signaling server{host}", f"{facts.signaling}:, {'without' if bare else 'with'} TLS", cells)


def _other_side(facts: CallFacts, accepted: bool, connected: bool) -> Row:
    note = "a stranger"
    if facts.contact:
        note = "a contact, verified" if facts.verified else "a contact, not verified"
    if facts.words_compared:
        note += "; you compared the words"
    told = facts.caller or accepted
    cells = (
        no("your relay's, and your round trip to it in steps of 5 ms" if told else "not even your relay's"),
        Cell(Sees.YES, "their own"),
        yes("your keys, and the name on your card"),
        yes(),
        yes("and may have recorded it") if connected else _NOTHING_SAID,
        yes() if connected else _NO_VIDEO,
    )
    return Row("The other side", note, cells)


def _in_between(facts: CallFacts, connected: bool) -> Row:
    could, note = (
        unknown("only if your cards were swapped when you two met"),
        "to compare words or numbers rules it out",
    )
    if facts.words_compared is False:
        could, note = yes("the spoken words differed"), "there was somebody"
    said = (could, could) if connected else (_NOTHING_SAID, _NO_VIDEO)
    return Row("Somebody in between", note, (no(), no(), could, could, *said))


def _our_network(facts: CallFacts, accepted: bool, connected: bool) -> Row:
    bare = any(relay.transport != "tls" for relay in facts.relays)
    theirs = "only their relay's" if bare else "not even their relay's"
    talk = no("not with whom")
    if facts.signaling in ("ws", "http"):
        talk = partly("your server is without TLS: which mailboxes exchange envelopes")
    if connected:
        when = yes("volume and timing tell that it is a call")
        video = yes("by the packets' headers") if bare else partly("by the volume")
        said = no("encrypted; speech looks like silence")
    else:
        when, said, video = (
            partly("that you used a relay" if facts.relays else "that you are there"),
            _NOTHING_SAID,
            no(),
        )
    over = ", ".join(dict.fromkeys(relay.transport.upper() for relay in facts.relays))
    note = f"provider, Wi-Fi, employer; relays over {over}" if over else "provider, Wi-Fi, employer"
    return Row(
        "Your network", note, (yes("it gave it to you"), no(theirs if accepted else ""), talk, when, said, video)
    )


def _their_network(facts: CallFacts, connected: bool) -> Row:
    cells = (
        no("only your relay's, and not over TLS"),
        yes(),
        no("not with whom"),
        yes() if connected else partly("that they used a relay"),
        no() if connected else _NOTHING_SAID,
        partly("by the volume at least") if connected else _NO_VIDEO,
    )
    return Row("Their network", "how they reach their relay is not known here", cells)


def _contacts(facts: CallFacts) -> Row:
    talk = partly("that they are a contact, and how many messages there were") if facts.contact else no()
    return Row(
        "The contacts on this machine",
        "in the keyring or vault",
        (no(), no(), talk, no("no times are kept"), no(), no()),
    )


def _this_page(facts: CallFacts, connected: bool) -> Row:
    talk = yes("the name you know them by") if facts.party else no("it has no name")
    video = yes() if connected else _NO_VIDEO
    return Row("Whoever gets this page", "it is a file of yours", (no(), no(), talk, yes(), no(), video))
