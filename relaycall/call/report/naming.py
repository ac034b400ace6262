"""How a report names relays, and what it does to texts that it did not write.

Without addresses a relay of ours is "relay A", "relay B", in order of preference. Whatever else is shown is gone
through for the hosts that are known and for anything that reads as an address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from relaycall.call.report.facts import CallFacts

MAX_TEXT = 160  # characters shown of one text

_URI = re.compile(r"(?:\b(?:turns?|stuns?):|\b(?:wss?|https?)://)\S*", re.IGNORECASE)
_LOOKS_LIKE_ONE = re.compile(r"[0-9A-Fa-f.:]{3,}")
_V4 = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_TIME = re.compile(r"[.:]?\d{1,3}:\d\d(?::\d\d)?[.:]?")


class Naming:
    """The names that one report uses.

    Args:
        facts: of the call.
        used: the names of relays that samples and moves have.
        addresses: show hosts and addresses.
    """

    def __init__(self, facts: CallFacts, used: Iterable[str], *, addresses: bool) -> None:
        self.addresses = addresses
        names = [relay.name for relay in facts.relays]
        moves = [name for _, move in facts.moves for name in (move.old, move.new)]
        self._letters = {name: _letter(i) for i, name in enumerate(dict.fromkeys([*names, *moves, *used])) if name}
        hosts = [relay.host for relay in facts.relays] + [*facts.peer_hosts, facts.signaling_host]
        known = {name.lower(): f"relay {letter}" for name, letter in self._letters.items()}
        known = {host.lower(): "(a host)" for host in hosts if host} | known
        longest_first = sorted(known, key=len, reverse=True)
        self._known = known
        whole = "|".join(map(re.escape, longest_first)) or r"(?!)"
        self._pattern = re.compile(rf"(?<![\w.-])\[?(?:{whole})\]?(?![\w-])", re.IGNORECASE)

    def letter(self, relay: str) -> str:
        """One or two characters for a relay of ours; "–" for none."""
        return self._letters.get(relay, "–")

    def relay(self, name: str) -> str:
        """A relay of ours, with its name only on request."""
        if name not in self._letters:
            return "no relay"
        return f"relay {self._letters[name]}" + (f" ({visible(name)})" if self.addresses else "")

    def clean(self, text: str) -> str:
        """A text for the page: printable, not too long, and without addresses unless they were asked for."""
        if not self.addresses:
            text = self._pattern.sub(lambda found: self._known.get(found[0].lower().strip("[]"), "(a host)"), text)
            text = _URI.sub("(a server)", text)
            text = _LOOKS_LIKE_ONE.sub(_without_address, text)
        return visible(text)


def visible(text: str) -> str:
    """Every character of it to be seen, in one line, and at most 160 of them."""
    cut = text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in cut)


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else str(number + 1)


def _without_address(found: re.Match[str]) -> str:
    text = found[0]
    if text.count(":") > 1 and not _TIME.fullmatch(text):
        return "(an address)"
    return _V4.sub("(an address)", text)
