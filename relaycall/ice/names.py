"""Looking up names without letting a hanging resolver hold up the program."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from concurrent.futures import Future

Found = list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int] | tuple[str, int, int, int]]]


async def getaddrinfo(host: str, port: int) -> Found:
    """`socket.getaddrinfo`, in a daemon thread of its own: the event loop's executor would be joined at exit.

    An IP literal is answered at once, without a thread. Cancelling it leaves the thread to end by itself.

    Raises:
        OSError, UnicodeError: the name has no address, or is none.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return _ask(host, port)
    future: Future[Found] = Future()

    def look_up() -> None:
        try:
            found = _ask(host, port)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(found)

    future.set_running_or_notify_cancel()
    threading.Thread(target=look_up, name="relaycall name lookup", daemon=True).start()
    return await asyncio.wrap_future(future)


def _ask(host: str, port: int) -> Found:
    return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)  # type: ignore[return-value]
