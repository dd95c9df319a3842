"""The file transfers of a connection: made on request, and when a peer offers one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import InvalidArgument, TelepathyError
from telepathy_e2e.jingle import files
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.service import file_requests, names
from telepathy_e2e.service.capabilities import takes_files
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.failures import NoRoad, SecurityFailed
from telepathy_e2e.service.feature import Feature
from telepathy_e2e.service.peers import check_reachable
from telepathy_e2e.service.requests import ChannelRequest
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.xmpp.jid import bare

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account
    from telepathy_e2e.service.transfers import FileTransfer

log = logging.getLogger(__name__)

# Channels whose transfer is over and that no client has closed. A peer can make them (offer,
# cancel, offer, ...); past this many the oldest are closed.
MAX_ENDED_CHANNELS = 256


class FileTransfers(Feature):
    """See ``feature.ChannelManager``, whose docstrings hold."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._ended: dict[str, Channel] = {}

    # -- requested --------------------------------------------------------------------------

    def manages(self, request: ChannelRequest) -> bool:
        return request.channel_type == names.FILE_TRANSFER

    async def create(self, request: ChannelRequest) -> Channel:
        asked = file_requests.parse(request)
        target = self._account.handles.inspect(asked.handle)
        self._check_replaced(asked, target)
        check_reachable(self._account.client, target, takes_files, "files")
        return _file_transfer()(
            self._account,
            self._account.next_path("FileTransfer"),
            target_handle=asked.handle,
            requested=True,
            details=asked.details,
            demands=asked.demands,
            replaces=asked.replaces,
        )

    async def ensure(self, request: ChannelRequest) -> tuple[bool, Channel]:
        """Two files are never the same channel, so this always creates."""
        return True, await self.create(request)

    def _check_replaced(self, asked: file_requests.FileRequest, target: str) -> None:
        if asked.replaces == "/":
            return
        channel = self._account.channels.get(asked.replaces)
        if not isinstance(channel, _file_transfer()) or channel.target_id != target:
            raise InvalidArgument("Replaces names no file transfer with this contact")

    # -- offered ----------------------------------------------------------------------------

    def understands(self, description: Element) -> bool:
        """Whether a Jingle content with this description is a file."""
        return files.is_file(description)

    def offered(self, link: Link, content: Content) -> None:
        """A peer initiated a session for a file."""
        if content.senders not in (None, "initiator", "both"):
            link.terminate("unsupported-applications", "Requests for files are not supported")
            return
        account = self._account
        peer = bare(link.peer)
        try:
            transfer = _file_transfer().incoming(
                account, link, content, account.handles.of_jid(peer)
            )
        except SecurityFailed as failure:
            # Nobody is shown an offer that cannot be taken, so this is where it can be seen.
            log.info("an offer of a file was refused: %s", failure.error)
            link.terminate(failure.condition)
            return
        except NoRoad:
            link.terminate("unsupported-transports")
            return
        link.seen_online = any(each.jid == link.peer for each in account.client.resources(peer))
        account.announce(transfer)

    # -- the end ----------------------------------------------------------------------------

    def transfer_ended(self, channel: Channel) -> None:
        """See ``account.Account``."""
        if not channel.closed:
            self._ended[channel.object_path] = channel
            if len(self._ended) > MAX_ENDED_CHANNELS:
                next(iter(self._ended.values())).close()

    def channel_closed(self, channel: Channel) -> None:
        """A channel of any type left the bus."""
        self._ended.pop(channel.object_path, None)

    def disconnected(self, error: TelepathyError, *, stopped: bool) -> None:
        self._ended.clear()


def _file_transfer() -> type[FileTransfer]:
    """Imported with the first transfer: with it come OpenSSL and a third of the memory."""
    from telepathy_e2e.service.transfers import FileTransfer

    return FileTransfer
