"""What the managers of channels over streams, of files and of tubes, have in common."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from telepathy_e2e.errors import InvalidArgument
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.service.channel import Channel
from telepathy_e2e.service.failures import NoRoad, SecurityFailed
from telepathy_e2e.service.feature import Feature
from telepathy_e2e.service.peers import is_online
from telepathy_e2e.service.requests import ChannelRequest, replaces
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.xmpp.jid import bare

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account

log = logging.getLogger(__name__)

# Makes the channel for an offer of the contact with this handle.
Incoming = Callable[["Account", Link, Content, int], Channel]


class StreamChannels(Feature):
    """See ``feature.ChannelManager`` and ``feature.ApplicationManager``, which subclasses are."""

    needs_contact: ClassVar[bool] = True

    def __init__(self, account: Account) -> None:
        self._account = account

    def _replaced(self, request: ChannelRequest, target: str, what: str) -> str:
        """Object path of the channel that the requested one takes over from, or ``/``.

        Args:
            target: the contact, bare JID.
            what: it has to be, for the error.
        Raises:
            InvalidArgument: there is none of this type with this contact.
        """
        path = replaces(request.properties)
        if path != "/":
            channel = self._account.channels.get(path)
            wanted = (request.channel_type, target)
            if channel is None or (channel.channel_type, channel.target_id) != wanted:
                raise InvalidArgument(f"Replaces names no {what} with this contact")
        return path

    def _show(self, link: Link, content: Content, incoming: Incoming, what: str) -> None:
        """Announce the channel for a peer's offer, or end the session if it cannot be taken.

        Args:
            what: is offered, for the log.
        Raises:
            PeerError: the offer makes no sense.
        """
        account = self._account
        try:
            channel = incoming(account, link, content, account.handles.of_jid(bare(link.peer)))
        except SecurityFailed as failure:
            # Nobody is shown an offer that cannot be taken, so this is where it can be seen.
            log.info("an offer of a %s was refused: %s", what, failure.error)
            link.terminate(failure.condition)
            return
        except NoRoad:
            link.terminate("unsupported-transports")
            return
        link.seen_online = is_online(account.client, link.peer)
        account.announce(channel)
