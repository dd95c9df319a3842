"""What the programs on this desktop can handle, and what contacts can."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from telepathy_e2e.jingle.tubes import MAX_SERVICES, TUBES_NS, Kind, feature
from telepathy_e2e.jingle.tubes import services as announced_services
from telepathy_e2e.service import names

if TYPE_CHECKING:  # the daemon shows the classes before there is an account
    from telepathy_e2e.xmpp.client import Resource

# File_Hash_Type
HASH_SHA256: Final = 3

XTLS_FEATURE = "urn:xmpp:jingle:security:xtls:0"
RTP_FEATURE = "urn:xmpp:jingle:apps:rtp:1"
AUDIO_FEATURE = "urn:xmpp:jingle:apps:rtp:audio"
VIDEO_FEATURE = "urn:xmpp:jingle:apps:rtp:video"
MESSAGES_FEATURE = "urn:xmpp:jingle-message:0"
# What goes with calls, once some program here takes them.
CALL_FEATURES = (
    RTP_FEATURE,
    "urn:xmpp:jingle:transports:ice-udp:1",
    "urn:xmpp:jingle:apps:dtls:0",
    "urn:xmpp:jingle:apps:grouping:0",
    "urn:xmpp:jingle:apps:rtp:rtcp-fb:0",
    "urn:xmpp:jingle:apps:rtp:rtp-hdrext:0",
    "urn:xmpp:jingle:apps:rtp:ssma:0",
    MESSAGES_FEATURE,
)
FILE_TRANSFER_FEATURE = "urn:xmpp:jingle:apps:file-transfer:5"

# What this program does whoever is there to look at it.
# Tubes are announced even if no client has asked for it: Channel.Interface.Tube wants it so.
BASE_FEATURES = (
    "urn:xmpp:jingle:1",
    "urn:xmpp:jingle:transports:s5b:1",
    "urn:xmpp:jingle:transports:ibb:1",
    XTLS_FEATURE,
    "urn:x-telepathy-e2e:verification:0",
    "urn:xmpp:hashes:2",
    "urn:xmpp:hash-function-text-names:sha-256",
    "urn:xmpp:hash-function-text-names:sha-512",
    TUBES_NS,
)

# Data channels (XEP-0343): as in ``jingle.data_channel``.
DATA_FEATURES = (
    "urn:xmpp:jingle:transports:ice-udp:1",
    "urn:xmpp:jingle:transports:dtls-sctp:1",
    "urn:xmpp:jingle:apps:dtls:0",
)

# telepathy-glib's temporary request handlers come and go; a client that registers more names
# than this has lost count.
MAX_CLIENTS = 1000

ChannelClass = tuple[dict[str, object], list[str]]

_TYPE = names.CHANNEL + ".ChannelType"
_TARGET_TYPE = names.CHANNEL + ".TargetHandleType"
_REQUESTED = names.CHANNEL + ".Requested"

# Qualified names of what a request for a file transfer may carry besides the fixed properties.
FILE_TRANSFER_ALLOWED = (
    names.CHANNEL + ".TargetHandle",
    names.CHANNEL + ".TargetID",
    names.FILE_TRANSFER + ".ContentType",
    names.FILE_TRANSFER + ".Filename",
    names.FILE_TRANSFER + ".Size",
    names.FILE_TRANSFER + ".ContentHashType",
    names.FILE_TRANSFER + ".ContentHash",
    names.FILE_TRANSFER + ".Description",
    names.FILE_TRANSFER + ".Date",
    names.FILE_TRANSFER + ".URI",
    names.FILE_TRANSFER + ".InitialOffset",
    names.END_TO_END_SECURITY + ".RequireEncrypted",
    names.END_TO_END_SECURITY + ".RequireVerified",
    names.END_TO_END_SECURITY + ".Replaces",
    names.SECURABLE + ".Encrypted",
    names.SECURABLE + ".Verified",
)


# The same of a text channel. It is in the clear, so there is nothing to ask for.
TEXT_ALLOWED = (names.CHANNEL + ".TargetHandle", names.CHANNEL + ".TargetID")


CALL_ALLOWED = (
    names.CHANNEL + ".TargetHandle",
    names.CHANNEL + ".TargetID",
    names.CALL + ".InitialAudioName",
    names.CALL + ".InitialVideoName",
    names.CALL + ".InitialTransport",
    names.END_TO_END_SECURITY + ".RequireEncrypted",
    names.END_TO_END_SECURITY + ".RequireVerified",
    names.SECURABLE + ".Encrypted",
    names.SECURABLE + ".Verified",
)
_PROTECTION = (
    names.END_TO_END_SECURITY + ".RequireEncrypted",
    names.END_TO_END_SECURITY + ".RequireVerified",
    names.END_TO_END_SECURITY + ".Replaces",
    names.SECURABLE + ".Encrypted",
    names.SECURABLE + ".Verified",
)
# Of each kind of tube: its type, and the property that names its service.
TUBE_TYPES: Final = {
    Kind.STREAM: (names.STREAM_TUBE, names.STREAM_TUBE + ".Service"),
    Kind.DBUS: (names.DBUS_TUBE, names.DBUS_TUBE + ".ServiceName"),
}
_AUDIO, _VIDEO = names.CALL + ".InitialAudio", names.CALL + ".InitialVideo"


def channel_classes() -> list[ChannelClass]:
    """Requests.RequestableChannelClasses."""
    return [*text_classes(), *room_classes(), *file_classes(), *tube_classes(), *call_classes()]


def call_classes(*, audio: bool = True, video: bool = True) -> list[ChannelClass]:
    """Calls, beginning with sound or with pictures (Call1, "Requestable channel classes")."""
    fixed: dict[str, object] = {_TYPE: names.CALL, _TARGET_TYPE: 1}
    classes: list[ChannelClass] = []
    if audio:
        classes.append(({**fixed, _AUDIO: True}, [*CALL_ALLOWED, *([_VIDEO] if video else [])]))
    if video:
        classes.append(({**fixed, _VIDEO: True}, [*CALL_ALLOWED, *([_AUDIO] if audio else [])]))
    return classes


def room_classes() -> list[ChannelClass]:
    """Rooms, by their address or as Room2 names them, and lists of them."""
    named = [names.ROOM + ".RoomName", names.ROOM + ".Server"]
    return [
        ({_TYPE: names.TEXT, _TARGET_TYPE: 2}, [*TEXT_ALLOWED, *named]),
        ({_TYPE: names.TEXT, _TARGET_TYPE: 0}, named),
        ({_TYPE: names.ROOM_LIST, _TARGET_TYPE: 0}, [names.ROOM_LIST + ".Server"]),
    ]


def text_classes() -> list[ChannelClass]:
    """Text with a contact."""
    return [({_TYPE: names.TEXT, _TARGET_TYPE: 1}, list(TEXT_ALLOWED))]


def file_classes() -> list[ChannelClass]:
    """Files: the general class, then one for each hash type."""
    fixed: dict[str, object] = {_TYPE: names.FILE_TRANSFER, _TARGET_TYPE: 1}
    hash_type = names.FILE_TRANSFER + ".ContentHashType"
    return [
        (dict(fixed), list(FILE_TRANSFER_ALLOWED)),
        (
            {**fixed, hash_type: HASH_SHA256},
            [name for name in FILE_TRANSFER_ALLOWED if name != hash_type],
        ),
    ]


def tube_classes(services: Iterable[tuple[Kind, str]] = ()) -> list[ChannelClass]:
    """Tubes of both kinds and any service, then those of services that somebody waits for."""
    target = [names.CHANNEL + ".TargetHandle", names.CHANNEL + ".TargetID"]
    classes: list[ChannelClass] = []
    for channel_type, named in TUBE_TYPES.values():
        classes.append(({_TYPE: channel_type, _TARGET_TYPE: 1}, [*target, named, *_PROTECTION]))
    for kind, service in sorted(services):
        channel_type, named = TUBE_TYPES[kind]
        classes.append(
            ({_TYPE: channel_type, _TARGET_TYPE: 1, named: service}, [*target, *_PROTECTION])
        )
    return classes


def road_features(roads: Collection[str]) -> tuple[str, ...]:
    """What depends on what is installed and allowed. Nothing is imported to find out.

    Args:
        roads: as ``Account.roads``.
    """
    there = "ice" in roads and importlib.util.find_spec("aiortc") is not None
    return DATA_FEATURES if there else ()


class HandlerCapabilities:
    """What each client said through UpdateCapabilities, kept by its name."""

    def __init__(self) -> None:
        self._filters: dict[str, list[Mapping[str, object]]] = {}

    def update(
        self, clients: Iterable[tuple[str, Sequence[Mapping[str, object]], Sequence[str]]]
    ) -> None:
        """ContactCapabilities.UpdateCapabilities; an empty entry takes a client away."""
        for name, filters, tokens in clients:
            if not filters and not tokens:
                self._filters.pop(name, None)
            elif name in self._filters or len(self._filters) < MAX_CLIENTS:
                self._filters[name] = list(filters)

    def handles(self, channel_type: str) -> bool:
        """Whether some client's filter names this channel type."""
        return any(
            each.get(_TYPE) == channel_type
            for filters in self._filters.values()
            for each in filters
        )

    def features(self) -> list[str]:
        """The service discovery features to announce (XEP-0030).

        People would send us files and it would always fail, if no program took them.
        """
        features = list(BASE_FEATURES)
        if any(
            each.get(_TYPE) == names.FILE_TRANSFER and each.get(_TARGET_TYPE, 1) == 1
            for filters in self._filters.values()
            for each in filters
        ):
            features.append(FILE_TRANSFER_FEATURE)
        audio, video = self.calls()
        if audio or video:
            features += CALL_FEATURES
        if audio:
            features.append(AUDIO_FEATURE)
        if video:
            features.append(VIDEO_FEATURE)
        features += filter(None, (feature(*each) for each in sorted(self.services())))
        return features

    def services(self) -> frozenset[tuple[Kind, str]]:
        """Of tubes that some program waits for, and that can be announced."""
        found = {
            (kind, service)
            for filters in self._filters.values()
            for each in filters
            for kind, (channel_type, named) in TUBE_TYPES.items()
            if each.get(_TYPE) == channel_type
            and each.get(_TARGET_TYPE, 1) == 1
            and each.get(_REQUESTED) is not True
            and isinstance(service := each.get(named), str)
            and feature(kind, service) is not None
        }
        return frozenset(sorted(found)[:MAX_SERVICES])

    def calls(self) -> tuple[bool, bool]:
        """Whether some program takes calls with sound, and with pictures."""
        of_calls = [
            each
            for filters in self._filters.values()
            for each in filters
            if each.get(_TYPE) == names.CALL and each.get(_TARGET_TYPE, 1) == 1
        ]
        # A filter that names neither takes both.
        plain = any(_AUDIO not in each and _VIDEO not in each for each in of_calls)
        return (
            plain or any(each.get(_AUDIO) is True for each in of_calls),
            plain or any(each.get(_VIDEO) is True for each in of_calls),
        )


def takes_files(resource: Resource) -> bool:
    """Whether a contact's client takes files by Jingle (XEP-0234)."""
    return resource.features is not None and FILE_TRANSFER_FEATURE in resource.features


def takes_tubes(resource: Resource) -> bool:
    """Whether a contact's client takes tubes (spec/tubes.md)."""
    return resource.features is not None and TUBES_NS in resource.features


def takes_calls(resource: Resource, feature: str = AUDIO_FEATURE) -> bool:
    """Whether a contact's client takes calls (XEP-0167)."""
    return resource.features is not None and feature in resource.features


def contact_classes(resources: Iterable[Resource]) -> list[ChannelClass]:
    """ContactCapabilities of a contact: whoever has an address can be written to."""
    there = list(resources)
    tubes = [each.features or frozenset() for each in there if takes_tubes(each)]
    return own_classes(
        files=any(takes_files(each) for each in there),
        audio=any(takes_calls(each) for each in there),
        video=any(takes_calls(each, VIDEO_FEATURE) for each in there),
        tubes=frozenset().union(*map(announced_services, tubes)) if tubes else None,
    )


def own_classes(
    *,
    files: bool,
    audio: bool = False,
    video: bool = False,
    tubes: frozenset[tuple[Kind, str]] | None = None,
) -> list[ChannelClass]:
    """The same for who is known to take these, or not to.

    Args:
        tubes: services of tubes; None: no tubes at all.
    """
    return [
        *text_classes(),
        *(file_classes() if files else []),
        *([] if tubes is None else tube_classes(tubes)),
        *call_classes(audio=audio, video=video),
    ]
