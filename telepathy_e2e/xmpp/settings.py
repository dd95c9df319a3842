"""What one XMPP account needs to log in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

# Seconds. What telepathy-gabble made customary; NATs forget a silent connection after about 300.
KEEPALIVE_SECONDS = 120


class Password:
    """A secret that shows itself nowhere: not in repr, logs or tracebacks of dataclasses."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The password itself; only the SASL mechanism asks."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return ""


@dataclass(frozen=True)
class Settings:
    """One account.

    The server's certificate is always checked (RFC 6125): against the authorities of the system and
    of ``ca_file``, for the domain of the account. No setting turns that off.

    Args:
        account: bare or full JID.
        password: the account's.
        server: host name or address; empty means to ask DNS (RFC 6120 section 3.2, XEP-0368).
        port: 0 for the customary one: 5222, or 5223 with ``old_ssl``.
        resource: wanted resource; empty for the one in ``account``, or the server's choice.
        priority: of our presence, -128 to 127.
        ca_file: PEM file with more authorities, or empty.
        require_encryption: without TLS, no login. Passwords never go in the clear even if False.
        old_ssl: TLS from the first byte, instead of STARTTLS.
        keepalive_interval: seconds of silence after which the server is asked whether it lives;
            0 never asks.
        extra_identities: further host names that the server's certificate may carry instead.
        cache_directory: where copies of what the server keeps are; None for nowhere.
    """

    account: str
    password: Password = field(default_factory=lambda: Password(""))
    server: str = ""
    port: int = 0
    resource: str = ""
    priority: int = 0
    ca_file: str = ""
    require_encryption: bool = True
    old_ssl: bool = False
    keepalive_interval: float = KEEPALIVE_SECONDS
    extra_identities: tuple[str, ...] = ()
    cache_directory: Path | None = None
