"""Files as a Jingle application (XEP-0234, ``urn:xmpp:jingle:apps:file-transfer:5``)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Final
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError
from telepathy_e2e.role import Role

from .reading import base64_bytes, decimal, identifier, readable, single, xml_text

FILES_NS: Final = "urn:xmpp:jingle:apps:file-transfer:5"
HASHES_NS: Final = "urn:xmpp:hashes:2"
RESUME_NS: Final = "urn:x-telepathy-e2e:resume:0"

# Files are addressed with signed 64-bit offsets.
MAX_SIZE: Final = 2**63 - 1

# Characters. The longest name of a file has 255; four times that leaves room for a path, of which
# ``names.safe_name`` makes a name.
MAX_NAME: Final = 1024

# Characters; a few paragraphs. What is longer is cut.
MAX_DESCRIPTION: Final = 1024

# RFC 6838 section 4.2: two names of at most 127 characters.
MAX_MEDIA_TYPE: Final = 255

# The registries of XEP-0300 hold about a dozen.
MAX_HASHES: Final = 16

# The longest name of a hash function in them has 11 characters.
MAX_ALGO: Final = 32

# Bytes: 512 bits is the longest digest of any of them; twice that for what may come.
MAX_DIGEST: Final = 128

# Bytes. A digest of another length could match nothing and would only make a file fail at its end.
_DIGEST_SIZES: Final = {
    "sha-1": 20,
    "sha-224": 28,
    "sha-256": 32,
    "sha-384": 48,
    "sha-512": 64,
    "sha3-256": 32,
    "sha3-512": 64,
    "blake2b-256": 32,
    "blake2b-512": 64,
}

_DESCRIPTION: Final = f"{{{FILES_NS}}}description"
_FILE: Final = f"{{{FILES_NS}}}file"
_CHECKSUM: Final = f"{{{FILES_NS}}}checksum"
_RECEIVED: Final = f"{{{FILES_NS}}}received"
_HASH: Final = f"{{{HASHES_NS}}}hash"
_RESUME: Final = f"{{{RESUME_NS}}}resume"
_RESUMING: Final = f"{{{RESUME_NS}}}resuming"
_HASH_USED: Final = f"{{{HASHES_NS}}}hash-used"

# XEP-0082 section 3.2. Clients send up to six digits of fractions; more are accepted and cut.
_DATE_TIME: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:\.([0-9]{1,12}))?(?:Z|([+-])([0-9]{2}):([0-9]{2}))\Z"
)
_MEDIA_TYPE: Final = re.compile(r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}\Z", re.ASCII)
_ALGO: Final = re.compile(r"[a-z0-9][a-z0-9-]*\Z")


@dataclass(frozen=True)
class Range:
    """A part of a file. The default is all of it and says that parts are supported."""

    offset: int = 0
    """Bytes before the part."""
    length: int | None = None
    """Bytes of the part; None: to the end."""


@dataclass(frozen=True)
class FileOffer:
    """A ``<file/>``, as offered, asked for or accepted."""

    name: str | None = None
    """As the peer wrote it: only ``names.safe_name`` of it may be shown or opened."""
    size: int | None = None
    """Bytes."""
    date: datetime | None = None
    """Last change, aware, UTC."""
    media_type: str | None = None
    """``type/subtype``; None where there is none, or none that is valid."""
    description: str | None = None
    """For people; one line."""
    hashes: Mapping[str, bytes] = field(default_factory=dict)
    """Digests of the whole file by name of the function (XEP-0300)."""
    range: Range | None = None
    """None: parts are not supported."""
    hash_used: tuple[str, ...] = ()
    """Functions whose digest will come in a ``<checksum/>``."""
    resume: bool = False
    """The sender can go on over another road where it was (spec/resume.md)."""
    resuming: bool = False
    """The receiver's answer to that: another word, since clients repeat what they were offered."""


def is_file(description: Element | None) -> bool:
    """Whether a content is a file of XEP-0234."""
    return description is not None and description.tag == _DESCRIPTION


def parse(description: Element | None) -> FileOffer:
    """Read a ``<description/>``.

    An offer must have a hash or name one (section 5); it is taken without, since the integrity of
    a file is not what its sender's servers say.

    Raises: PeerError.
    """
    if description is None or description.tag != _DESCRIPTION:
        raise PeerError("not the description of a file")
    file = single(description, _FILE, "file")
    if file is None:
        raise PeerError("a description without a file")
    size = _text(file, "size")
    hashes, pending = _hashes(file)
    return FileOffer(
        name=_name(_text(file, "name")),
        size=None if size is None else decimal(size, "size", maximum=MAX_SIZE),
        date=_date(_text(file, "date")),
        media_type=_media_type(_text(file, "media-type")),
        description=_first_description(file),
        hashes=hashes,
        range=_range(single(file, f"{{{FILES_NS}}}range", "range")),
        hash_used=pending,
        resume=description.find(_RESUME) is not None,
        resuming=description.find(_RESUMING) is not None,
    )


def build(offer: FileOffer) -> Element:
    """The ``<description/>`` of an offer or answer."""
    description = Element(_DESCRIPTION)
    file = SubElement(description, _FILE)
    if offer.date is not None:
        _add(file, "date", _format_date(offer.date))
    if offer.description:
        _add(file, "desc", xml_text(offer.description))
    if offer.media_type:
        _add(file, "media-type", xml_text(offer.media_type))
    if offer.name:
        _add(file, "name", xml_text(offer.name))
    if offer.range is not None:
        element = _add(file, "range")
        if offer.range.offset:
            element.set("offset", str(offer.range.offset))
        if offer.range.length is not None:
            element.set("length", str(offer.range.length))
    if offer.size is not None:
        _add(file, "size", str(offer.size))
    _add_hashes(file, offer.hashes)
    for algo in offer.hash_used:
        SubElement(file, _HASH_USED, {"algo": algo})
    if offer.resume:
        SubElement(description, _RESUME)
    if offer.resuming:
        SubElement(description, _RESUMING)
    return description


def received(creator: str, name: str) -> Element:
    """session-info: the whole file is there (section 8.1)."""
    return Element(_RECEIVED, {"creator": creator, "name": name})


def is_received(element: Element) -> bool:
    return element.tag == _RECEIVED


def checksum(
    hashes: Mapping[str, bytes], creator: str | None = None, name: str | None = None
) -> Element:
    """session-info: digests of the whole file (section 8.2).

    Args:
        creator, name: of the content; the standard says that they should be there.
    """
    element = Element(_CHECKSUM)
    if creator is not None and name is not None:
        element.attrib.update({"creator": creator, "name": name})
    _add_hashes(SubElement(element, _FILE), hashes)
    return element


def is_checksum(element: Element) -> bool:
    return element.tag == _CHECKSUM


def parse_checksum(element: Element) -> dict[str, bytes]:
    """The digests of the whole file; empty where only a part was hashed. Raises: PeerError."""
    if element.tag != _CHECKSUM:
        raise PeerError("not a checksum")
    about(element)
    file = single(element, _FILE, "file")
    if file is None:
        raise PeerError("a checksum without a file")
    return _hashes(file)[0]


def about(element: Element) -> tuple[str, str] | None:
    """(creator, name) of the content that a received or checksum names; None: the only one.

    Raises: PeerError.
    """
    creator, name = element.get("creator"), element.get("name")
    if creator is None and name is None:
        return None
    if creator not in (Role.INITIATOR, Role.RESPONDER):
        raise PeerError("creator is neither initiator nor responder")
    return str(creator), identifier(name, "name of a content")


def _text(file: Element, name: str) -> str | None:
    element = single(file, f"{{{FILES_NS}}}{name}", name)
    return None if element is None else (element.text or "").strip(" \t\r\n")


def _name(text: str | None) -> str | None:
    if text is not None and len(text) > MAX_NAME:
        raise PeerError("the name of the file is too long")
    return text or None


def _first_description(file: Element) -> str | None:
    # One for each language may stand there (section 5).
    text = file.findtext(f"{{{FILES_NS}}}desc")
    return readable(text, MAX_DESCRIPTION) or None


def _media_type(text: str | None) -> str | None:
    kind = (text or "").partition(";")[0].rstrip()
    if len(kind) > MAX_MEDIA_TYPE or not _MEDIA_TYPE.match(kind):
        return None  # section 5: then it is application/octet-stream
    return kind


def _date(text: str | None) -> datetime | None:
    if text is None:
        return None
    match = _DATE_TIME.match(text)
    if match is None:
        raise PeerError("date is not of the profile of XEP-0082")
    *numbers, fraction, sign, hours, minutes = match.groups()
    year, month, day, hour, minute, second = (int(number) for number in numbers)
    away = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    try:
        zone = timezone(-away if sign == "-" else away)
        microsecond = int((fraction or "0")[:6].ljust(6, "0"))
        there = datetime(year, month, day, hour, minute, second, microsecond, zone)
        return there.astimezone(UTC)
    except (ValueError, OverflowError):
        raise PeerError("date is not in any calendar") from None


def _format_date(date: datetime) -> str:
    utc = date.astimezone(UTC)
    text = utc.strftime("%m-%dT%H:%M:%S")  # its %Y does not pad years before 1000
    fraction = f".{utc.microsecond:06d}" if utc.microsecond else ""
    if fraction.endswith("000"):
        fraction = fraction[:-3]
    return f"{utc.year:04d}-{text}{fraction}Z"


def _range(element: Element | None) -> Range | None:
    if element is None:
        return None
    offset = decimal(element.get("offset", "0"), "offset", maximum=MAX_SIZE)
    length = element.get("length")
    if length is None:
        return Range(offset)
    return Range(offset, decimal(length, "length", maximum=MAX_SIZE - offset))


def _hashes(file: Element) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The digests, and the functions of which the digest is not known yet."""
    elements = [child for child in file if child.tag in (_HASH, _HASH_USED)]
    if len(elements) > MAX_HASHES:
        raise PeerError("too many hashes")
    digests: dict[str, bytes] = {}
    pending: list[str] = []
    for element in elements:
        algo = identifier(element.get("algo"), "algo", MAX_ALGO)
        if not _ALGO.match(algo):
            raise PeerError("algo is not the name of a hash function")
        text = (element.text or "").strip(" \t\r\n")
        if element.tag == _HASH_USED or not text:
            pending.append(algo)
            continue
        if algo in digests:
            raise PeerError("two digests of one function")
        digest = base64_bytes(text, "hash")
        if len(digest) > MAX_DIGEST or len(digest) != _DIGEST_SIZES.get(algo, len(digest)):
            raise PeerError("a digest of a wrong length")
        digests[algo] = digest
    return digests, tuple(_once(pending, digests))


def _once(pending: Iterable[str], known: Mapping[str, bytes]) -> list[str]:
    return [algo for algo in dict.fromkeys(pending) if algo not in known]


def _add(parent: Element, name: str, text: str | None = None) -> Element:
    element = SubElement(parent, f"{{{FILES_NS}}}{name}")
    element.text = text
    return element


def _add_hashes(file: Element, hashes: Mapping[str, bytes]) -> None:
    for algo, digest in hashes.items():
        SubElement(file, _HASH, {"algo": algo}).text = base64.b64encode(digest).decode("ascii")
