"""The file transfers of a connection: made on request, and when a peer offers one."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import TelepathyError
from telepathy_e2e.jingle import files
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.service import file_requests, names
from telepathy_e2e.service.capabilities import takes_files
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.peers import check_reachable
from telepathy_e2e.service.requests import ChannelRequest
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.service.stream_channels import StreamChannels

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account

# Channels whose transfer is over and that no client has closed. A peer can make them (offer,
# cancel, offer, ...); past this many the oldest are closed.
MAX_ENDED_CHANNELS = 256


class FileTransfers(StreamChannels):
    """See ``feature.ChannelManager``, whose docstrings hold."""

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._ended: dict[str, Channel] = {}

    # -- requested --------------------------------------------------------------------------

    def manages(self, request: ChannelRequest) -> bool:
        return request.channel_type == names.FILE_TRANSFER

    async def create(self, request: ChannelRequest) -> Channel:
        asked = file_requests.parse(request)
        target = self._account.handles.inspect(asked.handle)
        replaced = self._replaced(request, target, "file transfer")
        check_reachable(self._account.client, target, takes_files, "files")
        # Imported with the first transfer: with it come OpenSSL and a third of the memory.
        from telepathy_e2e.service.outgoing_file import OutgoingFile

        return OutgoingFile(
            self._account,
            self._account.next_path("FileTransfer"),
            target_handle=asked.handle,
            details=asked.details,
            demands=asked.demands,
            replaces=replaced,
        )

    async def ensure(self, request: ChannelRequest) -> tuple[bool, Channel]:
        """Two files are never the same channel, so this always creates."""
        return True, await self.create(request)

    # -- offered ----------------------------------------------------------------------------

    def understands(self, description: Element) -> bool:
        """Whether a Jingle content with this description is a file."""
        return files.is_file(description)

    def offered(self, link: Link, content: Content) -> None:
        """A peer initiated a session for a file."""
        if content.senders not in (None, "initiator", "both"):
            link.terminate("unsupported-applications", "Requests for files are not supported")
            return
        from telepathy_e2e.service.incoming_file import IncomingFile

        self._show(link, content, IncomingFile.incoming, "file")

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
