"""Mallory is the server between two people who use a one-time code.

He has one guess of the words with each side. What a wrong guess, and everything else he does, must not give him: a card
of either, or his own in a contact book.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

import pytest

from relaycall.errors import NameplateUnknown, PairingFailed, PairingTimeout
from relaycall.identity import code_exchange
from relaycall.identity.card import decode_card
from relaycall.identity.code_exchange import offer_code, use_code
from relaycall.identity.one_time_code import OneTimeCode
from relaycall.identity.pairing import MakerPairing, Pairing, UserPairing
from relaycall.signaling.base import ENVELOPE_SIZE
from relaycall.signaling.keys import FreshKey, MailboxKey, mailbox_of
from relaycall.signaling.rendezvous import NAMEPLATE_TIMEOUT, Rendezvous
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.mitm.correspondent import Correspondent
from tests.scenarios.mitm.path import URL, Letter, Path, Way

NUMBER = 7


class Server(Path):
    """Mallory's server: mailboxes that letters get into as he plans, and one nameplate.

    Attributes:
        leads_to: the mailbox that the nameplate leads to, None when it was claimed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.leads_to: bytes | None = None

    def open(self, url: str = URL, *, key: MailboxKey | None = None, **_: Any) -> WayWithCodes:
        way = WayWithCodes(self, key or FreshKey())
        self._ways[way.mailbox] = way
        return way

    def claimed(self) -> bytes:
        """What an honest server does."""
        mailbox, self.leads_to = self.leads_to, None
        if mailbox is None:
            raise NameplateUnknown("the server")
        return mailbox


class WayWithCodes(Way, Rendezvous):
    """Alice's or Bob's end of it."""

    _path: Server

    async def allocate_nameplate(self, *, timeout: float = NAMEPLATE_TIMEOUT) -> int:
        self._path.leads_to = self.mailbox
        return NUMBER

    async def claim_nameplate(self, nameplate: int, *, timeout: float = NAMEPLATE_TIMEOUT) -> bytes:
        return self._path.claimed()

    async def release_nameplate(self, *, timeout: float = NAMEPLATE_TIMEOUT) -> None:
        self._path.leads_to = None


class Two:
    """Alice makes a code and tells it to Bob, who uses it. Each adds the card that comes of it.

    Attributes:
        code: Alice's, once she has made it.
    """

    def __init__(self, server: Server, alice: Correspondent, bob: Correspondent) -> None:
        self.server, self.alice, self.bob = server, alice, bob
        self.code: asyncio.Future[OneTimeCode] = asyncio.get_running_loop().create_future()

    @classmethod
    async def strangers(cls) -> Two:
        server = Server()
        return cls(server, await Correspondent.fresh(server, "Alice"), await Correspondent.fresh(server, "Bob"))

    async def meet(self) -> list[type[BaseException] | None]:
        """What it comes to for Alice, and for Bob."""
        return [type(found) if found else None for found in await self._gathered(self._offers(), self._uses())]

    async def only_alice(self) -> list[type[BaseException] | None]:
        """The same, while Bob does nothing yet."""
        return [type(found) if found else None for found in await self._gathered(self._offers())]

    async def only_bob(self) -> list[type[BaseException] | None]:
        return [type(found) if found else None for found in await self._gathered(self._uses())]

    async def _gathered(self, *doing: Any) -> list[BaseException | None]:
        async with asyncio.timeout(10):
            return await asyncio.gather(*doing, return_exceptions=True)

    async def _offers(self) -> None:
        async with offer_code(self.server.open(), self.alice.card.encode()) as offer:
            self.code.set_result(offer.code)
            await self._adds(self.alice, await offer.peer_payload())

    async def _uses(self) -> None:
        await self._adds(self.bob, await use_code(self.server.open(), await self.code, self.bob.card.encode()))

    async def _adds(self, who: Correspondent, payload: bytes) -> None:
        card = decode_card(payload)
        await who.contacts.add(card, time.time(), card.name)

    def books(self) -> tuple[list[str], list[str]]:
        """The names in Alice's book and in Bob's."""
        return [*self.alice.contacts.names], [*self.bob.contacts.names]

    def sent(self) -> list[int]:
        """The numbers of all messages that the two have sent, in order of the numbers. Farewells have none."""
        return sorted({letter.envelope[0] for letter in self.server.sent} - {0})

    def nothing_shown(self) -> None:
        """No letter has a part of a card in clear."""
        for card in (self.alice.card, self.bob.card):
            for part in (card.identity.signing, card.identity.agreement, card.mailbox, card.name.encode()):
                assert not any(part in letter.envelope for letter in self.server.sent)


class Mallory:
    """Runs the protocol with both, as each of them to the other.

    Args:
        right: whether he guesses right.
        as_them: he writes from the mailbox of the one he plays, which he can as the server; otherwise from his own.
    """

    def __init__(self, two: Two, *, right: bool, as_them: bool) -> None:
        self._two, self._right, self._as_them = two, right, as_them
        self._box = mailbox_of(FreshKey().public)
        self.runs: dict[str, Pairing] = {}
        self.failures = 0
        self.card = b""

    def guess(self) -> OneTimeCode:
        code = self._two.code.result()
        return code if self._right else OneTimeCode(code.nameplate, bytes(byte ^ 1 for byte in code.secret))

    def to_alice(self, mailbox: bytes, alice: bytes) -> None:
        """Begin with Alice, as Bob would."""
        self.runs["Alice"] = UserPairing(self.guess(), self.card, mailbox, alice, entropy=secrets.token_bytes)
        self._pass_on("Alice")

    def to_bob(self, mailbox: bytes) -> None:
        """Wait for Bob, as Alice would."""
        self.runs["Bob"] = MakerPairing(self.guess(), self.card, mailbox, entropy=secrets.token_bytes)

    def takes(self, name: str, letter: Letter) -> None:
        run = self.runs[name]
        try:
            run.receive(letter.envelope)
        except PairingFailed:
            self.failures += 1
        self._pass_on(name)

    def between(self) -> bytes:
        """Bob claims the number, and nothing passes from now on. He begins with Alice once Bob has written to him."""
        alice = self._two.server.leads_to
        assert alice is not None
        ours = alice if self._as_them else self._box
        self.to_bob(ours)

        def plan(letter: Letter) -> list[Letter]:
            if letter.sender == alice:
                self.takes("Alice", letter)
            else:
                self.takes("Bob", letter)
                if "Alice" not in self.runs:
                    self.to_alice(letter.sender if self._as_them else self._box, alice)
            return []

        self._two.server.plan = plan
        return ours

    def learned(self) -> list[bytes]:
        return [run.peer_payload for run in self.runs.values()]

    def _pass_on(self, name: str) -> None:
        run = self.runs[name]
        while run.outgoing and run.peer_mailbox is not None:
            self._two.server.deliver(Letter(b"", run.peer_mailbox, run.outgoing.pop(0)))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_exchange, "ANSWER_TIMEOUT", 0.5)


async def test_an_honest_server_sees_neither_card() -> None:
    two = await Two.strangers()
    assert await two.meet() == [None, None]
    assert two.books() == (["Bob"], ["Alice"])
    assert two.sent() == [1, 2, 3, 4]
    two.nothing_shown()


async def between(two: Two, *, right: bool, as_them: bool) -> tuple[Mallory, list[type[BaseException] | None]]:
    mallory = Mallory(two, right=right, as_them=as_them)
    mallory.card = (await Correspondent.fresh(two.server, "Mallory")).card.encode()
    two.server.claimed = mallory.between  # type: ignore[method-assign]
    return mallory, await two.meet()


@pytest.mark.parametrize("as_them", [False, True], ids=["from his own mailbox", "from theirs"])
async def test_in_between_with_spake2_of_his_own(as_them: bool) -> None:
    two = await Two.strangers()
    mallory, outcomes = await between(two, right=False, as_them=as_them)
    assert outcomes == [PairingFailed, PairingFailed]
    assert two.books() == ([], [])
    assert mallory.learned() == [b"", b""]
    assert two.sent() == [1, 2]  # nobody has sealed a card at all
    two.nothing_shown()


@pytest.mark.parametrize("as_them", [False, True], ids=["from his own mailbox", "from theirs"])
async def test_in_between_with_the_right_words(as_them: bool) -> None:
    """So the test before this one measures something: who knows the words gets all."""
    two = await Two.strangers()
    mallory, outcomes = await between(two, right=True, as_them=as_them)
    assert outcomes == [None, None]
    assert two.books() == (["Mallory"], ["Mallory"])
    assert sorted(mallory.learned()) == sorted([two.alice.card.encode(), two.bob.card.encode()])


@pytest.mark.parametrize("again", [False, True], ids=["and keeps it", "and gives the number out again"])
async def test_he_claims_the_number_first_and_guesses(again: bool) -> None:
    """Bob comes late. Where the number leads to Mallory by then, he has a guess with Bob too, and no more."""
    two = await Two.strangers()
    mallory = Mallory(two, right=False, as_them=False)
    box = mailbox_of(FreshKey().public)
    waiting = asyncio.ensure_future(two.only_alice())
    await two.code

    def plan(letter: Letter) -> list[Letter]:
        mallory.takes("Alice" if letter.to == box else "Bob", letter)
        return []

    two.server.plan = plan
    mallory.to_alice(box, two.server.claimed())
    assert await waiting == [PairingFailed]
    assert mallory.runs["Alice"].peer_payload == b""
    if again:
        two.server.leads_to = mailbox_of(FreshKey().public)
        mallory.to_bob(two.server.leads_to)
    assert await two.only_bob() == [PairingFailed if again else NameplateUnknown]
    assert two.books() == ([], [])
    assert not any(mallory.learned())
    assert 3 not in two.sent()
    two.nothing_shown()


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda envelope: envelope[:at] + bytes([envelope[at] ^ 1]) + envelope[at + 1 :]


FIELDS = {1: {"element": 40}, 2: {"element": 10, "confirmation": 40}, 3: {"confirmation": 5, "payload": 50}}
CHANGES: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    **{f"{number}: {field}": (number, flip(at)) for number, fields in FIELDS.items() for field, at in fields.items()},
    **{f"{number}: its number": (number, flip(0)) for number in (1, 2, 3)},
    **{f"{number}: its end": (number, flip(ENVELOPE_SIZE - 1)) for number in (1, 2, 3)},
    **{f"{number}: zeros": (number, lambda _: bytes(ENVELOPE_SIZE)) for number in (1, 2, 3)},
    **{f"{number}: shorter": (number, lambda envelope: envelope[:-1]) for number in (1, 2, 3)},
    **{f"{number}: longer": (number, lambda envelope: envelope + b"\0") for number in (1, 2, 3)},
    "2: an element that is none": (2, lambda envelope: envelope[:2] + b"\xff" * 32 + envelope[34:]),
}


@pytest.mark.parametrize(("number", "change"), CHANGES.values(), ids=CHANGES.keys())
async def test_a_message_that_he_changes(number: int, change: Callable[[bytes], bytes]) -> None:
    two = await Two.strangers()
    two.server.plan = lambda letter: [
        letter.altered(change(letter.envelope)) if letter.envelope[0] == number else letter
    ]
    unreadable = number == 1 and change(bytes(ENVELOPE_SIZE))[40:41] != b"\1"  # so Alice knows nobody to tell
    assert await two.meet() == [PairingFailed, PairingTimeout if unreadable else PairingFailed]
    assert two.books() == ([], [])
    assert 4 not in two.sent()
    two.nothing_shown()


@pytest.mark.parametrize("change", [flip(0), flip(50), lambda _: bytes(ENVELOPE_SIZE)], ids=["number", "card", "zeros"])
async def test_the_last_message_that_he_changes(change: Callable[[bytes], bytes]) -> None:
    """Bob has none then. Alice has the true Bob: that one of two is left without the last message cannot be helped."""
    two = await Two.strangers()
    two.server.plan = lambda letter: [letter.altered(change(letter.envelope)) if letter.envelope[0] == 4 else letter]
    assert await two.meet() == [None, PairingFailed]
    assert two.books() == (["Bob"], [])
    assert two.alice.contacts.get("Bob").identity == two.bob.public
    two.nothing_shown()


async def test_the_mailbox_in_the_first_message_becomes_his() -> None:
    """Alice answers to him, and he passes it on: her key is bound to his mailbox, and Bob's to Bob's."""
    two = await Two.strangers()
    box = mailbox_of(FreshKey().public)
    bobs: list[bytes] = []

    def plan(letter: Letter) -> list[Letter]:
        if letter.envelope[0] == 1:
            bobs.append(letter.sender)
            return [letter.altered(letter.envelope[:1] + box + letter.envelope[33:])]
        return [letter.readdressed(bobs[0]) if letter.to == box else letter]

    two.server.plan = plan
    assert await two.meet() == [PairingFailed, PairingFailed]
    assert two.books() == ([], [])
    assert two.sent() == [1, 2]


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_message_that_he_sends_back_to_who_wrote_it(number: int) -> None:
    two = await Two.strangers()
    two.server.plan = lambda letter: [letter.readdressed(letter.sender) if letter.envelope[0] == number else letter]
    outcomes = await two.meet()
    assert all(outcome in (PairingFailed, PairingTimeout) for outcome in outcomes)
    assert two.books() == ([], [])


async def test_the_messages_of_an_earlier_exchange() -> None:
    """Alice makes a new code, and he answers with all that Bob has once written."""
    two = await Two.strangers()
    assert await two.meet() == [None, None]
    old = [letter.envelope for letter in two.server.sent if letter.envelope[0] in (1, 3)]
    later = Two(two.server, await Correspondent.fresh(two.server, "Alice"), two.bob)
    waiting = asyncio.ensure_future(later.only_alice())
    await later.code
    to = two.server.claimed()
    for envelope in old:
        two.server.deliver(Letter(b"", to, envelope))
    assert await waiting == [PairingFailed]
    assert later.books()[0] == []
