"""What a room talks about (Channel.Interface.Subject2, XEP-0045 section 8.1)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from telepathy_e2e.errors import (
    InvalidArgument,
    NetworkError,
    NotAvailable,
    PermissionDenied,
    TelepathyError,
)
from telepathy_e2e.service import names, outgoing
from telepathy_e2e.service.answers import refusal
from telepathy_e2e.service.events import Changed, ChannelEvent, Emitter
from telepathy_e2e.xmpp.iq import StanzaError
from telepathy_e2e.xmpp.markup import is_sendable
from telepathy_e2e.xmpp.messages import Failure, Message
from telepathy_e2e.xmpp.muc_room import MAX_SUBJECT, SubjectChanged

# "INT_MAX64 if unknown"
UNKNOWN_TIME: Final = 2**63 - 1
# Seconds in which a room has to show a new subject.
SET_SECONDS: Final = 30.0


class RoomSubject:
    """Attributes named like Subject2's properties in snake case; the subject itself is ``text``.

    Args:
        room: bare JID.
        send: sends a message, or raises.
        self_handle: ours in the room.
    """

    def __init__(
        self,
        events: Emitter[ChannelEvent],
        room: str,
        send: Callable[[Message], None],
        self_handle: Callable[[], int],
    ) -> None:
        self._events = events
        self._room = room
        self._send = send
        self._self_handle = self_handle
        self._waiting: dict[str, tuple[str, asyncio.Future[None]]] = {}
        self.text = ""
        self.actor = ""
        self.actor_handle = 0
        self.timestamp = UNKNOWN_TIME
        self.can_set = False

    async def set(self, subject: str) -> None:
        """Subject2.SetSubject; returns when the room shows it.

        Raises:
            InvalidArgument: it cannot be sent.
            PermissionDenied: the room does not let us.
            NetworkError, NotAvailable, Disconnected: something else came in between.
        """
        if not is_sendable(subject) or len(subject) > MAX_SUBJECT:
            raise InvalidArgument("This cannot be the subject of a room")
        if subject == self.text and self.actor_handle == self._self_handle():
            return  # a room that is told the same again says nothing
        token = outgoing.new_token()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[token] = (subject, future)
        try:
            self._send(Message(to=self._room, type="groupchat", id=token, subject=subject))
            async with asyncio.timeout(SET_SECONDS):
                await future
        except TimeoutError:
            raise NetworkError("The room did not answer") from None
        finally:
            del self._waiting[token]

    def changed(self, event: SubjectChanged, actor: int, actor_id: str) -> None:
        """The room says what it is, and who made it so."""
        now = int(time.time())
        stamp = min(int(event.stamp.timestamp()), now) if event.stamp is not None else now
        self.text, self.actor, self.actor_handle = event.subject, actor_id, actor
        # A room that has none says so to whoever comes in.
        self.timestamp = stamp if event.nick or event.subject else UNKNOWN_TIME
        self._events.emit(Changed(names.SUBJECT, ("Subject", "Actor", "ActorHandle", "Timestamp")))
        ours = actor == self._self_handle()
        for token, (subject, future) in self._waiting.items():
            # Not every service keeps the id.
            if token == event.id or (ours and subject == event.subject):
                if not future.done():
                    future.set_result(None)

    def refused(self, token: str, failure: Failure) -> bool:
        """A message came back; whether it was one of these."""
        if token not in self._waiting:
            return False
        error = refusal(StanzaError(failure.condition, failure.text), "The subject was not changed")
        if failure.condition == "not-acceptable":
            error = PermissionDenied(str(error))
        self._fail(self._waiting[token][1], error)
        return True

    def close(self) -> None:
        """We are not in the room any longer."""
        for _, future in self._waiting.values():
            self._fail(future, NotAvailable("You are not in the room any longer"))

    def _fail(self, future: asyncio.Future[None], error: TelepathyError) -> None:
        if not future.done():
            future.set_exception(error)

    def allow(self, can_set: bool) -> None:
        """Whether the user may probably set it."""
        if can_set != self.can_set:
            self.can_set = can_set
            self._events.emit(Changed(names.SUBJECT, ("CanSet",)))
