"""The shape of the library, held: who may import whom and what, what stays without I/O, what the front door shows.

Each rule is a function from sources to complaints. It runs over the library, where it must find nothing, and over a
small bad example, where it must find something.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

import relaycall
from relaycall import errors

ROOT = Path(__file__).parent.parent

# From the ground up: a module imports from its own layer and from those above it in this list.
LAYERS = [
    "relaycall.errors",
    "relaycall.redact",
    "relaycall.worker",
    "relaycall.events",
    "relaycall.stun",
    "relaycall.relays.server",
    "relaycall.store",
    "relaycall.config",
    "relaycall.ice",
    "relaycall.relays",
    "relaycall.diagnosis",
    "relaycall.signaling",
    "relaycall.identity",
    "relaycall.media",
    "relaycall.quality",
    "relaycall.sdp",
    "relaycall.call",
    "relaycall.peerconnection",
    "relaycall.server",
    "relaycall.testing",
    "relaycall",  # the front door, the package's __init__ alone
    "relaycall.cli",
    "relaycall.__main__",
]
# ... but not media from ice: it is given its paths, and knows them by a Protocol.
APART = [("relaycall.media", "relaycall.ice")]

# Third-party packages, by the names they are imported under, and who may import them.
IMPORTERS = {
    "aiohttp": [
        "relaycall.relays.http_credentials",
        "relaycall.signaling.network",
        "relaycall.signaling.websocket",
        "relaycall.signaling.http",
        "relaycall.server",
    ],
    "aioice": ["relaycall.ice.aioice_shape"],
    "aiortc": ["relaycall.media", "relaycall.peerconnection"],
    "av": ["relaycall.media"],
    "click": ["relaycall.cli"],
    "cryptography": [
        "relaycall.media.srtp",
        "relaycall.identity",
        "relaycall.server",
        "relaycall.call",
        "relaycall.store.vault_format",
        "relaycall.diagnosis.machine",
        "relaycall.signaling.keys",
    ],
    "dns": ["relaycall.relays.discovery"],
    "keyring": ["relaycall.store.keyring_store"],
    "msgspec": [
        "relaycall.call.description",
        "relaycall.call.record",
        "relaycall.config",
        "relaycall.identity",
        "relaycall.relays.ice_servers",
    ],
    "platformdirs": ["relaycall.store", "relaycall.config", "relaycall.cli"],
    "prometheus_client": ["relaycall.call.metrics"],
    "pyee": ["relaycall.call.emitter"],
    "pylibsrtp": ["relaycall.media"],
    "redis": ["relaycall.server.signaling_redis"],
    "doubleratchet": ["relaycall.identity.ratchet"],
    "rich": ["relaycall.cli"],
    "segno": ["relaycall.cli"],
    "sounddevice": ["relaycall.media.devices.portaudio"],
    "spake2": ["relaycall.identity.pairing"],
    "yaml": ["relaycall.config"],
}
# Those that are installed under another name.
INSTALLED_AS = {
    "dns": "dnspython",
    "doubleratchet": "DoubleRatchet",
    "prometheus_client": "prometheus-client",
    "pytest_asyncio": "pytest-asyncio",
    "yaml": "PyYAML",
}
# Development dependencies that are run, or loaded by pytest, and not imported.
TOOLS = {"furo", "mypy", "myst-parser", "pytest-asyncio", "pytest-timeout", "pytest-xdist", "ruff", "sphinx"}
DEVELOPMENT = {"bench", "dev", "docs"}  # extras that the library does not import

# Modules and packages that do no I/O and read no clock: time and randomness come in as arguments.
SANS_IO = [
    "relaycall.stun",
    "relaycall.ice.agent",
    "relaycall.ice.agent_events",
    "relaycall.ice.decisions",
    "relaycall.ice.failover",
    "relaycall.ice.pacing",
    "relaycall.ice.pair",
    "relaycall.ice.peer_watch",
    "relaycall.ice.trial",
    "relaycall.call.control",
    "relaycall.call.control_format",
    "relaycall.call.description",
    "relaycall.call.messages",
    "relaycall.call.record",
    "relaycall.call.state",
    "relaycall.identity.card",
    "relaycall.identity.contact",
    "relaycall.identity.envelope",
    "relaycall.identity.handshake",
    "relaycall.identity.keys",
    "relaycall.identity.one_time_code",
    "relaycall.identity.pairing",
    "relaycall.identity.prekeys",
    "relaycall.identity.ratchet_message",
    "relaycall.identity.ratchet_state",
    "relaycall.identity.safety",
    "relaycall.identity.words",
    "relaycall.media.devices.echo",
    "relaycall.relays.keeping",
    "relaycall.relays.ranking",
    "relaycall.quality",
    "relaycall.sdp",
    "relaycall.signaling.armor",
    "relaycall.signaling.carried",
    "relaycall.signaling.frames",
    "relaycall.signaling.keys",
    "relaycall.signaling.mailboxes",
    "relaycall.signaling.nameplates",
    "relaycall.signaling.session",
    "relaycall.server.signaling_access",
    "relaycall.server.signaling_limits",
    "relaycall.call.report.charts",
    "relaycall.call.report.course",
    "relaycall.call.report.facts",
    "relaycall.call.report.figures",
    "relaycall.call.report.naming",
    "relaycall.call.report.page",
    "relaycall.call.report.plots",
    "relaycall.call.report.report",
    "relaycall.call.report.sight",
    "relaycall.call.report.style",
    "relaycall.media.queueing",
    "relaycall.media.video.arrivals",
    "relaycall.media.video.bitstream",
    "relaycall.media.video.fates",
    "relaycall.media.video.feedback",
    "relaycall.media.video.frames",
    "relaycall.media.video.history",
    "relaycall.media.video.pacer",
    "relaycall.media.video.pieces",
]
IO_MODULES = {"asyncio", "concurrent", "multiprocessing", "select", "selectors", "socket", "subprocess", "threading"}
IMPURE_MODULES = IO_MODULES | {"datetime", "os", "pathlib", "random", "secrets", "signal", "ssl", "time", "uuid"}
IMPURE_CALLS = {"input", "open", "print", "__import__"}
CLOCKS = {"monotonic", "monotonic_ns", "now", "perf_counter", "perf_counter_ns", "process_time", "time", "time_ns"}
CLOCKS |= {"get_event_loop", "get_running_loop", "today", "utcnow"}
ASYNC = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)

MAX_LINES = 400
VAGUE_NAMES = {"common", "helper", "helpers", "misc", "util", "utils"}
# aiortc's and aioice's private names, but for attributes of our own of the same name.
PRIVATE = re.compile(
    r"(?<!self)\._(connection|recv|send|send_rtp|nominated|rtp_router|register_rtp|handle_rt)|_RTC[A-Z][A-Za-z]+__"
)
SEAM = ["relaycall.media", "relaycall.peerconnection", "relaycall.ice.connection"]


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


class Source:
    """One file: its path from the root, and its text."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        parts = PurePosixPath(path).with_suffix("").parts
        self.is_package = parts[-1] == "__init__"
        self.module = ".".join(parts[:-1] if self.is_package else parts)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def imports(self) -> list[tuple[int, str]]:
        """Line and full dotted name of everything imported anywhere, in functions and for type checking too."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [(node.lineno, name.name) for name in node.names]
            elif isinstance(node, ast.ImportFrom):
                start = self.module.split(".") + [""] * self.is_package
                base = ".".join([*start[: -node.level], *([node.module] if node.module else [])])
                base = base if node.level else str(node.module)
                found += [(node.lineno, f"{base}.{name.name}") for name in node.names]
        return found

    def calls(self) -> Iterator[tuple[int, str, bool]]:
        """Line, last part of the name, and whether it is an attribute, of every function called."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                is_attribute = isinstance(node.func, ast.Attribute)
                yield node.lineno, node.func.attr if is_attribute else node.func.id, is_attribute

    def is_in(self, packages: list[str]) -> bool:
        return any(is_within(self.module, package) for package in packages)


def sources(folder: str) -> list[Source]:
    paths = sorted((ROOT / folder).rglob("*.py"))
    return [Source(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths]


LIBRARY = sources("relaycall")
TESTS = sources("tests") + sources("examples")
Complaints = list[str]


def layer_of(name: str) -> str:
    """The layer an imported name lies in: the longest that holds it. What is in no other is the front door's."""
    return max((layer for layer in LAYERS if is_within(name, layer)), key=len)


def layer_held_to(source: Source) -> str | None:
    """The layer of a module. A package runs whenever a module of it is imported, so it is held to its lowest layer."""
    if source.module == "relaycall":
        return "relaycall"
    if source.is_package:
        for layer in LAYERS:
            if is_within(layer, source.module):
                return layer
    layer = layer_of(source.module)
    return layer if layer != "relaycall" else None


# --- the rules -------------------------------------------------------------------------------------------------------


def import_direction(library: list[Source]) -> Complaints:
    found = []
    for source in library:
        layer = layer_held_to(source)
        if layer is None:
            found.append(f"{source.path} belongs to no layer")
            continue
        for line, name in source.imports:
            if not is_within(name, "relaycall"):
                continue
            target = layer_of(name)
            if LAYERS.index(target) > LAYERS.index(layer):
                found.append(f"{source.path}:{line} imports {name}, which lies above it")
            if any(is_within(source.module, one) and is_within(name, other) for one, other in APART):
                found.append(f"{source.path}:{line} imports {name}, which it must not know")
        if layer not in ("relaycall", "relaycall.cli"):
            found += [
                f"{source.path}:{line} imports by a computed name"
                for line, name, _ in source.calls()
                if name in ("import_module", "__import__")
            ]
    return found


def third_party(library: list[Source]) -> Iterator[tuple[Source, int, str]]:
    for source in library:
        for line, name in source.imports:
            top = name.split(".")[0]
            if top not in sys.stdlib_module_names and top not in ("relaycall", "tests"):
                yield source, line, top


def third_party_importers(library: list[Source]) -> Complaints:
    return [
        f"{source.path}:{line} may not import {name}"
        for source, line, name in third_party(library)
        if not source.is_in(IMPORTERS.get(name, []))
    ]


def dependencies(library: list[Source], tests: list[Source], project: dict[str, Any]) -> Complaints:
    """What is declared is imported, and what is imported is declared."""

    def names(requirements: list[str]) -> set[str]:
        imported_as = {installed: imported for imported, installed in INSTALLED_AS.items()}
        installed = {re.split(r"[^A-Za-z0-9_.-]", requirement)[0] for requirement in requirements}
        return {imported_as.get(name, name) for name in installed}

    extras = project.get("optional-dependencies", {})
    runtime = names([*project["dependencies"], *itertools.chain(*(extras[key] for key in extras.keys() - DEVELOPMENT))])
    development = names([*itertools.chain(*(extras[key] for key in extras.keys() & DEVELOPMENT))])
    used = {name for _, _, name in third_party(library)}
    used_by_tests = {name for _, _, name in third_party(tests)}
    return [
        *(f"{name} is declared, and nothing in relaycall imports it" for name in sorted(runtime - used)),
        *(f"{name} is imported, and not declared" for name in sorted(used - runtime)),
        *(f"{name} is declared for development, and not used" for name in sorted(development - used_by_tests - TOOLS)),
        *(f"tests import {name}, and it is not declared" for name in sorted(used_by_tests - runtime - development)),
        *(f"{name} has importers, and is not declared" for name in sorted(set(IMPORTERS) - runtime)),
    ]


def sans_io(library: list[Source]) -> Complaints:
    found = []
    doing_io = {
        source.module: {name.split(".")[0] for _, name in source.imports} & IO_MODULES
        for source in library
        if not source.is_in(SANS_IO)
    }
    for source in library:
        if not source.is_in(SANS_IO):
            continue
        for line, name in source.imports:
            if name.split(".")[0] in IMPURE_MODULES:
                found.append(f"{source.path}:{line} imports {name}")
            if any(doing_io.get(module) for module in (name, name.rpartition(".")[0])):
                found.append(f"{source.path}:{line} imports {name}, which does I/O")
        for line, name, is_attribute in source.calls():
            if name in (CLOCKS if is_attribute else CLOCKS | IMPURE_CALLS):
                found.append(f"{source.path}:{line} calls {name}()")
        found += [f"{source.path}:{node.lineno} awaits" for node in ast.walk(source.tree) if isinstance(node, ASYNC)]
    return found


def file_size(library: list[Source]) -> Complaints:
    sizes = [(source.path, len(source.text.splitlines())) for source in library]
    return [f"{path} has {size} lines" for path, size in sizes if size > MAX_LINES]


def vague_names(library: list[Source]) -> Complaints:
    return [source.path for source in library if VAGUE_NAMES & {part.strip("_") for part in source.module.split(".")}]


def private_names(library: list[Source]) -> Complaints:
    return [
        f"{source.path}:{number} {line.strip()}"
        for source in library
        if not source.is_in(SEAM)
        for number, line in enumerate(source.text.splitlines(), 1)
        if PRIVATE.search(line)
    ]


RULES: list[Callable[[list[Source]], Complaints]] = [
    import_direction,
    third_party_importers,
    sans_io,
    file_size,
    vague_names,
    private_names,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_library_keeps_the_rule(rule: Callable[[list[Source]], Complaints]) -> None:
    assert rule(LIBRARY) == []


def test_the_rules_see_the_library() -> None:
    """The files are found, and what is known to be imported is seen."""
    modules = {source.module: source for source in LIBRARY}
    assert {"relaycall", "relaycall.errors", "relaycall.stun", "relaycall.cli"} <= set(modules)
    assert "relaycall.errors.MalformedMessage" in {name for _, name in modules["relaycall.stun.message"].imports}
    assert {"aiortc", "av", "click"} <= {name for _, _, name in third_party(LIBRARY)}
    assert {"relaycall.stun.message", "relaycall.ice.agent"} <= {
        found.module for found in LIBRARY if found.is_in(SANS_IO)
    }


BAD = [
    (import_direction, "relaycall/stun/x.py", "from relaycall.ice.agent import Agent"),
    (import_direction, "relaycall/stun/x.py", "import relaycall.ice.agent"),
    (import_direction, "relaycall/stun/x.py", "from relaycall import ice"),
    (import_direction, "relaycall/stun/x.py", "from ..ice import agent"),
    (import_direction, "relaycall/stun/__init__.py", "from ..ice import agent"),
    (import_direction, "relaycall/stun/x.py", "def f():\n    from relaycall.ice import agent"),
    (import_direction, "relaycall/stun/x.py", "if TYPE_CHECKING:\n    from relaycall.ice import agent"),
    (import_direction, "relaycall/stun/x.py", "from relaycall import Phone"),
    (import_direction, "relaycall/testing.py", "import relaycall"),
    (import_direction, "relaycall/ice/x.py", "from relaycall.relays import pool"),
    (import_direction, "relaycall/ice/x.py", "import relaycall.relays"),
    (import_direction, "relaycall/relays/__init__.py", "from relaycall.relays.pool import Pool"),
    (import_direction, "relaycall/relays/server.py", "from relaycall.relays.pool import Pool"),
    (import_direction, "relaycall/media/x.py", "from relaycall.ice.connection import RelayConnection"),
    (import_direction, "relaycall/errors.py", "import relaycall.redact"),
    (import_direction, "relaycall/__init__.py", "from relaycall.cli import main"),
    (import_direction, "relaycall/call/x.py", "from relaycall.server.turn import TurnRelay"),
    (import_direction, "relaycall/stun/x.py", "importlib.import_module('relaycall.' + name)"),
    (import_direction, "relaycall/stun/x.py", "__import__('relaycall.ice')"),
    (import_direction, "relaycall/cli/x.py", "import relaycall.__main__"),
    (import_direction, "relaycall/elsewhere.py", ""),
    (import_direction, "relaycall/elsewhere/__init__.py", ""),
    (third_party_importers, "relaycall/cli/x.py", "import aiortc"),
    (third_party_importers, "relaycall/call/x.py", "from aiortc.rtcrtpsender import RTCRtpSender"),
    (third_party_importers, "relaycall/stun/x.py", "def f():\n    import click"),
    (third_party_importers, "relaycall/media/x.py", "from cryptography.hazmat import primitives"),
    (third_party_importers, "relaycall/call/phone.py", "import msgspec"),
    (third_party_importers, "relaycall/ice/agent.py", "import aioice"),
    (third_party_importers, "relaycall/clicks.py", "import click"),
    (third_party_importers, "relaycall/media/x.py", "import numpy as np"),
    *((sans_io, "relaycall/stun/x.py", f"import {module}") for module in sorted(IMPURE_MODULES)),
    (sans_io, "relaycall/ice/agent.py", "from time import monotonic"),
    (sans_io, "relaycall/ice/pair.py", "def f():\n    import os.path"),
    (sans_io, "relaycall/quality/x.py", "def f(loop):\n    return loop.time()"),
    (sans_io, "relaycall/call/state.py", "def f(clock):\n    return clock.monotonic()"),
    (sans_io, "relaycall/call/record.py", "def f(now):\n    return now()"),
    (sans_io, "relaycall/relays/ranking.py", "print(1)"),
    (sans_io, "relaycall/stun/x.py", "async def f(): ..."),
    (file_size, "relaycall/x.py", "\n" * 401),
    (vague_names, "relaycall/utils.py", ""),
    (vague_names, "relaycall/media/_helpers.py", ""),
    (vague_names, "relaycall/common/__init__.py", ""),
    (private_names, "relaycall/call/x.py", "sender._send_rtp(packet)"),
    (private_names, "relaycall/call/x.py", "self.transport._connection = mine"),
    (private_names, "relaycall/ice/agent.py", "transport._recv = mine"),
    (private_names, "relaycall/cli/x.py", "pc._RTCPeerConnection__createDtlsTransport(media)"),
]
GOOD = [
    (import_direction, "relaycall/stun/x.py", "from . import message\nfrom .message import decode\nimport socket"),
    (import_direction, "relaycall/ice/x.py", "from relaycall.relays.server import RelayServer"),
    (import_direction, "relaycall/ice/x.py", "from relaycall.relays import server"),
    (import_direction, "relaycall/relays/__init__.py", "from relaycall.relays.server import RelayServer"),
    (import_direction, "relaycall/relays/x.py", "from relaycall.ice.sockets import connect\nimport relaycall.errors"),
    (
        import_direction,
        "relaycall/__init__.py",
        "importlib.import_module(name)\nfrom relaycall.testing import local_pair",
    ),
    (import_direction, "relaycall/cli/x.py", "from relaycall import Phone\nimport relaycall.testing"),
    (import_direction, "relaycall/__main__.py", "from relaycall.cli import main"),
    (third_party_importers, "relaycall/media/srtp.py", "import pylibsrtp, cryptography, asyncio, relaycall.errors"),
    (third_party_importers, "relaycall/server/x.py", "from cryptography import x509\nfrom . import turn"),
    (sans_io, "relaycall/ice/connection.py", "import asyncio, time\ntime.monotonic()"),
    (sans_io, "relaycall/stun/x.py", "import struct\ndef f(now, random):\n    return random(12), now + 1"),
    (file_size, "relaycall/x.py", "\n" * 400),
    (vague_names, "relaycall/utilities_of_a_name_that_says_it.py", ""),
    (private_names, "relaycall/ice/connection.py", "other._send = mine"),
    (private_names, "relaycall/media/deep/x.py", "sender._send_rtp(packet)"),
    (private_names, "relaycall/call/x.py", "self._send(data)\nself._recv_task.cancel()"),
]


def label(value: object) -> str:
    return value.__name__ if callable(value) else str(value).replace("\n", "; ")[:60]


@pytest.mark.parametrize(("rule", "path", "text"), BAD, ids=label)
def test_the_rule_catches(rule: Callable[[list[Source]], Complaints], path: str, text: str) -> None:
    (complaint,) = rule([Source(path, text)])
    assert complaint.startswith(path)


@pytest.mark.parametrize(("rule", "path", "text"), GOOD, ids=label)
def test_the_rule_allows(rule: Callable[[list[Source]], Complaints], path: str, text: str) -> None:
    assert rule([Source(path, text)]) == []


def test_sans_io_catches_io_at_one_remove() -> None:
    shell = Source("relaycall/ice/sockets.py", "import socket")
    for text in ("from relaycall.ice.sockets import connect", "from . import sockets", "import relaycall.ice.sockets"):
        assert len(sans_io([shell, Source("relaycall/ice/agent.py", text)])) == 1


# --- dependencies ----------------------------------------------------------------------------------------------------

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_dependencies() -> None:
    assert dependencies(LIBRARY, TESTS, PROJECT) == []


def test_dependencies_are_explained() -> None:
    """docs/dependencies.md has one row for each with its importers, and no row for another."""
    text = (ROOT / "docs" / "dependencies.md").read_text()
    rows = {row[0].strip("`"): row for row in re.findall(r"^\| (`[^`]+`) \|(?:.*\|)? (.*) \|$", text, re.MULTILINE)}
    required = [*PROJECT["dependencies"], *itertools.chain(*PROJECT["optional-dependencies"].values())]
    assert sorted(rows) == sorted(re.split(r"[^A-Za-z0-9_.-]", requirement)[0] for requirement in required)
    for package, importers in IMPORTERS.items():
        named = re.findall(r"`([^`]+?)(?:/|\.py)`", rows[INSTALLED_AS.get(package, package)][1])
        assert sorted(f"relaycall.{path.replace('/', '.')}" for path in named) == sorted(importers), package


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, []),
        ({"library": "import av, click"}, ["av is imported, and not declared"]),
        ({"library": ""}, ["click is declared, and nothing in relaycall imports it"]),
        (
            {"runtime": []},
            ["click is imported, and not declared", "click has importers, and is not declared"],
        ),
        ({"runtime": ["click>=8.1", "rich"]}, ["rich is declared, and nothing in relaycall imports it"]),
        ({"extra": ["yaml; os_name=='x'"]}, ["yaml is declared, and nothing in relaycall imports it"]),
        ({"dev": ["pytest", "hypothesis[x]>=6"]}, ["hypothesis is declared for development, and not used"]),
        ({"tests": "import pytest, aioice"}, ["tests import aioice, and it is not declared"]),
    ],
    ids=str,
)
def test_the_dependency_rule_catches(
    change: dict[str, Any], complaint: Complaints, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = {"library": "import click", "tests": "import pytest", "runtime": ["click>=8.1"], "dev": ["pytest", "ruff"]}
    case = {"extra": []} | case | change
    project = {
        "dependencies": case["runtime"],
        "optional-dependencies": {"dev": case["dev"], "extra": case["extra"]},
    }
    monkeypatch.setitem(globals(), "IMPORTERS", {"click": ["relaycall.cli"]})
    library, tests = Source("relaycall/cli/x.py", case["library"]), Source("tests/x.py", case["tests"])
    assert dependencies([library], [tests], project) == complaint


# --- the front door --------------------------------------------------------------------------------------------------


def category(name: str) -> tuple[int, str]:
    """As ruff sorts `__all__`: constants, classes, the rest."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def public_errors() -> dict[str, type]:
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.RelaycallError) and not name.startswith("_")
    }


def front_door(package: Any, wanted: dict[str, type]) -> Complaints:
    names = list(getattr(package, "__all__", []))
    own = [name for name in names if name not in wanted]  # errors follow in an order of their own
    return [
        *(f"{name} is in __all__, and not there" for name in names if not hasattr(package, name)),
        *(f"{name} is an error, and not in __all__" for name in wanted if name not in names),
        *(f"{name} is another class" for name in wanted if getattr(package, name, wanted[name]) is not wanted[name]),
        *(["__all__ is not sorted"] if own != sorted(set(own), key=category) else []),
        *(f"{name} is private" for name in names if name.startswith("_") and name != "__version__"),
        *(f"{name} is not shown by dir()" for name in names if name not in dir(package)),
    ]


def test_the_front_door() -> None:
    assert front_door(relaycall, public_errors()) == []


def test_what_the_front_door_shows_is_what_the_submodules_hold() -> None:
    """What it imports for the type checker, name by name, is what it gives when asked."""
    door = next(source for source in LIBRARY if source.module == "relaycall")
    homes = dict(reversed(name.rsplit(".", 1)) for _, name in door.imports if is_within(name, "relaycall"))
    assert homes.pop("*") == "relaycall.errors"
    del homes["errors"]
    assert sorted(homes) == sorted(set(relaycall.__all__) - {"__version__", *errors.__all__})
    for name, home in homes.items():
        assert getattr(relaycall, name) is getattr(importlib.import_module(home), name)


@pytest.mark.parametrize(
    ("names", "complaints"),
    [
        (["call", "LIMIT", "Aa", "Bb"], ["__all__ is not sorted"]),
        (["LIMIT", "LIMIT", "Aa", "Bb"], ["__all__ is not sorted"]),
        (["LIMIT", "call", "Bb", "Aa"], []),
        (["Aa", "Bb", "gone"], ["gone is in __all__, and not there", "gone is not shown by dir()"]),
        (["Aa"], ["Bb is an error, and not in __all__"]),
        (["Aa", "Bb", "_c"], ["_c is private"]),
        (["Aa", "Bb"], []),
        (["LIMIT", "Aa", "Bb", "call"], []),
    ],
)
def test_the_front_door_rule_catches(names: list[str], complaints: Complaints) -> None:
    package = SimpleNamespace(__all__=names, Aa=int, Bb=str, LIMIT=1, call=2, _c=3)
    assert front_door(package, {"Aa": int, "Bb": str}) == complaints
    package.Aa = float
    assert "Aa is another class" in front_door(package, {"Aa": int, "Bb": str})


def loaded_by(statement: str) -> set[str]:
    """The third-party packages that a fresh interpreter has loaded after this statement."""
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(shown.stdout.split()) & set(IMPORTERS)


def test_importing_relaycall_loads_no_other_package() -> None:
    assert loaded_by("import relaycall") == set()
    assert loaded_by("import relaycall.errors, relaycall.stun.message") == set()


def test_what_is_loaded_is_seen() -> None:
    assert loaded_by("import relaycall, click") == {"click"}
    assert "aiortc" in loaded_by("from relaycall import ToneSource")
