"""relaycall: calls in which neither party ever learns the other's IP address.

The front door: names, loaded when they are first used, so that importing relaycall costs little. Errors cost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from relaycall import errors
from relaycall.errors import *  # noqa: F403

if TYPE_CHECKING:
    from relaycall.call.call import Call
    from relaycall.call.description import DescriptionRecord, check_description, describe_answer, describe_offer
    from relaycall.call.ends import MediaOptions
    from relaycall.call.events import AudioEnded, CallEvent, Ended, PeerChanged, RelayChanged, SinkFailed, VideoEnded
    from relaycall.call.line import Party
    from relaycall.call.media_call import MediaCall
    from relaycall.call.metrics import export_metrics
    from relaycall.call.phone import Phone
    from relaycall.call.record import CallRecord, decode_record, encode_record
    from relaycall.call.report.facts import CallFacts, RelayFact
    from relaycall.call.report.report import CallReport
    from relaycall.call.ring import Ring
    from relaycall.call.state import CallState, EndReason
    from relaycall.config import EndpointSettings, RelaySettings, Settings
    from relaycall.ice.connection import Connection
    from relaycall.ice.events import (
        ConnectionEvent,
        NoBackup,
        PathLost,
        PathSelected,
        PathStats,
        PeerHeard,
        PeerUnheard,
        RelayGone,
        RelaySuspected,
    )
    from relaycall.identity.card import Card, card_from_text, card_to_text, decode_card
    from relaycall.identity.code_exchange import Offer, offer_code, use_code
    from relaycall.identity.contact import Contact, Strangers, Unverified
    from relaycall.identity.contacts import ContactBook
    from relaycall.identity.keys import PublicIdentity
    from relaycall.identity.one_time_code import OneTimeCode, parse_code
    from relaycall.identity.own import OwnKeys, change_own, create_own, load_own, rotate_identity
    from relaycall.identity.ratchet import RatchetSealer
    from relaycall.identity.safety import SafetyNumber, safety_number
    from relaycall.identity.sealer import EnvelopeSealer, Opened, Sealer
    from relaycall.media.audio import AudioEncoding, AudioSink, AudioSource, SilenceSource, ToneSource
    from relaycall.media.devices.listing import AudioDevice, list_devices
    from relaycall.media.devices.microphone import Microphone
    from relaycall.media.devices.speaker import Speaker
    from relaycall.media.files import FileSink, FileSource
    from relaycall.media.session import AudioSession, AudioStats
    from relaycall.media.tracks import HeardTrack
    from relaycall.media.video.camera import CameraSource
    from relaycall.media.video.files import VideoFileSource
    from relaycall.media.video.format import Encoding, VideoCodec
    from relaycall.media.video.sinks import SeenTrack, VideoSink
    from relaycall.media.video.sources import TestPattern, VideoSource
    from relaycall.peerconnection import RelayPeerConnection, rtc_configuration
    from relaycall.quality.adaptation import AudioAdapted, VideoAdapted
    from relaycall.quality.level import LevelChanged
    from relaycall.quality.sample import Level, PeerReport, Sample
    from relaycall.redact import Secret
    from relaycall.relays.discovery import find_relays
    from relaycall.relays.pool import Borrower, PoolEvent, RelayPool
    from relaycall.relays.probe import ProbeEvent, probe
    from relaycall.relays.probe_result import ProbeResult, Verdict
    from relaycall.relays.ranking import Ranking, Selection
    from relaycall.relays.selecting import select_relays
    from relaycall.relays.server import RelayServer
    from relaycall.sdp import check_relay_only
    from relaycall.server.signaling import SignalingServer
    from relaycall.server.turn import Relay
    from relaycall.signaling.base import Received, Signaling, SignalingState
    from relaycall.signaling.carried import ManualText
    from relaycall.signaling.manual import ManualTransport
    from relaycall.signaling.opening import open_signaling
    from relaycall.signaling.rendezvous import Rendezvous
    from relaycall.store import Store, open_store
    from relaycall.store.memory import MemoryStore

__all__ = [
    "AudioAdapted",
    "AudioDevice",
    "AudioEncoding",
    "AudioEnded",
    "AudioSession",
    "AudioSink",
    "AudioSource",
    "AudioStats",
    "Borrower",
    "Call",
    "CallEvent",
    "CallFacts",
    "CallRecord",
    "CallReport",
    "CallState",
    "CameraSource",
    "Card",
    "Connection",
    "ConnectionEvent",
    "Contact",
    "ContactBook",
    "DescriptionRecord",
    "Encoding",
    "EndReason",
    "Ended",
    "EndpointSettings",
    "EnvelopeSealer",
    "FileSink",
    "FileSource",
    "HeardTrack",
    "Level",
    "LevelChanged",
    "ManualText",
    "ManualTransport",
    "MediaCall",
    "MediaOptions",
    "MemoryStore",
    "Microphone",
    "NoBackup",
    "Offer",
    "OneTimeCode",
    "Opened",
    "OwnKeys",
    "Party",
    "PathLost",
    "PathSelected",
    "PathStats",
    "PeerChanged",
    "PeerHeard",
    "PeerReport",
    "PeerUnheard",
    "Phone",
    "PoolEvent",
    "ProbeEvent",
    "ProbeResult",
    "PublicIdentity",
    "Ranking",
    "RatchetSealer",
    "Received",
    "Relay",
    "RelayChanged",
    "RelayFact",
    "RelayGone",
    "RelayPeerConnection",
    "RelayPool",
    "RelayServer",
    "RelaySettings",
    "RelaySuspected",
    "Rendezvous",
    "Ring",
    "SafetyNumber",
    "Sample",
    "Sealer",
    "Secret",
    "SeenTrack",
    "Selection",
    "Settings",
    "Signaling",
    "SignalingServer",
    "SignalingState",
    "SilenceSource",
    "SinkFailed",
    "Speaker",
    "Store",
    "Strangers",
    "TestPattern",
    "ToneSource",
    "Unverified",
    "Verdict",
    "VideoAdapted",
    "VideoCodec",
    "VideoEnded",
    "VideoFileSource",
    "VideoSink",
    "VideoSource",
    "card_from_text",
    "card_to_text",
    "change_own",
    "check_description",
    "check_relay_only",
    "create_own",
    "decode_card",
    "decode_record",
    "describe_answer",
    "describe_offer",
    "encode_record",
    "export_metrics",
    "find_relays",
    "list_devices",
    "load_own",
    "offer_code",
    "open_signaling",
    "open_store",
    "parse_code",
    "probe",
    "rotate_identity",
    "rtc_configuration",
    "safety_number",
    "select_relays",
    "use_code",
]
__all__ += errors.__all__

_HOMES = {
    "relaycall.call.metrics": ["export_metrics"],
    "relaycall.quality.adaptation": ["AudioAdapted", "VideoAdapted"],
    "relaycall.quality.level": ["LevelChanged"],
    "relaycall.quality.sample": ["Level", "PeerReport", "Sample"],
    "relaycall.call.ends": ["MediaOptions"],
    "relaycall.media.video.format": ["Encoding", "VideoCodec"],
    "relaycall.media.video.sinks": ["SeenTrack", "VideoSink"],
    "relaycall.media.video.camera": ["CameraSource"],
    "relaycall.media.video.files": ["VideoFileSource"],
    "relaycall.media.video.sources": ["TestPattern", "VideoSource"],
    "relaycall.call.report.facts": ["CallFacts", "RelayFact"],
    "relaycall.call.report.report": ["CallReport"],
    "relaycall.media.devices.speaker": ["Speaker"],
    "relaycall.media.devices.microphone": ["Microphone"],
    "relaycall.media.devices.listing": ["AudioDevice", "list_devices"],
    "relaycall.call.description": ["DescriptionRecord", "check_description", "describe_answer", "describe_offer"],
    "relaycall.identity.sealer": ["EnvelopeSealer", "Opened", "Sealer"],
    "relaycall.identity.ratchet": ["RatchetSealer"],
    "relaycall.identity.code_exchange": ["Offer", "offer_code", "use_code"],
    "relaycall.identity.one_time_code": ["OneTimeCode", "parse_code"],
    "relaycall.signaling.rendezvous": ["Rendezvous"],
    "relaycall.signaling.carried": ["ManualText"],
    "relaycall.signaling.manual": ["ManualTransport"],
    "relaycall.store": ["Store", "open_store"],
    "relaycall.media.tracks": ["HeardTrack"],
    "relaycall.identity.safety": ["SafetyNumber", "safety_number"],
    "relaycall.identity.own": ["OwnKeys", "change_own", "create_own", "load_own", "rotate_identity"],
    "relaycall.identity.keys": ["PublicIdentity"],
    "relaycall.identity.contacts": ["ContactBook"],
    "relaycall.identity.contact": ["Contact", "Strangers", "Unverified"],
    "relaycall.identity.card": ["Card", "card_from_text", "card_to_text", "decode_card"],
    "relaycall.call.state": ["CallState", "EndReason"],
    "relaycall.call.line": ["Party"],
    "relaycall.call.ring": ["Ring"],
    "relaycall.call.call": ["Call"],
    "relaycall.call.phone": ["Phone"],
    "relaycall.call.media_call": ["MediaCall"],
    "relaycall.call.events": [
        "AudioEnded",
        "CallEvent",
        "Ended",
        "PeerChanged",
        "RelayChanged",
        "SinkFailed",
        "VideoEnded",
    ],
    "relaycall.call.record": ["CallRecord", "decode_record", "encode_record"],
    "relaycall.config": ["EndpointSettings", "RelaySettings", "Settings"],
    "relaycall.ice.connection": ["Connection"],
    "relaycall.ice.events": [
        "ConnectionEvent",
        "NoBackup",
        "PathLost",
        "PathSelected",
        "PathStats",
        "PeerHeard",
        "PeerUnheard",
        "RelayGone",
        "RelaySuspected",
    ],
    "relaycall.media.audio": ["AudioEncoding", "AudioSink", "AudioSource", "SilenceSource", "ToneSource"],
    "relaycall.media.files": ["FileSink", "FileSource"],
    "relaycall.media.session": ["AudioSession", "AudioStats"],
    "relaycall.peerconnection": ["RelayPeerConnection", "rtc_configuration"],
    "relaycall.redact": ["Secret"],
    "relaycall.relays.discovery": ["find_relays"],
    "relaycall.relays.pool": ["Borrower", "PoolEvent", "RelayPool"],
    "relaycall.relays.probe": ["ProbeEvent", "probe"],
    "relaycall.relays.probe_result": ["ProbeResult", "Verdict"],
    "relaycall.relays.ranking": ["Ranking", "Selection"],
    "relaycall.relays.selecting": ["select_relays"],
    "relaycall.relays.server": ["RelayServer"],
    "relaycall.sdp": ["check_relay_only"],
    "relaycall.server.signaling": ["SignalingServer"],
    "relaycall.server.turn": ["Relay"],
    "relaycall.signaling.base": ["Received", "Signaling", "SignalingState"],
    "relaycall.store.memory": ["MemoryStore"],
    "relaycall.signaling.opening": ["open_signaling"],
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
