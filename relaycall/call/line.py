"""What a call needs of the phone that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from relaycall.call.ends import MediaOptions
from relaycall.call.messages import Kind
from relaycall.identity.contact import Contact
from relaycall.identity.keys import Identity, PublicIdentity
from relaycall.relays.pool import RelayPool

if TYPE_CHECKING:
    from relaycall.call.call import Call


@dataclass(frozen=True, slots=True)
class Party:
    """The other side of a call.

    Attributes:
        identity: their keys.
        mailbox: where messages for them go, 32 bytes.
        contact: who they are to us; None for a stranger.
        name: ours for a contact, or what a stranger calls themselves: to be shown as such, and escaped.
    """

    identity: PublicIdentity
    mailbox: bytes
    contact: Contact | None
    name: str

    def __repr__(self) -> str:
        return "<a stranger>" if self.contact is None else f"<{self.contact.name!r}>"


class Line(Protocol):
    """What a call needs of its phone.

    Attributes:
        identity: our keys.
        card: our card, encoded.
        carried: people carry our messages.
        options: how media is sent.
        url: of our signaling server.
    """

    @property
    def identity(self) -> Identity: ...
    @property
    def card(self) -> bytes: ...
    @property
    def carried(self) -> bool: ...
    @property
    def url(self) -> str: ...

    @property
    def options(self) -> MediaOptions: ...

    async def post(self, to: Party, kind: Kind, body: bytes) -> None:
        """Seal and send. Raises SignalingError, StoreError."""

    async def introduce(self, to: Party) -> bool:
        """Have a prekey of theirs. False if they do not answer. Raises as `post`, and CodeNeeded."""

    async def take_pool(self) -> RelayPool:
        """An open pool for one call, which closes it. Raises NoRelay."""

    def give_back_pool(self) -> None:
        """That pool is closed."""

    def over(self, call: Call) -> None:
        """The call has ended."""
