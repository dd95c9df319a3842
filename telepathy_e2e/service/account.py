"""What a channel may ask of its connection: the services of one account."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from telepathy_e2e.net.listener import Listener
from telepathy_e2e.service.channel import Channel, Owner
from telepathy_e2e.service.events import ConnectionEvent, Emitter
from telepathy_e2e.service.handles import Handles
from telepathy_e2e.service.inband import InBandHub
from telepathy_e2e.service.sessions import SessionHub
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.trust.identities import Identities
from telepathy_e2e.trust.policy import Policy
from telepathy_e2e.verify.tries import ContactTries
from telepathy_e2e.xmpp.client import Client, Resource

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from telepathy_e2e.service.aliases import Aliases
    from telepathy_e2e.service.attestations import Attestations
    from telepathy_e2e.service.avatars import Avatars
    from telepathy_e2e.service.calls import Calls
    from telepathy_e2e.service.client_types import ClientTypes
    from telepathy_e2e.service.contact_blocking import ContactBlocking
    from telepathy_e2e.service.contact_groups import ContactGroups
    from telepathy_e2e.service.contact_info import ContactInfo
    from telepathy_e2e.service.contact_list import ContactList
    from telepathy_e2e.service.pep import Pep
    from telepathy_e2e.service.presence import PresenceFeature
    from telepathy_e2e.service.protected_peer import ProtectedPeer
    from telepathy_e2e.service.published_identity import PublishedIdentities
    from telepathy_e2e.service.road_memory import RoadMemory
    from telepathy_e2e.service.rooms import Rooms
    from telepathy_e2e.service.text import TextChannels
    from telepathy_e2e.service.tubes import Tubes
    from telepathy_e2e.service.xml_streams import XmlStreams


class Account(Owner, Protocol):
    """One XMPP account, as channels see it."""

    handles: Handles
    events: Emitter[ConnectionEvent]
    status: int
    self_handle: int
    self_id: str
    client: Client
    hub: SessionHub
    inband: InBandHub
    roads: frozenset[str]
    road_memory: RoadMemory
    listener: Listener
    identities: Identities
    tasks: TaskOwner
    policy: Policy
    always_verify: bool
    hide_identity: bool
    ask_certificate: bool
    tries: ContactTries
    parameters: Mapping[str, object]
    attestations: Attestations
    presences: PresenceFeature
    pep: Pep
    contact_list: ContactList
    groups: ContactGroups
    blocking: ContactBlocking
    aliases: Aliases
    contact_info: ContactInfo
    avatars: Avatars
    client_types: ClientTypes
    published: PublishedIdentities
    rooms: Rooms
    text: TextChannels
    tubes: Tubes
    calls: Calls
    xml_streams: XmlStreams

    @property
    def channels(self) -> Mapping[str, Channel]:
        """Those that are there, by object path."""

    def question_handler_announced(self) -> bool:
        """Whether some client said that it handles PeerVerification1."""

    @property
    def takes_calls(self) -> bool:
        """Whether some client said that it takes calls."""

    async def find_key(self, bare_jid: str) -> bool:
        """Whether a key of this contact was seen while the connection lives, or is published.

        His server may be asked, for some seconds at most.
        """

    def key_seen(self, bare_jid: str, fingerprint: bytes) -> None:
        """A hello of this contact was right; ``fingerprint`` is that of his identity."""

    def key_judged(self, bare_jid: str, fingerprint: bytes, *, accepted: bool) -> None:
        """Whoever is asked let this identity of a contact through, verified or not, or did not."""

    async def find_peer(
        self, bare_jid: str, takes: Callable[[Resource], bool], what: str
    ) -> Resource:
        """The resource that takes ``what``; Offline or NotCapable otherwise. See ``peers``."""

    def protected_received(self, stanza: Element, peer: ProtectedPeer) -> None:
        """A message or presence came through an XML stream."""

    def announce(self, channel: Channel) -> None:
        """Show a channel that nobody requested."""

    def next_path(self, kind: str) -> str:
        """A fresh object path below the connection's."""

    def transfer_ended(self, channel: Channel) -> None:
        """A payload channel is over, though not yet closed."""
