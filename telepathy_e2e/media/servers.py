"""STUN and TURN servers, as XEP-0215 or the user names them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class IceServer:
    """One server.

    Args:
        kind: ``turns`` is TURN over TLS, whose certificate must verify.
        port: UDP or TCP as ``transport`` says.
    """

    kind: Literal["stun", "turn", "turns"]
    host: str
    port: int
    transport: Literal["udp", "tcp"] = "udp"
    username: str = ""
    password: str = field(default="", repr=False)
