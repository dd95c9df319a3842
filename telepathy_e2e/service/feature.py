"""What a connection consists of: features, some of which make channels.

A feature keeps one kind of things that the server knows (the contact list, pictures, rooms, ...).
The connection calls its hooks in the order of ``Connection.features``; it never calls the
connection back but through ``account.Account``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import E2EError, TelepathyError
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.protected_peer import ProtectedPeer
from telepathy_e2e.service.requests import ChannelRequest
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.xmpp.roster import RosterChange


class Feature:
    """One part of a connection; each hook does nothing unless it is overridden."""

    # Service discovery features (XEP-0030) that this one adds to ours.
    disco: tuple[str, ...] = ()

    def connected(self) -> None:
        """The session is there and Connected is told: ask the server what there is to know."""

    def receive_message(self, stanza: Element) -> bool:
        """A message of any type; True if it was for us, and for nobody after us."""
        return False

    def receive_presence(self, stanza: Element) -> bool:
        """A presence of any type; True if it says nothing about a contact (as in a room)."""
        return False

    def receive_protected_message(self, stanza: Element, peer: ProtectedPeer) -> bool:
        """A message of any type that came through an XML stream with a contact's program, and not
        through servers; True if it was for us. ``from`` is that program, ``to`` is ours."""
        return False

    def receive_protected_presence(self, stanza: Element, peer: ProtectedPeer) -> bool:
        """The same with a presence."""
        return False

    def presence_extras(self) -> list[Element]:
        """Children for each presence that we send (XEP-0153, XEP-0172)."""
        return []

    def undelivered(self, stanzas: list[Element]) -> None:
        """Stanzas that the server never confirmed; ``disconnected`` follows."""

    def roster_changed(self, changes: Sequence[RosterChange]) -> None:
        """Entries of the contact list came, changed or went; many at once when it is loaded."""

    def roster_loaded(self, error: E2EError | None) -> None:
        """The contact list is there as a whole; or it cannot be had, and why."""

    def disconnected(self, error: TelepathyError, *, stopped: bool) -> None:
        """The connection is over.

        Args:
            error: why.
            stopped: the user asked for it.
        """


class ChannelManager(Protocol):
    """Makes the requested channels of some classes (of ``service.capabilities``).

    Attributes:
        needs_contact: somebody there takes part from the beginning, or there is no channel.
    """

    needs_contact: ClassVar[bool]

    def manages(self, request: ChannelRequest) -> bool:
        """Whether channels of this type and target are made here."""

    async def create(self, request: ChannelRequest) -> Channel:
        """Requests.CreateChannel; the new channel's ``begin`` is called after its announcement.

        Raises:
            TelepathyError: as the channel's type specifies.
        """

    async def ensure(self, request: ChannelRequest) -> tuple[bool, Channel]:
        """Requests.EnsureChannel: (it is new, and the caller's; the channel).

        Raises:
            TelepathyError: as the channel's type specifies.
        """


class ApplicationManager(Protocol):
    """Takes the sessions of one content that peers initiate for some application."""

    def understands(self, description: Element) -> bool:
        """Whether a content with this description is of this application."""

    def offered(self, link: Link, content: Content) -> None:
        """A peer initiated such a session: set the link's application, or terminate it.

        Raises:
            PeerError: the offer makes no sense; it is answered with that.
        """


def text_of(properties: Mapping[str, object], name: str) -> str:
    """A property of a request, empty if it is not there; the bus layer has checked its type."""
    return str(properties.get(name, ""))
