"""One account: the XMPP stream, its contacts, its channels (Telepathy, Connection)."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    AuthenticationFailed,
    Cancelled,
    CertError,
    ConnectionReplaced,
    Disconnected,
    E2EError,
    EncryptionError,
    EncryptionNotAvailable,
    NotAvailable,
    PeerError,
    TelepathyError,
)
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.net.listener import Listener
from telepathy_e2e.service import names, requests
from telepathy_e2e.service.aliases import Aliases
from telepathy_e2e.service.attestations import Attestations
from telepathy_e2e.service.avatars import Avatars
from telepathy_e2e.service.calls import Calls
from telepathy_e2e.service.capabilities import (
    ChannelClass,
    HandlerCapabilities,
    channel_classes,
    contact_classes,
    own_classes,
    road_features,
)
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.client_types import ClientTypes
from telepathy_e2e.service.contact_blocking import ContactBlocking
from telepathy_e2e.service.contact_groups import ContactGroups
from telepathy_e2e.service.contact_info import ContactInfo
from telepathy_e2e.service.contact_list import ContactList
from telepathy_e2e.service.events import (
    ChannelOpened,
    ConnectionEvent,
    ContactCapabilitiesChanged,
    Emitter,
    PowerSavingChanged,
    SelfContactChanged,
    StatusChanged,
)
from telepathy_e2e.service.feature import ApplicationManager, ChannelManager, Feature
from telepathy_e2e.service.file_transfers import FileTransfers
from telepathy_e2e.service.handles import Handles
from telepathy_e2e.service.identity_exchange import IdentityExchange
from telepathy_e2e.service.inband import InBandHub
from telepathy_e2e.service.peers import find_peer
from telepathy_e2e.service.pep import Pep
from telepathy_e2e.service.presence import PresenceFeature
from telepathy_e2e.service.protected_peer import ProtectedPeer
from telepathy_e2e.service.published_identity import PublishedIdentities
from telepathy_e2e.service.road_memory import RoadMemory
from telepathy_e2e.service.rooms import Rooms
from telepathy_e2e.service.server_questions import ServerQuestions
from telepathy_e2e.service.sessions import Link, SessionHub
from telepathy_e2e.service.text import TextChannels
from telepathy_e2e.service.tubes import Tubes
from telepathy_e2e.service.xml_streams import XmlStreams
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.trust.identities import Identities
from telepathy_e2e.trust.policy import Policy
from telepathy_e2e.verify.tries import ContactTries
from telepathy_e2e.xmpp import nick
from telepathy_e2e.xmpp.client import Client, Resource
from telepathy_e2e.xmpp.jid import bare, normalise
from telepathy_e2e.xmpp.roster import PRESENCE, RosterChange
from telepathy_e2e.xmpp.roster_cache import directory as cache_directory
from telepathy_e2e.xmpp.settings import Password, Settings

log = logging.getLogger(__name__)

# Connection_Status
CONNECTED, CONNECTING, DISCONNECTED = range(3)
# Connection_Status_Reason
(
    REASON_NONE,
    REASON_REQUESTED,
    REASON_NETWORK_ERROR,
    REASON_AUTHENTICATION_FAILED,
    REASON_ENCRYPTION_ERROR,
    REASON_NAME_IN_USE,
    REASON_CERT_NOT_PROVIDED,
    REASON_CERT_UNTRUSTED,
    REASON_CERT_EXPIRED,
    REASON_CERT_NOT_ACTIVATED,
    REASON_CERT_HOSTNAME_MISMATCH,
    REASON_CERT_FINGERPRINT_MISMATCH,
    REASON_CERT_SELF_SIGNED,
    REASON_CERT_OTHER_ERROR,
) = range(14)

ALL_ROADS = frozenset({"direct", "proxy", "ice", "in-band"})


async def _nobody() -> bool:
    return False


def status_reason(error: TelepathyError) -> int:
    """The Connection_Status_Reason that goes with an error."""
    by_name = {
        "Cert.NotProvided": REASON_CERT_NOT_PROVIDED,
        "Cert.Untrusted": REASON_CERT_UNTRUSTED,
        "Cert.Expired": REASON_CERT_EXPIRED,
        "Cert.NotActivated": REASON_CERT_NOT_ACTIVATED,
        "Cert.HostnameMismatch": REASON_CERT_HOSTNAME_MISMATCH,
        "Cert.FingerprintMismatch": REASON_CERT_FINGERPRINT_MISMATCH,
        "Cert.SelfSigned": REASON_CERT_SELF_SIGNED,
    }
    match error:
        case CertError():
            return by_name.get(error.dbus_name.partition(".Error.")[2], REASON_CERT_OTHER_ERROR)
        case AuthenticationFailed():
            return REASON_AUTHENTICATION_FAILED
        case EncryptionError() | EncryptionNotAvailable():
            return REASON_ENCRYPTION_ERROR
        case ConnectionReplaced():
            return REASON_NAME_IN_USE
        case Cancelled():
            return REASON_REQUESTED
        case _:
            return REASON_NETWORK_ERROR


class Connection:
    """See ``account.Account`` for what channels use of it.

    Args:
        parameters: every parameter of the protocol by its D-Bus name; defaults are filled in.
        object_path: where the bus layer shows it.
        identities: who certifies session keys.
        roads: which transports may be used, of ``direct``, ``proxy``, ``ice``, ``in-band``.
        tries: failed verifications, counted over all connections.
        dispatcher: whether a channel dispatcher is on the bus.
    """

    def __init__(
        self,
        parameters: Mapping[str, object],
        *,
        object_path: str,
        identities: Identities,
        roads: frozenset[str] = ALL_ROADS,
        tries: ContactTries | None = None,
        dispatcher: Callable[[], Awaitable[bool]] = _nobody,
    ) -> None:
        self.parameters = parameters
        self.object_path = object_path
        self.identities = identities
        self.events: Emitter[ConnectionEvent] = Emitter()
        self.status = DISCONNECTED
        self.handles = Handles()
        account = normalise(str(parameters["account"]))
        self.self_handle = self.handles.ensure(account)
        self.self_id = bare(account)
        self.policy = Policy.parse(str(parameters["e2e-policy"]))
        self.always_verify = bool(parameters["e2e-always-verify"])
        self.hide_identity = bool(parameters["e2e-hide-identity"])
        self.ask_certificate = bool(parameters["e2e-ask-certificate"])
        self.attestations = Attestations(parameters)
        self.channels: dict[str, Channel] = {}
        self.tasks = TaskOwner(object_path)
        self.listener = Listener()
        self.roads = roads
        self.road_memory = RoadMemory()
        self.tries = tries if tries is not None else ContactTries()
        self._capabilities = HandlerCapabilities()
        self._keys_seen: set[str] = set()
        self._paths = 0
        self.power_saving_active = False
        self._over = False
        settings = self._settings(account)
        self.questions = ServerQuestions(
            self,
            settings.password,
            handles=self._capabilities.handles,
            dispatcher=dispatcher,
            give_up=self._give_up_login,
        )
        self.client = Client(settings, self, self.questions)
        self.pep = Pep(self)
        self.files = FileTransfers(self)
        self.tubes = Tubes(self)
        self.presences = PresenceFeature(self)
        self.contact_list = ContactList(self)
        self.groups = ContactGroups(self)
        self.blocking = ContactBlocking(self)
        self.aliases = Aliases(self)
        self.contact_info = ContactInfo(self)
        self.aliases.publish_nickname = self.contact_info.publish_nickname
        self.avatars = Avatars(self)
        self.client_types = ClientTypes(self)
        self.published = PublishedIdentities(self)
        self.calls = Calls(self)
        self.text = TextChannels(self)
        self.xml_streams = XmlStreams(self)
        self.identity_exchange = IdentityExchange(self)
        self.rooms = Rooms(self)
        self.text.is_occupant = self.handles.is_occupant = self.rooms.is_occupant
        self.features: tuple[Feature, ...] = (
            self.rooms,  # whoever is in a room is nobody's contact
            self.files,
            self.tubes,
            self.presences,
            self.pep,
            self.contact_info,
            self.avatars,
            self.client_types,
            self.aliases,  # hears of the name in a request before the contact list takes it
            self.contact_list,
            self.groups,
            self.blocking,
            self.published,
            self.calls,  # before texts, which take whatever has a body
            self.text,  # takes every message that is left
            self.xml_streams,
            self.identity_exchange,
        )
        self.managers: tuple[ChannelManager, ...] = (
            self.files,
            self.tubes,
            self.text,
            self.rooms,
            self.calls,
        )
        # What peers may offer in sessions of one content; calls are below.
        self.applications: tuple[ApplicationManager, ...] = (
            self.files,
            self.tubes,
            self.xml_streams,
        )
        self.pep.on(nick.NICK, self.aliases.nick_published)
        self.client.set_features(self._disco())
        self.inband = InBandHub(self.client)
        self.hub = SessionHub(self.client, self._own_jid, self._in_roster, self._offered)
        self.hub.take_calls(self.calls.offered)

    def _settings(self, account: str) -> Settings:
        get = self.parameters.get
        return Settings(
            account=account,
            password=Password(str(get("password") or "")),
            server=str(get("server") or ""),
            port=_number(get("port")),
            resource=str(get("resource") or ""),
            priority=_number(get("priority")),
            ca_file=str(get("ca-file") or ""),
            require_encryption=bool(get("require-encryption")),
            old_ssl=bool(get("old-ssl")),
            keepalive_interval=_number(get("keepalive-interval")),
            extra_identities=_strings(get("extra-certificate-identities")),
            cache_directory=cache_directory(os.environ),
        )

    # -- status -----------------------------------------------------------------------------

    def connect(self) -> None:
        """Connection.Connect: start; what comes of it is told by StatusChanged.

        Raises:
            NotAvailable: it was disconnected; connections are not used twice.
        """
        if self._over:
            raise NotAvailable("This connection is over; request a new one")
        if self.status != DISCONNECTED:
            return
        self._set_status(CONNECTING, REASON_REQUESTED)
        self.tasks.start("connect", self._connect())

    async def _connect(self) -> None:
        try:
            await self.client.connect()
        except TelepathyError as error:
            await self._end(status_reason(error), error)
            return
        self._bound(self.client.jid)
        self.presences.send()
        self._set_status(CONNECTED, REASON_REQUESTED)
        for feature in self.features:
            feature.connected()

    def _bound(self, full_jid: str) -> None:
        """The server decides who we are (RFC 6120 section 7.6.1)."""
        if bare(full_jid) != self.self_id:
            self.self_id = bare(full_jid)
            self.self_handle = self.handles.of_jid(self.self_id)
            self.events.emit(SelfContactChanged(self.self_handle, self.self_id))

    def _give_up_login(self, error: TelepathyError) -> None:
        self.client.give_up(error)

    async def disconnect(self) -> None:
        """Connection.Disconnect: sessions terminated, channels closed, the stream ended."""
        await self._end(REASON_REQUESTED, None)

    async def _end(self, reason: int, error: TelepathyError | None) -> None:
        if self._over:
            return
        self._over = True
        why = error if error is not None else Cancelled("The connection was closed by the user")
        for channel in list(self.channels.values()):
            channel.disconnected(why, stopped=error is None)
        for feature in self.features:
            feature.disconnected(why, stopped=error is None)
        await self.calls.closed()
        await self.hub.close()
        await self.client.disconnect()
        await self.listener.close()
        self._set_status(DISCONNECTED, reason, error)
        await self.tasks.close()

    def _set_status(self, status: int, reason: int, error: TelepathyError | None = None) -> None:
        self.status = status
        self.events.emit(StatusChanged(status, reason, error))

    def set_power_saving(self, active: bool) -> None:
        """PowerSaving.SetPowerSaving: the server may hold back what nobody would look at.

        Raises:
            NotAvailable: the server does not do that (XEP-0352).
        """
        if not self.client.can_be_inactive:
            raise NotAvailable("The server has no way to save power")
        self.client.set_inactive(active)
        if active != self.power_saving_active:
            self.power_saving_active = active
            self.events.emit(PowerSavingChanged(active))

    # -- ``xmpp.client.ClientEvents`` -------------------------------------------------------

    def disconnected(self, error: TelepathyError | None) -> None:
        """The stream ended; None when we ended it."""
        if error is not None:
            self.tasks.start("end", self._end(status_reason(error), error))

    def undelivered(self, stanzas: list[Element]) -> None:
        """What never reached the server: features tell whoever sent it."""
        for feature in self.features:
            feature.undelivered(stanzas)

    def message_received(self, stanza: Element) -> None:
        """A message; the first feature that it is for takes it."""
        try:
            any(feature.receive_message(stanza) for feature in self.features)
        except PeerError as error:
            log.info("a message was dropped: %s", error)

    def presence_received(self, stanza: Element) -> bool:
        """A presence; True if a feature says that it is not one of a contact."""
        try:
            return any(feature.receive_presence(stanza) for feature in self.features)
        except PeerError as error:
            log.info("a presence was dropped: %s", error)
            return True

    def protected_received(self, stanza: Element, peer: ProtectedPeer) -> None:
        """A message or presence of an XML stream: for features that ask for these, and no other.

        What servers send, and peers do not (events, carbons, presences of rooms, copies of the
        contact list), is taken by hooks that never see this.
        """
        for feature in self.features:
            receive = (
                feature.receive_protected_presence
                if stanza.tag == PRESENCE
                else feature.receive_protected_message
            )
            try:
                if receive(stanza, peer):
                    return
            except PeerError as error:
                log.info("a protected stanza was dropped: %s", error)
                return

    def presence_extras(self) -> list[Element]:
        return [element for feature in self.features for element in feature.presence_extras()]

    def presence_changed(self, bare_jid: str) -> None:
        """Some resource of a contact came, changed or went."""
        online = {resource.jid for resource in self.client.resources(bare_jid)}
        for link in self.hub.links():
            if bare(link.peer) == bare_jid and link.peer not in online and link.seen_online:
                link.peer_left = True
                if link.application is not None:
                    link.application.peer_offline()
            elif link.peer in online:
                link.seen_online, link.peer_left = True, False
        self.presences.changed(bare_jid)
        self.client_types.changed(bare_jid)

    def capabilities_changed(self, bare_jid: str) -> None:
        self.client_types.changed(bare_jid)
        self.identity_exchange.capabilities_changed(bare_jid)
        # As with presence: strangers cost no handle.
        if self._in_roster(bare_jid) or self.handles.find(bare_jid) is not None:
            self.events.emit(ContactCapabilitiesChanged((self.handles.of_jid(bare_jid),)))

    def roster_changed(self, changes: Sequence[RosterChange]) -> None:
        for feature in self.features:
            feature.roster_changed(changes)

    def roster_loaded(self, error: E2EError | None) -> None:
        for feature in self.features:
            feature.roster_loaded(error)

    # -- contacts ---------------------------------------------------------------------------

    async def contact_by_id(self, identifier: str) -> int:
        """Contacts.GetContactByID.

        Raises:
            InvalidHandle: not a JID.
        """
        return self.handles.ensure(identifier)

    def update_capabilities(
        self, clients: Iterable[tuple[str, Sequence[Mapping[str, object]], Sequence[str]]]
    ) -> None:
        """ContactCapabilities.UpdateCapabilities."""
        before = self._disco()
        self._capabilities.update(clients)
        features = self._disco()
        if features != before:
            self.client.set_features(features)
            self.events.emit(ContactCapabilitiesChanged((self.self_handle,)))

    def _disco(self) -> list[str]:
        """What our service discovery says (XEP-0030)."""
        of_features = [name for each in self.features for name in each.disco]
        found = [*self._capabilities.features(), *road_features(self.roads), *of_features]
        return list(dict.fromkeys(found))  # calls have some of them in common with data channels

    def contact_capabilities(self, handle: int) -> list[ChannelClass]:
        """ContactCapabilities of a contact.

        Raises:
            InvalidHandle: no such contact.
        """
        jid = self.handles.inspect(handle)
        if jid == self.self_id:
            audio, video = self._capabilities.calls()
            files = self._capabilities.handles(names.FILE_TRANSFER)
            services = self._capabilities.services()
            return own_classes(files=files, audio=audio, video=video, tubes=services)
        return contact_classes(self.client.resources(jid))

    def _own_jid(self) -> str:
        return self.client.jid

    def _in_roster(self, bare_jid: str) -> bool:
        return bare_jid == self.self_id or bare_jid in self.client.contacts()

    # -- channels ---------------------------------------------------------------------------

    def requestable_channel_classes(self) -> list[ChannelClass]:
        """Requests.RequestableChannelClasses."""
        return channel_classes()

    async def create_channel(self, request: Mapping[str, object]) -> Channel:
        """Requests.CreateChannel; the caller announces the channel after its reply, and then
        calls its ``begin``.

        Raises:
            Disconnected: not connected.
            NotImplementedByUs, InvalidArgument, InvalidHandle: see ``requests.parse``.
            TelepathyError: see ``feature.ChannelManager``.
        """
        manager, asked = await self._parsed(request)
        return self._made(await manager.create(asked))

    async def ensure_channel(self, request: Mapping[str, object]) -> tuple[bool, Channel]:
        """Requests.EnsureChannel: likewise, or a channel that is there and fits."""
        manager, asked = await self._parsed(request)
        yours, channel = await manager.ensure(asked)
        return yours, self._made(channel) if yours else channel

    async def _parsed(
        self, request: Mapping[str, object]
    ) -> tuple[ChannelManager, requests.ChannelRequest]:
        if self.status != CONNECTED:
            raise Disconnected("The connection is not up")
        request = await self.rooms.completed(request)
        asked = requests.parse(request, self.requestable_channel_classes(), self.handles)
        manager = next(each for each in self.managers if each.manages(asked))
        if manager.needs_contact:
            await self.presences.settled(self.handles.inspect(asked.handle))
        return manager, asked

    def _made(self, channel: Channel) -> Channel:
        self.channels[channel.object_path] = channel
        return channel

    def _offered(self, link: Link, content: Content) -> None:
        """A peer initiated a session."""
        for each in self.applications:
            if content.description is not None and each.understands(content.description):
                each.offered(link, content)
                return
        link.terminate("unsupported-applications")

    # -- ``account.Account`` ----------------------------------------------------------------

    def question_handler_announced(self) -> bool:
        return self._capabilities.handles(names.PEER_VERIFICATION)

    @property
    def takes_calls(self) -> bool:
        return any(self._capabilities.calls())

    async def find_key(self, bare_jid: str) -> bool:
        if bare_jid in self._keys_seen:
            return True
        return self.policy is not Policy.OFF and await self.published.find_key(bare_jid)

    def key_seen(self, bare_jid: str, fingerprint: bytes) -> None:
        self._keys_seen.add(bare_jid)
        self.published.presented(bare_jid, fingerprint)

    def key_judged(self, bare_jid: str, fingerprint: bytes, *, accepted: bool) -> None:
        self.xml_streams.key_judged(bare_jid, fingerprint, accepted=accepted)
        self.identity_exchange.key_judged(bare_jid, accepted=accepted)

    def next_path(self, kind: str) -> str:
        self._paths += 1
        return f"{self.object_path}/{kind}{self._paths}"

    def announce(self, channel: Channel) -> None:
        self.channels[channel.object_path] = channel
        self.events.emit(ChannelOpened(channel))

    def channel_closed(self, channel: Channel) -> None:
        self.channels.pop(channel.object_path, None)
        self.files.channel_closed(channel)
        self.calls.channel_closed(channel)

    def transfer_ended(self, channel: Channel) -> None:
        self.files.transfer_ended(channel)

    async def find_peer(
        self, bare_jid: str, takes: Callable[[Resource], bool], what: str
    ) -> Resource:
        return await find_peer(self.client, bare_jid, takes, what)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _strings(value: object) -> tuple[str, ...]:
    return tuple(str(each) for each in value) if isinstance(value, (list, tuple)) else ()
