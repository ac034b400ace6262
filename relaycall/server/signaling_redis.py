"""The mailboxes of several signaling servers, in one Redis: a client may come back to any of them and loses nothing.

How it works. A mailbox is a stream with what waits, a hash that knows each envelope's place in it and who was given it
first, and a sorted set of the envelopes known for a minute. Each change is one script, so that servers do not get in
each other's way. All of it expires by itself; Redis's own clock is the only one. Who is attached is told by a channel
of the mailbox: that something came, or that another reader has taken over.

A nameplate is two keys: its number holds the mailbox, and once it is claimed also by which claim; the mailbox holds the
number until then.

Redis 7 or newer. It should keep nothing on disk (`save ""`, `appendonly no`), and have a `maxmemory` with `noeviction`:
what does not fit is then refused as BUSY.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import struct
from collections.abc import Awaitable
from typing import Any, TypeVar

from relaycall.errors import ConfigError, ExtraMissing
from relaycall.signaling.base import ENVELOPE_LIFETIME, MAILBOX_SIZE, QUEUE, envelope_id
from relaycall.signaling.frames import EPOCH_SIZE, Verdict
from relaycall.signaling.mailboxes import IDLE, REMEMBERED, Reader, Waiting
from relaycall.signaling.nameplates import CLAIM_LIFETIME, NAMEPLATE_DIGITS, NAMEPLATE_LIFETIME

try:
    import redis.asyncio as aioredis
    from redis.exceptions import OutOfMemoryError, RedisError
except ImportError:
    raise ExtraMissing(
        "A store in Redis takes the package redis.", "Install it: pip install 'relaycall[redis]'."
    ) from None

PREFIX = "relaycall:"
NAMEPLATES = f"{PREFIX}{{nameplate}}:".encode()  # before a number or a mailbox; the braces keep all on one node
TIMEOUT = 5.0  # seconds for Redis to answer
CONNECTIONS = 16  # to Redis
REFRESH = IDLE / 3  # seconds between two times that attached owners are confirmed
_CURSOR = struct.Struct("!QQ")
T = TypeVar("T")

# Each script's keys are those of one mailbox: stream, hash, sorted set, owner, sessions that were replaced.
_NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""
_FORGET_OLD = """
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - ARGV[1])
for _, old in ipairs(redis.call('XRANGE', KEYS[1], '-', now - ARGV[1])) do
  redis.call('XDEL', KEYS[1], old[1])
  redis.call('HDEL', KEYS[2], 'p' .. old[2][2], 'f' .. old[2][2])
end
"""
_EXPIRE = """
for key = 1, 3 do redis.call('PEXPIRE', KEYS[key], ARGV[1]) end
"""
# ARGV: lifetime ms, envelope id, envelope, queue, remembered, channel. With its first line, Redis refuses the whole
# script when its memory is full.
PUT = f"""#!lua
{_NOW}{_FORGET_OLD}
if redis.call('ZSCORE', KEYS[3], ARGV[2]) then return 0 end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[4]) then return 1 end
local place = redis.call('XADD', KEYS[1], '*', 'i', ARGV[2], 'e', ARGV[3])
redis.call('HSET', KEYS[2], 'p' .. ARGV[2], place)
redis.call('ZADD', KEYS[3], now, ARGV[2])
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - ARGV[5])
{_EXPIRE}
redis.call('PUBLISH', ARGV[6], 'news')
return 0
"""
# ARGV: lifetime ms, session, cursor ("" for the start)
AFTER = f"""
if redis.call('GET', KEYS[4]) ~= ARGV[2] then return false end
{_NOW}{_FORGET_OLD}
local found = redis.call('XRANGE', KEYS[1], ARGV[3], '+', 'COUNT', 1)[1]
if not found then return false end
local first = 'f' .. found[2][2]
redis.call('HSETNX', KEYS[2], first, ARGV[2])
return {{found[1], found[2][4], redis.call('HGET', KEYS[2], first)}}
"""
# ARGV: lifetime ms, session, envelope id
ACKNOWLEDGE = f"""
if redis.call('GET', KEYS[4]) ~= ARGV[2] then return 0 end
local place = redis.call('HGET', KEYS[2], 'p' .. ARGV[3])
if not place then return 0 end
{_NOW}
redis.call('XDEL', KEYS[1], place)
redis.call('HDEL', KEYS[2], 'p' .. ARGV[3], 'f' .. ARGV[3])
redis.call('ZADD', KEYS[3], now, ARGV[3])
{_EXPIRE}
return 1
"""
# ARGV: idle ms, session, channel, whether to become the owner whoever is. Returns a number that grows, or 0.
ATTACH = """
local owner = redis.call('GET', KEYS[4])
if redis.call('HEXISTS', KEYS[5], ARGV[2]) == 1 then return 0 end
if owner and owner ~= ARGV[2] then
  if ARGV[4] == '0' then return 0 end
  redis.call('HSET', KEYS[5], owner, '')
  redis.call('PEXPIRE', KEYS[5], ARGV[1])
end
redis.call('SET', KEYS[4], ARGV[2], 'PX', ARGV[1])
local t = redis.call('TIME')
local number = t[1] * 1000000 + t[2]
redis.call('PUBLISH', ARGV[3], string.format('%.0f', number))
return number
"""
# ARGV: mailbox, lifetime ms, digits of the longest number, where among those of one length to begin, from 0 to 1.
# Returns the number, or 0.
ALLOCATE = """#!lua
local known = redis.call('GET', KEYS[1] .. ARGV[1])
if known then return tonumber(known) end
for digits = 1, tonumber(ARGV[3]) do
  local first = 10 ^ (digits - 1)
  local count = 9 * first
  for step = math.floor(ARGV[4] * count), math.floor(ARGV[4] * count) + count - 1 do
    local number = string.format('%d', first + step % count)
    if redis.call('SET', KEYS[1] .. number, ARGV[1], 'NX', 'PX', ARGV[2]) then
      redis.call('SET', KEYS[1] .. ARGV[1], number, 'PX', ARGV[2])
      return tonumber(number)
    end
  end
end
return 0
"""
# ARGV: number, claim, its lifetime ms. It deletes before it sets, which a full Redis allows.
CLAIM = f"""
local held = redis.call('GET', KEYS[1] .. ARGV[1])
if not held then return false end
local mailbox, claim = string.sub(held, 1, {MAILBOX_SIZE}), string.sub(held, {MAILBOX_SIZE + 1})
if claim == '' then
  redis.call('DEL', KEYS[1] .. mailbox)
  redis.call('SET', KEYS[1] .. ARGV[1], mailbox .. ARGV[2], 'PX', ARGV[3])
elseif claim ~= ARGV[2] then
  return false
end
return mailbox
"""
# ARGV: mailbox
RELEASE = """
local number = redis.call('GET', KEYS[1] .. ARGV[1])
if number then redis.call('DEL', KEYS[1] .. ARGV[1], KEYS[1] .. number) end
"""


class RedisStore:
    """A `Store` in Redis.

    Args:
        url: `redis://host:port/number`, `rediss://` with TLS; it may hold a password.
        queue: envelopes that wait in one mailbox.

    Raises:
        ConfigError: the URL is not usable.
    """

    def __init__(self, url: str, *, queue: int = QUEUE) -> None:
        pool = _pool(url)
        if pool is None:
            raise ConfigError("The URL of Redis is not one.", "Write redis://host:6379/0.")
        self._pool = pool
        self._redis = aioredis.Redis(connection_pool=self._pool)
        self._put, self._after, self._acknowledge, self._attach = map(
            self._redis.register_script, (PUT, AFTER, ACKNOWLEDGE, ATTACH)
        )
        self._allocate, self._claim, self._release = map(self._redis.register_script, (ALLOCATE, CLAIM, RELEASE))
        self._queue = queue
        self._lifetime = int(ENVELOPE_LIFETIME * 1000)
        self._idle = int(IDLE * 1000)
        self._secret = secrets.token_bytes(32)
        self._readers: dict[bytes, tuple[int, Reader]] = {}  # by channel; a later number replaces an earlier one
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return "RedisStore()"

    async def open(self) -> None:
        """Connect. Raises ConfigError if Redis does not answer."""
        try:
            await self.epoch()
            self._pubsub: Any = self._redis.pubsub()
            await _translated(self._pubsub.subscribe(f"{PREFIX}all"))
        except OSError:
            await self._redis.aclose()
            await self._pool.disconnect()
            raise ConfigError("Redis does not answer.", "Check its URL and password, and that it is running.") from None
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._refresh())]

    async def close(self) -> None:
        """Disconnect. What is in Redis stays for the other servers."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        with contextlib.suppress(RedisError, OSError):
            await self._pubsub.aclose()
            await self._redis.aclose()
        await self._pool.disconnect()

    async def secret(self) -> bytes:
        return self._secret

    async def epoch(self) -> bytes:
        """Redis's, made by who comes first; the secret, which must be the same for all servers, is made with it."""
        pipeline = self._redis.pipeline()
        pipeline.set(f"{PREFIX}epoch", secrets.token_bytes(EPOCH_SIZE), nx=True)
        pipeline.set(f"{PREFIX}secret", self._secret, nx=True)
        pipeline.mget(f"{PREFIX}epoch", f"{PREFIX}secret")
        found = await _translated(pipeline.execute())
        epoch, self._secret = found[2]
        return bytes(epoch)

    async def put(self, mailbox: bytes, envelope: bytes) -> Verdict:
        key, channel, known = envelope_id(envelope), _channel(mailbox), self._queue + REMEMBERED
        try:
            verdict = await _translated(
                self._put(_keys(mailbox), [self._lifetime, key, envelope, self._queue, known, channel])
            )
        except OutOfMemoryError:
            return Verdict.BUSY
        return Verdict(verdict)

    async def own(self, mailbox: bytes, session: bytes) -> bool:
        return bool(await _translated(self._attach(_keys(mailbox), [self._idle, session, _channel(mailbox), 1])))

    async def owns(self, mailbox: bytes, session: bytes) -> bool:
        return await _translated(self._redis.get(_keys(mailbox)[3])) in (None, session)

    async def attach(self, mailbox: bytes, session: bytes, reader: Reader) -> bool:
        channel = _channel(mailbox)
        number = await _translated(self._attach(_keys(mailbox), [self._idle, session, channel, 0]))
        if not number:
            return False
        before = self._readers.get(channel)
        self._readers[channel] = number, reader
        if before is not None:
            before[1].replaced()
        await _translated(self._pubsub.subscribe(channel))
        return True

    async def detach(self, mailbox: bytes, reader: Reader) -> None:
        channel = _channel(mailbox)
        attached = self._readers.get(channel)
        if attached is not None and attached[1] is reader:
            del self._readers[channel]
            await _translated(self._pubsub.unsubscribe(channel))

    async def after(self, mailbox: bytes, session: bytes, cursor: bytes) -> Waiting | None:
        place = "({}-{}".format(*_CURSOR.unpack(cursor))
        found = await _translated(self._after(_keys(mailbox), [self._lifetime, session, place]))
        if not found:
            return None
        milliseconds, _, number = found[0].partition(b"-")
        return Waiting(_CURSOR.pack(int(milliseconds), int(number)), found[2] != session, found[1])

    async def acknowledge(self, mailbox: bytes, session: bytes, key: bytes) -> None:
        await _translated(self._acknowledge(_keys(mailbox), [self._lifetime, session, key]))

    async def allocate_nameplate(self, mailbox: bytes) -> int | None:
        lifetime = int(NAMEPLATE_LIFETIME * 1000)
        try:
            allocate = self._allocate([NAMEPLATES], [mailbox, lifetime, NAMEPLATE_DIGITS, random.random()])
            return await _translated(allocate) or None
        except OutOfMemoryError:
            return None

    async def claim_nameplate(self, nameplate: int, claim: bytes) -> bytes | None:
        return await _translated(self._claim([NAMEPLATES], [nameplate, claim, int(CLAIM_LIFETIME * 1000)]))

    async def release_nameplate(self, mailbox: bytes) -> None:
        await _translated(self._release([NAMEPLATES], [mailbox]))

    async def _listen(self) -> None:
        """Tell the readers. After a lost connection, and once a subscription holds, they look for themselves."""
        while True:
            try:
                message = await self._pubsub.get_message(timeout=REFRESH)
            except (RedisError, OSError):
                await asyncio.sleep(0.2)
                for _, reader in list(self._readers.values()):
                    reader.news()
                continue
            attached = self._readers.get(message["channel"]) if message is not None else None
            if message is None or attached is None:
                continue
            number, reader = attached
            if message["type"] == "subscribe" or message["data"] == b"news":
                reader.news()
            elif message["type"] == "message" and int(message["data"]) > number:
                reader.replaced()

    async def _refresh(self) -> None:
        """Confirm who owns the mailboxes that are read here, and have them looked into in case a message was lost."""
        while True:
            await asyncio.sleep(REFRESH)
            pipeline = self._redis.pipeline(transaction=False)
            for channel, (_, reader) in list(self._readers.items()):
                pipeline.pexpire(channel.removesuffix(b":c") + b":o", self._idle)
                reader.news()
            with contextlib.suppress(OSError):
                await _translated(pipeline.execute())


def _pool(url: str) -> aioredis.BlockingConnectionPool | None:
    """Connections to Redis, or None for a bad URL. The error, which may quote the password, is left behind."""
    with contextlib.suppress(ValueError, RedisError):
        return aioredis.BlockingConnectionPool.from_url(
            url, max_connections=CONNECTIONS, timeout=TIMEOUT, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT
        )
    return None


async def _translated(call: Awaitable[T]) -> T:
    """What the call gives. Raises ConnectionError for whatever Redis raises, but for OutOfMemoryError."""
    try:
        return await call
    except OutOfMemoryError:
        raise
    except RedisError:
        pass
    raise ConnectionError("Redis failed")


def _keys(mailbox: bytes) -> list[bytes]:
    """Stream, hash, sorted set, owner and former owners of a mailbox; the braces keep them on one node of a cluster."""
    base = f"{PREFIX}{{{mailbox.hex()}}}".encode()
    return [base + b":s", base + b":h", base + b":k", base + b":o", base + b":r"]


def _channel(mailbox: bytes) -> bytes:
    return f"{PREFIX}{{{mailbox.hex()}}}:c".encode()
