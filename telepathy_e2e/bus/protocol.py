"""The protocol ``jabber`` as Telepathy shows it (Protocol, Protocol.Interface.Presence)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from telepathy_e2e.bus import parameters
from telepathy_e2e.bus.channels.table import ChannelClass, class_list
from telepathy_e2e.bus.identifiers import MANAGER_PATH
from telepathy_e2e.bus.members import Interface, Property, method
from telepathy_e2e.bus.types import ChannelClasses, ParamSpecs, Statuses, Strings
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import DBusDict, DBusStr, DBusUInt32, Variant
from telepathy_e2e.errors import InvalidHandle
from telepathy_e2e.service import addressing, names
from telepathy_e2e.xmpp import avatar
from telepathy_e2e.xmpp.jid import bare, normalise

NAME: Final = "jabber"
PATH: Final = f"{MANAGER_PATH}/{NAME}"
PROTOCOL: Final = names.TP + "Protocol"
PRESENCE: Final = PROTOCOL + ".Interface.Presence"
AVATARS: Final = PROTOCOL + ".Interface.Avatars"
ADDRESSING: Final = PROTOCOL + ".Interface.Addressing"

# What a connection of this protocol has, connected or not.
CONNECTION_INTERFACES: Final = (
    names.REQUESTS,
    names.CONTACTS,
    names.SIMPLE_PRESENCE,
    names.CONTACT_LIST,
    names.CONTACT_GROUPS,
    names.CONTACT_BLOCKING,
    names.ALIASING,
    names.AVATARS,
    names.CONTACT_INFO,
    names.CLIENT_TYPES,
    names.ADDRESSING,
    names.IDENTITIES,
    names.CONTACT_CAPABILITIES,
    names.POWER_SAVING,
)

# Connection_Presence_Type and whether a user may set it, and with a message.
STATUSES: Final[dict[str, tuple[int, bool, bool]]] = {
    "offline": (1, False, True),
    "available": (2, True, True),
    "chat": (2, True, True),
    "away": (3, True, True),
    "xa": (4, True, True),
    "hidden": (5, False, True),
    "dnd": (6, True, True),
    "unknown": (7, False, True),
    "error": (8, False, True),
}


class ProtocolInterface(Interface):
    """``Protocol``.

    Args:
        channel_classes: what connections will be able to make.
    """

    name = PROTOCOL

    Interfaces = Property(Strings)
    Parameters = Property(ParamSpecs)
    ConnectionInterfaces = Property(Strings)
    RequestableChannelClasses = Property(ChannelClasses)
    VCardField = Property(DBusStr)
    EnglishName = Property(DBusStr)
    Icon = Property(DBusStr)
    AuthenticationTypes = Property(Strings)

    interfaces = (PRESENCE, AVATARS, ADDRESSING)
    connection_interfaces = CONNECTION_INTERFACES
    v_card_field = "x-jabber"
    english_name = "Jabber"
    icon = "im-jabber"
    authentication_types = (names.SERVER_TLS, names.SASL_AUTHENTICATION)

    def __init__(self, channel_classes: Callable[[], list[ChannelClass]]) -> None:
        super().__init__()
        self._channel_classes = channel_classes

    @property
    def parameters(self) -> list[list[Any]]:
        return [each.spec() for each in parameters.PARAMETERS]

    @property
    def requestable_channel_classes(self) -> list[list[Any]]:
        return class_list(self._channel_classes())

    @method("IdentifyAccount")
    def identify_account(self, Parameters: DBusDict) -> DBusStr:
        return parameters.identify(Parameters)

    @method("NormalizeContact")
    def normalize_contact(self, Contact_ID: DBusStr) -> DBusStr:
        try:
            return bare(normalise(Contact_ID))
        except ValueError as error:
            raise InvalidHandle(f"This is not a contact's address: {error}") from error


class ProtocolPresence(Interface):
    """``Protocol.Interface.Presence``."""

    name = PRESENCE

    Statuses = Property(Statuses)

    statuses = STATUSES


class ProtocolAvatars(Interface):
    """``Protocol.Interface.Avatars``: what connections will ask of pictures."""

    name = AVATARS

    SupportedAvatarMIMETypes = Property(Strings)
    MinimumAvatarHeight = Property(DBusUInt32)
    MinimumAvatarWidth = Property(DBusUInt32)
    RecommendedAvatarHeight = Property(DBusUInt32)
    RecommendedAvatarWidth = Property(DBusUInt32)
    MaximumAvatarHeight = Property(DBusUInt32)
    MaximumAvatarWidth = Property(DBusUInt32)
    MaximumAvatarBytes = Property(DBusUInt32)

    supported_avatar_mime_types = avatar.MIME_TYPES
    minimum_avatar_height = minimum_avatar_width = avatar.MIN_SIZE
    recommended_avatar_height = recommended_avatar_width = avatar.RECOMMENDED_SIZE
    maximum_avatar_height = maximum_avatar_width = avatar.MAX_SIZE
    maximum_avatar_bytes = avatar.MAX_BYTES


class ProtocolAddressing(Interface):
    """``Protocol.Interface.Addressing``."""

    name = ADDRESSING

    AddressableVCardFields = Property(Strings)
    AddressableURISchemes = Property(Strings)

    addressable_v_card_fields = addressing.VCARD_FIELDS
    addressable_uri_schemes = addressing.URI_SCHEMES

    @method("NormalizeVCardAddress")
    def normalize_vcard_address(self, VCard_Field: DBusStr, VCard_Address: DBusStr) -> DBusStr:
        return addressing.from_vcard(VCard_Field, VCard_Address)

    @method("NormalizeContactURI")
    def normalize_contact_uri(self, URI: DBusStr) -> DBusStr:
        return addressing.to_uri(addressing.from_uri(URI))


def immutable_properties(*interfaces: Interface) -> dict[str, Variant]:
    """All properties of interfaces that never change, by qualified name."""
    return {
        f"{each.name}.{name}": variant(declared.signature, declared.read(each))
        for each in interfaces
        for name, declared in each.members().properties.items()
    }
