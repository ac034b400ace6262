"""One side of an audio call: relays, the record, the path, the sound.

The order is: `prepare` allocates on the relays and gives our record; the two sides exchange records, sealed, over any
signaling; `connect` checks the paths and starts the audio.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence

from relaycall.call.record import (
    KEY_SIZE,
    AudioPlan,
    CallRecord,
    RelayCandidate,
    coarse_leg,
    decode_record,
    derive_call_key,
    encode_record,
)
from relaycall.errors import CallClosed, RelaycallError
from relaycall.ice.connection import CONNECT_TIMEOUT, Connection
from relaycall.ice.events import ConnectionEvent
from relaycall.media.audio import AudioSource
from relaycall.media.files import FileSink
from relaycall.media.session import AudioSession
from relaycall.relays.server import RelayServer

SESSION_CLOSE_TIMEOUT = 0.7  # seconds; with the connection's 1.2 that keeps close() below two


class AudioCall:
    """One side of a call. All media goes through the given relays; there is no other way for it.

    Args:
        relays: in order of preference; each is allocated, the others are kept warm.
        caller: whether this side placed the call. One side is the caller, the other is not.
        source: what to send. `close` closes it.
        sink: where to record what is heard. `close` closes it.
        laboratory: allow loopback and private addresses. For tests on one machine only.
        on_event: called with each `ConnectionEvent`.

    Attributes:
        connection: the path, with its statistics.
        session: the audio, once `connect` has returned.
    """

    def __init__(
        self,
        relays: Sequence[RelayServer],
        *,
        caller: bool,
        source: AudioSource,
        sink: FileSink | None = None,
        laboratory: bool = False,
        on_event: Callable[[ConnectionEvent], None] | None = None,
    ) -> None:
        self.connection = Connection(relays, ice_controlling=caller, laboratory=laboratory, on_event=on_event)
        self.session: AudioSession | None = None
        self._caller = caller
        self._source = source
        self._sink = sink
        self._laboratory = laboratory
        self._record: CallRecord | None = None

    def __repr__(self) -> str:
        return f"<AudioCall as {'caller' if self._caller else 'callee'}>"

    async def __aenter__(self) -> AudioCall:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def prepare(self) -> bytes:
        """Allocate on the relays, at most five seconds. Returns our call record, to be sealed for the other side.

        Raises:
            NoRelay: not one relay could be used; it says why for each.
        """
        await self.connection.gather_candidates()
        self._record = CallRecord(
            ufrag=self.connection.local_username,
            pwd=self.connection.local_password,
            candidates=tuple(
                RelayCandidate(found.host, found.port, found.priority, coarse_leg(found.leg))
                for found in self.connection.local_candidates
            )[:4],
            audio=AudioPlan(ssrc=1 + secrets.randbelow(2**32 - 1)),
            key=secrets.token_bytes(KEY_SIZE),
        )
        return encode_record(self._record)

    async def connect(self, peer_record: bytes, *, timeout: float = CONNECT_TIMEOUT) -> None:
        """Check the paths to the other side and start the audio on the first that works.

        Args:
            peer_record: the other side's record, as `prepare` gave it there.
            timeout: seconds.

        Raises:
            RecordRefused: the record breaks a rule.
            NoPath: no pair of relays carried packets in time.
            RelayForbiddenPeer: our relays forbid the other side's.
            CallClosed: `prepare` was not awaited, a record was connected to before, or the call was closed meanwhile.
        """
        mine = self._record
        if mine is None or self.session is not None:
            raise CallClosed
        theirs = decode_record(peer_record, laboratory=self._laboratory)
        call_key = derive_call_key(mine, theirs) if self._caller else derive_call_key(theirs, mine)
        self.connection.remote_username, self.connection.remote_password = theirs.ufrag, theirs.pwd
        for entry in theirs.candidates:
            self.connection.add_remote(entry.address, entry.priority, entry.leg_ms / 1000)
        self.session = AudioSession(
            self.connection,
            call_key=call_key,
            caller=self._caller,
            local_ssrc=mine.audio.ssrc,
            remote_ssrc=theirs.audio.ssrc,
            payload_type=mine.audio.payload_type,
            source=self._source,
            sink=self._sink,
        )
        await self.connection.connect(timeout)
        await self.session.start()

    async def ended(self) -> RelaycallError | None:
        """Wait until the path is closed. Returns why, if it ended by itself."""
        return await self.connection.ended()

    async def close(self) -> None:
        """End the call within two seconds, whatever is dead, and close source and sink. May be called twice."""
        try:
            if self.session is not None:
                closing = asyncio.ensure_future(self.session.close())
                await asyncio.wait([closing], timeout=SESSION_CLOSE_TIMEOUT)
            else:
                with contextlib.suppress(Exception):  # a source may be anybody's
                    self._source.close()
                if self._sink is not None:
                    self._sink.close()
        finally:
            await self.connection.close()
