"""A file transfer, from the request or the offer to its end (Telepathy, Channel.Type.FileTransfer).

``_send`` and ``_receive`` are the two scripts of the transfer: everything that happens, in order.
Whatever goes wrong at any step comes out of them, or out of the session's events, and ends in
``_end``; nothing else ends a transfer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import sys
from collections.abc import Coroutine
from dataclasses import replace
from hmac import compare_digest
from typing import Any
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    Cancelled,
    Disconnected,
    EncryptionError,
    InvalidArgument,
    NetworkError,
    NotAvailable,
    PeerError,
    SecurityError,
    TelepathyError,
    Terminated,
)
from telepathy_e2e.jingle import files
from telepathy_e2e.jingle import session as jingle
from telepathy_e2e.jingle.files import FileOffer, Range
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.net import local
from telepathy_e2e.net.streams import Stream, StreamBroken
from telepathy_e2e.service import names
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.capabilities import takes_files
from telepathy_e2e.service.enduring import EnduringReceiver, EnduringSender
from telepathy_e2e.service.events import (
    FileTransferStateChanged,
    InitialOffsetDefined,
    TransferredBytesChanged,
    URIDefined,
)
from telepathy_e2e.service.failures import NoRoad, SecurityFailed
from telepathy_e2e.service.file_details import (
    ACCEPTED,
    CANCELLED,
    COMPLETED,
    ENDED,
    LOCAL_ERROR,
    LOCAL_STOPPED,
    NONE,
    OPEN,
    PENDING,
    REMOTE_ERROR,
    REQUESTED,
    UNKNOWN_SIZE,
    FileDetails,
)
from telepathy_e2e.service.hashes import HASHES
from telepathy_e2e.service.payload import (
    Hash,
    MoreThanAnnounced,
    Progress,
    RemoteSource,
    SinkBroken,
    Source,
    SourceBroken,
    copy,
)
from telepathy_e2e.service.protected import ProtectedChannel
from telepathy_e2e.service.road import Road
from telepathy_e2e.service.security import Security
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.service.transfer_failures import (
    TransferFailed,
    client_broke,
    ended_by_peer,
    failure_of,
    peer_broke,
    road_broke,
)
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.trust.policy import Demands
from telepathy_e2e.xmpp.client import IqTimeout, StanzaError

log = logging.getLogger(__name__)

# After the last byte the receiver has to read, hash and confirm. Everything is on its way by
# then; a receiver that says nothing for this long will not.
CONFIRMATION_TIMEOUT = 60.0

# How long the reason may come after the road broke: a few round trips through the servers.
REASON_GRACE = 2.0

# A transfer whose peer went offline, and that moves nothing for so long, is over. Signals about
# progress are a second apart.
STANDSTILL = 2.5

# Roads that are cut before they were of use, one after the other, before it is given up.
MAX_CUT = 4

# A checksum that was promised ("hash-used") travels through the servers while the last bytes
# take the direct road; it may be behind by a slow round trip.
CHECKSUM_TIMEOUT = 10.0


class FileTransfer(ProtectedChannel):
    """One file, one Jingle session, one channel.

    Args:
        account: the connection's services.
        details: the file.
        demands: what this channel was asked to guarantee.
        replaces: object path of the channel that this one takes over from, or ``/``.
    """

    channel_type = names.FILE_TRANSFER

    def __init__(
        self,
        account: Account,
        object_path: str,
        *,
        target_handle: int,
        requested: bool,
        details: FileDetails,
        demands: Demands,
        replaces: str = "/",
    ) -> None:
        super().__init__(
            account,
            object_path,
            target_handle=target_handle,
            requested=requested,
            replaces=replaces,
        )
        self._account = account
        self.security: Security = Security(account, self, demands)
        self.details = details
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
        self._tasks = TaskOwner(object_path)
        self._link: Link | None = None
        self._road: Road | None = None
        self._listener: local.LocalListener | None = None
        self._streams: list[Stream] = []
        # The road, and what protects it.
        self._carried: list[Stream] = []
        # What is received.
        self._source: RemoteSource | None = None
        # Whether the payload goes on over another road where it was (spec/resume.md).
        self._endures = False
        loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[FileOffer] = loop.create_future()
        self._provided: asyncio.Future[local.LocalListener] = loop.create_future()
        self._confirmed: asyncio.Future[None] = loop.create_future()
        self._checksum: asyncio.Future[dict[str, bytes]] = loop.create_future()
        self._offer: FileOffer = details.to_offer() if requested else FileOffer()

    # -- properties -------------------------------------------------------------------------

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
        """FileTransfer.ProvideFile: where the client that has the file shall connect to.

        Raises:
            NotAvailable: an incoming transfer, one that is over, or called before.
            NotImplementedByUs, InvalidArgument: see ``local.listen``.
        """
        if not self.requested:
            raise NotAvailable("This is an incoming transfer; call AcceptFile instead")
        self.check_alive()
        if self._listener is not None:
            raise NotAvailable("ProvideFile has been called already")
        self._listener = await local.listen(address_type, access_control, parameter)
        if self.state == CANCELLED:
            self._listener.close()
            self.check_alive()
        self._provided.set_result(self._listener)
        return self._listener.address

    async def accept_file(
        self, address_type: int, access_control: int, parameter: object, offset: int
    ) -> object:
        """FileTransfer.AcceptFile: where the client that wants the file shall connect to.

        Args:
            offset: bytes that the client has already and does not want again.
        Raises:
            NotAvailable: not an incoming transfer that waits to be accepted.
            InvalidArgument: the offset is beyond the end, or see ``local.listen``.
            NotImplementedByUs: see ``local.listen``.
        """
        if self.requested:
            raise NotAvailable("This is an outgoing transfer; call ProvideFile instead")
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

    def set_uri(self, uri: str) -> None:
        """Write access to FileTransfer.URI, before AcceptFile.

        Raises:
            NotAvailable: too late, or an outgoing transfer.
        """
        if self.requested or self.state != PENDING:
            raise NotAvailable("URI can be set on an incoming transfer before AcceptFile only")
        self.uri = uri
        self.events.emit(URIDefined(uri))

    def close(self) -> None:
        """Channel.Close: a transfer that is not over is cancelled."""
        declined = not self.requested and self.state == PENDING
        self._end(
            TransferFailed(
                LOCAL_STOPPED,
                Cancelled("The transfer was cancelled by the local user"),
                "decline" if declined else "cancel",
            )
        )
        self._gone()

    def disconnected(self, error: TelepathyError, stopped: bool) -> None:
        """The connection goes: the transfer with it."""
        self._end(TransferFailed(LOCAL_STOPPED if stopped else LOCAL_ERROR, error, "gone"))
        self._gone()

    def peer_offline(self) -> None:
        """The peer's client went offline. A road that is up may still bring all to its end."""
        self._tasks.start("outlive", self._outlive())

    async def _outlive(self) -> None:
        moved = -1
        while self.state == OPEN and moved != self.transferred_bytes:
            moved = self.transferred_bytes
            await asyncio.sleep(STANDSTILL)
        self._end(
            TransferFailed(REMOTE_ERROR, Terminated("The contact's client went offline"), "gone")
        )

    # -- the two scripts --------------------------------------------------------------------

    def begin(self) -> None:
        """Take over from the channel that this one replaces, and offer the file."""
        if self.closed:
            return
        replaced = self._account.channels.get(self.replaces)
        if replaced is not None:
            replaced.close()
        self._start(self._send())

    async def _send(self) -> None:
        """The sender's side."""
        account = self._account
        peer = await account.find_peer(self.target_id, takes_files, "files")
        link = self._attach(account.hub.open(peer.jid))
        link.seen_online = True
        road = self._road = Road(account, link, self.security, features=peer.features)
        # First: a transport may have its encryption of it.
        security = await self.security.offer(link, peer)
        content = Content(
            creator="initiator",
            name="file",
            senders="initiator",
            description=files.build(self._offer),
            transport=await road.offer(),
            security=security,
        )
        self.security.offered(content)
        await link.send(link.session.initiate(content))

        answer = await self._answer
        offset = answer.range.offset if answer.range is not None else 0
        if offset and (self.size != UNKNOWN_SIZE and offset > self.size):
            raise TransferFailed(
                REMOTE_ERROR,
                NetworkError("The contact asked for a part beyond the end"),
                "media-error",
            )
        self._define_offset(offset)
        self._set_state(ACCEPTED, NONE)

        stream = await self._next_stream(link, road)
        listener = await self._provided
        self._set_state(OPEN, NONE)
        source = self._keep(await listener.accept())
        sink: Stream = stream
        if self._endures:
            sink = self._keep(
                EnduringSender(stream, lambda: self._next_stream(link, road), self._tasks)
            )
        else:
            watching = self._watch(stream)
            self._tasks.start("watch", self._run(watching), script=watching)

        limit = None if self.size == UNKNOWN_SIZE else self.size - offset
        digests: list[Hash] = [hashlib.sha256()] if self._promised_hash(offset) else []
        moved = await self._copy(source, sink, limit, digests, exact=False)
        if limit is not None and moved < limit:
            raise TransferFailed(
                LOCAL_ERROR,
                NetworkError("The file ended before its announced size"),
                "failed-application",
            )
        for digest in () if link.ended else digests:
            checksum = files.checksum({"sha-256": digest.digest()}, "initiator", content.name)
            link.post(link.session.session_info(checksum), refused=lambda error: None)
        await sink.write_eof()
        if isinstance(sink, EnduringSender):
            # Whoever says before that he has all is no receiver: servers can say so.
            await sink.written()
            await self._confirmed_or(sink.delivered())
        try:
            async with asyncio.timeout(CONFIRMATION_TIMEOUT):
                await self._confirmed
        except TimeoutError:
            raise TransferFailed(
                REMOTE_ERROR, NetworkError("The contact did not confirm the file"), "timeout"
            ) from None
        self._complete()

    async def _receive(self, listener: local.LocalListener) -> None:
        """The receiver's side, from AcceptFile on."""
        link, road = self._link, self._road
        if link is None or road is None:  # pragma: no cover - offered() sets both
            raise AssertionError("accepted before it was offered")
        # First, since people may be asked, and the peer may replace the transport meanwhile.
        security = await self.security.accept()
        accepted = replace(
            self._offer,
            range=Range(offset=self.initial_offset) if self._offer.range is not None else None,
            resume=False,
            resuming=self._offer.resume and security is not None,
        )
        content = Content(
            creator="initiator",
            name=link.session.content_name,
            senders="initiator",
            description=files.build(accepted),
            transport=await road.answer(),
            security=security,
        )
        self.security.accepted(content)
        self._agree_on_resuming(accepted)
        # Not awaited: the candidates can be tried while the acknowledgement is on its way.
        link.post(link.session.accept(content))

        stream = await self._next_stream(link, road)
        if self._endures:
            stream = self._keep(
                EnduringReceiver(
                    stream,
                    lambda: self._next_stream(link, road),
                    self._tasks,
                    again=self.security.epoch > 0,
                )
            )
        self._define_offset(self.initial_offset)
        self._set_state(OPEN, NONE)
        sink = self._keep(await listener.accept())

        limit = None if self.size == UNKNOWN_SIZE else self.size - self.initial_offset
        digests = {
            name: HASHES[name]() for name in self._checked_hashes() if not self.initial_offset
        }
        source = self._source = RemoteSource(stream)
        if link.ended:
            source.hurry()
        moved = await self._copy(source, sink, limit, list(digests.values()), exact=True)
        if limit is not None and moved < limit:
            raise TransferFailed(
                REMOTE_ERROR,
                NetworkError("The file was cut off before its end"),
                "failed-transport",
            )
        await self._check_hashes({name: digest.digest() for name, digest in digests.items()})
        try:
            await sink.write_eof()
        except StreamBroken as error:
            raise client_broke() from error
        # Our direction carries nothing; a peer that has let go already has all it wanted.
        with contextlib.suppress(StreamBroken):
            await stream.write_eof()
        if not link.ended:  # by a sender that says success when it has written all
            link.post(
                link.session.session_info(files.received("initiator", content.name)),
                refused=lambda error: None,
            )
        link.terminate("success")
        self._complete()

    async def _watch(self, stream: Stream) -> None:
        """The receiver says nothing on the road: what comes from it is its end, or an alert."""
        if await stream.read(1):
            raise TransferFailed(
                REMOTE_ERROR, NetworkError("The contact sent what nobody asked for"), "media-error"
            )
        if self.security.agreed and not self.security.peer_closed:
            raise peer_broke()

    async def _secure_stream(self, link: Link, road: Road) -> Stream:
        """The road, then the handshake, then the people: after this payload may flow."""
        if link.ended:  # by the peer, who then closed the road; the script hears of it as well
            raise StreamBroken("the session is over")
        road.lost = self.security.road_lost
        stream = await road.connect()
        self._carried = [stream]  # of a road that was lost nothing is left to let go of
        self._carried.append(await self.security.secure(stream))
        return self._carried[-1]

    async def _next_stream(self, link: Link, road: Road) -> Stream:
        """The first, or what takes the place of one that broke; so does what breaks before it
        was of use, in its handshake or while people are asked, once it is known who is there."""
        for _ in range(MAX_CUT):
            try:
                return await self._secure_stream(link, road)
            except StreamBroken as error:
                if link.ended or not (self._endures and self.encrypted):
                    raise
                log.info("the road of a file was cut before it was of use: %s", error)
        return await self._secure_stream(link, road)

    def _agree_on_resuming(self, answer: FileOffer) -> None:
        """Both sides know how, and what the receiver says on the road is authentic."""
        if (
            self._offer.resume
            and answer.resuming
            and self.security.agreed
            and self._road is not None
        ):
            self._endures = True
            self.security.renewable = self._road.renewable = True

    async def _confirmed_or(self, delivery: Coroutine[Any, Any, None]) -> None:
        """Until all is delivered, or the receiver says so through the servers."""
        delivered = self._tasks.start("deliver", delivery, awaited=True)
        await asyncio.wait({delivered, self._confirmed}, return_when=asyncio.FIRST_COMPLETED)
        if not self._confirmed.done():
            await delivered

    async def _copy(
        self, source: Source, sink: Stream, limit: int | None, hashes: list[Hash], *, exact: bool
    ) -> int:
        progress = Progress(self.initial_offset, self._progressed)
        try:
            moved = await copy(
                source, sink, limit=limit, hashes=hashes, progress=progress, exact=exact
            )
        except MoreThanAnnounced:
            raise TransferFailed(
                REMOTE_ERROR, NetworkError("The contact sent more than announced"), "media-error"
            ) from None
        except (SourceBroken, SinkBroken) as error:
            if isinstance(error, SourceBroken) is exact:
                raise peer_broke() from error
            raise client_broke() from error
        progress.flush()
        return moved

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
                raise TransferFailed(
                    REMOTE_ERROR, NetworkError("The file's hash is wrong"), "media-error"
                )

    def _promised_hash(self, offset: int) -> bool:
        """Whether a checksum has to follow the file.

        Inside TLS every byte is authenticated already, and hashing as well would halve the speed;
        a hash that was known before the transfer is offered, and checked, in any case.
        """
        return not self._offer.hashes and not offset and not self.security.agreed

    def _checked_hashes(self) -> list[str]:
        """The best algorithm of those that the sender gave, or promised, a hash of."""
        wanted = list(self._offer.hashes)
        if not wanted and not self.security.agreed:
            wanted = list(self._offer.hash_used)
        return [name for name in HASHES if name in wanted][:1]

    # -- what the peer says -----------------------------------------------------------------

    @classmethod
    def incoming(cls, account: Account, link: Link, content: Content, handle: int) -> FileTransfer:
        """The channel for a peer's offer.

        Raises:
            PeerError: the offer makes no sense.
            SecurityFailed: none of its fingerprints can be checked, or policy refuses it.
        """
        offer = files.parse(content.description)
        transfer = cls(
            account,
            account.next_path("FileTransfer"),
            target_handle=handle,
            requested=False,
            details=FileDetails.from_offer(offer),
            demands=Demands(encrypted=False, verified=False),
        )
        transfer._offer = offer
        transfer.security.received_offer(link, content)
        transfer._road = Road(account, link, transfer.security)
        transfer._road.offered(content.transport)
        transfer._attach(link)
        return transfer

    def session_event(self, event: jingle.Event) -> None:
        """See ``sessions.Application``."""
        match event:
            case jingle.Accepted(content):
                self._accepted(content)
            case jingle.Terminated(reason):
                self._terminated(reason.condition)
            case jingle.SecurityInfo(payload):
                self.security.receive(payload)
            case jingle.SessionInfo(payload):
                self._session_info(payload)
            case _:
                if self._road is not None:
                    self._road.session_event(event)

    def session_lost(self, error: PeerError | Disconnected | StanzaError | IqTimeout) -> None:
        """See ``sessions.Application``."""
        self._fail(error)

    def security_failed(self, failure: SecurityFailed) -> None:
        """Tampering, or what cannot be told from it: see ``security.Payload``."""
        # A road that broke is met by the script as well, which knows how long to wait.
        if not road_broke(failure):
            self._fail(failure)

    def _accepted(self, content: Content) -> None:
        # stanza.js answers without a description: then it takes the file as it was offered.
        described = content.description is not None
        try:
            answer = files.parse(content.description) if described else FileOffer()
        except PeerError as error:
            self._fail(error)
            raise
        try:
            self.security.answered(content)
        except PeerError as error:
            # xtls-wire, section 1: a responder whose accept was refused is not heard again.
            self._fail(SecurityFailed(EncryptionError(str(error))))
            if isinstance(error, SecurityError):
                return  # well-formed, so acknowledged
            raise
        if not self.security.agreed and answer.size not in (None, self._offer.size):
            self._fail(
                TransferFailed(
                    REMOTE_ERROR, NetworkError("The contact accepted another file"), "media-error"
                )
            )
            return
        try:
            if self._road is not None:
                self._road.answered(content.transport)
        except PeerError as error:
            # The session counts as accepted, and no second accept is heard.
            self._fail(error)
            raise
        self._agree_on_resuming(answer)
        self._answer.set_result(answer)

    def _terminated(self, condition: str) -> None:
        if condition == "success":
            if self.requested and self.state == OPEN:
                self._confirm()
            elif self.requested or self.state == PENDING:
                self._end(TransferFailed(REMOTE_ERROR, Terminated("Ended too early"), None))
            elif self._source is not None:
                # A sender may end the session while its last bytes are on the way: read on.
                self._source.hurry()
            return
        self._end(ended_by_peer(condition))

    def _session_info(self, payload: tuple[Element, ...]) -> None:
        for element in payload:
            if files.is_received(element):
                if self.requested and self.state == OPEN:
                    self._confirm()
            elif files.is_checksum(element):
                hashes = files.parse_checksum(element)
                if not self._checksum.done():
                    self._checksum.set_result(hashes)
            else:
                raise PeerError(
                    "unknown session-info", "feature-not-implemented", jingle="unsupported-info"
                )

    def _confirm(self) -> None:
        if not self._confirmed.done():
            self._confirmed.set_result(None)

    # -- states and the end -----------------------------------------------------------------

    def _attach(self, link: Link) -> Link:
        self._link = link
        link.application = self
        return link

    def _start(self, script: Coroutine[Any, Any, None]) -> None:
        self._tasks.start("script", self._run(script), script=script)

    async def _run(self, script: Coroutine[Any, Any, None]) -> None:
        try:
            await script
        except (
            TransferFailed,
            SecurityFailed,
            TelepathyError,
            PeerError,
            NoRoad,
            StreamBroken,
            StanzaError,
            IqTimeout,
        ) as error:
            if road_broke(error):
                # A peer that gives up closes the road and says why through the servers, which
                # takes longer. Then ``_terminated`` ends the transfer, and this wait with it.
                await asyncio.sleep(REASON_GRACE)
            self._fail(error)
        finally:
            if sys.exception() is not None and self.state not in ENDED:  # a fault of this program
                self._end(TransferFailed(LOCAL_ERROR, NotAvailable("Internal error"), "cancel"))

    def _fail(self, error: Exception) -> None:
        self._end(failure_of(error))

    def _complete(self) -> None:
        self._set_state(COMPLETED, NONE)
        self.security.finished()
        self._release()

    def _end(self, failure: TransferFailed) -> None:
        if self.state in ENDED:
            return
        self.failure = failure.error
        self.security_changed("Error", "ErrorMessage")
        if self._link is not None and failure.condition is not None:
            self._link.terminate(failure.condition)
        self.security.finished()
        self._set_state(CANCELLED, failure.reason)
        self._release()

    def _release(self) -> None:
        """Let go of everything that the transfer held; nothing of it runs on."""
        if self._link is not None and not self._link.ended:
            self._link.end()
        if self._road is not None:
            self._road.close()
        for stream in (*self._streams, *self._carried):
            if self.state == COMPLETED:
                stream.close()
            else:
                stream.abort()
        if self._listener is not None:
            self._listener.close()
        for future in (self._answer, self._provided, self._confirmed, self._checksum):
            future.cancel()
        self._tasks.cancel()
        self._account.transfer_ended(self)

    def _keep(self, stream: Stream) -> Stream:
        self._streams.append(stream)
        return stream

    def _set_state(self, state: int, reason: int) -> None:
        self.state = state
        self.events.emit(FileTransferStateChanged(state, reason))

    def _define_offset(self, offset: int) -> None:
        self.initial_offset = offset
        self.transferred_bytes = offset
        self.events.emit(InitialOffsetDefined(offset))

    def _progressed(self, count: int) -> None:
        self.transferred_bytes = count
        self.events.emit(TransferredBytesChanged(count))
