"""Place a call: pin a contact by a card, call it, compare the words, say something, hang up.

Without arguments somebody in this process answers, over embedded relays. For real, with their card in a file:

    python examples/place_a_call.py CARD-FILE wss://signaling.example.org turns:relay.example.org USER PASSWORD-FILE
"""

import asyncio
import sys
import time
from pathlib import Path

from relaycall import Card, FileSource, Phone, RelaycallError, RelayServer, SilenceSource, card_from_text
from relaycall.testing import local_pair

CLIP = Path(__file__).with_name("speech.ogg")
SECONDS = 2


async def place(phone: Phone, name: str) -> None:
    call = await phone.call(name, audio=FileSource(CLIP))
    call.on("state", lambda state: print("The call is", state))
    if await call.connected():
        print("Read these to each other:", call.spoken_words)
        await asyncio.sleep(SECONDS)
    end = await call.hang_up()  # of a call that is over already: why it is
    print("It is over:", end.reason)
    if end.error is not None:
        raise end.error


async def real(card: Card, url: str, relay: RelayServer) -> None:
    async with Phone(signaling=url, relays=[relay], name="Alice") as phone:
        contact = await phone.contacts.add(card, time.time())
        await place(phone, contact.name)


async def offline() -> None:
    async with local_pair() as (alice, bob):
        bob.on("incoming", lambda ring: ring.accept(audio=SilenceSource()))
        await place(alice, "bob")


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
