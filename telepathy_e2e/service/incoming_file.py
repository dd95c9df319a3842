"""A file that a contact sends, from his offer to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from hmac import compare_digest
from typing import Final

from telepathy_e2e.errors import InvalidArgument, NetworkError, NotAvailable, Terminated
from telepathy_e2e.jingle import files
from telepathy_e2e.jingle.files import FileOffer, Range
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.net import local
from telepathy_e2e.net.streams import Stream, StreamBroken
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.enduring import EnduringReceiver
from telepathy_e2e.service.events import URIDefined
from telepathy_e2e.service.failures import SessionFailed, ended_by_peer
from telepathy_e2e.service.file_channel import FileChannel, program_broke
from telepathy_e2e.service.file_details import (
    ACCEPTED,
    NONE,
    OPEN,
    PENDING,
    REQUESTED,
    FileDetails,
)
from telepathy_e2e.service.hashes import HASHES
from telepathy_e2e.service.payload import Hash, RemoteSource
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.trust.policy import Demands

log = logging.getLogger(__name__)

# A checksum that was promised ("hash-used") travels through the servers while the last bytes
# take the direct road; it may be behind by a slow round trip.
CHECKSUM_TIMEOUT: Final = 10.0


class IncomingFile(FileChannel):
    """See ``FileChannel``, whose arguments are meant; ``_receive`` is the script."""

    def __init__(
        self, account: Account, object_path: str, *, target_handle: int, offer: FileOffer
    ) -> None:
        super().__init__(
            account,
            object_path,
            target_handle=target_handle,
            requested=False,
            details=FileDetails.from_offer(offer),
            offer=offer,
            demands=Demands(encrypted=False, verified=False),
        )
        self._source: RemoteSource | None = None
        self._checksum: asyncio.Future[dict[str, bytes]] = (
            asyncio.get_running_loop().create_future()
        )

    @classmethod
    def incoming(cls, account: Account, link: Link, content: Content, handle: int) -> IncomingFile:
        """The channel for a peer's offer.

        Raises:
            PeerError: the offer makes no sense.
            SecurityFailed: none of its fingerprints can be checked, or policy refuses it.
            NoRoad: no transport that we know.
        """
        offer = files.parse(content.description)
        channel = cls(account, account.next_path("FileTransfer"), target_handle=handle, offer=offer)
        channel._attach(link)
        channel._received_initiate(content)
        return channel

    def set_uri(self, uri: str) -> None:
        """Write access to FileTransfer.URI, before AcceptFile. Raises: NotAvailable: too late."""
        if self.state != PENDING:
            raise NotAvailable("URI can be set on an incoming transfer before AcceptFile only")
        self.uri = uri
        self.events.emit(URIDefined(uri))

    async def accept_file(
        self, address_type: int, access_control: int, parameter: object, offset: int
    ) -> object:
        """FileTransfer.AcceptFile: where the client that wants the file shall connect to.

        Args:
            offset: bytes that the client has already and does not want again.
        Raises:
            NotAvailable: it does not wait to be accepted.
            InvalidArgument: the offset is beyond the end, or see ``local.listen``.
            NotImplementedByUs: see ``local.listen``.
        """
        self.check_alive()
        if self.state != PENDING or self._listener is not None:
            raise NotAvailable("This transfer has been accepted already")
        if offset > self.size:
            raise InvalidArgument(
                f"The offset {offset} is beyond the end of the file at {self.size}"
            )
        listener = await local.listen(address_type, access_control, parameter)
        if self.state != PENDING or self._listener is not None:
            listener.close()
            self.check_alive()
            raise NotAvailable("This transfer has been accepted already")
        self._listener = listener
        self.initial_offset = offset if self._offer.range is not None else 0
        self._set_state(ACCEPTED, REQUESTED)
        self._start(self._receive(listener))
        return listener.address

    async def _receive(self, listener: local.LocalListener) -> None:
        """Everything that happens from AcceptFile on, in order."""
        security = await self.security.accept()
        accepted = replace(
            self._offer,
            range=Range(offset=self.initial_offset) if self._offer.range is not None else None,
            resume=False,
            resuming=self._offer.resume and security is not None,
        )
        await self._send_accept(files.build(accepted), security)
        self._agree_on_resuming(accepted)

        stream = await self._next_stream()
        if self._endures:
            again = self.security.epoch > 0
            stream = self._keep(
                EnduringReceiver(stream, self._next_stream, self._tasks, again=again)
            )
        self._define_offset(self.initial_offset)
        self._set_state(OPEN, NONE)
        sink = self._keep(await listener.accept())

        limit = self._announced
        digests = self._wanted_hashes()
        source = self._source = RemoteSource(stream)
        if self._link.ended:
            source.hurry()
        moved = await self._copy(source, sink, limit, list(digests.values()), exact=True)
        if limit is not None and moved < limit:
            raise SessionFailed(
                NetworkError("The file was cut off before its end"), "failed-transport"
            )
        await self._check_hashes({name: digest.digest() for name, digest in digests.items()})
        try:
            await sink.write_eof()
        except StreamBroken as error:
            raise program_broke() from error
        await self._confirm(stream)
        self._complete()

    def _wanted_hashes(self) -> dict[str, Hash]:
        """The best algorithm of those that the sender gave, or promised, a hash of."""
        wanted = list(self._offer.hashes)
        if not wanted and not self.security.agreed:
            wanted = list(self._offer.hash_used)
        if self.initial_offset:  # of the whole file, which does not come
            wanted = []
        return {name: HASHES[name]() for name in [each for each in HASHES if each in wanted][:1]}

    async def _check_hashes(self, computed: dict[str, bytes]) -> None:
        """Compare with what the offer said, or with the checksum that was promised for later."""
        announced = self._offer.hashes
        if computed and not announced:
            try:
                async with asyncio.timeout(CHECKSUM_TIMEOUT):
                    announced = await self._checksum
            except TimeoutError:
                log.info("a checksum was promised and did not come; length and TLS vouch alone")
        for name, digest in computed.items():
            if name in announced and not compare_digest(announced[name], digest):
                raise SessionFailed(NetworkError("The file's hash is wrong"), "media-error")

    async def _confirm(self, stream: Stream) -> None:
        # Our direction carries nothing; a peer that has let go already has all it wanted.
        with contextlib.suppress(StreamBroken):
            await stream.write_eof()
        link = self._link
        if not link.ended:  # by a sender that says success when it has written all
            received = files.received("initiator", link.session.content_name)
            link.post(link.session.session_info(received), refused=lambda error: None)
        link.terminate("success")

    # -- what the contact says ----------------------------------------------------------------

    def _told_checksum(self, hashes: dict[str, bytes]) -> None:
        if not self._checksum.done():
            self._checksum.set_result(hashes)

    def _terminated(self, condition: str) -> None:
        if condition != "success":
            self._end(ended_by_peer(condition, "transfer"))
        elif self.state == PENDING:
            self._end(SessionFailed(Terminated("Ended too early"), None))
        elif self._source is not None:
            # A sender may end the session while its last bytes are on the way: read on.
            self._source.hurry()

    def _release(self, failure: SessionFailed | None) -> None:
        super()._release(failure)
        self._checksum.cancel()
