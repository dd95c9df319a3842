"""The tubes of a connection: made on request, and when a peer offers one."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import InvalidArgument, TelepathyError
from telepathy_e2e.jingle import tubes
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.jingle.tubes import Kind
from telepathy_e2e.service import names
from telepathy_e2e.service.capabilities import takes_tubes
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.feature import text_of
from telepathy_e2e.service.peers import check_reachable
from telepathy_e2e.service.requests import REPLACES, ChannelRequest, demands
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.service.stream_channels import StreamChannels

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account
    from telepathy_e2e.service.tube_channel import TubeChannel
    from telepathy_e2e.service.tube_session import TubeSession

# The property of each type that names the service.
SERVICES = {
    names.STREAM_TUBE: names.STREAM_TUBE + ".Service",
    names.DBUS_TUBE: names.DBUS_TUBE + ".ServiceName",
}


class Tubes(StreamChannels):
    """See ``feature.ChannelManager`` and ``feature.ApplicationManager``, whose docstrings hold."""

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        # Closed here, while the last bytes are on their way: no channels any more.
        self._leaving: dict[TubeSession, None] = {}

    # -- requested --------------------------------------------------------------------------

    def manages(self, request: ChannelRequest) -> bool:
        return request.channel_type in SERVICES

    async def create(self, request: ChannelRequest) -> Channel:
        target = self._account.handles.inspect(request.handle)
        service = self._service(request)
        replaced = self._replaced(request, target, "such tube")
        check_reachable(self._account.client, target, takes_tubes, "tubes")
        return _tube(request.channel_type)(
            self._account,
            self._account.next_path("Tube"),
            target_handle=request.handle,
            requested=True,
            service=service,
            demands=demands(request.properties),
            replaces=replaced,
        )

    async def ensure(self, request: ChannelRequest) -> tuple[bool, Channel]:
        """One that was requested here before, with the same service and guarantees, will do."""
        asked, service = demands(request.properties), self._service(request)
        for channel in self._account.channels.values():
            if (
                channel.channel_type == request.channel_type
                and isinstance(channel, _tube(request.channel_type))
                and channel.requested
                and channel.target_handle == request.handle
                and channel.service == service
                and channel.security.demands == asked
                and REPLACES not in request.properties
            ):
                return False, channel
        return True, await self.create(request)

    def _service(self, request: ChannelRequest) -> str:
        """Raises: InvalidArgument: the specification wants it in the request."""
        name = SERVICES[request.channel_type]
        if name not in request.properties:
            raise InvalidArgument(f"A tube needs the property {name}")
        service = text_of(request.properties, name)
        tubes.build(tubes.Tube(Kind.STREAM, service))  # whether the name can be sent
        return service

    # -- offered ----------------------------------------------------------------------------

    def understands(self, description: Element) -> bool:
        return tubes.is_tube(description)

    def offered(self, link: Link, content: Content) -> None:
        if content.senders not in (None, "both"):
            link.terminate("unsupported-applications", "A tube goes both ways")
            return
        kind = tubes.parse(content.description).kind
        channel_type = names.STREAM_TUBE if kind is Kind.STREAM else names.DBUS_TUBE
        self._show(link, content, _tube(channel_type).incoming, "tube")

    # -- the end ----------------------------------------------------------------------------

    def leaves(self, channel: TubeSession) -> None:
        """A tube whose channel goes, and whose session ends when all has arrived."""
        self._leaving[channel] = None

    def ended(self, channel: TubeSession) -> None:
        """Nothing of a tube is left."""
        self._leaving.pop(channel, None)

    def disconnected(self, error: TelepathyError, *, stopped: bool) -> None:
        for channel in list(self._leaving):
            channel.disconnected(error, stopped)


def _tube(channel_type: str) -> type[TubeChannel]:
    """Imported with the first tube: with it comes OpenSSL."""
    if channel_type == names.STREAM_TUBE:
        from telepathy_e2e.service.stream_tube import StreamTube

        return StreamTube
    from telepathy_e2e.service.dbus_tube import DBusTube

    return DBusTube
