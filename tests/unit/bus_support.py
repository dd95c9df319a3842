"""A service layer that only keeps what it is told, and what is needed to show it on a bus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
import pytest_asyncio
from dbus_fast import Message

from telepathy_e2e.bus.channels.table import ChannelClass
from telepathy_e2e.bus.identifiers import MANAGER_NAME, MANAGER_PATH
from telepathy_e2e.bus.manager import Manager
from telepathy_e2e.bus.objects import Objects
from telepathy_e2e.bus.wire import Bus, Variant
from telepathy_e2e.errors import InvalidArgument, NotAvailable, TelepathyError
from telepathy_e2e.service import names
from telepathy_e2e.service.certificate import TLSCertificate
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.events import (
    Changed,
    ChannelOpened,
    ConnectionEvent,
    Emitter,
    Finished,
    PowerSavingChanged,
    StatusChanged,
    URIDefined,
)
from telepathy_e2e.service.handles import Handles
from telepathy_e2e.xtls.published import Published
from tests.support.bus import PROPERTIES, PrivateBus, RawClient, available, client_of

FT = names.FILE_TRANSFER
CONN = names.CONNECTION

CLASSES: list[ChannelClass] = [
    (
        {names.CHANNEL + ".ChannelType": FT, names.CHANNEL + ".TargetHandleType": 1},
        [names.CHANNEL + ".TargetID", FT + ".Filename", names.SECURABLE + ".Encrypted"],
    )
]

FINGERPRINTS = {"sha-256": "AB:CD"}


class FakeTransfer(Channel):
    channel_type = FT
    interfaces = (names.SECURABLE, names.END_TO_END_SECURITY)

    def __init__(self, owner: FakeConnection, path: str, request: Mapping[str, Any]) -> None:
        super().__init__(
            owner,
            path,
            target_handle=owner.handles.ensure("bob@example.test"),
            target_id="bob@example.test",
            requested=True,
            initiator_handle=owner.self_handle,
            initiator_id=owner.self_id,
        )
        self.request = dict(request)
        self.state = 1
        self.content_type = "text/plain"
        self.filename = str(request.get(FT + ".Filename", "file"))
        self.size = 2**64 - 1
        self.content_hash_type = 0
        self.content_hash = ""
        self.description = ""
        self.date = -1
        self.available_socket_types = {0: [0], 2: [0, 1]}
        self.transferred_bytes = 0
        self.initial_offset = 0
        self.uri = ""
        self.file_collection = ""
        self.encrypted = self.verified = False
        self.protocol = self.cipher_suite = self.key_exchange = self.verified_by = ""
        self.verified_methods: list[str] = []
        self.peer_fingerprints: dict[str, str] = {}
        self.own_fingerprints: dict[str, str] = {}
        self.require_encrypted = self.require_verified = False
        self.replaces = "/"
        self.verification_channel = "/"
        self.error = self.error_message = ""
        self.calls: list[tuple[Any, ...]] = []
        self.address: object = b"/run/socket"

    def immutable_properties(self) -> dict[str, object]:
        shown = super().immutable_properties()
        for key in ("ContentType", "Filename", "Description", "ContentHash"):
            shown[f"{FT}.{key}"] = ""
        shown |= {
            FT + ".ContentType": self.content_type,
            FT + ".Filename": self.filename,
            FT + ".Size": self.size,
            FT + ".ContentHashType": self.content_hash_type,
            FT + ".Date": self.date,
            FT + ".AvailableSocketTypes": self.available_socket_types,
            names.END_TO_END_SECURITY + ".RequireEncrypted": self.require_encrypted,
            names.END_TO_END_SECURITY + ".RequireVerified": self.require_verified,
            names.END_TO_END_SECURITY + ".Replaces": self.replaces,
        }
        return shown

    async def accept_file(
        self, address_type: int, access_control: int, parameter: object, offset: int
    ) -> object:
        self.calls.append((address_type, access_control, parameter, offset))
        return self.address

    async def provide_file(
        self, address_type: int, access_control: int, parameter: object
    ) -> object:
        self.calls.append((address_type, access_control, parameter))
        return self.address

    def set_uri(self, uri: str) -> None:
        if not uri:
            raise InvalidArgument("Not a URI")
        self.uri = uri
        self.events.emit(URIDefined(uri))

    def verify(self) -> str:
        if not self.encrypted:
            raise NotAvailable("In the clear")
        return self.verification_channel


class FakeQuestion(Channel):
    channel_type = names.PEER_VERIFICATION

    def __init__(
        self, owner: FakeConnection, path: str, payload: str, *, clear: bool = False
    ) -> None:
        super().__init__(
            owner,
            path,
            target_handle=owner.handles.ensure("bob@example.test"),
            target_id="bob@example.test",
            requested=False,
            initiator_handle=owner.self_handle,
            initiator_id=owner.self_id,
        )
        self.payload_channel = payload
        self.certificate: TLSCertificate | None = None
        if not clear:
            self.certificate = TLSCertificate(
                path + "/PeerCertificate", [b"leaf", b"identity"], self._vouch, self.reject
            )
        self.peer_certificate = self.certificate.object_path if self.certificate else "/"
        self.peer_fingerprints = dict(FINGERPRINTS)
        self.own_fingerprints = dict(FINGERPRINTS)
        self.methods = ["fingerprint", "sas"]
        self.attestations = [["openpgp", "signed by Carol", b"\x01\x02"]]
        self.reason = "continuity"
        self.state = "pending"
        self.short_authentication_string = ""
        self.started_method = ""
        self.calls: list[tuple[Any, ...]] = []

    def immutable_properties(self) -> dict[str, object]:
        shown = super().immutable_properties()
        prefix = names.PEER_VERIFICATION + "."
        shown |= {
            prefix + "PayloadChannel": self.payload_channel,
            prefix + "PeerCertificate": self.peer_certificate,
            prefix + "PeerFingerprints": self.peer_fingerprints,
            prefix + "OwnFingerprints": self.own_fingerprints,
            prefix + "Methods": self.methods,
            prefix + "Attestations": self.attestations,
            prefix + "Reason": self.reason,
        }
        return shown

    def start_sas(self) -> None:
        self.calls.append(("start_sas",))

    def confirm_sas(self, match: bool) -> None:
        self.calls.append(("confirm_sas", match))

    def start_password(self, secret: str) -> None:
        self.calls.append(("start_password", secret))

    def accept(self, method: str) -> None:
        self._answer("verified", method)

    def _vouch(self) -> None:
        self.accept("fingerprint")

    def proceed_unverified(self) -> None:
        self._answer("unverified", "")

    def reject(self, text: str) -> None:
        self.calls.append(("reject", text))
        self._answer("rejected", "")

    def _answer(self, state: str, method: str) -> None:
        if self.state in ("verified", "rejected"):
            raise NotAvailable("Answered already")
        self.state = state
        self.events.emit(Changed(names.PEER_VERIFICATION, ("State",)))
        if self.certificate is not None and state != "unverified":
            self.certificate.answered(state == "verified")
        self.events.emit(Finished(state, method))
        if state != "unverified":
            self._gone()


class FakeCertificateRequest(Channel):
    channel_type = names.CERTIFICATE_REQUEST

    def __init__(self, owner: FakeConnection, path: str, payload: str) -> None:
        super().__init__(
            owner,
            path,
            target_handle=owner.handles.ensure("bob@example.test"),
            target_id="bob@example.test",
            requested=False,
            initiator_handle=owner.self_handle,
            initiator_id=owner.self_id,
        )
        self.payload_channel = payload
        self.signing_request = b"\x30\x00"
        self.calls: list[object] = []

    def immutable_properties(self) -> dict[str, object]:
        shown = super().immutable_properties()
        shown[names.CERTIFICATE_REQUEST + ".PayloadChannel"] = self.payload_channel
        shown[names.CERTIFICATE_REQUEST + ".SigningRequest"] = self.signing_request
        return shown

    async def provide(self, certificates: Sequence[bytes]) -> None:
        if len(certificates) != 2:
            raise InvalidArgument("Two")
        self.calls.append(list(certificates))
        self._gone()

    def use_own(self) -> None:
        self.calls.append("own")
        self._gone()


class FakePresences:
    """Follows ``service.presence.PresenceFeature``."""

    statuses: ClassVar = {"available": (2, True, True), "offline": (1, False, True)}
    maximum_status_message_length = 0

    def __init__(self, handles: Handles) -> None:
        self._handles = handles
        self.told: list[tuple[str, str]] = []

    def set(self, status: str, message: str) -> None:
        if status not in self.statuses:
            raise InvalidArgument("No such status")
        self.told.append((status, message))

    def of(self, handle: int) -> tuple[int, str, str]:
        self._handles.inspect(handle)
        return (2, "available", "here")

    async def of_all(self, handles: Sequence[int]) -> dict[int, tuple[int, str, str]]:
        return {handle: self.of(handle) for handle in handles}


class FakeContactList:
    """Follows ``service.contact_list.ContactList``."""

    contact_list_state = 3
    contact_list_persists = can_change_contact_list = True
    request_uses_message = download_at_connection = True

    def __init__(self) -> None:
        self.states: tuple[int, int, str] | None = (4, 3, "please")
        self.calls: list[tuple[Any, ...]] = []

    def known_states(self, handle: int) -> tuple[int, int, str] | None:
        return self.states

    def contacts(self) -> list[int]:
        return [1]

    def download(self) -> None:
        self.calls.append(("download",))

    async def request_subscription(self, handles: Iterable[int], message: str) -> None:
        self.calls.append(("request_subscription", list(handles), message))

    async def authorize_publication(self, handles: Iterable[int]) -> None:
        self.calls.append(("authorize_publication", list(handles)))

    async def remove_contacts(self, handles: Iterable[int]) -> None:
        self.calls.append(("remove_contacts", list(handles)))

    async def unsubscribe(self, handles: Iterable[int]) -> None:
        self.calls.append(("unsubscribe", list(handles)))

    async def unpublish(self, handles: Iterable[int]) -> None:
        self.calls.append(("unpublish", list(handles)))


class FakeGroups:
    """Follows ``service.contact_groups.ContactGroups``."""

    disjoint_groups = False
    group_storage = 3
    groups: ClassVar = ["Friends"]

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def of(self, handle: int) -> list[str]:
        return ["Friends"]

    async def set_contact_groups(self, handle: int, groups: Sequence[str]) -> None:
        self.calls.append(("set_contact_groups", handle, list(groups)))

    async def set_group_members(self, group: str, handles: Iterable[int]) -> None:
        self.calls.append(("set_group_members", group, list(handles)))

    async def add_to_group(self, group: str, handles: Iterable[int]) -> None:
        self.calls.append(("add_to_group", group, list(handles)))

    async def remove_from_group(self, group: str, handles: Iterable[int]) -> None:
        self.calls.append(("remove_from_group", group, list(handles)))

    async def remove_group(self, group: str) -> None:
        self.calls.append(("remove_group", group))

    async def rename_group(self, old: str, new: str) -> None:
        self.calls.append(("rename_group", old, new))


class FakeBlocking:
    """Follows ``service.contact_blocking.ContactBlocking``."""

    contact_blocking_capabilities = 0

    def __init__(self) -> None:
        self.blocked: set[int] = set()

    def is_blocked(self, handle: int) -> bool:
        return handle in self.blocked

    async def request_blocked_contacts(self) -> dict[int, str]:
        return {handle: f"contact{handle}" for handle in self.blocked}

    async def block(self, handles: Iterable[int]) -> None:
        self.blocked.update(handles)

    async def unblock(self, handles: Iterable[int]) -> None:
        self.blocked.difference_update(handles)


class FakeAliases:
    """Follows ``service.aliases.Aliases``."""

    flags = 1

    def __init__(self, handles: Handles) -> None:
        self._handles = handles
        self.names: dict[int, str] = {}

    def of(self, handle: int) -> str:
        return self.names.get(handle) or self._handles.inspect(handle)

    def of_all(self, handles: Sequence[int]) -> dict[int, str]:
        return {handle: self.of(handle) for handle in handles}

    async def set(self, aliases: Mapping[int, str]) -> None:
        self.names.update(aliases)


class FakeAvatars:
    """Follows ``service.avatars.Avatars``."""

    supported_avatar_mime_types = ("image/png",)
    minimum_avatar_width, minimum_avatar_height = 1, 2
    recommended_avatar_width, recommended_avatar_height = 3, 4
    maximum_avatar_width, maximum_avatar_height = 5, 6
    maximum_avatar_bytes = 7

    def __init__(self) -> None:
        self.tokens: dict[int, str] = {}
        self.requested: list[int] = []

    def of(self, handle: int) -> str | None:
        return self.tokens.get(handle)

    async def known_tokens(self, handles: Sequence[int]) -> dict[int, str]:
        return {each: self.tokens[each] for each in handles if each in self.tokens}

    async def request(self, handle: int) -> tuple[bytes, str]:
        return b"picture", "image/png"

    def request_all(self, handles: Sequence[int]) -> None:
        self.requested += handles

    async def set(self, data: bytes, mime_type: str) -> str:
        if mime_type != "image/png":
            raise InvalidArgument("PNG")
        self.tokens[1] = data.hex()
        return data.hex()

    async def clear(self) -> None:
        self.tokens[1] = ""


class FakeContactInfo:
    """Follows ``service.contact_info.ContactInfo``."""

    supported_fields = (("tel", ("type=home",), 1, 4),)
    flags = 1

    def __init__(self) -> None:
        self.fields: dict[int, Any] = {}
        self.refreshed: list[int] = []

    def of(self, handle: int) -> Any:
        return self.fields.get(handle)

    def of_all(self, handles: Sequence[int]) -> dict[int, Any]:
        return {each: self.fields[each] for each in handles if each in self.fields}

    def refresh(self, handles: Sequence[int]) -> None:
        self.refreshed += handles

    async def request(self, handle: int) -> Any:
        return self.fields[handle]

    async def set(self, fields: Sequence[Any]) -> None:
        self.fields[1] = tuple((name, tuple(more), tuple(values)) for name, more, values in fields)


class FakeClientTypes:
    """Follows ``service.client_types.ClientTypes``."""

    def __init__(self) -> None:
        self.types: dict[int, tuple[str, ...]] = {}

    def of(self, handle: int) -> tuple[str, ...] | None:
        return self.types.get(handle)

    def of_all(self, handles: Sequence[int]) -> dict[int, tuple[str, ...]]:
        return {each: self.types[each] for each in handles if each in self.types}

    async def request(self, handle: int) -> tuple[str, ...]:
        return self.types.get(handle, ())


class FakePublished:
    """Follows ``service.published_identity.PublishedIdentities``."""

    def __init__(self, handles: Handles) -> None:
        self._handles = handles
        self.published: list[Published] = []

    async def fetch(self, handle: int) -> list[Published]:
        self._handles.inspect(handle)
        return self.published


class FakeRooms:
    """Follows ``service.rooms.Rooms``, on a server whose rooms are at rooms.example.test."""

    async def complete(self, identifiers: Iterable[str]) -> list[str]:
        return [each if "@" in each else f"{each}@rooms.example.test" for each in identifiers]


class FakeConnection:
    """Follows ``service.connection.Connection``."""

    def __init__(self, parameters: Mapping[str, Any], object_path: str) -> None:
        self.parameters = dict(parameters)
        self.object_path = object_path
        self.events: Emitter[ConnectionEvent] = Emitter()
        self.handles = Handles()
        self.self_id = str(parameters["account"])
        self.self_handle = self.handles.ensure(self.self_id)
        self.status = 2
        self.channels: dict[str, Channel] = {}
        self.requests: list[dict[str, Any]] = []
        self.capabilities: list[Any] = []
        self.presences: Any = FakePresences(self.handles)
        self.contact_list: Any = FakeContactList()
        self.groups: Any = FakeGroups()
        self.blocking: Any = FakeBlocking()
        self.aliases: Any = FakeAliases(self.handles)
        self.avatars: Any = FakeAvatars()
        self.contact_info: Any = FakeContactInfo()
        self.client_types: Any = FakeClientTypes()
        self.rooms: Any = FakeRooms()
        self.published: Any = FakePublished(self.handles)
        self.power_saving_active = False
        self.failure: TelepathyError | None = None
        self._count = 0

    def connect(self) -> None:
        self.set_status(1, 1)

    def set_status(self, status: int, reason: int, error: TelepathyError | None = None) -> None:
        self.status = status
        self.events.emit(StatusChanged(status, reason, error))

    async def disconnect(self) -> None:
        for channel in list(self.channels.values()):
            channel.close()
        self.set_status(2, 1)

    def requestable_channel_classes(self) -> list[ChannelClass]:
        return CLASSES

    def next_path(self) -> str:
        self._count += 1
        return f"{self.object_path}/Channel{self._count}"

    async def create_channel(self, request: Mapping[str, Any]) -> Channel:
        if self.failure is not None:
            raise self.failure
        self.requests.append(dict(request))
        channel = FakeTransfer(self, self.next_path(), request)
        self.channels[channel.object_path] = channel
        return channel

    async def ensure_channel(self, request: Mapping[str, Any]) -> tuple[bool, Channel]:
        for channel in self.channels.values():
            if isinstance(channel, FakeTransfer):
                return False, channel
        return True, await self.create_channel(request)

    def open(self, channel: Channel) -> None:
        self.channels[channel.object_path] = channel
        self.events.emit(ChannelOpened(channel))

    def channel_closed(self, channel: Channel) -> None:
        self.channels.pop(channel.object_path, None)

    def update_capabilities(
        self, clients: Iterable[tuple[str, Sequence[Mapping[str, object]], Sequence[str]]]
    ) -> None:
        self.capabilities += list(clients)

    def contact_capabilities(self, handle: int) -> list[ChannelClass]:
        self.handles.inspect(handle)
        return CLASSES

    def set_power_saving(self, active: bool) -> None:
        self.power_saving_active = active
        self.events.emit(PowerSavingChanged(active))

    async def contact_by_id(self, identifier: str) -> int:
        return self.handles.ensure(identifier)


class Served:
    """A manager on a private bus, with a client."""

    def __init__(self, bus: Bus, client: RawClient, address: str) -> None:
        self.bus = bus
        self.client = client
        self.address = address
        self.made: list[FakeConnection] = []
        self.changes = 0
        self.failure: Exception | None = None
        self.objects = Objects(bus)
        self.manager = Manager(
            bus,
            self.objects,
            make_connection=self._make,
            channel_classes=lambda: CLASSES,
            on_change=self._changed,
        )
        self.manager.export()
        bus.serve(self.objects)
        self.bus_name = ""
        self.path = ""

    def _make(self, parameters: Mapping[str, Any], path: str) -> FakeConnection:
        if self.failure is not None:
            raise self.failure
        self.made.append(FakeConnection(parameters, path))
        return self.made[-1]

    def _changed(self) -> None:
        self.changes += 1

    @property
    def connection(self) -> FakeConnection:
        return self.made[-1]

    async def request(self, **parameters: Variant) -> Message:
        given = {"account": Variant("s", "alice@example.test")}
        given.update({key.replace("_", "-"): value for key, value in parameters.items()})
        reply = await self.client.call(
            MANAGER_NAME,
            MANAGER_PATH,
            names.TP + "ConnectionManager",
            "RequestConnection",
            "sa{sv}",
            "jabber",
            given,
        )
        if len(reply.body) == 2:
            self.bus_name, self.path = reply.body
        return reply

    async def connected(self) -> FakeConnection:
        """A connection that is up."""
        await self.request(password=Variant("s", "open sesame"))
        self.connection.set_status(1, 1)
        self.connection.set_status(0, 1)
        return self.connection

    async def get_all(self, path: str, interface: str) -> dict[str, Variant]:
        return dict(
            await self.client.value(self.bus_name, path, PROPERTIES, "GetAll", "s", interface)
        )

    async def get_properties(self, interface: str) -> dict[str, Variant]:
        """Of the protocol's object."""
        target = (MANAGER_NAME, MANAGER_PATH + "/jabber", PROPERTIES)
        return dict(await self.client.value(*target, "GetAll", "s", interface))

    async def create(self, **more: Variant) -> Message:
        request = {
            names.CHANNEL + ".ChannelType": Variant("s", FT),
            names.CHANNEL + ".TargetHandleType": Variant("u", 1),
            names.CHANNEL + ".TargetID": Variant("s", "bob@example.test"),
            FT + ".Filename": Variant("s", "notes.txt"),
            **more,
        }
        return await self.client.call(
            self.bus_name, self.path, names.REQUESTS, "CreateChannel", "a{sv}", request
        )

    async def settle(self) -> None:
        """Wait until the client has seen all that was sent so far."""
        await self.client.value(self.bus.unique_name, "/", "org.freedesktop.DBus.Peer", "Ping")

    def told(self) -> list[tuple[str, list[Any]]]:
        """Members and arguments of the signals that came from us, in order."""
        return [
            (str(m.member), list(m.body))
            for m in self.client.log
            if m.sender == self.bus.unique_name and m.message_type.name == "SIGNAL"
        ]


@asynccontextmanager
async def serving(private: PrivateBus) -> AsyncIterator[Served]:
    bus = await Bus.connect(private.address)
    async with client_of(private) as client:
        served = Served(bus, client, private.address)
        assert await bus.request_name(MANAGER_NAME)
        yield served
    await bus.close()


def fixture() -> Any:
    """The fixture ``served``: a manager on a bus of its own."""

    @pytest_asyncio.fixture
    async def served() -> AsyncIterator[Served]:
        if not available():
            pytest.skip("dbus-daemon is not installed")
        private = PrivateBus.start()
        try:
            async with serving(private) as found:
                yield found
        finally:
            private.stop()

    return served
