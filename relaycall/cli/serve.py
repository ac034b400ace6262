"""`relaycall serve`: a signaling server."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import secrets
import shlex
import signal
import ssl
from pathlib import Path

import click

from relaycall.errors import ConfigError
from relaycall.redact import Secret
from relaycall.relays.server import RelayServer
from relaycall.server.signaling import SignalingServer
from relaycall.server.signaling_store import Store
from relaycall.server.turn import Relay
from relaycall.store.references import read_secret_file

USER = "development"  # of the relay of --turn
CANNOT_SEE = (
    "It sees sealed envelopes of one size and random mailbox ids, and keeps each envelope for a minute at most.",
    "It sees the address that connects to it, and which mailboxes that address reads and sends to; it keeps no log.",
    "It does not see who calls whom by name, what is in an envelope, or anything of a call once it is set up.",
)


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="IP address to listen on.")
@click.option(
    "--port", default=8443, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 for any free one."
)
@click.option("--name", "names", multiple=True, help="Host name that clients know this server by; may be repeated.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its private key, PEM.")
@click.option("--trusted-header", help="Behind a proxy: the header with the client's address, as X-Forwarded-For.")
@click.option("--turn", is_flag=True, help="Start a relay beside it, for development.")
@click.option("--turn-url", "relays", multiple=True, help="A relay that clients get credentials for; may be repeated.")
@click.option("--turn-secret-file", type=click.Path(path_type=Path), help="File with the secret those relays share.")
@click.option("--redis", "redis_url", envvar="RELAYCALL_REDIS", help="Share the mailboxes of other servers in a Redis.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def serve(
    host: str,
    port: int,
    names: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    trusted_header: str | None,
    turn: bool,
    relays: tuple[str, ...],
    turn_secret_file: Path | None,
    redis_url: str | None,
    as_json: bool,
) -> int:
    """Run a signaling server until Ctrl-C, which ends it with 130; SIGTERM ends it with 0.

    WebSocket and HTTP are on one port. With no certificate, put a proxy with one in front, unless it is for this
    machine alone. Clients get credentials for the relays given with --turn-url if --turn-secret-file has the secret
    that they share (coturn's static-auth-secret). The variable RELAYCALL_REDIS keeps a password off the command line.
    """
    context = server_context(tls_cert, tls_key)
    if bool(relays) != (turn_secret_file is not None):
        raise ConfigError("Relays and their shared secret go together.", "Give --turn-url and --turn-secret-file.")
    secret = read_secret_file(turn_secret_file) if turn_secret_file is not None else None
    if turn and secret is not None:
        raise ConfigError("The relay of --turn has a secret of its own.", "Give either --turn or --turn-url.")
    return asyncio.run(_serve(host, port, names, context, trusted_header, turn, relays, secret, redis_url, as_json))


def server_context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """The TLS context for a certificate and its key, or None without. Raises ConfigError."""
    if (cert is None) != (key is None):
        raise ConfigError("A certificate and its key go together.", "Give --tls-cert and --tls-key.")
    if cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password="")  # an encrypted key fails instead of asking
    except (OSError, ValueError):
        raise ConfigError(
            f"The certificate {cert} and its key cannot be used.", "Both have to be PEM files, and belong together."
        ) from None
    return context


async def _serve(
    host: str,
    port: int,
    names: tuple[str, ...],
    context: ssl.SSLContext | None,
    trusted_header: str | None,
    turn: bool,
    relays: tuple[str, ...],
    secret: Secret | None,
    redis_url: str | None,
    as_json: bool,
) -> int:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with contextlib.AsyncExitStack() as stack:
        login = None
        if turn:
            secret, login = Secret(secrets.token_hex(32)), Secret(secrets.token_hex(16))
            relay = await stack.enter_async_context(development_relay(host, secret, login))
            relays = (relay.uri("udp"), relay.uri("tcp"))
        server = SignalingServer(
            host=host,
            port=port,
            ssl_context=context,
            names=names,
            store=redis_store(redis_url) if redis_url is not None else None,
            trusted_header=trusted_header,
            relays=relays,
            relay_secret=secret,
        )
        await stack.enter_async_context(server)
        _say(server, relays, login, as_json)
        await ended.wait()
    return 0


def redis_store(url: str) -> Store:
    """The store in that Redis. Raises ConfigError, and ExtraMissing without the package for it."""
    from relaycall.server.signaling_redis import RedisStore

    return RedisStore(url)


def development_relay(host: str, secret: Secret, password: Secret) -> Relay:
    """A relay at the same address, which may relay within this machine if that is where it is.

    Args:
        secret: of the credentials that clients of the server are given.
        password: of the user `USER`, who is there as long as the relay.

    Raises:
        ConfigError: it cannot be there.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ConfigError("The host of a relay must be an IP address.", "Give an IPv4 or IPv6 literal.") from None
    if address.is_unspecified:
        raise ConfigError("A relay needs one address that peers can reach.", "Give that as --host, not all addresses.")
    users = {USER: password.reveal()}
    return Relay(host=host, users=users, auth_secret=secret.reveal(), laboratory=not address.is_global)


def options_for(relay: str, password: Secret) -> str:
    """What makes a command use the relay of --turn, to be pasted behind it in bash or zsh."""
    credential = f"--credential-file <(echo {password.reveal()})"  # which is no argument that others could see
    laboratory = "" if ipaddress.ip_address(RelayServer.parse(relay).host).is_global else " --laboratory"
    return f"--relay {shlex.quote(relay)} --user {USER} {credential}{laboratory}"


def _say(server: SignalingServer, relays: tuple[str, ...], login: Secret | None, as_json: bool) -> None:
    urls = [server.url("ws"), server.url("http")]
    if as_json:
        entry: dict[str, object] = {"event": "listening", "urls": urls, "relays": list(relays)}
        if login is not None:
            entry["login"] = {"username": USER, "password": login.reveal()}
        click.echo(json.dumps(entry))
        return
    click.echo(f"Listening: {' and '.join(urls)}")
    if relays:
        click.echo(f"Clients get credentials for: {', '.join(relays)}")
    if login is not None:
        click.echo(f"For call, answer and demo, until this ends: {options_for(relays[0], login)}")
    for line in CANNOT_SEE:
        click.echo(line)
    click.echo("Ctrl-C ends it.")
