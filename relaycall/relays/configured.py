"""The relays that are configured, with their credentials."""

from __future__ import annotations

from typing import Literal, cast

from relaycall.config import EndpointSettings, RelaySettings, Settings, reveal
from relaycall.relays.credentials import CredentialsSource, FromStore, Static, TimeLimited
from relaycall.relays.server import RelayServer
from relaycall.store import Store


async def configured_relays(settings: Settings, *, store: Store | None = None) -> list[RelayServer]:
    """All of them, in the order they are configured, those of the endpoints last.

    Args:
        settings: what is configured.
        store: where `keyring:` looks; by default what `open_store` gives.

    Raises:
        ConfigError, StoreError: a secret cannot be had.
        CredentialsError: an endpoint gave no relays.
    """
    found = []
    for relay in settings.relays:
        found += await relays_of(settings, relay, store=store)
    for endpoint in settings.endpoints:
        found += await relays_from(endpoint, laboratory=settings.laboratory, store=store)
    return found


async def relays_of(settings: Settings, relay: RelaySettings, *, store: Store | None = None) -> list[RelayServer]:
    """One configured relay by each of its ways, with the credentials that are its own, or else those for all.

    Raises:
        ConfigError, StoreError: a secret cannot be had.
    """
    source = await _source(settings, relay, store)
    credentials = None if source is None else await source.credentials()
    username, password = (credentials.username, credentials.password) if credentials else (None, None)
    return [
        RelayServer.parse(
            url,
            username=username,
            password=password,
            tls_name=relay.tls_name,
            region=relay.region,
            operator=relay.operator,
        )
        for url in relay.urls
    ]


async def _source(settings: Settings, relay: RelaySettings, store: Store | None) -> CredentialsSource | None:
    if relay.shared_secret is not None:
        return TimeLimited(await reveal(relay.shared_secret, store=store), relay.ttl)
    username, credential = relay.username, relay.credential
    if credential is None:
        username, credential = settings.username, settings.credential
    if credential is None:
        return None
    if username is None:  # it is kept together with the password
        return FromStore(credential.reveal().removeprefix("keyring:"), store)
    return Static(username, await reveal(credential, store=store))


async def relays_from(
    endpoint: EndpointSettings, *, laboratory: bool = False, store: Store | None = None
) -> list[RelayServer]:
    """The relays that an endpoint gives.

    Raises:
        ConfigError, StoreError: a secret cannot be had, or is not usable there.
        CredentialsError: it gave no relays.
    """
    from relaycall.relays.http_credentials import FromHttp

    return await FromHttp(
        await reveal(endpoint.url, store=store),
        method=cast(Literal["GET", "POST"], endpoint.method),
        body=endpoint.body,
        bearer=None if endpoint.bearer is None else await reveal(endpoint.bearer, store=store),
        headers={name: await reveal(value, store=store) for name, value in endpoint.headers.items()},
        laboratory=laboratory,
    ).relays()
