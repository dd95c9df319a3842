"""A tube, from the request or the offer to its end (Telepathy, Channel.Interface.Tube).

``_propose`` and ``_take`` are the beginnings of its two scripts, ``_carry`` what both come to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from telepathy_e2e.errors import (
    NetworkError,
    NotAvailable,
    NotCapable,
    PeerError,
    TelepathyError,
)
from telepathy_e2e.jingle import tubes
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.jingle.tubes import Tube, Value
from telepathy_e2e.net.local import LocalListener
from telepathy_e2e.net.streams import StreamBroken
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.capabilities import takes_tubes
from telepathy_e2e.service.failures import (
    Fault,
    SecurityFailed,
    SessionFailed,
    peer_left,
    road_broke,
)
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.service.tube_pump import Pump
from telepathy_e2e.service.tube_session import (
    OPEN,
    REMOTE_PENDING,
    TubeSession,
    closed_here,
    closed_there,
)
from telepathy_e2e.trust.policy import Demands
from telepathy_e2e.tubes.events import Reason
from telepathy_e2e.tubes.mux import Multiplexer
from telepathy_e2e.xmpp.client import Resource

log = logging.getLogger(__name__)

# Seconds: a road that broke before was not worth having. Of these so many in a row are taken.
SHORT_LIFE: Final = 5.0
MAX_SHORT: Final = 5

# A tube that was closed here brings what its programs had ended to its end, and is cut off then.
LEAVE_SECONDS: Final = 5.0


class TubeChannel(TubeSession):
    """One tube, one Jingle session, one channel.

    Args:
        service: Service, or ServiceName.
        parameters: of an offer that came.
        demands: what this channel was asked to guarantee.
        replaces: object path of the channel that this one takes over from, or ``/``.
    """

    # -- what clients call ------------------------------------------------------------------

    def close(self) -> None:
        """Channel.Close: an offer is declined or taken back, an open tube closed."""
        pump = self._pump
        if self.closed:
            return
        if pump is None or self.state != OPEN or self.over:
            declined = not self.requested and not self._begun
            condition = "decline" if declined else "cancel"
            self._end(SessionFailed(closed_here(), condition, Fault.USER))
            return
        self._leave(closed_here())

    # -- offering ---------------------------------------------------------------------------

    def _check_offer(self, parameters: Mapping[str, Value]) -> None:
        """Whether the tube can be offered.

        Raises:
            NotAvailable: it was offered by the contact, or already, or is over.
            InvalidArgument: a service or parameters that cannot be sent.
        """
        if not self.requested:
            raise NotAvailable("The contact offers this tube; call Accept instead")
        self.check_alive()
        if self._begun:
            raise NotAvailable("This tube has been offered already")
        tubes.build(Tube(self.kind, self.service, dict(parameters)))

    async def _offer(self, parameters: Mapping[str, Value]) -> None:
        """Find whom to offer it to, and begin.

        Raises: NotAvailable, Offline: there is nobody who takes tubes.
        """
        self._begun = True
        try:
            peer = await self._account.find_peer(self.target_id, takes_tubes, "tubes")
        except NotCapable as error:
            self._begun = False
            raise NotAvailable(str(error)) from error  # what the specification says of Offer
        except TelepathyError:
            self._begun = False
            raise
        self.check_alive()
        self._take_over()
        self.parameters = dict(parameters)
        self._set_state(REMOTE_PENDING)
        self._start(self._propose(peer))

    async def _propose(self, peer: Resource) -> None:
        """The script of the side that offers."""
        self._attach(self._account.hub.open(peer.jid))
        await self._send_initiate(peer, tubes.build(self._tube))
        await self._answer
        await self._carry()

    # -- accepting --------------------------------------------------------------------------

    @classmethod
    def incoming(cls, account: Account, link: Link, content: Content, handle: int) -> TubeChannel:
        """The channel for a peer's offer.

        Raises:
            PeerError: the offer makes no sense.
            SecurityFailed: none of its fingerprints can be checked, or policy refuses it.
            NoRoad: no transport that we know.
        """
        offer = tubes.parse(content.description)
        channel = cls(
            account,
            account.next_path("Tube"),
            target_handle=handle,
            requested=False,
            service=offer.service,
            parameters=offer.parameters,
            demands=Demands(encrypted=False, verified=False),
        )
        channel._attach(link)
        channel._received_initiate(content)
        return channel

    def _check_accept(self) -> None:
        """Raises: NotAvailable: it is not an offer that waits."""
        if self.requested:
            raise NotAvailable("This tube is yours; call Offer instead")
        self.check_alive()
        if self._begun:
            raise NotAvailable("This tube has been accepted already")

    def _accept(self, listener: LocalListener) -> None:
        """Begin, with the socket that programs connect to. Raises: as ``_check_accept``."""
        try:
            self._check_accept()
        except TelepathyError:
            listener.close()
            raise
        self._begun = True
        self._listener = listener
        self._start(self._take())

    async def _take(self) -> None:
        """The script of the side that accepts."""
        security = await self.security.accept()
        await self._send_accept(tubes.build_answer(self._tube), security)
        await self._carry()

    # -- what both come to ------------------------------------------------------------------

    async def _carry(self) -> None:
        """One road after the other, until one side has closed the tube."""
        limits = self.limits[not self.requested]
        pump = self._pump = Pump(Multiplexer(self._link.role, limits), self, self._tasks)
        loop = asyncio.get_running_loop()
        short = 0
        while True:
            since = loop.time()
            try:
                stream = await self._secure_stream()
                since = loop.time()
                self._between_roads = False
                if self.state != OPEN:
                    self._set_state(OPEN)
                await pump.run(stream)
                break
            except (StreamBroken, SecurityFailed) as error:
                for broken in self._carried:
                    broken.abort()
                short = short + 1 if loop.time() - since < SHORT_LIFE else 0
                if not road_broke(error) or not self._goes_on() or short > MAX_SHORT:
                    raise
                if self._link.peer_left:
                    self._end(peer_left())
                    return
                self._between_roads = True
                log.info("a tube lost its road, and looks for another: %s", error)
            except PeerError as error:
                log.warning("a tube was ended, for what its other side sent: %s", error)
                raise SessionFailed(
                    NetworkError("The contact's client sent what makes no sense in a tube"),
                    "failed-application",
                ) from error
        stream.close()
        self._end(SessionFailed(closed_there(), "success"))

    def _goes_on(self) -> bool:
        """Whether another road is wanted when one broke; the first is the road's own affair."""
        # Once it is known who is there; people may still be asked, and what they say holds on.
        was_up = self.state == OPEN or self.encrypted
        return was_up and not self.closed and not self._link.ended

    def _leave(self, error: TelepathyError) -> None:
        """Close an open tube: the channel goes at once, the session when all has arrived."""
        pump = self._pump
        if pump is None or self.closed:
            return
        self._tell(error)
        if self._listener is not None:
            self._listener.close()
        pump.leave()
        for number in pump.connections:
            self.connection_ended(number, Reason.CANCELLED)
        self._account.tubes.leaves(self)
        self._gone()
        self._tasks.start("leave", self._cut_off())

    async def _cut_off(self) -> None:
        await asyncio.sleep(LEAVE_SECONDS)
        self._end(SessionFailed(closed_here(), "success", Fault.USER))
