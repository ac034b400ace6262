"""Texts that people carry: ours is shown or written, and theirs is pasted or read from a file."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

from relaycall.cli.keyboard import Keyboard
from relaycall.cli.qr import qr_text
from relaycall.cli.screen import Screen
from relaycall.errors import SignalingError, TextTruncated
from relaycall.signaling.armor import MAX_TEXT
from relaycall.signaling.carried import ManualText
from relaycall.signaling.manual import ManualTransport

PAUSE = 0.3  # seconds without a character: then a paste is over
LOOK = 0.2  # seconds between looks at the file


class Carrier:
    """Carries the texts of one mailbox. A context manager: it works within.

    Args:
        transport: open.
        screen, keyboard: where texts are shown and pasted.
        text_out: the file to write ours to, instead of showing them.
        text_in: the file to take theirs from, instead of having them pasted at a terminal.
        qr: show ours as QR codes, too.
        answered: each of ours is answered by one of theirs.
    """

    def __init__(
        self,
        transport: ManualTransport,
        screen: Screen,
        keyboard: Keyboard,
        *,
        text_out: Path | None,
        text_in: Path | None,
        qr: bool,
        answered: bool,
    ) -> None:
        self._transport = transport
        self._screen = screen
        self._keyboard = keyboard
        self._text_out = text_out
        self._text_in = text_in
        self._qr = qr
        self._answered = answered
        self._listening = asyncio.Event()
        self._pasted = ""
        self._told_end = False
        self._news = asyncio.Event()
        self._seen = ""
        transport.on_text = self._give

    def __enter__(self) -> Carrier:
        self._task = asyncio.ensure_future(self._take())
        return self

    def __exit__(self, *_: object) -> None:
        self._task.cancel()
        self.rest()

    def listen(self) -> None:
        """Their next text may come."""
        if not self._listening.is_set():
            self._pasted = ""
            self._told_end = False
            self._listening.set()
            if self._text_in is None:
                self._keyboard.on_text = self._paste
                self._screen.ask("Paste their text here:")
            else:
                self._screen.ask(f"Their text is taken from {self._text_in}.")

    def rest(self) -> None:
        """Nothing is to come; keys are keys again."""
        self._listening.clear()
        self._keyboard.on_text = None

    # --- ours ---------------------------------------------------------------------------------------------------------

    async def _give(self, text: ManualText) -> None:
        if self._text_out is not None:
            await asyncio.to_thread(_write, self._text_out, text.text)
            self._screen.say("text", f"Your text is in {self._text_out}; have it brought to them.", text=text.text)
        else:
            self._screen.give("text", "Have this text brought to them, in any way:", text.text)
        if self._qr:
            size = shutil.get_terminal_size()
            code = qr_text(text.text, size.columns, size.lines)
            self._screen.ask(code.reason if code.picture is None else code.picture)
        if self._answered:
            self.listen()

    # --- theirs -------------------------------------------------------------------------------------------------------

    def _paste(self, text: str) -> None:
        if text == "q" and not self._pasted.strip() and self._keyboard.on_key is not None:
            self._keyboard.on_key(text)
            return
        self._pasted = (self._pasted + text)[-MAX_TEXT:]
        self._news.set()

    async def _take(self) -> None:
        while True:
            await self._listening.wait()
            text = await (self._next_paste() if self._text_in is None else self._next_file(self._text_in))
            if not self._listening.is_set() or not text.strip():
                continue
            try:
                await self._transport.accept(text)
            except TextTruncated as error:
                if error.where == "end" and self._text_in is None:
                    self._wait_for_end()
                    continue
                self._refuse(error)
            except SignalingError as error:
                self._refuse(error)
            else:
                self._screen.say("text_taken", "Their text is taken.")
                self.rest()

    def _wait_for_end(self) -> None:
        """There is more to come: it is told once, since a slow line brings a text in many pieces."""
        if not self._told_end:
            self._told_end = True
            self._screen.ask("Its end is missing so far: paste the rest, or all of it again.")

    def _refuse(self, error: SignalingError) -> None:
        self._pasted = ""
        self._told_end = False
        self._screen.say(
            "refused",
            f"{error.sentence} {error.next_step}",
            code=error.code,
            sentence=error.sentence,
            next_step=error.next_step,
        )

    async def _next_paste(self) -> str:
        """All that was pasted, once nothing more comes for a moment."""
        await self._news.wait()
        while self._news.is_set():
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), PAUSE)
        return self._pasted

    async def _next_file(self, path: Path) -> str:
        """What is in the file, once that is something new."""
        while True:
            text = await asyncio.to_thread(_read, path)
            if text != self._seen:
                self._seen = text
                return text
            await asyncio.sleep(LOOK)


def _read(path: Path) -> str:
    """What is in the file; nothing if there is none yet."""
    try:
        if not path.is_file():
            return ""
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(MAX_TEXT + 1)
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    """At once, so that nobody reads half of it. Raises SignalingError."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_text(text + "\n", encoding="ascii")
        beside.replace(path)
    except (OSError, ValueError):
        raise SignalingError(
            f"The text could not be written to {path}.", "Check the folder and its permissions."
        ) from None
