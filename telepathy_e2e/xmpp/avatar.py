"""Pictures: what they are, and how contacts tell of them (XEP-0084, XEP-0153). Pure, bounded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import InvalidArgument, PeerError

DATA: Final = "urn:xmpp:avatar:data"
METADATA: Final = "urn:xmpp:avatar:metadata"
UPDATE: Final = "vcard-temp:x:update"
UPDATE_TAG: Final = f"{{{UPDATE}}}x"

# What a picture of ours must be. XEP-0153 section 4.4: 32 to 96 pixels, 8 KiB at most.
MIME_TYPES: Final = ("image/png", "image/jpeg", "image/gif")
MIN_SIZE: Final = 32
RECOMMENDED_SIZE: Final = 96
MAX_SIZE: Final = 96
MAX_BYTES: Final = 8_192

# Formats of one picture that are looked at.
MAX_INFOS: Final = 16
# Contacts whose pictures' hashes are kept: those on the list, and some that are not.
MAX_KNOWN: Final = 21_000
# Segments of a JPEG that are skipped in search of its size: cameras write a dozen.
MAX_SEGMENTS: Final = 256

TOKEN_SIZE: Final = 20

_HASH = re.compile(r"[0-9a-fA-F]{40}", re.ASCII)


def token_of(data: bytes) -> bytes:
    """The SHA-1 of a picture, which both standards name it by."""
    import hashlib  # with OpenSSL, which the daemon does without until somebody has a picture

    return hashlib.sha1(data, usedforsecurity=False).digest()


def is_named(data: bytes, token: bytes) -> bool:
    """Whether a picture is the one that was announced."""
    return token_of(data) == token


def parse_token(text: str) -> bytes | None:
    """A SHA-1 in hexadecimal digits, or None."""
    text = text.strip()
    return bytes.fromhex(text) if _HASH.fullmatch(text) else None


# -- what a picture is ----------------------------------------------------------------------


@dataclass(frozen=True)
class Image:
    """What the first bytes of a picture say; a size of 0 is unknown."""

    mime_type: str
    width: int = 0
    height: int = 0


def inspect(data: bytes) -> Image | None:
    """What kind of picture this is; None if it is none that we know."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        if data[12:16] != b"IHDR" or len(data) < 24:
            return None
        return Image("image/png", _number(data[16:20]), _number(data[20:24]))
    if data[:6] in (b"GIF87a", b"GIF89a") and len(data) >= 10:
        return Image(
            "image/gif",
            int.from_bytes(data[6:8], "little"),
            int.from_bytes(data[8:10], "little"),
        )
    if data.startswith(b"\xff\xd8\xff"):
        return Image("image/jpeg", *_jpeg_size(data))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return Image("image/webp")
    return None


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height in the frame header (ITU-T T.81, B.2.2)."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        while data[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        if len(data) < at + 9 or data[at] != 0xFF:
            break
        marker = data[at + 1]
        # SOF0 to SOF15 without DHT, JPG and DAC, which are among them.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _number(data[at + 7 : at + 9]), _number(data[at + 5 : at + 7])
        at += 2 + _number(data[at + 2 : at + 4])
    return 0, 0


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def check_own(data: bytes, mime_type: str) -> Image:
    """Whether a picture may be published.

    Raises:
        InvalidArgument: it is not what the requirements ask for; it is never converted here.
    """
    if len(data) > MAX_BYTES:
        raise InvalidArgument(f"The picture has more than {MAX_BYTES} bytes")
    image = inspect(data)
    if image is None or image.mime_type not in MIME_TYPES:
        raise InvalidArgument("The picture must be PNG, JPEG or GIF")
    if mime_type.lower() != image.mime_type:
        raise InvalidArgument(f"The picture is {image.mime_type}, not {mime_type[:40]}")
    for size in (image.width, image.height):
        if not MIN_SIZE <= size <= MAX_SIZE:
            raise InvalidArgument(
                f"The picture must be from {MIN_SIZE} to {MAX_SIZE} pixels high and wide"
            )
    return image


# -- personal eventing (XEP-0084) -----------------------------------------------------------


def build_data(text: str) -> Element:
    """``<data/>`` with base64."""
    element = Element(f"{{{DATA}}}data")
    element.text = text
    return element


def build_metadata(data: bytes = b"", image: Image | None = None) -> Element:
    """``<metadata/>`` of a picture; without one it says that there is none."""
    element = Element(f"{{{METADATA}}}metadata")
    if image is not None:
        SubElement(
            element,
            f"{{{METADATA}}}info",
            bytes=str(len(data)),
            id=token_of(data).hex(),
            type=image.mime_type,
            width=str(image.width),
            height=str(image.height),
        )
    return element


def parse_metadata(element: Element | None) -> bytes:
    """The hash of the picture that can be had from the data node; empty if there is none.

    Pictures on web servers are none: to fetch one would tell a stranger who we are.

    Raises:
        PeerError: it makes no sense.
    """
    if element is None:
        return b""
    if element.tag != f"{{{METADATA}}}metadata":
        raise PeerError("this is not the metadata of a picture", "bad-request")
    infos = element.findall(f"{{{METADATA}}}info")
    if len(infos) > MAX_INFOS:
        raise PeerError("a picture in too many formats", "policy-violation")
    for info in infos:
        if info.get("url") is None:
            token = parse_token(info.get("id", ""))
            if token is None:
                raise PeerError("the name of a picture is no hash", "bad-request")
            return token
    return b""


# -- presence (XEP-0153) --------------------------------------------------------------------


def build_update(token: bytes | None) -> Element:
    """What each presence has.

    Args:
        token: SHA-1 of the picture; empty for none, None for "not known (yet)".
    """
    element = Element(UPDATE_TAG)
    if token is not None:
        SubElement(element, f"{{{UPDATE}}}photo").text = token.hex() or None
    return element


@dataclass(frozen=True)
class Update:
    """What a presence says: ``conforms`` to XEP-0153 at all, and the hash, None if it has none."""

    conforms: bool
    token: bytes | None = None


def parse_update(presence: Element) -> Update:
    """What a presence says of its sender's picture; nonsense is nothing."""
    element = presence.find(UPDATE_TAG)
    if element is None:
        return Update(False)
    photo = element.find(f"{{{UPDATE}}}photo")
    if photo is None:
        return Update(True)
    text = (photo.text or "").strip()
    return Update(True, parse_token(text) if text else b"")


# -- what is known --------------------------------------------------------------------------

Source = Literal["events", "card"]


class Tokens:
    """The hashes of everybody's picture, by bare JID; empty: has none.

    There are two sources, and people use programs that know one of them: the one that changed last
    is right, and one that says that there is none is right only if the other does not know better.
    """

    def __init__(self) -> None:
        self._by: dict[Source, dict[str, bytes]] = {"events": {}, "card": {}}
        self._card_is_newer: set[str] = set()

    def get(self, jid: str) -> bytes | None:
        """None: not known."""
        events, card = self._by["events"].get(jid), self._by["card"].get(jid)
        first, second = (card, events) if jid in self._card_is_newer else (events, card)
        if first is None or second is None:
            return second if first is None else first
        return first or second

    def of(self, jid: str, source: Source) -> bytes | None:
        """What one source says; None: nothing."""
        return self._by[source].get(jid)

    def learn(self, jid: str, source: Source, token: bytes) -> bool:
        """Whether ``get`` says something else now."""
        before = self.get(jid)
        holder = self._by[source]
        if holder.get(jid) == token:
            return False
        if jid not in holder and len(holder) >= MAX_KNOWN:
            return False
        other = self._by["card" if source == "events" else "events"].get(jid)
        # The same picture is held once.
        holder[jid] = other if other == token and other is not None else token
        if source == "card" and other is not None:
            self._card_is_newer.add(jid)
        else:
            self._card_is_newer.discard(jid)
        return self.get(jid) != before

    def forget(self, jid: str) -> None:
        """Somebody is of no interest any longer."""
        for holder in self._by.values():
            holder.pop(jid, None)
        self._card_is_newer.discard(jid)

    def known(self) -> set[str]:
        """Bare JIDs of which something is known."""
        return self._by["events"].keys() | self._by["card"].keys()
