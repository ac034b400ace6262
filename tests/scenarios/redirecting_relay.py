"""A relay that sends its users to another server (300, RFC 8656, section 7.2), driven like `party`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any

from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.message import Class, Message, decode
from tests.scenarios.party import Answer, serve
from tests.scripted import listening


class RedirectingRelay:
    """Settings: `ip` to listen on and `transport`; `elsewhere` as [host, port]."""

    def __init__(self, settings: dict[str, Any], stack: contextlib.AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._asked = 0

    async def do_start(self) -> Answer:
        """Listen; gives the port."""
        port = await self._stack.enter_async_context(
            listening(self._redirect, self._settings["transport"], ip=self._settings["ip"])
        )
        return {"port": port}

    async def do_asked(self) -> Answer:
        """How many requests were redirected."""
        return {"requests": self._asked}

    def _redirect(self, data: bytes, _source: Address) -> list[bytes]:
        request = decode(data)
        self._asked += 1
        elsewhere = Address(*self._settings["elsewhere"])
        attributes = [a.ERROR_CODE(a.ErrorCode(300, "Try Alternate")), a.ALTERNATE_SERVER(elsewhere)]
        return [Message(request.method, Class.ERROR, request.transaction_id, attributes).encode()]


async def main() -> None:
    async with contextlib.AsyncExitStack() as stack:
        await serve(RedirectingRelay(json.loads(sys.argv[1]), stack))


if __name__ == "__main__":
    asyncio.run(main())
