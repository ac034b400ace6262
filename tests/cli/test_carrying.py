"""What is pasted, piece by piece."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relaycall.cli import carrying
from relaycall.cli.carrying import Carrier
from relaycall.signaling.carried import ManualText
from relaycall.signaling.manual import ManualTransport
from relaycall.signaling.opening import open_signaling
from tests.waiting import eventually

MISSING = "Its end is missing so far: paste the rest, or all of it again."


class Seen:
    """A screen and a keyboard: what is said and asked, and what is typed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.on_key = self.on_text = None

    def say(self, event: str, text: str, /, **data: object) -> None:
        self.lines.append(text)

    def ask(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.parametrize("again", [False, True], ids=["the rest", "all of it again"])
async def test_a_text_without_its_end_is_told_once(again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying, "PAUSE", 0.02)
    seen: Any = Seen()
    texts: list[str] = []

    async def show(text: ManualText) -> None:
        texts.append(text.text)

    async with open_signaling("manual:") as ours, open_signaling("manual:") as theirs:
        assert isinstance(ours, ManualTransport)
        assert isinstance(theirs, ManualTransport)
        theirs.on_text = show
        await theirs.send(ours.mailbox, b"sealed elsewhere".ljust(4096, b"\0"))
        (text,) = texts
        with Carrier(ours, seen, seen, text_out=None, text_in=None, qr=False, answered=False) as carrier:
            carrier.listen()
            seen.on_text(text[:60])
            await eventually(lambda: MISSING in seen.lines)
            seen.on_text(text[60:90])
            await asyncio.sleep(0.1)
            seen.on_text("\n" + text if again else text[90:])
            await eventually(lambda: "Their text is taken." in seen.lines)
    assert seen.lines == ["Paste their text here:", MISSING, "Their text is taken."]
