"""The channel of one file (Telepathy, Channel.Type.FileTransfer): what both sides have in common.

``OutgoingFile._send`` and ``IncomingFile._receive`` are the two scripts of a transfer, each with
what it needs below it; see ``stream_session`` for how they end.
"""

from __future__ import annotations

import asyncio
import logging
from typing import ClassVar, Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import Cancelled, NetworkError, NotAvailable
from telepathy_e2e.jingle import files
from telepathy_e2e.jingle.events import unsupported_info
from telepathy_e2e.jingle.files import FileOffer
from telepathy_e2e.net import local
from telepathy_e2e.net.streams import Stream, StreamBroken
from telepathy_e2e.service import names
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.events import (
    FileTransferStateChanged,
    InitialOffsetDefined,
    TransferredBytesChanged,
)
from telepathy_e2e.service.failures import Fault, SessionFailed, peer_broke, peer_left
from telepathy_e2e.service.file_details import (
    CANCELLED,
    COMPLETED,
    NONE,
    OPEN,
    PENDING,
    REASONS,
    UNKNOWN_SIZE,
    FileDetails,
)
from telepathy_e2e.service.payload import (
    Hash,
    MoreThanAnnounced,
    Progress,
    SinkBroken,
    Source,
    SourceBroken,
    copy,
)
from telepathy_e2e.service.stream_channel import StreamChannel
from telepathy_e2e.service.stream_session import let_go
from telepathy_e2e.trust.policy import Demands

log = logging.getLogger(__name__)

# A transfer whose peer went offline, and that moves nothing for so long, is over. Signals about
# progress are a second apart.
STANDSTILL: Final = 2.5

# Roads that are cut before they were of use, one after the other, before it is given up.
MAX_CUT: Final = 4


class FileChannel(StreamChannel):
    """One file, one Jingle session, one channel.

    Args:
        details: the file, in Telepathy's words.
        offer: the same in Jingle's, as it is sent or was received.
        demands: what this channel was asked to guarantee.
        replaces: object path of the channel that this one takes over from, or ``/``.
    """

    channel_type = names.FILE_TRANSFER
    content_name: ClassVar[str] = "file"
    senders: ClassVar[str] = "initiator"

    def __init__(
        self,
        account: Account,
        object_path: str,
        *,
        target_handle: int,
        requested: bool,
        details: FileDetails,
        offer: FileOffer,
        demands: Demands,
        replaces: str = "/",
    ) -> None:
        super().__init__(
            account,
            object_path,
            target_handle=target_handle,
            requested=requested,
            demands=demands,
            replaces=replaces,
        )
        self.filename = details.filename
        self.size = details.size
        self.content_type = details.content_type
        self.content_hash_type = details.content_hash_type
        self.content_hash = details.content_hash
        self.description = details.description
        self.date = details.date
        self.uri = details.uri
        self.file_collection = ""
        self.available_socket_types = {kind: list(c) for kind, c in local.SUPPORTED.items()}
        self.state = PENDING
        self.transferred_bytes = 0
        self.initial_offset = 0
        self._offer = offer
        # Where a client of this side connects to, and what has to be let go of besides the road.
        self._listener: local.LocalListener | None = None
        self._streams: list[Stream] = []
        # Whether the payload goes on over another road where it was (spec/resume.md).
        self._endures = False

    def immutable_properties(self) -> dict[str, object]:
        shown = super().immutable_properties()
        for name in (
            "content_type",
            "filename",
            "size",
            "content_hash_type",
            "content_hash",
            "description",
            "date",
            "available_socket_types",
            "file_collection",
        ):
            camel = "".join(part.capitalize() for part in name.split("_"))
            shown[f"{names.FILE_TRANSFER}.{camel}"] = getattr(self, name)
        if self.requested and self.uri:
            shown[names.FILE_TRANSFER + ".URI"] = self.uri
        return shown

    # -- what clients call ------------------------------------------------------------------

    async def provide_file(
        self, address_type: int, access_control: int, parameter: object
    ) -> object:
        """FileTransfer.ProvideFile: see ``OutgoingFile``."""
        raise NotAvailable("This is an incoming transfer; call AcceptFile instead")

    async def accept_file(
        self, address_type: int, access_control: int, parameter: object, offset: int
    ) -> object:
        """FileTransfer.AcceptFile: see ``IncomingFile``."""
        raise NotAvailable("This is an outgoing transfer; call ProvideFile instead")

    def set_uri(self, uri: str) -> None:
        """Write access to FileTransfer.URI: see ``IncomingFile``."""
        raise NotAvailable("URI can be set on an incoming transfer before AcceptFile only")

    def close(self) -> None:
        """Channel.Close: a transfer that is not over is cancelled."""
        declined = not self.requested and self.state == PENDING
        self._end(
            SessionFailed(
                Cancelled("The transfer was cancelled by the local user"),
                "decline" if declined else "cancel",
                Fault.USER,
            )
        )
        self._gone()

    # -- the payload ------------------------------------------------------------------------

    async def _next_stream(self) -> Stream:
        """The first, or what takes the place of one that broke; so does what breaks before it
        was of use, in its handshake or while people are asked, once it is known who is there."""
        for _ in range(MAX_CUT):
            try:
                return await self._secure_stream()
            except StreamBroken as error:
                if self._link.ended or not (self._endures and self.encrypted):
                    raise
                log.info("the road of a file was cut before it was of use: %s", error)
        return await self._secure_stream()

    def _agree_on_resuming(self, answer: FileOffer) -> None:
        """Both sides know how, and what the receiver says on the road is authentic."""
        if self._offer.resume and answer.resuming and self.security.agreed:
            self._endures = True
            self.security.renewable = self._road.renewable = True

    @property
    def _announced(self) -> int | None:
        """Bytes from the offset on; None: nobody has said how many there are."""
        return None if self.size == UNKNOWN_SIZE else self.size - self.initial_offset

    async def _copy(
        self, source: Source, sink: Stream, limit: int | None, hashes: list[Hash], *, exact: bool
    ) -> int:
        """See ``payload.copy``; ``exact`` where the contact is the source."""
        progress = Progress(self.initial_offset, self._progressed)
        try:
            moved = await copy(
                source, sink, limit=limit, hashes=hashes, progress=progress, exact=exact
            )
        except MoreThanAnnounced:
            raise SessionFailed(
                NetworkError("The contact sent more than announced"), "media-error"
            ) from None
        except (SourceBroken, SinkBroken) as error:
            if isinstance(error, SourceBroken) is exact:
                raise peer_broke() from error
            raise program_broke() from error
        progress.flush()
        return moved

    def _progressed(self, count: int) -> None:
        self.transferred_bytes = count
        self.events.emit(TransferredBytesChanged(count))

    def _define_offset(self, offset: int) -> None:
        self.initial_offset = offset
        self.transferred_bytes = offset
        self.events.emit(InitialOffsetDefined(offset))

    # -- what the peer says -----------------------------------------------------------------

    def _session_info(self, payload: tuple[Element, ...]) -> None:
        for element in payload:
            if files.is_received(element):
                self._told_received()
            elif files.is_checksum(element):
                self._told_checksum(files.parse_checksum(element))
            else:
                raise unsupported_info()

    def _told_received(self) -> None:
        """The contact says that he has all."""

    def _told_checksum(self, hashes: dict[str, bytes]) -> None:
        """The contact says what the hashes of the file are, by algorithm."""

    def peer_offline(self) -> None:
        """The peer's client went offline. A road that is up may still bring all to its end."""
        self._tasks.start("outlive", self._outlive())

    async def _outlive(self) -> None:
        moved = -1
        while self.state == OPEN and moved != self.transferred_bytes:
            moved = self.transferred_bytes
            await asyncio.sleep(STANDSTILL)
        self._end(peer_left())

    # -- states and the end -----------------------------------------------------------------

    def _set_state(self, state: int, reason: int) -> None:
        self.state = state
        self.events.emit(FileTransferStateChanged(state, reason))

    def _keep(self, stream: Stream) -> Stream:
        self._streams.append(stream)
        return stream

    def _complete(self) -> None:
        if not self.over:
            self._set_state(COMPLETED, NONE)
        super()._complete()

    def _release(self, failure: SessionFailed | None) -> None:
        if failure is not None:
            self._set_state(CANCELLED, REASONS[failure.fault])
        super()._release(failure)
        for stream in self._streams:
            let_go(stream, failure)
        if self._listener is not None:
            self._listener.close()
        self._account.transfer_ended(self)


def program_broke() -> SessionFailed:
    return SessionFailed(
        NetworkError("The local program closed the file's socket"),
        "failed-application",
        Fault.OURS,
    )
