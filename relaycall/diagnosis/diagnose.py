"""The whole diagnosis, its checks side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from relaycall.config import Settings
from relaycall.diagnosis.finding import Cause, Finding, Status, failed, ok
from relaycall.diagnosis.machine import check_clock, check_openssl, check_store, check_versions
from relaycall.diagnosis.network import check_names, check_route, judge, reach
from relaycall.errors import ConfigError, RelaycallError, StoreError
from relaycall.relays.configured import relays_from, relays_of
from relaycall.relays.probe import ProbeEvent
from relaycall.relays.server import RelayServer
from relaycall.store import Store

OnStep = Callable[[str], None]
_NO_RELAY = Finding(
    "relays",
    Status.FAIL,
    "No relay is configured.",
    "Configure one, as docs/configuration.md says.",
    Cause.CONFIGURATION,
    exit_code=2,
)


async def diagnose(
    *, file: Path | None = None, laboratory: bool | None = None, on_step: OnStep = lambda _step: None
) -> list[Finding]:
    """Look at everything that a call depends on. Takes half a minute at most.

    Args:
        file: the configuration file, as for `Settings.load`.
        laboratory: allow relays on loopback and private addresses, whatever is configured.
        on_step: called with a short text at each step.

    Returns:
        What was found: about this machine first, then the way to the relays, then each relay.
    """
    settings: Settings | None = None
    try:
        settings = Settings.load(file=file, laboratory=laboratory)
        configuration = ok("configuration", _sources(settings))
    except ConfigError as error:
        configuration = failed("configuration", error, Cause.CONFIGURATION)
    on_step("this machine")
    keyring, store = await check_store(settings)
    found = [check_versions(), check_openssl(), configuration, keyring]
    on_step("the credentials and the clock")
    (relays, problems, online), clock = await asyncio.gather(
        _relays(settings, store), check_clock(settings, store=store)
    )
    found += [clock, check_route(), *problems]
    if settings is None:
        return found
    if not relays:
        return found if problems else [*found, _NO_RELAY]
    on_step("names")
    names = await check_names(relays)

    def heard(event: ProbeEvent) -> None:
        if event.result is not None:
            on_step(f"{event.server.name}: {event.result.verdict}")

    online = online or any(name.cause is not Cause.LOCAL_NETWORK for name in names)
    reached = await reach(relays, online=online, laboratory=settings.laboratory, on_progress=heard)
    return [*found, *names, *judge(relays, reached)]


async def _relays(settings: Settings | None, store: Store | None) -> tuple[list[RelayServer], list[Finding], bool]:
    """The configured relays with their credentials, what is wrong with the others, and if an endpoint answered."""
    if settings is None:
        return [], [], False
    asked = [(f"credentials of {one.urls[0]}", relays_of(settings, one, store=store)) for one in settings.relays]
    asked += [
        (f"endpoint {number}", relays_from(one, laboratory=settings.laboratory, store=store))
        for number, one in enumerate(settings.endpoints, 1)
    ]
    answers = await asyncio.gather(*(answer for _, answer in asked), return_exceptions=True)
    relays, problems, online = [], [], False
    for (check, _), answer in zip(asked, answers, strict=True):
        if isinstance(answer, RelaycallError):
            problems.append(failed(check, answer, _cause(answer)))
        elif isinstance(answer, BaseException):
            raise answer
        else:
            relays += [replace(relay, host=relay.host.lower().rstrip(".")) for relay in answer]
            online = online or check.startswith("endpoint")
    return relays, problems, online


def _cause(error: RelaycallError) -> Cause:
    if isinstance(error, StoreError):
        return Cause.STORE
    return Cause.CONFIGURATION if isinstance(error, ConfigError) else Cause.RELAY


def _sources(settings: Settings) -> str:
    count = sum(len(relay.urls) for relay in settings.relays)
    text = f"{count} relay URLs and {len(settings.endpoints)} endpoints are configured"
    places = sorted(set(settings.sources.values()))
    return f"{text} ({', '.join(places)})." if places else f"{text}."
