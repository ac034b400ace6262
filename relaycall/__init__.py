"""relaycall: calls in which neither party ever learns the other's IP address.

The front door: names, loaded when they are first used, so that importing relaycall costs little.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relaycall.call.audio_call import AudioCall
    from relaycall.call.record import CallRecord, decode_record, encode_record
    from relaycall.errors import (
        CallClosed,
        ConfigError,
        CredentialsCertificate,
        CredentialsError,
        CredentialsMalformed,
        CredentialsRefused,
        CredentialsTimeout,
        MalformedMessage,
        MediaError,
        NoPath,
        NoRelay,
        RecordRefused,
        RelayBusy,
        RelaycallError,
        RelayCapacity,
        RelayCertificateInvalid,
        RelayCertificateName,
        RelayError,
        RelayForbidden,
        RelayForbiddenPeer,
        RelayLied,
        RelayLost,
        RelayNameUnknown,
        RelayNeedsCredentials,
        RelayNotTurn,
        RelayQuota,
        RelayRedirected,
        RelayRefused,
        RelayRefusedCredentials,
        RelayServerError,
        RelayTimeout,
        RelayTlsFailed,
        RelayUnreachable,
        RelayUnsupported,
        SecretMissing,
        SignalingError,
        StoreError,
        StoreLocked,
        StoreTimeout,
        StoreUnavailable,
        VaultDamaged,
        VaultExposed,
        VaultRefused,
    )
    from relaycall.ice.connection import Connection
    from relaycall.ice.events import ConnectionEvent, PathLost, PathSelected, PathStats, RelayGone
    from relaycall.media.audio import AudioSource, SilenceSource, ToneSource
    from relaycall.media.files import FileSink, FileSource
    from relaycall.media.session import AudioSession, AudioStats
    from relaycall.redact import Secret
    from relaycall.relays.server import RelayServer
    from relaycall.server.turn import Relay
    from relaycall.signaling.memory import MemorySignaling

__all__ = [
    "AudioCall",
    "AudioSession",
    "AudioSource",
    "AudioStats",
    "CallClosed",
    "CallRecord",
    "ConfigError",
    "Connection",
    "ConnectionEvent",
    "CredentialsCertificate",
    "CredentialsError",
    "CredentialsMalformed",
    "CredentialsRefused",
    "CredentialsTimeout",
    "FileSink",
    "FileSource",
    "MalformedMessage",
    "MediaError",
    "MemorySignaling",
    "NoPath",
    "NoRelay",
    "PathLost",
    "PathSelected",
    "PathStats",
    "RecordRefused",
    "Relay",
    "RelayBusy",
    "RelayCapacity",
    "RelayCertificateInvalid",
    "RelayCertificateName",
    "RelayError",
    "RelayForbidden",
    "RelayForbiddenPeer",
    "RelayGone",
    "RelayLied",
    "RelayLost",
    "RelayNameUnknown",
    "RelayNeedsCredentials",
    "RelayNotTurn",
    "RelayQuota",
    "RelayRedirected",
    "RelayRefused",
    "RelayRefusedCredentials",
    "RelayServer",
    "RelayServerError",
    "RelayTimeout",
    "RelayTlsFailed",
    "RelayUnreachable",
    "RelayUnsupported",
    "RelaycallError",
    "Secret",
    "SecretMissing",
    "SignalingError",
    "SilenceSource",
    "StoreError",
    "StoreLocked",
    "StoreTimeout",
    "StoreUnavailable",
    "ToneSource",
    "VaultDamaged",
    "VaultExposed",
    "VaultRefused",
    "decode_record",
    "encode_record",
]

_HOMES = {
    "relaycall.call.audio_call": ["AudioCall"],
    "relaycall.call.record": ["CallRecord", "decode_record", "encode_record"],
    "relaycall.errors": [
        "CallClosed",
        "ConfigError",
        "CredentialsCertificate",
        "CredentialsError",
        "CredentialsMalformed",
        "CredentialsRefused",
        "CredentialsTimeout",
        "MalformedMessage",
        "MediaError",
        "NoPath",
        "NoRelay",
        "RecordRefused",
        "RelayBusy",
        "RelayCapacity",
        "RelayCertificateInvalid",
        "RelayCertificateName",
        "RelayError",
        "RelayForbidden",
        "RelayForbiddenPeer",
        "RelayLied",
        "RelayLost",
        "RelayNameUnknown",
        "RelayNeedsCredentials",
        "RelayNotTurn",
        "RelayQuota",
        "RelayRedirected",
        "RelayRefused",
        "RelayRefusedCredentials",
        "RelayServerError",
        "RelayTimeout",
        "RelayTlsFailed",
        "RelayUnreachable",
        "RelayUnsupported",
        "RelaycallError",
        "SecretMissing",
        "SignalingError",
        "StoreError",
        "StoreLocked",
        "StoreTimeout",
        "StoreUnavailable",
        "VaultDamaged",
        "VaultExposed",
        "VaultRefused",
    ],
    "relaycall.ice.connection": ["Connection"],
    "relaycall.ice.events": ["ConnectionEvent", "PathLost", "PathSelected", "PathStats", "RelayGone"],
    "relaycall.media.audio": ["AudioSource", "SilenceSource", "ToneSource"],
    "relaycall.media.files": ["FileSink", "FileSource"],
    "relaycall.media.session": ["AudioSession", "AudioStats"],
    "relaycall.redact": ["Secret"],
    "relaycall.relays.server": ["RelayServer"],
    "relaycall.server.turn": ["Relay"],
    "relaycall.signaling.memory": ["MemorySignaling"],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'relaycall' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
