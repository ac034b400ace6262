"""Call somebody with video: show a test pattern, record what they show to seen.mkv, and write a page about the call.

Without arguments somebody in this process shows something, over embedded relays. For real, with the other side's card:

    python examples/video_call.py CARD-FILE wss://signaling.example.org turns:relay.example.org USER PASSWORD-FILE
"""

import asyncio
import sys
import time
from pathlib import Path

from aiortc.contrib.media import MediaRecorder

from relaycall import (
    Card,
    HeardTrack,
    Phone,
    RelaycallError,
    RelayServer,
    Ring,
    SeenTrack,
    TestPattern,  # or CameraSource()
    ToneSource,
    card_from_text,
)
from relaycall.testing import local_pair

SECONDS = 5


async def show(phone: Phone, name: str) -> None:
    heard, seen = HeardTrack(), SeenTrack()
    recorder = MediaRecorder("seen.mkv")
    recorder.addTrack(heard)
    recorder.addTrack(seen)
    call = await phone.call(name, audio=ToneSource(), sink=heard, video=TestPattern(), video_sink=seen)
    call.on("video_adapted", lambda adapted: print("Video:", adapted.encoding or "off", adapted.reason))
    if await call.connected():
        await recorder.start()
        async for sample in call.quality():
            sent, seen = sample.bitrate_sent // 1000, sample.frame_rate_received
            print(f"{sample.level}: {sent} kbit/s sent, {seen:.0f} frames/s seen")
            if sample.at > SECONDS:
                break
    end = await call.hang_up()
    await recorder.stop()
    await asyncio.to_thread(Path("call.html").write_text, call.report().html())
    print("It is over:", end.reason)


async def real(card: Card, url: str, relay: RelayServer) -> None:
    async with Phone(signaling=url, relays=[relay], name="Alice") as phone:
        contact = await phone.contacts.add(card, time.time())
        await show(phone, contact.name)


async def offline() -> None:
    async with local_pair() as (alice, bob):

        @bob.on("incoming")
        def take(ring: Ring) -> None:
            ring.accept(audio=ToneSource(660), video=TestPattern(320, 180), video_sink=SeenTrack())

        await show(alice, "bob")


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
