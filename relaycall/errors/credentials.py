"""Why a relay's credentials cannot be had."""

from __future__ import annotations

from relaycall.errors.relays import RelayError


class CredentialsError(RelayError):
    """The HTTP endpoint that gives out relays and credentials failed. `relay` is its scheme and host."""

    code = "credentials"
    template = "The credentials endpoint {relay} did not give relay credentials."
    next_step = "Check its URL, and that the service is running."


class CredentialsTimeout(CredentialsError):
    """The credentials endpoint did not answer in time."""

    code = "credentials_timeout"
    template = "The credentials endpoint {relay} did not answer in time."
    next_step = "Check that this machine is online, and try again."


class CredentialsRefused(CredentialsError):
    """401 or 403 from the credentials endpoint."""

    code = "credentials_refused"
    template = "The credentials endpoint {relay} refused the token or key."
    next_step = "Check the token or key, and that it has not been revoked."


class CredentialsCertificate(CredentialsError):
    """TLS with the credentials endpoint failed: its certificate is not trusted, or it does not speak TLS."""

    code = "credentials_certificate"
    template = "There is no trusted TLS connection with the credentials endpoint {relay}."
    next_step = "If it uses a private authority, give an ssl_context that trusts it; never switch the check off."


class CredentialsMalformed(CredentialsError):
    """The credentials endpoint's answer is not a list of ICE servers."""

    code = "credentials_malformed"
    template = "The answer of the credentials endpoint {relay} is not a list of ICE servers."
    next_step = "It has to be JSON with iceServers, each with urls, username and credential."
