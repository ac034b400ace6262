"""Who may use the relay: the long-term credential mechanism (RFC 8489, section 9.2), server side, without I/O.

Passwords come from a table of users, or are derived from a shared secret and a user name that carries its own expiry
(the "TURN REST API" that coturn and browsers know): user name `expiry[:anything]`, expiry in seconds of Unix time,
password base64(HMAC-SHA1(secret, user name)).

A nonce is a MAC over the client's address and the number of the current period, so it is checked without having been
kept: a stranger costs no memory, and learns nothing of this machine's clock.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from relaycall.redact import Secret
from relaycall.stun import attributes as a
from relaycall.stun.message import Message, long_term_key

NONCE_LIFETIME = 3600.0
# RFC 8489, sections 9.2 and 18.1: this nonce comes from a server that offers PASSWORD-ALGORITHMS.
NONCE_COOKIE = "obMatJos2gAAA"
ALGORITHMS = (a.PasswordAlgorithm(2), a.PasswordAlgorithm(1))


class Login(NamedTuple):
    """A request whose sender proved to know the password.

    Attributes:
        key: signs the answer, with SHA-256 if `sha256`.
        account: whose quota it counts against: the user name, without the expiry of a time-limited one.
    """

    username: str
    password: Secret
    key: bytes
    sha256: bool
    account: str

    def __repr__(self) -> str:
        return "<login>"


def rest_password(secret: str, username: str) -> str:
    """The password that belongs to a time-limited user name."""
    return base64.b64encode(hmac.digest(secret.encode(), username.encode(), "sha1")).decode()


class Authenticator:
    """Checks requests.

    Args:
        realm: named in every challenge.
        users: user name to password; read at each request, so it may change.
        auth_secret: the secret of time-limited credentials, or None to have none.
        random: gives that many random bytes.
        unix_time: gives Unix time in seconds, for the expiry of time-limited credentials.
    """

    def __init__(
        self,
        *,
        realm: str,
        users: Mapping[str, str],
        auth_secret: str | None,
        random: Callable[[int], bytes],
        unix_time: Callable[[], float],
    ) -> None:
        self.realm = realm
        self._users = users
        self._auth_secret = None if auth_secret is None else Secret(auth_secret)
        self._unix_time = unix_time
        self._nonce_key = random(32)
        self._nobody = Secret(random(16).hex())

    def challenge(self, source: tuple[Any, ...], now: float) -> list[tuple[a.Attribute[Any], Any]]:
        """The attributes of a 401 or 438: realm, a nonce for this source, and the algorithms."""
        return [
            a.REALM(self.realm),
            a.NONCE(self._nonce(source, _period(now))),
            a.PASSWORD_ALGORITHMS(ALGORITHMS),
        ]

    def check(self, request: Message, source: tuple[Any, ...], now: float, known: Login | None) -> Login | int:
        """The login, or the code to refuse with: 400, 401 or 438. The checks of RFC 8489, section 9.2.4, in its order.

        Args:
            source: the client's host and port come first in it.
            now: monotonic seconds.
            known: who made the allocation the request is for; that login holds beyond the expiry of its credentials,
                so that a call is not cut in the middle.
        """
        if not request.integrity_at:
            return 401
        username, nonce = request.get(a.USERNAME), request.get(a.NONCE)
        if username is None or nonce is None or not request.has(a.REALM):
            return 400
        algorithm, offered = request.get(a.PASSWORD_ALGORITHM), request.get(a.PASSWORD_ALGORITHMS)
        if (algorithm is not None or offered is not None) and (offered != ALGORITHMS or algorithm not in ALGORITHMS):
            return 400
        password = known.password if known is not None and known.username == username else self._password(username)
        # An unknown user costs the same work as a wrong password.
        secret = self._nobody if password is None else password
        key = long_term_key(username, self.realm, secret.reveal(), sha256=algorithm == ALGORITHMS[0])
        if not request.verify(key) or password is None:
            return 401
        if not self._is_fresh(nonce, source, now):
            return 438
        sha256 = algorithm is not None or request.has(a.MESSAGE_INTEGRITY_SHA256)
        account = username if username in self._users else username.partition(":")[2] or username
        return Login(username, password, key, sha256, account)

    def _password(self, username: str) -> Secret | None:
        password = self._users.get(username)
        if password is not None:
            return Secret(password)
        expiry = username.partition(":")[0]
        if self._auth_secret is None or not (expiry.isascii() and expiry.isdigit() and len(expiry) <= 12):
            return None
        if int(expiry) <= self._unix_time():
            return None
        return Secret(rest_password(self._auth_secret.reveal(), username))

    def _nonce(self, source: tuple[Any, ...], period: int) -> str:
        text = f"{source[0]} {source[1]} {period}"
        return NONCE_COOKIE + base64.b64encode(hmac.digest(self._nonce_key, text.encode(), "sha256")[:15]).decode()

    def _is_fresh(self, nonce: str, source: tuple[Any, ...], now: float) -> bool:
        given, period = nonce.encode(), _period(now)
        current = hmac.compare_digest(given, self._nonce(source, period).encode())
        previous = hmac.compare_digest(given, self._nonce(source, period - 1).encode())
        return current or previous


def _period(now: float) -> int:
    """A nonce is good in its own period and the next: for a half to the whole of NONCE_LIFETIME."""
    return int(now // (NONCE_LIFETIME / 2))
