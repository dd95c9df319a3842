"""The rooms of a server (Channel.Type.RoomList, XEP-0045 section 6.3)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import Disconnected, InvalidHandle, PeerError, TelepathyError
from telepathy_e2e.service import names
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.events import ChannelEvent
from telepathy_e2e.service.handles import HANDLE_TYPE_NONE, HANDLE_TYPE_ROOM
from telepathy_e2e.xmpp import muc_config
from telepathy_e2e.xmpp.caps import QUERY_INFO, QUERY_ITEMS
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import local_of
from telepathy_e2e.xmpp.muc_config import RSM, ListedRoom

log = logging.getLogger(__name__)

# Rooms that are listed: nobody reads further, and each costs a handle and a question.
MAX_ROOMS: Final = 5_000
# Rooms of one page; rooms told in one signal; questions that are out at the same time.
PAGE: Final = 200
AT_ONCE: Final = 20
ASKING: Final = 10


@dataclass(frozen=True)
class Room:
    """Room_Info without the channel type."""

    handle: int
    info: Mapping[str, object]


@dataclass(frozen=True)
class GotRooms(ChannelEvent):
    """RoomList.GotRooms."""

    rooms: tuple[Room, ...]


@dataclass(frozen=True)
class ListingRooms(ChannelEvent):
    """RoomList.ListingRooms."""

    listing: bool


class RoomListChannel(Channel):
    """Shows the rooms of one conference service.

    Args:
        server: its domain.
        gone: called when it closes.
    """

    channel_type = names.ROOM_LIST

    def __init__(
        self,
        account: Account,
        object_path: str,
        server: str,
        gone: Callable[[RoomListChannel], None],
    ) -> None:
        super().__init__(
            account,
            object_path,
            target_handle_type=HANDLE_TYPE_NONE,
            target_handle=0,
            target_id="",
            requested=True,
            initiator_handle=account.self_handle,
            initiator_id=account.self_id,
        )
        self.server = server
        self._account = account
        self._on_gone = gone
        self._task: asyncio.Task[None] | None = None

    def immutable_properties(self) -> dict[str, object]:
        shown = super().immutable_properties()
        shown[names.ROOM_LIST + ".Server"] = self.server
        return shown

    @property
    def listing(self) -> bool:
        """RoomList.GetListingRooms."""
        return self._task is not None

    def list_rooms(self) -> None:
        """RoomList.ListRooms; nothing new if it is under way.

        Raises:
            Disconnected: not connected.
        """
        if self._account.status != 0:
            raise Disconnected("The connection is not up")
        if self._task is None:
            self._task = self._account.tasks.start("rooms", self._list())
            self.events.emit(ListingRooms(True))

    def stop_listing(self) -> None:
        """RoomList.StopListing."""
        if self._task is not None:
            self._task.cancel()
            self._ended()

    def _ended(self) -> None:
        self._task = None
        self.events.emit(ListingRooms(False))

    def _gone(self) -> None:
        if not self.closed:
            self.stop_listing()
            self._on_gone(self)
        super()._gone()

    async def _list(self) -> None:
        listed, mark = 0, ""
        try:
            while listed < MAX_ROOMS:
                query = Element(QUERY_ITEMS)
                page = SubElement(query, f"{{{RSM}}}set")
                SubElement(page, f"{{{RSM}}}max").text = str(PAGE)
                if mark:
                    SubElement(page, f"{{{RSM}}}after").text = mark
                answer = await self._account.client.send_iq(self.server, query, "get")
                before = mark
                rooms, mark = (
                    muc_config.page(answer, self.server) if answer is not None else ([], "")
                )
                rooms = rooms[: MAX_ROOMS - listed]
                listed += len(rooms)
                for start in range(0, len(rooms), AT_ONCE):
                    await self._tell(rooms[start : start + AT_ONCE])
                # A server that says the same mark again would never end.
                if not mark or mark == before or not rooms:
                    break
        except (StanzaError, IqTimeout, PeerError, TelepathyError) as error:
            # ListRooms has returned; all that is left to say is that there is nothing more.
            log.info("the rooms of %s could not be listed: %s", self.server, error)
        self._ended()

    async def _tell(self, rooms: list[ListedRoom]) -> None:
        limit = asyncio.Semaphore(ASKING)

        async def known(room: ListedRoom) -> Room | None:
            async with limit:
                return await self._info(room)

        answers = await asyncio.gather(*map(known, rooms))
        found = tuple(each for each in answers if each is not None)
        if found:
            self.events.emit(GotRooms(found))

    async def _info(self, listed: ListedRoom) -> Room | None:
        try:
            handle = self._account.handles.of_jid(listed.jid, HANDLE_TYPE_ROOM)
        except InvalidHandle:
            return None
        shown: dict[str, object] = {
            "handle-name": listed.jid,
            "room-id": local_of(listed.jid),
            "server": self.server,
            "name": listed.name or local_of(listed.jid),
        }
        try:
            answer = await self._account.client.send_iq(listed.jid, Element(QUERY_INFO), "get")
            info = muc_config.parse_info(answer) if answer is not None else None
        except (StanzaError, IqTimeout, PeerError) as error:
            log.info("a room does not say what it is like: %s", error)
            info = None
        if info is not None:
            shown["password"] = info.password_protected
            shown["invite-only"] = info.invite_only
            if info.title:
                shown["name"] = info.title
            if info.description:
                shown["description"] = info.description
            if info.occupants is not None:
                shown["members"] = info.occupants
        return Room(handle, shown)
