"""An answering machine: it plays a greeting, records what the caller says after it, and hangs up.

Without arguments somebody in this process leaves a message, over embedded relays. For real:

    python examples/answering_machine.py GREETING wss://signaling.example.org turns:relay.example.org USER PASSWORD-FILE
"""

import asyncio
import sys
from pathlib import Path
from time import time_ns

from relaycall import FileSink, FileSource, Phone, RelaycallError, RelayServer, Strangers, card_to_text
from relaycall.testing import local_pair

HERE = Path(__file__).parent
LONGEST = 120  # seconds that one caller may take


class Visit:
    """What one caller hears and says: a source and a sink of our own. The end of the greeting begins the message."""

    def __init__(self, greeting: Path, message: str, seconds: float) -> None:
        self.over = asyncio.Event()
        self._greeting, self._message = FileSource(greeting), FileSink(message)
        self._greeted, self._left = False, round(seconds * 50)  # frames of 20 ms

    def read(self) -> bytes | None:
        pcm = self._greeting.read()
        self._greeted = pcm is None
        return pcm  # after None the call sends silence

    def write(self, frame: object) -> None:
        if self._greeted and self._left:
            self._message.write(frame)
            self._left -= 1
        if not self._left:
            self.over.set()

    def close(self) -> None:  # called for the source and for the sink
        self._greeting.close()
        self._message.close()
        self.over.set()


async def machine(phone: Phone, greeting: Path, seconds: float) -> None:
    async for ring in phone.incoming():
        visit = Visit(greeting, message := f"message-{time_ns()}.ogg", seconds)
        call = ring.accept(audio=visit, sink=visit)
        await asyncio.wait([asyncio.ensure_future(visit.over.wait())], timeout=LONGEST)
        print(f"{ring.party.name!r} left {message}:", (await call.hang_up()).reason)


async def real(greeting: Path, url: str, relay: RelayServer) -> None:
    async with Phone(signaling=url, relays=[relay], name="Machine", strangers=Strangers.RING) as phone:
        print("Whoever has this can leave a message:", card_to_text(phone.card))
        await machine(phone, greeting, seconds=60)


async def offline() -> None:
    async with local_pair() as (alice, bob):
        answering = asyncio.create_task(machine(bob, HERE / "greeting.ogg", seconds=2))
        call = await alice.call("bob", audio=FileSource(HERE / "speech.ogg"))
        print("Alice is told:", (await call.ended()).reason)
        await bob.close()  # this ends `incoming()`
        await answering


try:
    match sys.argv[1:]:
        case []:
            asyncio.run(offline())
        case [greeting, url, uri, user, password]:
            relay = RelayServer.parse(uri, username=user, password=Path(password).read_text().strip())
            asyncio.run(real(Path(greeting), url, relay))
        case _:
            sys.exit(__doc__)
except RelaycallError as error:
    sys.exit(f"{error.sentence}\n{error.next_step}")
