"""The compound D-Bus types of Telepathy's specification that have no alias in dbus_fast.

Each is named as in the specification; a signature stands in text here and nowhere else.
"""

from __future__ import annotations

from typing import Annotated, Any

from telepathy_e2e.bus.wire import DBusSignature, Variant

Strings = Annotated[list[str], DBusSignature("as")]
Handles = Annotated[list[int], DBusSignature("au")]
ByteArrays = Annotated[list[bytes], DBusSignature("aay")]
StringMap = Annotated[dict[str, str], DBusSignature("a{ss}")]
ParamSpecs = Annotated[list[list[Any]], DBusSignature("a(susv)")]
DebugMessages = Annotated[list[list[Any]], DBusSignature("a(dsus)")]
ProtocolMap = Annotated[dict[str, dict[str, Variant]], DBusSignature("a{sa{sv}}")]
ChannelClasses = Annotated[list[list[Any]], DBusSignature("a(a{sv}as)")]
ChannelDetails = Annotated[list[list[Any]], DBusSignature("a(oa{sv})")]
HandlerCapabilities = Annotated[list[list[Any]], DBusSignature("a(saa{sv}as)")]
ContactCapabilities = Annotated[dict[int, list[list[Any]]], DBusSignature("a{ua(a{sv}as)}")]
ContactAttributes = Annotated[dict[int, dict[str, Variant]], DBusSignature("a{ua{sv}}")]
Statuses = Annotated[dict[str, tuple[int, bool, bool]], DBusSignature("a{s(ubb)}")]
Presence = Annotated[tuple[int, str, str], DBusSignature("(uss)")]
Presences = Annotated[dict[int, tuple[int, str, str]], DBusSignature("a{u(uss)}")]
# Message_Part[], and many of those; lists of numbers that are no handles; Chat_State_Map.
Parts = Annotated[list[dict[str, Variant]], DBusSignature("aa{sv}")]
Messages = Annotated[list[list[dict[str, Variant]]], DBusSignature("aaa{sv}")]
Numbers = Annotated[list[int], DBusSignature("au")]
NumberMap = Annotated[dict[int, int], DBusSignature("a{uu}")]
# Local_Pending_Info[], Room_Info[].
LocalPending = Annotated[list[tuple[int, int, int, str]], DBusSignature("a(uuus)")]
RoomInfos = Annotated[list[list[Any]], DBusSignature("a(usa{sv})")]
SocketTypes = Annotated[dict[int, list[int]], DBusSignature("a{uau}")]
Attestations = Annotated[list[list[Any]], DBusSignature("a(ssay)")]
CertificateRejections = Annotated[list[list[Any]], DBusSignature("a(usa{sv})")]
AliasPairs = Annotated[list[tuple[int, str]], DBusSignature("a(us)")]
HandleIdentifiers = Annotated[dict[int, str], DBusSignature("a{us}")]
ContactSubscriptions = Annotated[dict[int, tuple[int, int, str]], DBusSignature("a{u(uus)}")]
ContactInfoFields = Annotated[list[list[Any]], DBusSignature("a(sasas)")]
ContactInfoMap = Annotated[dict[int, list[list[Any]]], DBusSignature("a{ua(sasas)}")]
FieldSpecs = Annotated[list[list[Any]], DBusSignature("a(sasuu)")]
Identities = Annotated[list[list[Any]], DBusSignature("a(aya(ssay))")]
ClientTypesMap = Annotated[dict[int, list[str]], DBusSignature("a{uas}")]

Byte = Annotated[int, DBusSignature("y")]
Paths = Annotated[list[str], DBusSignature("ao")]
# Audio_Control_Volume.
AudioVolume = Annotated[int, DBusSignature("i")]
# Call_State_Reason, and figures by content and name.
CallReason = Annotated[tuple[int, int, str, str], DBusSignature("(uuss)")]
CallStatistics = Annotated[dict[str, dict[str, Variant]], DBusSignature("a{oa{sv}}")]

# Results of several values: one signature after the other.
NameAndPath = Annotated[tuple[str, str], DBusSignature("so")]
AvatarRequirements = Annotated[tuple[list[str], int, int, int, int, int], DBusSignature("asqqqqu")]
BytesAndText = Annotated[tuple[bytes, str], DBusSignature("ays")]
AddressesAndAttributes = Annotated[
    tuple[dict[str, int], dict[int, dict[str, Variant]]], DBusSignature("a{su}a{ua{sv}}")
]
HoldState = Annotated[tuple[int, int], DBusSignature("uu")]
TypeAndHandle = Annotated[tuple[int, int], DBusSignature("uu")]
HandleAndAttributes = Annotated[tuple[int, dict[str, Variant]], DBusSignature("ua{sv}")]
PathAndProperties = Annotated[tuple[str, dict[str, Variant]], DBusSignature("oa{sv}")]
YoursPathAndProperties = Annotated[tuple[bool, str, dict[str, Variant]], DBusSignature("boa{sv}")]
