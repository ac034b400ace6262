"""`relaycall coturn-config`: a hardened turnserver.conf for coturn."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from pathlib import Path

import click

from relaycall.errors import ConfigError
from relaycall.redact import Secret
from relaycall.relays.server import is_host_name
from relaycall.store import resolve_secret
from relaycall.store.references import read_secret_file
from relaycall.stun.address import NOT_PUBLIC_IPV4, NOT_PUBLIC_IPV6

# Of IPv6, what lies within 2000::/3; the rest is denied as a whole.
NOT_PUBLIC = (*NOT_PUBLIC_IPV4, *NOT_PUBLIC_IPV6)
_SECRET = re.compile(r"[A-Za-z0-9._~+/=@:-]{16,512}")
_PATH = re.compile(r"[A-Za-z0-9._~+/=@:-]+")


@click.command("coturn-config")
@click.argument("domain")
@click.option(
    "--secret-file", type=click.Path(path_type=Path), help="File with the secret as one line; - is standard input."
)
@click.option("--secret-ref", metavar="REF", help="The secret as keyring:NAME, env:NAME or file:PATH.")
@click.option("--cert", help="Certificate chain, PEM. [default: where certbot puts it]")
@click.option("--key", help="Its private key, PEM. [default: where certbot puts it]")
def coturn_config(
    domain: str, secret_file: Path | None, secret_ref: str | None, cert: str | None, key: str | None
) -> None:
    """Print a hardened turnserver.conf for a relay at DOMAIN.

    The secret is the one that time-limited credentials are made from. It is in what is printed: keep that readable to
    coturn alone.
    """
    if not is_host_name(domain):
        raise ConfigError("The domain is not a host name.", "Give the name of the relay, as relay.example.org.")
    if (secret_file is None) == (secret_ref is None):
        raise ConfigError("coturn-config needs the secret.", "Give either --secret-file or --secret-ref.")
    if secret_file is not None:
        secret = read_secret_file(Path("/dev/stdin") if secret_file == Path("-") else secret_file)
    else:
        assert secret_ref is not None
        secret = asyncio.run(resolve_secret(secret_ref))
    certificates = f"/etc/letsencrypt/live/{domain}"
    click.echo(
        turnserver_conf(domain, secret, cert or f"{certificates}/fullchain.pem", key or f"{certificates}/privkey.pem")
    )


def turnserver_conf(domain: str, secret: Secret, cert: str, key: str) -> str:
    """The file.

    Raises:
        ConfigError: the secret or a path has characters that such a file cannot hold, or the secret is short.
    """
    if not _SECRET.fullmatch(secret.reveal()):
        raise ConfigError(
            "The secret is not one of 16 to 512 letters, digits and . _ ~ + / = @ : - characters.",
            "Make one with: openssl rand -hex 32.",
        )
    for path in (cert, key):
        if not _PATH.fullmatch(path):
            raise ConfigError(
                "The path of the certificate or key has a character that turnserver.conf cannot hold.",
                "Use letters, digits and . _ ~ + / = @ : - in it.",
            )
    denied = "\n".join(f"denied-peer-ip={low}-{high}" for low, high in denied_ranges())
    return f"""\
# For coturn 4.6. It holds a secret: chmod 600, and chown to the user that coturn runs as.
listening-port=3478
tls-listening-port=5349
realm={domain}
server-name={domain}
cert={cert}
pkey={key}
no-tlsv1
no-tlsv1_1
no-dtls

# Credentials hold for a time, and name nobody: relaycall credentials mint makes them.
use-auth-secret
static-auth-secret={secret.reveal()}
stale-nonce=600
fingerprint

# Nothing but relaying UDP, and little to learn or to amplify.
no-cli
no-tcp-relay
no-rfc5780
no-stun-backward-compatibility
response-origin-only-with-rfc5780
no-software-attribute

# No peers but on the public Internet, or users reach this machine and its network through the relay.
# Do not write denied-peer-ip=::-::ffff:ffff:ffff: in coturn 4.6.1, a range that begins with :: holds all of IPv4.
no-multicast-peers
{denied}"""


def denied_ranges() -> list[tuple[str, str]]:
    """First and last address of each range that is not the public Internet.

    coturn 4.6.1 compares IPv6 addresses byte by byte: one is in a range if each of its bytes is. So a range here has a
    run of equal bytes, one that varies, and whatever follows. :: is in none, since a range that begins with it would
    hold all of IPv4; coturn refuses that one by itself.
    """
    ranges = []
    for text in NOT_PUBLIC:
        network = ipaddress.ip_network(text)
        ranges.append((str(network[0]), str(network[-1])))
    for leading in range(16):  # so many bytes of 0, and one that is more; ::ffff:0:0, IPv4 in IPv6, is among them
        rest = 15 - leading
        highest = 0x1F if leading == 0 else 0xFF
        low, high = bytes(leading) + b"\x01" + bytes(rest), bytes(leading) + bytes([highest]) + b"\xff" * rest
        ranges.append((str(ipaddress.IPv6Address(low)), str(ipaddress.IPv6Address(high))))
    ranges.append(("4000::", str(ipaddress.IPv6Address(b"\xff" * 16))))
    return ranges
