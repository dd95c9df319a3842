"""Requests for file transfers: what is asked for, and what is made of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from telepathy_e2e.errors import InvalidArgument
from telepathy_e2e.service import names
from telepathy_e2e.service.capabilities import HASH_SHA256
from telepathy_e2e.service.file_details import HASH_NONE, UNKNOWN_SIZE, FileDetails
from telepathy_e2e.service.requests import ChannelRequest, demands
from telepathy_e2e.trust.policy import Demands

_FT = names.FILE_TRANSFER + "."

# Long enough for any note that goes with a file; it travels in one stanza.
MAX_DESCRIPTION = 8192
MAX_FILENAME_BYTES = 4096


@dataclass(frozen=True)
class FileRequest:
    """A request that makes sense."""

    handle: int
    details: FileDetails
    demands: Demands


def parse(request: ChannelRequest) -> FileRequest:
    """Check what a request says of the file and its protection.

    Raises:
        InvalidArgument: a value that makes no sense.
    """
    return FileRequest(
        handle=request.handle,
        details=_details(request.properties),
        demands=demands(request.properties),
    )


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
