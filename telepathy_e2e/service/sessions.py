"""Jingle sessions of one account: stanzas to the right session, a session's stanzas to the peer."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from telepathy_e2e.errors import Disconnected, NotAvailable, PeerError, TelepathyError
from telepathy_e2e.jingle.base import BaseSession
from telepathy_e2e.jingle.call_session import CallSession
from telepathy_e2e.jingle.events import CallInitiated
from telepathy_e2e.jingle.registry import Registry, new_call_or_session, new_session
from telepathy_e2e.jingle.session import (
    Event,
    Ignored,
    Initiated,
    Send,
    Session,
    Terminated,
)
from telepathy_e2e.jingle.stanzas import JINGLE_NS, Content, Jingle, build, parse
from telepathy_e2e.role import Role
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp.client import Client, IqTimeout, StanzaError
from telepathy_e2e.xmpp.iq import IqRequest
from telepathy_e2e.xmpp.jid import bare

log = logging.getLogger(__name__)

JINGLE = f"{{{JINGLE_NS}}}jingle"

# Stanzas of one session that wait for their acknowledgement. Each holds a task for half a minute,
# and a peer makes us send as many as it likes (by offering transports that we refuse, say). A
# session needs a dozen in all.
MAX_UNACKNOWLEDGED = 64

# Last stanzas of sessions that are over, of the whole account; no bound on sessions counts them. Of
# those that nobody acknowledges the oldest are no longer waited for: nothing depends on it.
MAX_LAST = 256


class Application(Protocol):
    """What stands behind a session: a file transfer, a call."""

    def session_event(self, event: Event) -> None:
        """Something came from the peer.

        Raises:
            PeerError: the stanza is answered with this error instead of the acknowledgement.
        """

    def peer_offline(self) -> None:
        """The peer's client went offline."""

    def session_lost(self, error: PeerError | Disconnected | StanzaError | IqTimeout) -> None:
        """A stanza of ours was refused or not answered; the session is over."""


class Link:
    """One session and the way to its peer."""

    def __init__(self, hub: SessionHub, session: BaseSession) -> None:
        self._hub = hub
        self.base = session
        self.own = session.own
        self.peer = session.peer
        self.sid = session.sid
        self.role = session.role
        self.application: Application | None = None
        self.ended = False
        self._unacknowledged = 0
        # Whether the peer's full JID has been seen online: only then can it go offline.
        self.seen_online = False
        # It has gone since, and has not come back.
        self.peer_left = False

    @property
    def session(self) -> Session:
        """The session, where it has one content. Raises: TypeError: it is a call."""
        if not isinstance(self.base, Session):
            raise TypeError("a call is not a session of one content")
        return self.base

    @property
    def call(self) -> CallSession:
        """The session, where it is a call. Raises: TypeError: it is none."""
        if not isinstance(self.base, CallSession):
            raise TypeError("a session of one content is not a call")
        return self.base

    async def send(self, jingle: Jingle) -> None:
        """Send one of our stanzas and wait for the peer's acknowledgement.

        Raises:
            StanzaError, IqTimeout: refused, or no answer.
            Disconnected: the stream to the server is gone.
        """
        try:
            await self._hub.client.send_iq(self.peer, build(jingle))
        except (StanzaError, IqTimeout):
            self.base.not_taken(jingle)
            raise
        self.base.acknowledged(jingle)

    def post(
        self, jingle: Jingle, refused: Callable[[StanzaError | IqTimeout], None] | None = None
    ) -> None:
        """Send in order without waiting.

        Args:
            refused: told when the peer answers with an error or not at all; without it that
                ends the session.
        """
        if self._unacknowledged >= MAX_UNACKNOWLEDGED:
            if not self.ended and self.application is not None:
                self.application.session_lost(
                    PeerError("too many stanzas without an answer", "resource-constraint")
                )
            self.terminate("general-error")
            return
        self._unacknowledged += 1
        task = self._hub.tasks.start(f"{jingle.action} {self.sid}", self._post(jingle, refused))
        task.add_done_callback(self._acknowledged)

    def _acknowledged(self, task: asyncio.Task[None]) -> None:
        self._unacknowledged -= 1

    async def _post(
        self, jingle: Jingle, refused: Callable[[StanzaError | IqTimeout], None] | None
    ) -> None:
        try:
            await self.send(jingle)
        except (StanzaError, IqTimeout) as error:
            if refused is not None:
                refused(error)
            elif not self.ended:
                self.end()
                if self.application is not None:
                    self.application.session_lost(error)
        except Disconnected:
            return  # the connection tells everybody when it goes

    def terminate(self, condition: str, text: str = "") -> None:
        """End the session for a reason of XEP-0166 section 7.4; nothing happens when it is over."""
        if self.ended:
            return
        self.end()
        try:
            jingle = self.base.terminate(condition, text)
        except NotAvailable:
            return  # the peer knows of no session: it refused the offer, or ended it itself
        self._hub.start_last(f"session-terminate {self.sid}", self._last(jingle))

    async def _last(self, jingle: Jingle) -> None:
        try:
            await self._hub.client.send_iq(self.peer, build(jingle))
        except (StanzaError, IqTimeout, Disconnected) as error:
            log.debug("the last stanza of a session was not acknowledged: %s", type(error).__name__)

    def end(self) -> None:
        """The session is over on this side: forget it."""
        self.ended = True
        self._hub.forget(self)

    def deliver(self, event: Event) -> None:
        """Hand an event to the application.

        Raises:
            PeerError: the application refuses it; the stanza is answered with that error.
        """
        match event:
            case Send(jingle):
                self._hub.start_last(f"{jingle.action} {self.sid}", self._last(jingle))
                return
            case Ignored(action, why):
                log.info("%s was ignored: %s", action, why)
                return
            case Terminated():
                self.end()
        if self.application is not None:
            self.application.session_event(event)


class SessionHub:
    """All sessions of an account.

    Args:
        client: the XMPP stream.
        own: gives the own full JID.
        in_roster: whether a bare JID is a contact; strangers get fewer sessions.
        offered: called with each new session that a peer initiated; must set the
            link's application or terminate it.
    """

    def __init__(
        self,
        client: Client,
        own: Callable[[], str],
        in_roster: Callable[[str], bool],
        offered: Callable[[Link, Content], None],
    ) -> None:
        self.client = client
        self.tasks = TaskOwner("sessions")
        self._own = own
        self._in_roster = in_roster
        self._offered = offered
        # With ``take_calls`` offers of media become calls; without it they are refused as sessions.
        self._call_offered: Callable[[Link, CallInitiated], None] | None = None
        self._sessions: Registry[BaseSession] = Registry(self._new)
        self._links: dict[tuple[str, str], Link] = {}
        self._last: dict[asyncio.Task[None], None] = {}  # oldest first
        client.on_iq(JINGLE, self._received)

    def open(self, peer: str) -> Link:
        """A new session of ours with ``peer`` (full JID); its sid is fresh and unguessable."""
        session = Session(Role.INITIATOR, self._own(), peer, secrets.token_hex(16))
        self._sessions.add(session)
        return self._link(session)

    def take_calls(self, offered: Callable[[Link, CallInitiated], None]) -> None:
        """From now on offers of media are calls.

        Args:
            offered: called with each that a peer made; must set the link's application or
                terminate it. May raise PeerError to refuse it.
        """
        self._call_offered = offered

    def open_call(self, peer: str, sid: str | None = None) -> Link:
        """A new call of ours with ``peer`` (full JID).

        Args:
            sid: as announced by a message (XEP-0353); fresh and unguessable without.
        Raises: ValueError: the peer and sid are in use.
        """
        session = CallSession(Role.INITIATOR, self._own(), peer, sid or secrets.token_hex(16))
        self._sessions.add(session)
        return self._link(session)

    def links(self) -> list[Link]:
        return list(self._links.values())

    def forget(self, link: Link) -> None:
        self._links.pop((link.peer, link.sid), None)
        self._sessions.remove(link.base)

    def peer_gone(self, peer: str) -> list[Link]:
        """The sessions with a full JID that went offline."""
        return [link for link in self._links.values() if link.peer == peer]

    def start_last(self, what: str, coroutine: Coroutine[Any, Any, None]) -> None:
        """Send a stanza on whose acknowledgement nothing depends."""
        task = self.tasks.start(what, coroutine)
        self._last[task] = None
        task.add_done_callback(lambda done: self._last.pop(done, None))
        if len(self._last) > MAX_LAST:
            oldest = next(iter(self._last))
            del self._last[oldest]
            oldest.cancel()

    async def close(self) -> None:
        """Nothing of the sessions runs on; peers are told of those that have just ended."""
        # Each last stanza goes out with its task's first step, which a task that was started in
        # this very turn of the loop has still to take.
        await asyncio.sleep(0)
        await self.tasks.close()

    def _new(self, own: str, peer: str, jingle: Jingle) -> BaseSession:
        make = new_session if self._call_offered is None else new_call_or_session
        return make(own, peer, jingle)

    def _link(self, session: BaseSession) -> Link:
        link = Link(self, session)
        self._links[(session.peer, session.sid)] = link
        return link

    def _begin(self, link: Link, event: Initiated | CallInitiated) -> None:
        if isinstance(event, Initiated):
            self._offered(link, event.content)
        elif self._call_offered is not None:
            self._call_offered(link, event)

    def _received(self, request: IqRequest) -> None:
        if request.type != "set":
            raise PeerError("Jingle stanzas are of type set", "bad-request")
        jingle = parse(request.payload)
        session, events = self._sessions.receive(
            request.from_,
            jingle,
            own=self._own(),
            in_roster=self._in_roster(bare(request.from_)),
        )
        link = self._links.get((session.peer, session.sid))
        if link is None:
            link = self._link(session)
        # What follows from the events is sent by tasks, so the acknowledgement goes out before it
        # (XEP-0166 section 6); an application may still refuse, as with a sealed message that
        # does not open.
        for event in events:
            if isinstance(event, Initiated | CallInitiated):
                try:
                    self._begin(link, event)
                except PeerError:
                    link.end()
                    raise
                except TelepathyError as error:
                    # No room for one more stranger's handle, say: that must not come out where
                    # the stream is read, and end the connection.
                    link.end()
                    raise PeerError(str(error), "resource-constraint") from error
                continue
            try:
                link.deliver(event)
            except PeerError:
                session.declined(jingle)
                raise
        request.reply()
