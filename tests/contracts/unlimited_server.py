"""`relaycall serve` without limits, on a Redis: the contract asks more often than anybody may."""

from __future__ import annotations

import asyncio
import json
import os

from relaycall.server.signaling import SignalingServer
from relaycall.server.signaling_redis import RedisStore
from tests.contracts.signaling_rigs import PLENTY


async def main() -> None:
    store = RedisStore(os.environ["RELAYCALL_REDIS"])
    async with SignalingServer(store=store, limits=PLENTY) as server:
        print(json.dumps({"urls": [server.url("ws")]}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
