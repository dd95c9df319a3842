"""What an attempt to bring up one transport is; ``road`` makes one after the other."""

from __future__ import annotations

from typing import Protocol
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import E2EError
from telepathy_e2e.jingle.ways import Way
from telepathy_e2e.net.streams import Stream
from telepathy_e2e.xtls.identity import Credentials
from telepathy_e2e.xtls.offer import Fingerprint


class NoWay(E2EError):
    """This transport cannot be had; another may."""


class Protection(Protocol):
    """What a transport with an encryption of its own asks of ``security.Security``."""

    @property
    def credentials(self) -> Credentials | None:
        """Ours, once they are offered or accepted."""

    @property
    def peer_fingerprints_offered(self) -> tuple[Fingerprint, ...]:
        """Of the peer's leaf, from its ``<security/>``."""


class Attempt(Protocol):
    """One transport, from its offer to the stream.

    Whoever offers calls ``offer`` and ``answered``, the other side ``answer``; both then
    ``connect``, and ``close`` in any case. A stream that ``connect`` has given is the caller's.
    """

    way: Way

    async def offer(self) -> Element:
        """The ``<transport/>`` of our session-initiate or transport-replace.

        Raises:
            NoWay: it cannot be had here.
        """

    async def answer(self, transport: Element) -> Element:
        """The ``<transport/>`` of our session-accept or transport-accept.

        Raises:
            PeerError: the offer is malformed.
            SecurityFailed: it names another certificate than the session.
            NoWay: it cannot be had here.
        """

    def answered(self, transport: Element) -> None:
        """The peer's. Raises: PeerError; SecurityFailed."""

    def begin(self) -> None:
        """Our answer is on its way. May be called again."""

    def is_about(self, transport: Element) -> bool:
        """Whether a transport-info is about this one, and not about a former one."""

    def info(self, transport: Element) -> None:
        """A transport-info. Raises: PeerError."""

    async def connect(self) -> Stream:
        """The stream.

        Raises:
            NoWay: it cannot be had.
            StreamBroken: it was there, and broke.
            SecurityFailed: the peer's certificate is not the one that was announced.
        """

    def close(self) -> None:
        """Let go of all that was not taken."""
