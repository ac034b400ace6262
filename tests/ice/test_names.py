"""A resolver that hangs must not hold up the program."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

from relaycall.ice import names


async def test_a_literal_needs_no_thread() -> None:
    [(_, _, _, _, address)] = await names.getaddrinfo("127.0.0.1", 3478)
    assert address[:2] == ("127.0.0.1", 3478)


def test_a_lookup_that_hangs_does_not_keep_the_program_from_ending() -> None:
    program = textwrap.dedent(
        """
        import asyncio, socket, time
        from relaycall.errors import RelayTimeout
        from relaycall.ice.allocation import allocate
        from relaycall.relays.server import RelayServer

        socket.getaddrinfo = lambda *_, **__: time.sleep(30)
        try:
            asyncio.run(allocate(RelayServer.parse("turn:relay.test"), timeout=0.2))
        except RelayTimeout:
            print("in time")
        """
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=40, check=True)
    assert done.stdout == "in time\n"
    assert time.monotonic() - start < 15
