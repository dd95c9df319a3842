"""The two sides of a Jingle session (XEP-0166 section 3), whoever started a later step."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """Which side of the Jingle session somebody is; the value is the word on the wire."""

    INITIATOR = "initiator"
    RESPONDER = "responder"

    @property
    def other(self) -> Role:
        return Role.RESPONDER if self is Role.INITIATOR else Role.INITIATOR
