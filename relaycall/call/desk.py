"""What goes out of a phone and comes in: our keys, the sealer and the mailbox together, and introductions.

An introduction comes before the first call to somebody, or the first after two weeks: their card tells the long-term
key, and what is sealed needs a prekey. It holds our card, and our prekey comes with it; the answer brings theirs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from relaycall.call.line import Party
from relaycall.call.messages import Kind
from relaycall.errors import (
    CardRefused,
    CodeNeeded,
    ConfigError,
    MessageRefused,
    OnAnotherServer,
    RelaycallError,
    SignalingError,
)
from relaycall.identity.card import Card, decode_card
from relaycall.identity.contact import folded
from relaycall.identity.contacts import ContactBook
from relaycall.identity.keys import Identity, PublicIdentity
from relaycall.identity.own import OwnKeys, refresh_own
from relaycall.identity.prekeys import Prekeys
from relaycall.identity.sealer import Opened, Sealer
from relaycall.signaling.base import Signaling
from relaycall.store import Store

logger = logging.getLogger(__name__)

INTRODUCTION_TIMEOUT = 20.0  # seconds
REPEAT = 5.0  # seconds after which an introduction is sent again
REFRESH = 86400.0  # seconds between looks at our own keys, at most
LEAST_REFRESH = 60.0
STRANGERS_BURST = 10  # introductions of strangers that are answered at once, and then one a second


class HeldKeys:
    """Our own keys as they are at the moment; `refresh` from time to time.

    Args:
        own: what the store gave.
        store: where they are.
        clock: gives the seconds since 1970.
    """

    def __init__(self, own: OwnKeys, store: Store, clock: Callable[[], float] = time.time) -> None:
        self.own = own
        self._store = store
        self._clock = clock

    @property
    def identity(self) -> Identity:
        """Our long-term keys. They stay the same while this runs."""
        return self.own.identity

    @property
    def prekeys(self) -> Prekeys:
        """Our ring."""
        return self.own.prekeys

    async def refresh_for_ever(self) -> None:
        """Rotate prekeys when that is due. What goes wrong is tried again a minute later."""
        while True:
            until = self.prekeys.next_rotation() - self._clock()
            await asyncio.sleep(min(max(until, LEAST_REFRESH), REFRESH))
            try:
                fresh = await refresh_own(self._store, self.own, self._clock())
            except RelaycallError as error:
                logger.warning("The prekeys could not be rotated: %s", error.code)
                continue
            if fresh.identity.public == self.identity.public:
                self.own = fresh


class Desk:
    """Seals and sends, and knows whom we are introduced to.

    Args:
        held: our keys.
        contacts: loaded.
        sealer: of these.
        signaling: our mailbox, open.
        url: where that is.
        carried: people carry what is sent.
    """

    def __init__(
        self,
        held: HeldKeys,
        contacts: ContactBook,
        sealer: Sealer,
        signaling: Signaling,
        *,
        url: str,
        carried: bool,
    ) -> None:
        self.carried = carried
        self.contacts = contacts
        self._held = held
        self._sealer = sealer
        self._signaling = signaling
        self.url = url
        self._expected: dict[PublicIdentity, list[asyncio.Future[None]]] = {}
        self._sealing = asyncio.Lock()
        self._allowance = float(STRANGERS_BURST)
        self._allowed_at = float("-inf")

    def __repr__(self) -> str:
        return "<Desk>"

    @property
    def identity(self) -> Identity:
        """Our long-term keys."""
        return self._held.identity

    @property
    def card(self) -> bytes:
        """Our card, encoded."""
        return self._held.own.card().encode()

    async def post(self, to: Party, kind: Kind, body: bytes) -> None:
        """Seal and send. What is posted first goes out first: counters rise. Raises SignalingError, StoreError."""
        async with self._sealing:
            envelope = await self._sealer.seal(to.identity, kind, body)
            sending = asyncio.create_task(self._signaling.send(to.mailbox, envelope))
        await sending

    async def open(self, envelope: bytes) -> Opened:
        """Open what came. Raises as `Sealer.open`."""
        return await self._sealer.open(envelope)

    # --- cards --------------------------------------------------------------------------------------------------------

    async def party(self, opened: Opened, card_bytes: bytes) -> Party:
        """Who sent a message, by the card in it. A later card of a contact is taken.

        Raises:
            CardRefused: the card is not the sender's.
            KeyChanged: the mailbox in it is that of a contact with other keys.
            OnAnotherServer: an answer would not reach them.
        """
        card = _card_of(opened, card_bytes)
        contact = self.contacts.recognise(card)
        if contact is not None and card.serial > contact.serial:
            contact = await self.contacts.add(card, time.time())
        party = Party(card.identity, card.mailbox, contact, card.name if contact is None else contact.name)
        self.check_server(party.name, card.signaling)
        return party

    def stranger(self, opened: Opened, card_bytes: bytes) -> Party:
        """The same for somebody who is no contact, without a look at whom we know."""
        card = _card_of(opened, card_bytes)
        self.check_server(card.name, card.signaling)
        return Party(card.identity, card.mailbox, None, card.name)

    def party_of(self, who: str | Card) -> Party:
        """Whom we want to call.

        Raises:
            ConfigError: the card is our own.
            ContactUnknown, IdentityDamaged: there is no contact of that name.
            KeyChanged: a contact has the mailbox or the name of the card, with other keys.
            OnAnotherServer: they are not on our server.
        """
        if isinstance(who, Card):
            if who.identity == self._held.identity.public:
                raise ConfigError("This card is our own.", "Give that of whom you want to call.")
            contact = self.contacts.recognise(who)
            party = Party(who.identity, who.mailbox, contact, who.name if contact is None else contact.name)
            self.check_name(party)
            self.check_server(party.name, who.signaling)
            return party
        contact = self.contacts.get(who)
        self.check_server(contact.name, contact.signaling)
        return Party(contact.identity, contact.mailbox, contact, contact.name)

    def check_name(self, party: Party) -> None:
        """Raises KeyChanged: a stranger has the name of a contact: it is our contact with new keys, or who says so."""
        if party.contact is None:
            for name in self.contacts.names:
                if folded(name) == folded(party.name):
                    self.contacts.presented(name, party.identity)

    def check_server(self, name: str, url: str) -> None:
        """Raises OnAnotherServer: we do not talk to a server because a card names it."""
        if not self.carried and not same_server(url, self.url):
            raise OnAnotherServer(name)

    # --- introductions ------------------------------------------------------------------------------------------------

    async def introduce(self, to: Party) -> bool:
        """Have a prekey of theirs, within 20 seconds.

        Returns:
            False if they do not answer.

        Raises:
            CodeNeeded: they know us not, and ask for a one-time code.
            SignalingError: nothing was taken in that time.
            StoreError: as `post`.
        """
        if self.carried or await self._sealer.knows_prekey(to.identity):
            return True
        expected = asyncio.get_running_loop().create_future()
        self._expected.setdefault(to.identity, []).append(expected)
        unsent: SignalingError | None = None
        try:
            async with asyncio.timeout(INTRODUCTION_TIMEOUT):
                while not expected.done():
                    try:
                        await self.post(to, Kind.INTRODUCTION, self.card)
                        unsent = None
                    except SignalingError as error:  # it may be there again in a moment
                        unsent = error
                    await asyncio.wait([expected], timeout=REPEAT)
                expected.result()
        except TimeoutError:
            if unsent is not None:
                raise unsent from None
            return False
        finally:
            waiting = self._expected[to.identity]
            waiting.remove(expected)
            if not waiting:
                del self._expected[to.identity]
        return await self._sealer.knows_prekey(to.identity)

    def check_strangers(self) -> None:
        """A stranger introduces himself. Raises MessageRefused: too many do."""
        now = asyncio.get_running_loop().time()
        self._allowance = min(self._allowance + now - self._allowed_at, float(STRANGERS_BURST))
        self._allowed_at = now
        if self._allowance < 1:
            raise MessageRefused("too many strangers introduce themselves")
        self._allowance -= 1

    def welcomed(self, by: PublicIdentity, error: CodeNeeded | None) -> None:
        """The answer to an introduction of ours, if there was one."""
        waiting = [one for one in self._expected.get(by, ()) if not one.done()]
        if not waiting:
            raise MessageRefused("it answers nothing")
        for one in waiting:
            if error is None:
                one.set_result(None)
            else:
                one.set_exception(error)


def _card_of(opened: Opened, data: bytes) -> Card:
    """The card in a message. Raises CardRefused: it is not the sender's."""
    card = decode_card(data)
    if card.identity != opened.sender:
        raise CardRefused("it is not the sender's")
    return card


def same_server(one: str, other: str) -> bool:
    """Whether two URLs are of one signaling server, by WebSocket or HTTP."""
    return _place(one) == _place(other)


def _place(url: str) -> tuple[object, ...]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return (url,)
    kind = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    if kind not in ("http", "https"):
        return (url,)
    return kind, parts.hostname, port or (443 if kind == "https" else 80), parts.path.rstrip("/")
