"""relaycall: calls in which neither party ever learns the other's IP address.

The front door: names, loaded when they are first used, so that importing relaycall costs little.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relaycall.call.audio_call import AudioCall
    from relaycall.call.record import CallRecord, decode_record, encode_record
    from relaycall.config import EndpointSettings, RelaySettings, Settings
    from relaycall.errors import (
        CallClosed,
        ConfigError,
        CredentialsCertificate,
        CredentialsError,
        CredentialsMalformed,
        CredentialsRefused,
        CredentialsTimeout,
        ExtraMissing,
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
        SdpRefused,
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
    from relaycall.peerconnection import RelayPeerConnection, rtc_configuration
    from relaycall.redact import Secret
    from relaycall.relays.discovery import find_relays
    from relaycall.relays.pool import PoolEvent, RelayPool
    from relaycall.relays.probe import ProbeEvent, probe
    from relaycall.relays.probe_result import ProbeResult, Verdict
    from relaycall.relays.ranking import Ranking, Selection
    from relaycall.relays.selecting import select_relays
    from relaycall.relays.server import RelayServer
    from relaycall.sdp import check_relay_only
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
    "EndpointSettings",
    "ExtraMissing",
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
    "PoolEvent",
    "ProbeEvent",
    "ProbeResult",
    "Ranking",
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
    "RelayPeerConnection",
    "RelayPool",
    "RelayQuota",
    "RelayRedirected",
    "RelayRefused",
    "RelayRefusedCredentials",
    "RelayServer",
    "RelayServerError",
    "RelaySettings",
    "RelayTimeout",
    "RelayTlsFailed",
    "RelayUnreachable",
    "RelayUnsupported",
    "RelaycallError",
    "SdpRefused",
    "Secret",
    "SecretMissing",
    "Selection",
    "Settings",
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
    "Verdict",
    "check_relay_only",
    "decode_record",
    "encode_record",
    "find_relays",
    "probe",
    "rtc_configuration",
    "select_relays",
]

_HOMES = {
    "relaycall.call.audio_call": ["AudioCall"],
    "relaycall.call.record": ["CallRecord", "decode_record", "encode_record"],
    "relaycall.config": ["EndpointSettings", "RelaySettings", "Settings"],
    "relaycall.errors": [
        "CallClosed",
        "ConfigError",
        "CredentialsCertificate",
        "CredentialsError",
        "CredentialsMalformed",
        "CredentialsRefused",
        "CredentialsTimeout",
        "ExtraMissing",
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
        "SdpRefused",
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
    "relaycall.peerconnection": ["RelayPeerConnection", "rtc_configuration"],
    "relaycall.redact": ["Secret"],
    "relaycall.relays.discovery": ["find_relays"],
    "relaycall.relays.pool": ["PoolEvent", "RelayPool"],
    "relaycall.relays.probe": ["ProbeEvent", "probe"],
    "relaycall.relays.probe_result": ["ProbeResult", "Verdict"],
    "relaycall.relays.ranking": ["Ranking", "Selection"],
    "relaycall.relays.selecting": ["select_relays"],
    "relaycall.relays.server": ["RelayServer"],
    "relaycall.sdp": ["check_relay_only"],
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
