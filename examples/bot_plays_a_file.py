"""A bot that plays a file to whoever calls, and hangs up at its end. One caller at a time; others are told it is busy.

Without arguments somebody in this process calls it and listens, over embedded relays. For real:

    python examples/bot_plays_a_file.py FILE wss://signaling.example.org turns:relay.example.org USER PASSWORD-FILE
"""

import asyncio
import sys
from pathlib import Path

from relaycall import FileSink, FileSource, Phone, RelaycallError, RelayServer, SilenceSource, Strangers, card_to_text
from relaycall.testing import local_pair

CLIP = Path(__file__).with_name("greeting.ogg")
ON_THE_WAY = 0.5  # seconds until the last of it has been heard


class Announcement(FileSource):
    """A file that says when it is over; so does the end of the call."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.over = asyncio.Event()

    def read(self) -> bytes | None:
        pcm = super().read()
        if pcm is None:
            self.over.set()
        return pcm

    def close(self) -> None:
        super().close()
        self.over.set()


async def bot(phone: Phone, path: Path) -> None:
    async for ring in phone.incoming():
        announcement = Announcement(path)
        call = ring.accept(audio=announcement)
        await announcement.over.wait()
        await asyncio.sleep(ON_THE_WAY)
        print(f"{ring.party.name!r} was played the file:", (await call.hang_up()).reason)


async def real(path: Path, url: str, relay: RelayServer) -> None:
    async with Phone(signaling=url, relays=[relay], name="Bot", strangers=Strangers.RING) as phone:
        print("Whoever has this can call the bot:", card_to_text(phone.card))
        await bot(phone, path)


async def offline() -> None:
    async with local_pair() as (alice, bobs):
        playing = asyncio.create_task(bot(bobs, CLIP))
        call = await alice.call("bob", audio=SilenceSource(), sink=FileSink("heard.wav"))
        print("Alice is told:", (await call.ended()).reason)
        await bobs.close()  # this ends `incoming()`
        await playing


try:
    match sys.argv[1:]:
        case []:
            asyncio.run(offline())
        case [path, url, uri, user, password]:
            relay = RelayServer.parse(uri, username=user, password=Path(password).read_text().strip())
            asyncio.run(real(Path(path), url, relay))
        case _:
            sys.exit(__doc__)
except RelaycallError as error:
    sys.exit(f"{error.sentence}\n{error.next_step}")
