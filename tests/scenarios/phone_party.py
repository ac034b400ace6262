"""A phone as a program of its own: see `party` for how it is spoken to.

Settings: `name`, `signaling`, `relays` as [uri, username, password], `tone` in hertz to send; optionally `ca_file`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from array import array
from typing import Any

from relaycall.call.call import Call
from relaycall.call.phone import Phone
from relaycall.call.state import CallState
from relaycall.identity.card import card_from_text, card_to_text
from relaycall.media.audio import ToneSource
from relaycall.relays.server import RelayServer
from relaycall.signaling.carried import ManualText
from relaycall.signaling.manual import ManualTransport
from tests.identity.stores import MemoryStore
from tests.media.listening import tone_share
from tests.scenarios.party import serve
from tests.waiting import eventually

Answer = dict[str, Any]


class Ear:
    """Keeps what is heard."""

    def __init__(self) -> None:
        self.pcm = bytearray()

    def write(self, frame: Any) -> None:
        self.pcm += bytes(frame.planes[0])

    def close(self) -> None:
        """There is nothing to release."""


class PhoneParty:
    """The phone, one call of it, and the commands on both."""

    def __init__(self, settings: dict[str, Any]) -> None:
        ca_file = settings.get("ca_file")
        self._tone = settings["tone"]
        self._phone = Phone(
            signaling=settings["signaling"],
            relays=[
                RelayServer.parse(uri, username=username, password=password)
                for uri, username, password in settings["relays"]
            ],
            name=settings["name"],
            store=MemoryStore(),
            ssl_context=ssl.create_default_context(cafile=ca_file) if ca_file else None,
            laboratory=True,
        )
        self._call: Call | None = None
        self._ear = Ear()
        self._states: list[str] = []
        self._texts: asyncio.Queue[str] = asyncio.Queue()
        self._phone.on("signaling", lambda state: self._states.append(str(state)))

    async def do_open(self) -> Answer:
        """Open it; gives its card."""
        await self._phone.__aenter__()
        if isinstance(self._phone.signaling, ManualTransport):
            self._phone.signaling.on_text = self._write_down
        return {"card": card_to_text(self._phone.card)}

    async def _write_down(self, text: ManualText) -> None:
        self._texts.put_nowait(text.text)

    async def do_add(self, card: str) -> Answer:
        """A new contact."""
        await self._phone.contacts.add(card_from_text(card), time.time())
        return {}

    async def do_call(self, who: str) -> Answer:
        self._call = await self._phone.call(who, audio=ToneSource(self._tone), sink=self._ear)
        return {}

    async def do_answer(self, timeout: float = 10.0) -> Answer:
        """Wait for the next ring, and accept it."""
        async with asyncio.timeout(timeout):
            async for ring in self._phone.incoming():
                self._call = ring.accept(audio=ToneSource(self._tone), sink=self._ear)
                return {"caller": ring.party.name}
        return {}

    async def do_state(self, state: str, timeout: float = 10.0) -> Answer:
        """Wait until the call is there."""
        await eventually(lambda: self.call.state is CallState(state), timeout)
        return {}

    async def do_connected(self, timeout: float = 30.0) -> Answer:
        async with asyncio.timeout(timeout):
            return {"connected": await self.call.connected(), "id": self.call.id.hex()}

    async def do_words(self) -> Answer:
        """Gives the words to compare."""
        await eventually(lambda: self.call.spoken_words)
        return {"words": self.call.spoken_words}

    async def do_hear(self, tone: int, seconds: float = 1.0, timeout: float = 10.0) -> Answer:
        """Listen for so long, from now on; gives the share of this tone in it."""
        start = len(self._ear.pcm)
        need = int(seconds * 96000)
        await eventually(lambda: len(self._ear.pcm) >= start + need, timeout)
        return {"share": tone_share(array("h", bytes(self._ear.pcm[start : start + need])), tone)}

    async def do_signaling(self) -> Answer:
        """The states that signaling has been in."""
        return {"states": self._states}

    async def do_text(self, timeout: float = 10.0) -> Answer:
        """The next text to be carried to the other side."""
        async with asyncio.timeout(timeout):
            return {"text": await self._texts.get()}

    async def do_paste(self, text: str) -> Answer:
        """What the other side wrote."""
        assert isinstance(self._phone.signaling, ManualTransport)
        await self._phone.signaling.accept(text)
        return {}

    async def do_hang_up(self) -> Answer:
        loop = asyncio.get_running_loop()
        start = loop.time()
        end = await self.call.hang_up()
        return {"reason": end.reason, "seconds": loop.time() - start}

    async def do_ended(self, timeout: float = 10.0) -> Answer:
        async with asyncio.timeout(timeout):
            return {"reason": (await self.call.ended()).reason}

    async def do_close(self) -> Answer:
        """Close the phone; gives the seconds it took, and what was refused."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        await self._phone.close()
        return {"seconds": loop.time() - start, "refused": dict(self._phone.refused)}

    @property
    def call(self) -> Call:
        assert self._call is not None
        return self._call


async def main() -> None:
    await serve(PhoneParty(json.loads(sys.argv[1])))


if __name__ == "__main__":
    asyncio.run(main())
