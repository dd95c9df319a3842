"""Rooms (XEP-0045): those that we are in, invitations to others, and lists of them."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    Disconnected,
    InvalidArgument,
    InvalidHandle,
    NotAvailable,
    PeerError,
    TelepathyError,
)
from telepathy_e2e.service import names
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.feature import Feature
from telepathy_e2e.service.handles import HANDLE_TYPE_NONE, HANDLE_TYPE_ROOM
from telepathy_e2e.service.messages import Budget
from telepathy_e2e.service.requests import (
    CHANNEL_TYPE,
    TARGET_HANDLE,
    TARGET_HANDLE_TYPE,
    TARGET_ID,
    ChannelRequest,
)
from telepathy_e2e.xmpp import messages, muc
from telepathy_e2e.xmpp.jid import bare, domain_of, local_of, normalise, resource_of
from telepathy_e2e.xmpp.muc import Invitation

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account
    from telepathy_e2e.service.room_channel import RoomChannel
    from telepathy_e2e.service.room_list import RoomListChannel

log = logging.getLogger(__name__)

ROOM_NAME: Final = names.ROOM + ".RoomName"
SERVER: Final = names.ROOM + ".Server"
LIST_SERVER: Final = names.ROOM_LIST + ".Server"

# Rooms at the same time, invitations included; people are in some dozens.
MAX_ROOMS: Final = 500
# Lists of rooms that are open at the same time.
MAX_LISTS: Final = 20
# Invitations that the user has not answered yet, of these from people who are no contacts: whoever
# likes can send them.
MAX_INVITATIONS: Final = 50
MAX_STRANGERS: Final = 10
# Handles are for ever, and occupants may take a new nick as often as they like: those without one
# are not shown, and what they say comes from nobody. Half of what a connection has is kept for
# contacts, and one room cannot use up what the others need.
MAX_OCCUPANT_HANDLES: Final = 50_000
MAX_ROOM_HANDLES: Final = 20_000
# What all unread messages in rooms may take, in bytes.
MAX_UNREAD_BYTES: Final = 16 * 1024 * 1024


class Rooms(Feature):
    """See ``feature.ChannelManager``, whose docstrings hold."""

    needs_contact: ClassVar[bool] = False
    disco = (muc.MUC, muc.DIRECT)

    def __init__(self, account: Account) -> None:
        self._account = account
        self._rooms: dict[str, RoomChannel] = {}
        self._joining: dict[str, asyncio.Task[None]] = {}
        self._lists: dict[str, RoomListChannel] = {}
        self._budget = Budget(MAX_UNREAD_BYTES)
        self._minted = 0
        self._minted_in: dict[str, int] = {}
        self._server: asyncio.Task[str] | None = None

    # -- names ------------------------------------------------------------------------------

    async def complete(self, identifiers: Iterable[str]) -> list[str]:
        """Names of rooms with the server that they are on where none is given.

        Raises:
            NotAvailable: no server is known.
        """
        return [await self._complete(each) for each in identifiers]

    async def _complete(self, identifier: str) -> str:
        if not identifier or "@" in identifier:
            return identifier
        return f"{identifier}@{await self.conference_server()}"

    async def completed(self, request: Mapping[str, object]) -> Mapping[str, object]:
        """A channel request that names a room as Room2 allows, as one for a target.

        Raises:
            InvalidArgument: it contradicts itself.
            NotAvailable: no server is known.
        """
        if request.get(CHANNEL_TYPE) != names.TEXT:
            return request
        target_type = request.get(TARGET_HANDLE_TYPE)
        name, server = request.get(ROOM_NAME), request.get(SERVER)
        identifier = request.get(TARGET_ID)
        has_target = identifier is not None or request.get(TARGET_HANDLE) is not None
        if isinstance(identifier, str) and target_type == HANDLE_TYPE_ROOM:
            if "@" not in identifier and isinstance(server, str) and server:
                return {**request, TARGET_ID: f"{identifier}@{server}"}
            return {**request, TARGET_ID: await self._complete(identifier)}
        if has_target or target_type not in (None, HANDLE_TYPE_NONE, HANDLE_TYPE_ROOM):
            return request
        if not isinstance(name, str):
            return request
        # "uniquely-named": nobody can guess where it is.
        local = name or secrets.token_hex(16)
        if not (isinstance(server, str) and server):
            server = await self.conference_server()
        if "@" in local:
            raise InvalidArgument("RoomName is the part of the address before the @")
        return {
            **request,
            TARGET_HANDLE_TYPE: HANDLE_TYPE_ROOM,
            TARGET_ID: f"{local}@{server}",
        }

    async def conference_server(self) -> str:
        """Where rooms are that do not say it: our server's own service, or else the fallback.

        Raises:
            NotAvailable: there is none.
            Disconnected: the connection is not up.
        """
        fallback = str(self._account.parameters.get("fallback-conference-server") or "")
        if self._account.status != 0:
            raise Disconnected("The connection is not up")
        if self._server is None:
            self._server = self._account.tasks.start("conference", self._discover())
        try:
            found = await asyncio.shield(self._server)
        except asyncio.CancelledError:
            if self._server.cancelled():
                raise Disconnected("The connection to the server is gone") from None
            raise
        if not found:
            self._server = None  # it may be there the next time
        if not (found or fallback):
            raise NotAvailable("The server has no rooms; say where the room is: name@server")
        return found or fallback

    async def _discover(self) -> str:
        from telepathy_e2e.xmpp import conference

        async def ask(to: str, payload: Element) -> Element | None:
            return await self._account.client.send_iq(to, payload, "get")

        try:
            return await conference.discover(ask, domain_of(self._account.self_id))
        except Disconnected:
            return ""

    # -- requested --------------------------------------------------------------------------

    def manages(self, request: ChannelRequest) -> bool:
        if request.channel_type == names.ROOM_LIST:
            return True
        return request.channel_type == names.TEXT and request.target_type == HANDLE_TYPE_ROOM

    async def create(self, request: ChannelRequest) -> Channel:
        if request.channel_type == names.ROOM_LIST:
            return await self._list(request)
        jid = self._account.handles.inspect(request.handle, HANDLE_TYPE_ROOM)
        if jid in self._rooms:
            raise NotAvailable("There is a channel for this room already")
        return await self._enter(request)

    async def ensure(self, request: ChannelRequest) -> tuple[bool, Channel]:
        if request.channel_type == names.ROOM_LIST:
            server = await self._list_server(request)
            if server in self._lists:
                return False, self._lists[server]
            return True, await self._list(request)
        jid = self._account.handles.inspect(request.handle, HANDLE_TYPE_ROOM)
        channel = self._rooms.get(jid)
        if channel is None:
            return True, await self._enter(request)
        if (joining := self._joining.get(jid)) is not None:
            await asyncio.shield(joining)
        elif channel.is_invitation:
            await channel.accept()
        return False, channel

    async def _enter(self, request: ChannelRequest) -> RoomChannel:
        """Make a channel, and come in."""
        jid = self._account.handles.inspect(request.handle, HANDLE_TYPE_ROOM)
        name, server = request.properties.get(ROOM_NAME), request.properties.get(SERVER)
        if name and name != local_of(jid):
            raise InvalidArgument("RoomName says another room than the target")
        if server and server != domain_of(jid):
            raise InvalidArgument("Server says another room than the target")
        if len(self._rooms) >= MAX_ROOMS:
            raise NotAvailable("There are too many rooms")
        channel = self._open(request.handle, unnamed=name == "")
        task = self._joining[jid] = self._account.tasks.start("join", self._join(channel))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise Disconnected("The connection is gone") from None
            raise
        finally:
            self._joining.pop(jid, None)
        return channel

    async def _join(self, channel: RoomChannel) -> None:
        from telepathy_e2e.service.room_refusals import PasswordNeeded

        try:
            await channel.join()
        except PasswordNeeded:
            channel.lock()
        except TelepathyError as error:
            channel.give_up(error)
            raise

    def _open(
        self,
        handle: int,
        *,
        unnamed: bool = False,
        invitation: Invitation | None = None,
        inviter: int = 0,
    ) -> RoomChannel:
        from telepathy_e2e.service.room_channel import RoomChannel

        jid = self._account.handles.inspect(handle, HANDLE_TYPE_ROOM)
        channel = RoomChannel(
            self._account,
            self._account.next_path("Room"),
            target_handle=handle,
            nick=self._nick(),
            budget=self._budget,
            handle_of=lambda full_jid: self._handle_of(jid, full_jid),
            gone=self._gone,
            presences=self._account.presences,
            invitation=invitation,
            inviter=inviter,
            unnamed=unnamed,
        )
        self._rooms[jid] = channel
        return channel

    def _nick(self) -> str:
        """What we are called in rooms."""
        own = self._account.self_id
        try:
            return resource_of(normalise(f"{own}/{self._account.aliases.of_self()}"))
        except ValueError:
            return local_of(own)

    def _handle_of(self, room: str, jid: str) -> int:
        """The handle of an occupant, or of whom it is; 0 past the bounds."""
        if (handle := self._account.handles.find(jid)) is not None:
            return handle
        here = self._minted_in.get(room, 0)
        if self._minted >= MAX_OCCUPANT_HANDLES or here >= MAX_ROOM_HANDLES:
            return 0
        try:
            handle = self._account.handles.of_jid(jid)
        except InvalidHandle:
            return 0
        self._minted += 1
        self._minted_in[room] = here + 1
        return handle

    def _gone(self, channel: RoomChannel) -> None:
        self._rooms.pop(channel.target_id, None)

    # -- lists ------------------------------------------------------------------------------

    async def _list_server(self, request: ChannelRequest) -> str:
        given = str(request.properties.get(LIST_SERVER) or "")
        if not given:
            return await self.conference_server()
        try:
            server = normalise(given)
        except ValueError as error:
            raise InvalidArgument(f"Server is not a host name: {error}") from None
        if server != domain_of(server):
            raise InvalidArgument("Server is not a host name")
        return server

    async def _list(self, request: ChannelRequest) -> RoomListChannel:
        from telepathy_e2e.service.room_list import RoomListChannel

        server = await self._list_server(request)
        if len(self._lists) >= MAX_LISTS:
            raise NotAvailable("There are too many lists of rooms")
        channel = RoomListChannel(
            self._account, self._account.next_path("RoomList"), server, self._list_gone
        )
        self._lists[server] = channel
        return channel

    def _list_gone(self, channel: RoomListChannel) -> None:
        if self._lists.get(channel.server) is channel:
            del self._lists[channel.server]

    # -- received ---------------------------------------------------------------------------

    def is_occupant(self, full_jid: str) -> bool:
        """Whether this is somebody in a room that we are in."""
        return "/" in full_jid and bare(full_jid) in self._rooms

    def presence_of(self, full_jid: str) -> tuple[str, str] | None:
        """(show, status) of an occupant; None if he is not there."""
        channel = self._rooms.get(bare(full_jid))
        occupant = (
            channel.room.occupants.get(resource_of(full_jid)) if channel is not None else None
        )
        return (occupant.show, occupant.status) if occupant is not None else None

    def receive_presence(self, stanza: Element) -> bool:
        """Presences from rooms say nothing about contacts, also of rooms that we are not in."""
        if not self._rooms:
            return muc.is_of_room(stanza)
        try:
            sender = normalise(stanza.get("from", ""))
        except ValueError:
            raise PeerError("an address that is none", "jid-malformed") from None
        channel = self._rooms.get(bare(sender))
        if channel is None:
            return muc.is_of_room(stanza)
        channel.receive_presence(stanza)
        return True

    def receive_message(self, stanza: Element) -> bool:
        kind = stanza.get("type")
        if (invitation := muc.invitation(stanza)) is not None:
            self._invited(invitation)
            return True
        if (refused := muc.declined(stanza)) is not None:
            if (channel := self._rooms.get(refused.room)) is not None:
                channel.guests.declined(refused.invitee, refused.reason)
            return True
        if not self._rooms:
            return kind == "groupchat"
        try:
            sender = normalise(stanza.get("from", ""))
        except ValueError:
            raise PeerError("an address that is none", "jid-malformed") from None
        channel = self._rooms.get(bare(sender))
        if channel is None:
            return kind == "groupchat"
        if kind == "groupchat":
            channel.receive_message(messages.parse(stanza), muc.parse(stanza))
            return True
        if sender != channel.target_id:
            return False  # what occupants say to us alone
        message = messages.parse(stanza)
        if kind == "error":
            channel.returned(message)
        else:
            channel.receive_message(message, muc.parse(stanza))
        return True

    def _invited(self, invitation: Invitation) -> None:
        """Show it, if there is room for it."""
        if invitation.room in self._rooms:
            return
        inviter = invitation.inviter
        if bare(inviter) != invitation.room:
            inviter = bare(inviter)
        if inviter in self._account.blocking:
            return
        if not self._welcome(inviter) or len(self._rooms) >= MAX_ROOMS:
            log.warning("too many invitations to rooms")
            return
        try:
            room = self._account.handles.of_jid(invitation.room, HANDLE_TYPE_ROOM)
            by = self._account.handles.of_jid(inviter)
        except InvalidHandle as error:
            log.warning("an invitation was dropped: %s", error)
            return
        self._account.announce(self._open(room, invitation=invitation, inviter=by))

    def _welcome(self, inviter: str) -> bool:
        contacts = self._account.client.contacts()
        waiting = [each.initiator_id for each in self._rooms.values() if each.is_invitation]
        if len(waiting) >= MAX_INVITATIONS:
            return False
        strangers = sum(each not in contacts for each in waiting)
        return inviter in contacts or strangers < MAX_STRANGERS

    # -- ours -------------------------------------------------------------------------------

    def presence_changed(self) -> None:
        """The user is in another state: rooms are told one by one."""
        for channel in self._rooms.values():
            channel.show_presence()

    def undelivered(self, stanzas: list[Element]) -> None:
        for stanza in stanzas:
            channel = self._rooms.get(stanza.get("to", ""))
            if channel is not None and stanza.tag == messages.MESSAGE:
                channel.lost(stanza.get("id", ""))

    def disconnected(self, error: TelepathyError, *, stopped: bool) -> None:
        for channel in list(self._rooms.values()):
            channel.disconnected(error, stopped)
        for each in list(self._lists.values()):
            each.disconnected(error, stopped)
