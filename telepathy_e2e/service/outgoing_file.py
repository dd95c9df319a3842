"""A file that is sent to a contact, from the request to its end."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine
from typing import Any, Final

from telepathy_e2e.errors import NetworkError, NotAvailable, Terminated
from telepathy_e2e.jingle import files
from telepathy_e2e.jingle.files import FileOffer
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.net import local
from telepathy_e2e.net.streams import Stream
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.capabilities import takes_files
from telepathy_e2e.service.enduring import EnduringSender
from telepathy_e2e.service.failures import Fault, SessionFailed, ended_by_peer, peer_broke
from telepathy_e2e.service.file_channel import FileChannel
from telepathy_e2e.service.file_details import (
    ACCEPTED,
    CANCELLED,
    NONE,
    OPEN,
    UNKNOWN_SIZE,
    FileDetails,
)
from telepathy_e2e.service.payload import Hash
from telepathy_e2e.trust.policy import Demands

# After the last byte the receiver has to read, hash and confirm. Everything is on its way by
# then; a receiver that says nothing for this long will not.
CONFIRMATION_TIMEOUT: Final = 60.0


class OutgoingFile(FileChannel):
    """See ``FileChannel``, whose arguments are meant; ``_send`` is the script."""

    def __init__(
        self,
        account: Account,
        object_path: str,
        *,
        target_handle: int,
        details: FileDetails,
        demands: Demands,
        replaces: str = "/",
    ) -> None:
        super().__init__(
            account,
            object_path,
            target_handle=target_handle,
            requested=True,
            details=details,
            offer=details.to_offer(),
            demands=demands,
            replaces=replaces,
        )
        # What the contact took of it.
        self._taken = FileOffer()
        loop = asyncio.get_running_loop()
        self._provided: asyncio.Future[local.LocalListener] = loop.create_future()
        self._confirmed: asyncio.Future[None] = loop.create_future()

    async def provide_file(
        self, address_type: int, access_control: int, parameter: object
    ) -> object:
        """FileTransfer.ProvideFile: where the client that has the file shall connect to.

        Raises:
            NotAvailable: it is over, or this was called before.
            NotImplementedByUs, InvalidArgument: see ``local.listen``.
        """
        self.check_alive()
        if self._listener is not None:
            raise NotAvailable("ProvideFile has been called already")
        self._listener = await local.listen(address_type, access_control, parameter)
        if self.state == CANCELLED:
            self._listener.close()
            self.check_alive()
        self._provided.set_result(self._listener)
        return self._listener.address

    def begin(self) -> None:
        """Take over from the channel that this one replaces, and offer the file."""
        if self.closed:
            return
        self._take_over()
        self._start(self._send())

    async def _send(self) -> None:
        """Everything that happens, in order."""
        peer = await self._account.find_peer(self.target_id, takes_files, "files")
        self._attach(self._account.hub.open(peer.jid))
        await self._send_initiate(peer, files.build(self._offer))

        await self._answer
        offset = self._wanted_offset()
        self._define_offset(offset)
        self._set_state(ACCEPTED, NONE)

        stream = await self._next_stream()
        listener = await self._provided
        self._set_state(OPEN, NONE)
        source = self._keep(await listener.accept())
        sink: Stream = stream
        if self._endures:
            sink = self._keep(EnduringSender(stream, self._next_stream, self._tasks))
        else:
            self._start(self._watch(stream), "watch")

        limit = self._announced
        digests: list[Hash] = [hashlib.sha256()] if self._hash_promised() else []
        moved = await self._copy(source, sink, limit, digests, exact=False)
        if limit is not None and moved < limit:
            raise SessionFailed(
                NetworkError("The file ended before its announced size"),
                "failed-application",
                Fault.OURS,
            )
        for digest in digests:
            self._tell_checksum(digest)
        await sink.write_eof()
        await self._await_confirmation(sink)
        self._complete()

    def _wanted_offset(self) -> int:
        """Where the contact wants the file to begin. Raises: SessionFailed: nowhere in it."""
        offset = self._taken.range.offset if self._taken.range is not None else 0
        if offset and (self.size != UNKNOWN_SIZE and offset > self.size):
            raise SessionFailed(
                NetworkError("The contact asked for a part beyond the end"), "media-error"
            )
        return offset

    async def _watch(self, stream: Stream) -> None:
        """The receiver says nothing on the road: what comes from it is its end, or an alert."""
        if await stream.read(1):
            raise SessionFailed(
                NetworkError("The contact sent what nobody asked for"), "media-error"
            )
        if self.security.agreed and not self.security.peer_closed:
            raise peer_broke()

    def _hash_promised(self) -> bool:
        """Whether a checksum has to follow the file.

        Inside TLS every byte is authenticated already, and hashing as well would halve the speed;
        a hash that was known before the transfer is offered, and checked, in any case.
        """
        return not self._offer.hashes and not self.initial_offset and not self.security.agreed

    def _tell_checksum(self, digest: Hash) -> None:
        link = self._link
        if not link.ended:
            checksum = files.checksum(
                {"sha-256": digest.digest()}, "initiator", link.session.content_name
            )
            link.post(link.session.session_info(checksum), refused=lambda error: None)

    async def _await_confirmation(self, sink: Stream) -> None:
        """Until the contact says that he has all."""
        if isinstance(sink, EnduringSender):
            # Whoever says before that he has all is no receiver: servers can say so.
            await sink.written()
            await self._confirmed_or(sink.delivered())
        try:
            async with asyncio.timeout(CONFIRMATION_TIMEOUT):
                await self._confirmed
        except TimeoutError:
            raise SessionFailed(
                NetworkError("The contact did not confirm the file"), "timeout"
            ) from None

    async def _confirmed_or(self, delivery: Coroutine[Any, Any, None]) -> None:
        """Until all is delivered, or the receiver says so through the servers."""
        delivered = self._tasks.start("deliver", delivery, awaited=True)
        await asyncio.wait({delivered, self._confirmed}, return_when=asyncio.FIRST_COMPLETED)
        if not self._confirmed.done():
            await delivered

    # -- what the contact says ----------------------------------------------------------------

    def _read_answer(self, content: Content) -> None:
        # stanza.js answers without a description: then it takes the file as it was offered.
        description = content.description
        self._taken = FileOffer() if description is None else files.parse(description)

    def _check_answer(self) -> None:
        if not self.security.agreed and self._taken.size not in (None, self._offer.size):
            raise SessionFailed(NetworkError("The contact accepted another file"), "media-error")

    def _answered(self) -> None:
        self._agree_on_resuming(self._taken)

    def _told_received(self) -> None:
        if self.state == OPEN and not self._confirmed.done():
            self._confirmed.set_result(None)

    def _terminated(self, condition: str) -> None:
        if condition != "success":
            self._end(ended_by_peer(condition, "transfer"))
        elif self.state == OPEN:
            self._told_received()
        else:
            self._end(SessionFailed(Terminated("Ended too early"), None))

    def _release(self, failure: SessionFailed | None) -> None:
        super()._release(failure)
        self._provided.cancel()
        self._confirmed.cancel()
