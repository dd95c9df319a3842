"""Channel requests: what may be asked for, and what is made of it (Requests.CreateChannel)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from telepathy_e2e.errors import InvalidArgument, InvalidHandle, NotImplementedByUs
from telepathy_e2e.service import names
from telepathy_e2e.service.capabilities import FILE_TRANSFER_ALLOWED, HASH_SHA256
from telepathy_e2e.service.file_details import HASH_NONE, UNKNOWN_SIZE, FileDetails
from telepathy_e2e.service.handles import HANDLE_TYPE_CONTACT, Handles
from telepathy_e2e.trust.policy import Demands

_FT = names.FILE_TRANSFER + "."
_CHANNEL = names.CHANNEL + "."
_E2E = names.END_TO_END_SECURITY + "."
_SECURABLE = names.SECURABLE + "."

_FIXED = (_CHANNEL + "ChannelType", _CHANNEL + "TargetHandleType", _CHANNEL + "Requested")

# Long enough for any note that goes with a file; it travels in one stanza.
MAX_DESCRIPTION = 8192
MAX_FILENAME_BYTES = 4096


@dataclass(frozen=True)
class FileRequest:
    """A request that makes sense."""

    handle: int
    details: FileDetails
    demands: Demands
    replaces: str


def parse(request: Mapping[str, object], handles: Handles) -> FileRequest:
    """Check a request; it has no side-effects but a new handle.

    Args:
        request: qualified property name to plain value; types are checked by the bus layer.
    Raises:
        NotImplementedByUs: a channel type, target or property that this program does not know.
        InvalidArgument, InvalidHandle: one that it knows, with a value that makes no sense.
    """
    if request.get(_CHANNEL + "ChannelType") != names.FILE_TRANSFER:
        raise NotImplementedByUs("Only file transfers can be requested")
    target_type = request.get(_CHANNEL + "TargetHandleType", HANDLE_TYPE_CONTACT)
    if target_type != HANDLE_TYPE_CONTACT:
        raise NotImplementedByUs("Files can be sent to contacts only (TargetHandleType 1)")
    for name in request:
        if name not in _FIXED and name not in FILE_TRANSFER_ALLOWED:
            raise NotImplementedByUs(f"The property {name} cannot be requested")
    if request.get(_CHANNEL + "Requested", True) is not True:
        raise InvalidArgument("A requested channel has Requested=true")
    return FileRequest(
        handle=_target(request, handles),
        details=_details(request),
        demands=_demands(request),
        replaces=str(request.get(_E2E + "Replaces", "/")),
    )


def _target(request: Mapping[str, object], handles: Handles) -> int:
    handle, identifier = request.get(_CHANNEL + "TargetHandle"), request.get(_CHANNEL + "TargetID")
    if handle is not None and identifier is not None:
        raise InvalidArgument("Give TargetHandle or TargetID, not both")
    if isinstance(identifier, str):
        return handles.ensure(identifier)
    if isinstance(handle, int):
        handles.inspect(handle)
        return handle
    raise InvalidHandle("Say whom the channel is for: TargetHandle or TargetID")


def _details(request: Mapping[str, object]) -> FileDetails:
    def text(name: str) -> str:
        return str(request.get(_FT + name, ""))

    def number(name: str) -> int:
        value = request.get(_FT + name, 0)
        return value if isinstance(value, int) else 0

    for name in ("Filename", "Size", "ContentType"):
        if _FT + name not in request:
            raise InvalidArgument(f"A file transfer needs the property {_FT}{name}")
    if not text("Filename"):
        raise InvalidArgument("Filename must not be empty")
    if len(text("Filename").encode()) > MAX_FILENAME_BYTES:
        raise InvalidArgument(f"Filename is longer than {MAX_FILENAME_BYTES} bytes")
    if len(text("Description")) > MAX_DESCRIPTION:
        raise InvalidArgument(f"Description is longer than {MAX_DESCRIPTION} characters")
    size = number("Size")
    if size != UNKNOWN_SIZE and size >= 2**63:
        raise InvalidArgument("Size is larger than any file; give 2^64-1 where it is not known")
    if not 0 <= number("Date") < 2**33:
        raise InvalidArgument("Date is not a time in seconds since 1970")
    if number("InitialOffset"):
        raise InvalidArgument("InitialOffset must be 0: who receives the file says where to begin")
    hash_type, content_hash = number("ContentHashType"), text("ContentHash").lower()
    if hash_type != HASH_SHA256:
        # "mapping hash types they don't understand to None" (ContentHashType)
        hash_type, content_hash = HASH_NONE, ""
    elif not re.fullmatch(r"[0-9a-f]{64}", content_hash):
        raise InvalidArgument("ContentHash of type SHA256 takes 64 hexadecimal digits")
    return FileDetails(
        filename=text("Filename"),
        size=size,
        content_type=text("ContentType") or "application/octet-stream",
        content_hash_type=hash_type,
        content_hash=content_hash,
        description=text("Description"),
        date=number("Date"),
        uri=text("URI"),
    )


def _demands(request: Mapping[str, object]) -> Demands:
    def asked(*keys: str) -> bool:
        return any(request.get(key) is True for key in keys)

    verified = asked(_E2E + "RequireVerified", _SECURABLE + "Verified")
    encrypted = asked(_E2E + "RequireEncrypted", _SECURABLE + "Encrypted")
    return Demands(encrypted=encrypted or verified, verified=verified)
