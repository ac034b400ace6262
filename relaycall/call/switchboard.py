"""Which call a message is about, and whether a new one may ring.

An offer rings if its sender may, by the policy; if it is not about a call that is known or over; if no other call is
under way, or only one with the same person, who must have lost it; and if not too many ring already. When we call them
at the same moment, one of the two offers counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable

from relaycall.call.call import Call
from relaycall.call.desk import Desk
from relaycall.call.ends import Ends, MediaOptions
from relaycall.call.line import Party
from relaycall.call.messages import Kind, read_call_id, read_offer
from relaycall.call.record import decode_record
from relaycall.call.state import CallState, Input
from relaycall.call.warm import WarmPool
from relaycall.errors import CodeNeeded, MessageRefused, NotVerified, RelaycallError
from relaycall.identity.contact import Strangers, Unverified, may_ring
from relaycall.identity.handshake import CalleeHandshake, our_offer_wins
from relaycall.identity.keys import Identity, PublicIdentity
from relaycall.identity.sealer import Opened
from relaycall.relays.pool import RelayPool

logger = logging.getLogger(__name__)

MAX_RINGING = 4  # contacts, and as many strangers
MAX_REPLIES = 16  # answers under way, one for each sender
REMEMBERED = 64  # calls that are over, whose offers may come again
OUTGOING = (CallState.IDLE, CallState.CALLING, CallState.RINGING)
RUNNING = (CallState.ACCEPTED, CallState.CONNECTING, CallState.CONNECTED, CallState.RECONNECTING)


class Switchboard:
    """All calls of a phone: a `relaycall.call.line.Line` for each.

    Args:
        desk: to send with.
        warm: relays.
        strangers, unverified: the policy.
        options: how media is sent.
        on_ring: called with each call that rings.
    """

    def __init__(
        self,
        desk: Desk,
        warm: WarmPool,
        *,
        strangers: Strangers,
        unverified: Unverified,
        options: MediaOptions,
        on_ring: Callable[[Call], None],
    ) -> None:
        self.options = options
        self._desk = desk
        self._warm = warm
        self._strangers = strangers
        self._unverified = unverified
        self._on_ring = on_ring
        self._calls: set[Call] = set()
        self._over: OrderedDict[bytes, None] = OrderedDict()
        self._turned_away: OrderedDict[bytes, None] = OrderedDict()
        self._replies: dict[PublicIdentity, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<Switchboard with {len(self._calls)} calls>"

    @property
    def calls(self) -> tuple[Call, ...]:
        """Those that are not over."""
        return tuple(self._calls)

    def place(self, party: Party, ends: Ends) -> Call:
        """A call to somebody. If they are calling us, that call is accepted.

        Raises:
            NotVerified: a contact that is not, and the policy asks for it.
        """
        if party.contact is not None and not party.contact.verified and self._unverified is Unverified.REFUSE:
            raise NotVerified(party.contact.name)
        for call in self._calls:
            if call.party.identity == party.identity and call.state is CallState.RINGING and not call.caller:
                call.accept(ends)
                return call
        call = self._new(party, caller=True)
        call.place(ends)
        return call

    async def hear(self, opened: Opened) -> None:
        """A message came that is believed.

        Raises:
            RelaycallError: why it is not acted on.
        """
        try:
            kind = Kind(opened.kind)
        except ValueError:
            raise MessageRefused("it is of a kind that this version does not know") from None
        if kind is Kind.INTRODUCTION:
            await self._introduction(opened)
        elif kind is Kind.WELCOME:
            await self._desk.party(opened, opened.body)
            self._desk.welcomed(opened.sender, None)
        elif kind is Kind.CODE_NEEDED:
            self._desk.welcomed(opened.sender, CodeNeeded())
        elif kind is Kind.OFFER:
            await self._offer(opened)
        else:
            call_id, rest = read_call_id(opened.body)
            call = self._find(call_id)
            if call is None and call_id in self._over:
                return  # last words, which media has said before
            if call is None or call.party.identity != opened.sender:
                raise MessageRefused("it is about no call of ours")
            call.hear(kind, rest)

    async def close(self) -> None:
        """End all calls, within two seconds."""
        replies = list(self._replies.values())
        for reply in replies:
            reply.cancel()
        await asyncio.gather(*(call.hang_up() for call in self.calls), *replies, return_exceptions=True)

    # --- what a call needs --------------------------------------------------------------------------------------------

    @property
    def identity(self) -> Identity:
        return self._desk.identity

    @property
    def card(self) -> bytes:
        return self._desk.card

    @property
    def carried(self) -> bool:
        return self._desk.carried

    @property
    def url(self) -> str:
        return self._desk.url

    async def post(self, to: Party, kind: Kind, body: bytes) -> None:
        await self._desk.post(to, kind, body)

    async def introduce(self, to: Party) -> bool:
        return await self._desk.introduce(to)

    async def take_pool(self) -> RelayPool:
        return await self._warm.take()

    def give_back_pool(self) -> None:
        self._warm.give_back()

    def over(self, call: Call) -> None:
        self._calls.discard(call)
        if call.id:
            _remember(self._over, call.id)

    # --- new calls ----------------------------------------------------------------------------------------------------

    async def _introduction(self, opened: Opened) -> None:
        if opened.contact is None and self._strangers is Strangers.CODE:
            self._desk.check_strangers()
            self._reply(self._desk.stranger(opened, opened.body), Kind.CODE_NEEDED, b"")
            self._desk.check_name(await self._desk.party(opened, opened.body))  # for our user: the answer is the same
            return
        party = await self._desk.party(opened, opened.body)
        self._desk.check_name(party)
        may_ring(party.contact, self._strangers, self._unverified)
        if party.contact is None:
            self._desk.check_strangers()
        self._reply(party, Kind.WELCOME, self.card)

    async def _offer(self, opened: Opened) -> None:
        card, offer = read_offer(opened.body)
        called = CalleeHandshake(self.identity, opened.sender, offer)
        known = self._find(called.call_id)
        if known is not None:
            known.happens(Input.OFFERED)
            return
        if called.call_id in self._over:
            raise MessageRefused("it is about a call that is over")
        decode_record(called.record, laboratory=self.options.laboratory)
        party = await self._desk.party(opened, card)
        theirs = [call for call in self._calls if call.party.identity == party.identity]
        for ours in theirs:
            if ours.caller and ours.state in OUTGOING:  # whom we call may call us, whatever the policy
                if not (ours.id and our_offer_wins(ours.id, called.call_id)):
                    ours.give_way(called)
                return
        self._desk.check_name(party)
        may_ring(party.contact, self._strangers, self._unverified)
        for old in theirs:
            if old.state is CallState.RINGING:
                old.happens(Input.CANCELLED)  # they have lost it
        others = [call for call in self._calls if call.state in RUNNING and call not in theirs]
        alike = [call for call in self._calls if (call.party.contact is None) == (party.contact is None)]
        crowded = others or sum(call.state is CallState.RINGING for call in alike) >= MAX_RINGING
        if crowded or called.call_id in self._turned_away:  # it may be said again, and they may have gone
            _remember(self._turned_away, called.call_id)
            self._reply(party, Kind.BUSY, called.call_id)
            return
        call = self._new(party, caller=False)
        call.add_listener("state", lambda state: self._supersede(call, state))
        call.ring(called)
        self._on_ring(call)

    def _reply(self, to: Party, kind: Kind, body: bytes) -> None:
        """Answer in a task of its own, since a mailbox may take its time: one at a time to each, and few in all."""
        if to.identity not in self._replies and len(self._replies) < MAX_REPLIES:
            task = self._replies[to.identity] = asyncio.create_task(self._post_reply(to, kind, body))
            task.add_done_callback(lambda _: self._replies.pop(to.identity))

    async def _post_reply(self, to: Party, kind: Kind, body: bytes) -> None:
        try:
            await self.post(to, kind, body)
        except RelaycallError as error:  # they ask again
            logger.info("An answer could not be sent: %s", error.code)

    def _new(self, party: Party, *, caller: bool) -> Call:
        call = Call(self, party, caller=caller)
        self._calls.add(call)
        return call

    def _find(self, call_id: bytes) -> Call | None:
        return next((call for call in self._calls if call.id == call_id), None)

    def _supersede(self, call: Call, state: CallState) -> None:
        """They call anew while we are in a call with them: when we accept, the old one is over."""
        if state is CallState.ACCEPTED:
            for other in self.calls:
                if other is not call and other.party.identity == call.party.identity and other.state in RUNNING:
                    other.happens(Input.HUNG_UP)


def _remember(calls: OrderedDict[bytes, None], call_id: bytes) -> None:
    """The latest so many."""
    calls[call_id] = None
    while len(calls) > REMEMBERED:
        calls.popitem(last=False)
