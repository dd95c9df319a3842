"""Connection.Interface.Avatars. Of its deprecated methods those are here that clients still use."""

from __future__ import annotations

from telepathy_e2e.bus.connections.base import ConnectionPart
from telepathy_e2e.bus.connections.served import Connection, check_connected
from telepathy_e2e.bus.members import Property, Signal, method
from telepathy_e2e.bus.types import (
    AvatarRequirements,
    BytesAndText,
    HandleIdentifiers,
    Handles,
    Strings,
)
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import DBusBytes, DBusStr, DBusUInt32, Variant
from telepathy_e2e.service import names


class AvatarsInterface(ConnectionPart):
    """``Connection.Interface.Avatars``."""

    name = names.AVATARS

    SupportedAvatarMIMETypes = Property(Strings)
    MinimumAvatarHeight = Property(DBusUInt32)
    MinimumAvatarWidth = Property(DBusUInt32)
    RecommendedAvatarHeight = Property(DBusUInt32)
    RecommendedAvatarWidth = Property(DBusUInt32)
    MaximumAvatarHeight = Property(DBusUInt32)
    MaximumAvatarWidth = Property(DBusUInt32)
    MaximumAvatarBytes = Property(DBusUInt32)

    AvatarUpdated = Signal(Contact=DBusUInt32, New_Avatar_Token=DBusStr)
    AvatarRetrieved = Signal(Contact=DBusUInt32, Token=DBusStr, Avatar=DBusBytes, Type=DBusStr)

    has_attributes = True

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.subject = connection.avatars

    def contact_attributes(self, handle: int) -> dict[str, Variant]:
        token = self._connection.avatars.of(handle)
        return {} if token is None else {names.AVATARS + "/token": variant("s", token)}

    @method("GetAvatarRequirements")
    def get_avatar_requirements(self) -> AvatarRequirements:
        shown = self._connection.avatars
        return (
            list(shown.supported_avatar_mime_types),
            shown.minimum_avatar_width,
            shown.minimum_avatar_height,
            shown.maximum_avatar_width,
            shown.maximum_avatar_height,
            shown.maximum_avatar_bytes,
        )

    @method("GetKnownAvatarTokens")
    async def get_known_avatar_tokens(self, Contacts: Handles) -> HandleIdentifiers:
        check_connected(self._connection)
        return await self._connection.avatars.known_tokens(Contacts)

    @method("RequestAvatar")
    async def request_avatar(self, Contact: DBusUInt32) -> BytesAndText:
        check_connected(self._connection)
        return await self._connection.avatars.request(Contact)

    @method("RequestAvatars")
    def request_avatars(self, Contacts: Handles) -> None:
        check_connected(self._connection)
        self._connection.avatars.request_all(Contacts)

    @method("SetAvatar")
    async def set_avatar(self, Avatar: DBusBytes, MIME_Type: DBusStr) -> DBusStr:
        check_connected(self._connection)
        return await self._connection.avatars.set(Avatar, MIME_Type)

    @method("ClearAvatar")
    async def clear_avatar(self) -> None:
        check_connected(self._connection)
        await self._connection.avatars.clear()
