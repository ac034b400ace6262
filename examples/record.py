"""Record a call: what the other side says goes to heard.ogg, until somebody hangs up.

Without arguments somebody in this process speaks, over embedded relays. For real, with the other side's card in a file:

    python examples/record.py CARD-FILE wss://signaling.example.org turns:relay.example.org USER PASSWORD-FILE

Tell them that you record.
"""

import asyncio
import sys
import time
from pathlib import Path

from relaycall import (
    Card,
    FileSink,
    FileSource,
    Phone,
    RelaycallError,
    RelayServer,
    Ring,
    SilenceSource,
    card_from_text,
)
from relaycall.testing import local_pair

CLIP = Path(__file__).with_name("speech.ogg")
RECORDING = "heard.ogg"  # or .wav, .opus


async def record(phone: Phone, name: str) -> None:
    sink = FileSink(RECORDING)
    call = await phone.call(name, audio=SilenceSource(), sink=sink)  # which closes the sink in the end
    end = await call.ended()
    print("It is over:", end.reason)
    if end.error is not None:
        raise end.error
    if sink.error is not None:  # a full disk ends the recording, and not the call
        raise sink.error
    recorded = FileSource(RECORDING)
    print(f"{RECORDING} has {recorded.duration:.1f} seconds.")
    recorded.close()


async def real(card: Card, url: str, relay: RelayServer) -> None:
    async with Phone(signaling=url, relays=[relay], name="Alice") as phone:
        contact = await phone.contacts.add(card, time.time())
        await record(phone, contact.name)


async def offline() -> None:
    async with local_pair() as (alice, bob):

        @bob.on("incoming")
        async def speak(ring: Ring) -> None:
            call = ring.accept(audio=FileSource(CLIP))
            if await call.connected():
                await asyncio.sleep(3)
                await call.hang_up()

        await record(alice, "bob")


try:
    match sys.argv[1:]:
        case []:
            asyncio.run(offline())
        case [card, url, uri, user, password]:
            relay = RelayServer.parse(uri, username=user, password=Path(password).read_text().strip())
            asyncio.run(real(card_from_text(Path(card).read_text()), url, relay))
        case _:
            sys.exit(__doc__)
except RelaycallError as error:
    sys.exit(f"{error.sentence}\n{error.next_step}")
