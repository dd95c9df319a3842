"""How a call reaches somebody: a session offered at once, or first announced to all devices.

XEP-0353: the caller's ``propose`` makes every device of the contact ring; whichever is picked up
says ``proceed``, and gets the session-initiate. Clients that do not know it get the offer at once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Protocol
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import NotAvailable
from telepathy_e2e.jingle import rtp_info
from telepathy_e2e.service import names
from telepathy_e2e.service.call_words import MediaType, Reason, StateReason, ended_by_peer
from telepathy_e2e.xmpp import call_messages
from telepathy_e2e.xmpp.jid import bare

if TYPE_CHECKING:
    from telepathy_e2e.service.call_channel import Call
    from telepathy_e2e.service.call_dialogue import Dialogue
    from telepathy_e2e.service.calls import Calls
    from telepathy_e2e.service.sessions import Link

log = logging.getLogger(__name__)

# Seconds. Whoever has not answered by then does not; the caller may hang up before.
RINGING_TIME = 120.0
# From ``proceed`` to the session-initiate: a round trip, and the caller's key agent.
OFFER_TIME = 30.0


class Way(Protocol):
    """How one call is made or taken."""

    async def place(self) -> None:
        """The user calls. Raises: TelepathyError, StanzaError, IqTimeout."""

    async def take(self) -> None:
        """The user takes the call. Raises: as ``place``, and SecurityFailed."""

    def ringing(self) -> None:
        """The user here has been alerted."""

    def over(self, condition: str | None, text: str) -> None:
        """The call is over; ``condition`` is for the peer, None where the peer ended it."""


class Placing:
    """A call of ours."""

    def __init__(self, calls: Calls, call: Call, wanted: dict[str, MediaType]) -> None:
        self._calls = calls
        self._call = call
        self._wanted = wanted
        self.id = secrets.token_hex(16)
        self.target = call.target_id
        self._proposed = False
        self._gave_in = False
        self._answerer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def place(self) -> None:
        ringing = self._calls.rings_from(self.target)
        if ringing is not None:
            # Whoever calls somebody who is calling wants to talk to him.
            ringing.move_to(self._call)
            self._call.adopt(ringing)
            return
        callee = await self._calls.find_callee(self._call.target_id)
        if callee.by_messages:
            self._proposed = True
            kinds = tuple(dict.fromkeys(kind.word for kind in self._wanted.values()))
            self._calls.proposing[self.id] = self
            self._calls.tell(self._call.target_id, call_messages.Propose(self.id, kinds))
            async with asyncio.timeout(RINGING_TIME) as patience:
                try:
                    peer = await self._answerer
                except TimeoutError:
                    if not patience.expired():
                        raise
                    self._nobody_answers()
                    return
                except asyncio.CancelledError:
                    if self._gave_in:
                        return
                    raise
        else:
            peer = callee.jid
            # Nobody tells whether it rings before the session is there.
        link, dialogue = self._calls.open(self._call, peer, self.id)
        self._call.attach(link, dialogue)
        await dialogue.offer(self._wanted)
        if not self._proposed:
            await asyncio.sleep(RINGING_TIME)
            self._nobody_answers()

    def _nobody_answers(self) -> None:
        call = self._call
        if call.is_answered:
            return
        call.ended(
            StateReason(call.target_handle, Reason.NO_ANSWER, names.TP + "Error.NoAnswer"),
            "timeout",
        )

    # -- what devices of the contact say ------------------------------------------------------

    def heard(self, sender: str, message: call_messages.CallMessage) -> None:
        """A message about this call from a device of the contact (full JID)."""
        if bare(sender) != self._call.target_id:
            return
        match message:
            case call_messages.Ringing():
                self._call.alerted()
            case call_messages.Proceed():
                if not self._answerer.done():
                    self._calls.proposing.pop(self.id, None)
                    self._answerer.set_result(sender)
            case call_messages.Reject(_, reason):
                if not self._answerer.done():
                    condition = reason.condition if reason is not None else "decline"
                    self._call.ended(ended_by_peer(condition, self._call.target_handle))

    def give_in(self) -> Call:
        """The contact called at the same moment, and his call counts."""
        self._gave_in = True
        self._calls.proposing.pop(self.id, None)
        self._answerer.cancel()
        return self._call

    async def take(self) -> None:
        raise NotAvailable("This call is ours")

    def ringing(self) -> None:
        return

    def over(self, condition: str | None, text: str) -> None:
        self._calls.proposing.pop(self.id, None)
        if not self._proposed:
            return
        if self._answerer.done():
            if not self._answerer.cancelled():
                self._calls.finish(self._answerer.result(), self.id)
        else:
            self._answerer.cancel()
            if condition is not None:
                reason = call_messages.Reason("cancel" if condition == "success" else condition)
                self._calls.tell(self._call.target_id, call_messages.Retract(self.id, reason))


class Offered:
    """A contact's session, offered at once or after a ``proceed``."""

    def __init__(self, call: Call, link: Link) -> None:
        self._call = call
        self._link = link

    async def place(self) -> None:
        raise NotAvailable("This call is the contact's")

    async def take(self) -> None:
        dialogue = self._call.dialogue
        if dialogue is None:
            raise NotAvailable("The call has ended")
        self._call.answered()
        await dialogue.answer()

    def ringing(self) -> None:
        info: Element = rtp_info.build(rtp_info.Ringing())
        self._link.post(self._link.call.session_info(info), refused=lambda error: None)

    def over(self, condition: str | None, text: str) -> None:
        return


class Proposed:
    """A call that a contact's device has announced, and whose session is to follow."""

    def __init__(self, calls: Calls, call: Call, caller: str, id_: str) -> None:
        self._calls = calls
        self.call = self._call = call
        self.caller = caller
        self.id = id_
        self._taken = False
        self._arrived: asyncio.Future[Dialogue] = asyncio.get_running_loop().create_future()

    async def place(self) -> None:
        raise NotAvailable("This call is the contact's")

    async def take(self) -> None:
        self._taken = True
        self._calls.tell(self.caller, call_messages.Proceed(self.id))
        try:
            async with asyncio.timeout(OFFER_TIME):
                dialogue = await self._arrived
        except TimeoutError:
            self._call.ended(ended_by_peer("timeout", self._call.target_handle), "timeout")
            return
        self._call.answered()
        await dialogue.answer()

    def session(self, link: Link, dialogue: Dialogue) -> None:
        """The session-initiate came; ``expects`` was true."""
        self._call.attach(link, dialogue)
        self._arrived.set_result(dialogue)

    @property
    def expects(self) -> bool:
        """Whether its session was asked for, and has not come."""
        return self._taken and not self._arrived.done()

    @property
    def rings(self) -> bool:
        """Nobody has taken it yet."""
        return not self._taken

    def move_to(self, call: Call) -> None:
        """Take it in another channel; the one that rang ends."""
        rang, self._call, self.call = self._call, call, call
        rang.superseded()

    def retracted(self, sender: str) -> None:
        """The caller gave up."""
        if bare(sender) == self._call.target_id and not self._arrived.done():
            self._call.ended(
                StateReason(self._call.target_handle, Reason.NO_ANSWER, names.TP + "Error.NoAnswer")
            )

    def elsewhere(self, *, rejected: bool) -> None:
        """Another device of this user has taken the call, or refused it."""
        if self._taken:
            return
        error = "Rejected" if rejected else "PickedUpElsewhere"
        reason = Reason.REJECTED if rejected else Reason.NO_ANSWER
        self._call.ended(StateReason(self._call.self_handle, reason, names.TP + "Error." + error))

    def ringing(self) -> None:
        self._calls.tell(self.caller, call_messages.Ringing(self.id))

    def over(self, condition: str | None, text: str) -> None:
        self._calls.proposed.pop((bare(self.caller), self.id), None)
        if self._arrived.done():
            self._calls.finish(self.caller, self.id)
        else:
            self._arrived.cancel()
            if condition is not None:
                reason = call_messages.Reason("decline" if condition == "success" else condition)
                self._calls.tell(self.caller, call_messages.Reject(self.id, reason))
