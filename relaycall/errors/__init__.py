"""Every error relaycall raises: one tree, each with a code, a sentence and a next step.

A message names the relay or the file concerned, as the user wrote it. It never holds a secret, and never an address
that the user did not write. Errors survive pickling, and what a foreign library raised is not kept inside them.
"""

from __future__ import annotations

from relaycall.errors.base import ConfigError, ExtraMissing, MalformedMessage, RelaycallError
from relaycall.errors.calls import CallClosed, MediaError, NoPath, RecordRefused, SdpRefused, SignalingError
from relaycall.errors.credentials import (
    CredentialsCertificate,
    CredentialsError,
    CredentialsMalformed,
    CredentialsRefused,
    CredentialsTimeout,
)
from relaycall.errors.relays import (
    NoRelay,
    RelayBusy,
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
)
from relaycall.errors.store import (
    SecretMissing,
    StoreError,
    StoreLocked,
    StoreTimeout,
    StoreUnavailable,
    VaultDamaged,
    VaultExposed,
    VaultRefused,
)

__all__ = [
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
]
