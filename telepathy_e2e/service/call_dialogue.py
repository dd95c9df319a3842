"""One call with one client of the contact: its Jingle session, its roads, its media.

``offer`` and ``answer`` are the two ways in; everything after that follows from what the peer
sends (``session_event``), what the media engine tells (``_media_event``), and what the channel
asks for. ``Listener`` is told what becomes of it; whoever listens ends it with ``close``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    ConnectionLost,
    EncryptionError,
    NetworkError,
    NotAvailable,
    PeerError,
    SecurityError,
    TelepathyError,
)
from telepathy_e2e.jingle import events as jingle
from telepathy_e2e.jingle import grouping, ice
from telepathy_e2e.jingle.call_contents import key_of
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.media import events as media
from telepathy_e2e.role import Role
from telepathy_e2e.service.call_flow import Flow
from telepathy_e2e.service.call_legs import Key, Leg, Legs, key_of_name
from telepathy_e2e.service.call_media import Choice
from telepathy_e2e.service.call_roads import Roads
from telepathy_e2e.service.call_security import CallSecurity
from telepathy_e2e.service.call_words import MediaType
from telepathy_e2e.service.failures import REASON_GRACE, SecurityFailed
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xtls.association import Handshake

if TYPE_CHECKING:
    from telepathy_e2e.media.engine import MediaEngine
    from telepathy_e2e.media.servers import IceServer
    from telepathy_e2e.service.sessions import Link

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """What has to be found out before a call.

    Attributes:
        messages: whether the peer's client knows sealed messages.
        servers: STUN and TURN.
    """

    messages: bool
    servers: Sequence[IceServer]


class Listener(Protocol):
    """Who has the call."""

    def sounding(self) -> None:
        """Media may flow both ways."""

    def interrupted(self) -> None:
        """They do not for now; another way is looked for."""

    def leg_added(self, leg: Leg) -> None:
        """The contact wants one more content."""

    def leg_gone(self, key: Key, condition: str) -> None:
        """The contact took a content away, or refused one."""

    def leg_lost(self, key: Key) -> None:
        """There is no way to the contact for a content; the others go on."""

    def leg_changed(self, leg: Leg) -> None:
        """The contact sends, or not, from now on."""

    def heard(self, key: Key) -> None:
        """The contact does send."""

    def media_lost(self, key: Key, what: str, text: str) -> None: ...

    def dialogue_failed(self, condition: str, error: Exception) -> None:
        """It is over, for a condition of Jingle that the peer shall be told."""


class Dialogue:
    """See the module.

    Args:
        link: the session; its initiator is the caller.
        prepare: finds out what a call needs to know; awaited before it is offered or answered.
        choice: gives the sources and sinks.
    """

    def __init__(
        self,
        link: Link,
        security: CallSecurity,
        listener: Listener,
        *,
        prepare: Callable[[], Awaitable[Prepared]],
        choice: Choice,
        tasks: TaskOwner,
    ) -> None:
        self._link = link
        self._session = link.call
        self._security = security
        self._listener = listener
        self._prepare = prepare
        self._messages = False
        self._servers: Sequence[IceServer] = ()
        self._tasks = tasks
        self._engine: MediaEngine | None = None
        self._offered: tuple[Content, ...] = ()
        self._refused: list[Key] = []
        self._roads = Roads(link.role, tasks, self._tell_candidates)
        self.legs = Legs(self._session, self._roads)
        self._flow = Flow(link.role, choice, listener.media_lost)
        # Roads that were there, and on which nobody is heard for now.
        self._silent: set[str] = set()
        self._closing = False
        self._let_through = False
        self._opening = asyncio.Lock()

    @property
    def role(self) -> Role:
        """Ours in the session."""
        return self._link.role

    # -- the caller -----------------------------------------------------------------------------

    async def offer(self, wanted: Mapping[str, MediaType]) -> None:
        """Call: session-initiate with one content for each of ``wanted`` (by name).

        Raises:
            StanzaError, IqTimeout: the peer's client refused, or does not answer.
            TelepathyError: the key agent has no certificate for us, and the like.
        """
        await self._begin()
        for name, kind in wanted.items():
            self.legs.make(("initiator", name), kind, name)
        await self._roads.open(wanted)
        contents = tuple(self.legs.content(leg) for leg in self.legs)
        self._offered = contents
        payload = [grouping.build_group(list(wanted))] if len(wanted) > 1 else []
        await self._link.send(self._session.initiate(contents, payload))

    def _answered(self, contents: Sequence[Content], payload: Sequence[Element]) -> None:
        """The peer's session-accept.

        Raises:
            PeerError: nothing that answers the offer.
        """
        names = grouping.parse_group(payload)
        bundle = [name for name in names if self.legs.get(("initiator", name)) is not None]
        self._roads.bundled(bundle, contents[0].name)
        answers = {(each.creator, each.name): each for each in contents}
        for leg in self.legs:
            answer = answers.get(leg.key)
            if answer is None:
                self._drop(leg, "decline")
                continue
            road = self._roads.road_of(leg.key[1])
            if leg.road != road:
                self._roads.move(leg.road)
                leg.road = road
            self.legs.take(leg, answer)
            leg.agreed = True
            self._listener.leg_changed(leg)
        self._agree(self._offered, contents)
        self._start_roads()

    # -- the callee -----------------------------------------------------------------------------

    def offered(self, contents: Sequence[Content], payload: Sequence[Element]) -> None:
        """A peer's session-initiate, looked at before anybody is told of it.

        Raises:
            PeerError: malformed.
            SecurityFailed: no certificate that could be checked was announced.
        """
        self._offered = tuple(contents)
        taken = [(leg, each) for each in contents if (leg := self.legs.understand(each))]
        self._refused = [key_of(each) for each in contents if self.legs.get(key_of(each)) is None]
        names = [leg.key[1] for leg, _ in taken]
        if names:
            # The first of the bundle that we can carries the others.
            bundle = [name for name in grouping.parse_group(payload) if name in names]
            self._roads.bundled(bundle, names[0])
        for leg, content in taken:
            leg.road = self._roads.road_of(content.name)
            self.legs.take(leg, content)
        if taken:
            self._security.check_announced(self._roads.fingerprints)
            self._roads.answering()

    async def answer(self) -> None:
        """Take the call: session-accept.

        Raises: as ``offer``.
        """
        await self._begin()
        for leg in self.legs:
            leg.agreed = True
        await self._roads.open(leg.road for leg in self.legs)
        contents = tuple(self.legs.content(leg) for leg in self.legs)
        bundle = self._roads.bundle_of(leg.key[1] for leg in self.legs)
        payload = [grouping.build_group(bundle)] if bundle else []
        if self._refused:
            refused, self._refused = self._refused, []
            self._link.post(self._session.content_reject(refused, "unsupported-applications"))
        accept = self._session.accept(contents, payload)
        self._agree(self._offered, contents)
        await self._link.send(accept)
        self._start_roads()

    # -- what both do ---------------------------------------------------------------------------

    async def _begin(self) -> None:
        prepared = await self._prepare()
        self._messages, self._servers = prepared.messages, prepared.servers
        credentials = await self._security.certify()
        # Imported with the first call: it takes a second, and a third of the memory.
        from telepathy_e2e.media.engine import MediaEngine

        if self._closing:
            raise NotAvailable("The call has ended")
        self._engine = MediaEngine(
            controlling=self._link.role is Role.INITIATOR,
            credentials=credentials,
            servers=self._servers,
            events=self._media_event,
        )
        self._roads.begin(self._engine)
        self.legs.begin(self._engine)
        self._flow.begin(self._engine)

    def _agree(self, offered: Sequence[Content], accepted: Sequence[Content]) -> None:
        fingerprints = self._roads.fingerprints
        self._security.check_announced(fingerprints)
        self._security.agree(self._link, offered, accepted, fingerprints, messages=self._messages)

    def _start_roads(self) -> None:
        # Of what the peer added meanwhile some may not be answered yet.
        agreed = [leg.road for leg in self.legs if leg.agreed]
        self._roads.start(agreed, strict=self._messages)

    # -- media ----------------------------------------------------------------------------------

    def _media_event(self, event: media.MediaEvent) -> None:
        if self._closing:
            return
        match event:
            case media.LocalCandidates() | media.GatheringDone():
                self._roads.gathered(event)
            case media.Connected(road, facts):
                self._on_connected(road, facts)
            case media.Restarted(road):
                self._silent.discard(road)
                self._sounding()
            case media.Disconnected(road):
                self._on_disconnected(road)
            case media.RestartWanted(road):
                log.info("the contact's client looks for another way (%s)", road)
                self._roads.restart(road)
            case media.RoadFailed(road, why, text):
                if why == "dtls" and road in self._roads.connected:
                    # Who hangs up, or takes a content away, ends its media, and says why through
                    # the servers.
                    self._start("grace", self._fail_later(road, why, text))
                else:
                    self._on_road_failed(road, why, text)
            case media.MediaLost(name, direction, text):
                self._listener.media_lost(key_of_name(name), direction, text)
            case media.Heard(name):
                self._listener.heard(key_of_name(name))
            case media.DtmfReceived():
                log.info("the contact pressed a key")

    def _tell_candidates(self, road: str, transport: ice.Transport) -> None:
        # What is said of one content that is on it is said of the road.
        legs = self.legs.on(road)
        if legs:
            self._post(lambda: self._session.transport_info(legs[0].key, ice.build(transport)))

    def _on_connected(self, road: str, facts: media.DtlsFacts) -> None:
        self._roads.connected.add(road)
        # The keys of the first road bind the people's messages; that the others end at the same
        # certificate the engine has seen, since all contents announce the same one.
        if road == self._roads.main:
            handshake = Handshake(facts.peer_leaf, facts.cipher, facts.key_exchange)
            engine = self._live()
            self._security.connected(
                handshake,
                lambda label, context, length: engine.export(road, label, context, length),
            )
        self._start("open", self._open())

    async def _open(self) -> None:
        """Let media through as far as roads, protection, people and both sides have agreed."""
        try:
            await self._security.opened()
        except SecurityFailed:
            return  # told already
        async with self._opening:
            for leg in self.legs:
                if leg.agreed and leg.road in self._roads.connected and not self._closing:
                    await self._flow.apply(leg)
                    self._let_through = True
            self._sounding()

    def _sounding(self) -> None:
        """Say so, if it is true: not where the user has not been asked yet."""
        if self._let_through and not self._silent and not self._closing:
            self._listener.sounding()

    async def _fail_later(self, road: str, why: str, text: str) -> None:
        await asyncio.sleep(REASON_GRACE)
        self._on_road_failed(road, why, text)

    def _on_road_failed(self, road: str, why: str, text: str) -> None:
        if not self.legs.on(road):
            return  # what was on it is gone already
        if why == "security":
            failure = SecurityFailed(EncryptionError(text))
            self._listener.dialogue_failed("security-error", failure)
        elif self._stands_without(road):
            log.info("what was on a road goes with it (%s): %s", road, text)
            self._lose(road)
        elif why == "ice" and road in self._roads.connected:
            self._listener.dialogue_failed("failed-transport", ConnectionLost(text))
        else:
            self._listener.dialogue_failed("connectivity-error", NetworkError(text))

    def _stands_without(self, road: str) -> bool:
        """Whether there is a call without what is on this road."""
        if road == self._roads.main and road not in self._roads.connected:
            return False  # its keys are those of the people's messages
        return any(leg.agreed and leg.road != road for leg in self.legs)

    def _lose(self, road: str) -> None:
        lost = self.legs.on(road)
        keys = [leg.key for leg in lost]
        self._post(lambda: self._session.content_remove(keys, "failed-transport"))
        for leg in lost:
            self._forget(leg)
            self._listener.leg_lost(leg.key)
        self._sounding()

    # -- another way (XEP-0176 section 5.12) ----------------------------------------------------

    def _on_disconnected(self, road: str) -> None:
        self._silent.add(road)
        self._listener.interrupted()
        legs = self.legs.on(road)
        # One side looks for another way, or both offers would cross.
        if self._link.role is not Role.INITIATOR or not legs:
            return
        if (transport := self._roads.renew(road)) is not None:
            # Before any candidate: those who know nothing of generations (Conversations) take one
            # without any for the offer, and one with some for the answer.
            self._post(
                lambda: self._session.transport_info(legs[0].key, ice.build(transport)),
                refused=lambda: self._roads.not_renewed(road),
            )

    def _replaced(self, key: Key, transport: ice.Transport) -> None:
        """The peer looks for another way in another manner."""
        leg = self.legs.get(key)
        try:
            own = None if leg is None else self._roads.restarted(leg.road, transport)
        except NotAvailable as error:
            log.info("another way is not looked for: %s", error)
            own = None
        if own is None:
            self._post(lambda: self._session.transport_reject(key))
        else:
            self._post(lambda: self._session.transport_accept(key, ice.build(own)))

    # -- what the peer sends ----------------------------------------------------------------------

    def session_event(self, event: jingle.Event) -> None:
        """See ``sessions.Application``.

        Raises:
            PeerError: the stanza is answered with it.
        """
        try:
            self._happened(event)
        except SecurityFailed as failure:
            self._listener.dialogue_failed(failure.condition, failure)
        except SecurityError as error:
            self._listener.dialogue_failed("security-error", error)
        except PeerError as error:
            if isinstance(event, jingle.CallAccepted):
                self._listener.dialogue_failed("failed-application", error)
            raise

    def _happened(self, event: jingle.Event) -> None:
        match event:
            case jingle.CallAccepted(contents, payload):
                self._answered(contents, payload)
            case jingle.CallTransportInfo(key, transport):
                self._transport_info(key, ice.parse(transport))
            case jingle.CallTransportReplaceOffered(key, transport):
                self._replaced(key, ice.parse(transport))
            case jingle.SecurityInfo(payload):
                self._security.receive(payload)
            case jingle.ContentAdded(content):
                self._added(content)
            case jingle.ContentAccepted(content):
                self._add_accepted(content)
            case jingle.ContentRejected(key, reason) | jingle.ContentRemoved(key, reason):
                if (leg := self.legs.get(key)) is not None:
                    self._drop(leg, reason.condition if reason else "decline")
            case jingle.ContentModified(key, senders):
                if (leg := self.legs.get(key)) is not None:
                    self._modified(leg, senders)
            case jingle.DescriptionInfo():
                return
            case _:
                log.info("%s changes nothing here", type(event).__name__)

    def _transport_info(self, key: Key, transport: ice.Transport) -> None:
        leg = self.legs.get(key)
        if leg is None:
            return
        try:
            self._roads.info(leg.road, transport, first=self.legs.on(leg.road)[0] is leg)
        except NotAvailable as error:
            raise PeerError(str(error), "not-acceptable") from error

    # -- contents that come and go ----------------------------------------------------------------

    async def add(self, name: str, kind: MediaType, senders: str) -> Key:
        """Offer one more content.

        Raises:
            NotAvailable: not while the call is as it is.
        """
        self._live()
        bundle = self._roads.joined(name)
        leg = self.legs.make((str(self._link.role), name), kind, self._roads.road_of(name))
        leg.senders = senders
        await self._roads.open([leg.road])
        content = self.legs.content(leg)
        payload = [grouping.build_group(bundle)] if bundle else []
        self._post(lambda: self._session.content_add((content,), payload))
        return leg.key

    def _add_accepted(self, content: Content) -> None:
        leg = self.legs.get(key_of(content))
        if leg is None:
            return
        self.legs.take(leg, content)
        leg.agreed = True
        self._start_roads()
        self._listener.leg_changed(leg)
        self._start("open", self._open())

    def _added(self, content: Content) -> None:
        """The peer wants one more; it is taken, and what we send in it is the user's choice."""
        # Bundles know names alone, so that two of one name cannot be told apart.
        named = any(content.name == leg.key[1] for leg in self.legs)
        leg = None if named else self.legs.understand(content)
        if leg is None:
            key = key_of(content)
            self._post(lambda: self._session.content_reject((key,), "incompatible-parameters"))
            return
        self._roads.joined(content.name)
        leg.road = self._roads.road_of(content.name)
        try:
            self.legs.take(leg, content)
        except PeerError:
            self.legs.remove(leg)
            raise
        self._listener.leg_added(leg)
        self._start("accept content", self._accept_added(leg))

    async def _accept_added(self, leg: Leg) -> None:
        self._roads.answering()
        await self._roads.open([leg.road])
        content = self.legs.content(leg)
        self._post(lambda: self._session.content_accept((content,), ()))
        leg.agreed = True
        self._start_roads()
        await self._open()

    async def remove(self, key: Key) -> None:
        """Take a content away; the last one ends the call."""
        leg = self.legs.get(key)
        if leg is None:
            return
        self._post(lambda: self._session.content_remove((key,), "success"))
        self._forget(leg)
        self._sounding()

    async def set_senders(self, key: Key, senders: str) -> None:
        """content-modify."""
        leg = self.legs.get(key)
        if leg is None or leg.senders == senders:
            return
        leg.senders = senders
        self._post(
            lambda: self._session.content_modify(key, senders),
            refused=lambda: self._not_modified(key),
        )
        await self._open()

    def _not_modified(self, key: Key) -> None:
        """The contact's client refused what we said of who sends, or had said something first."""
        leg = self.legs.get(key)
        if leg is not None and leg.senders != self.legs.senders(key):
            self._modified(leg, self.legs.senders(key))

    def _modified(self, leg: Leg, senders: str) -> None:
        leg.senders = senders
        self._listener.leg_changed(leg)
        self._start("open", self._open())

    def _drop(self, leg: Leg, condition: str) -> None:
        self._forget(leg)
        self._listener.leg_gone(leg.key, condition)
        self._sounding()

    def _forget(self, leg: Leg) -> None:
        self.legs.remove(leg)
        if not self.legs.on(leg.road):
            self._silent.discard(leg.road)
        self._start("close content", self._close_leg(leg))

    async def _close_leg(self, leg: Leg) -> None:
        await self._flow.close(leg)
        if not self.legs.on(leg.road):
            await self._roads.close(leg.road)

    # -- what the channel asks ------------------------------------------------------------------

    def info(self, element: Element) -> None:
        """session-info (XEP-0167 section 8); nobody minds if the peer does not know it."""
        self._post(lambda: self._session.session_info(element))

    def adjust(self, key: Key) -> None:
        """The user wants another volume, or a content muted."""
        if (leg := self.legs.get(key)) is not None:
            self._flow.adjust(leg)

    def hold(self, on: bool) -> None:
        """Nothing flows either way. Raises: NotAvailable."""
        self._flow.hold(on)

    def tone(self, key: Key, event: int, milliseconds: int) -> None:
        """Press a key. Raises: NotAvailable: the contact takes none, or nothing flows."""
        self._flow.tone(key, event, milliseconds)

    async def media_chosen(self, kind: MediaType) -> None:
        """Another source or sink for what is open."""
        await self._flow.chosen(list(self.legs), kind)

    async def reopen(self) -> None:
        """Directions may have changed on our side."""
        await self._open()

    async def statistics(self) -> dict[Key, object]:
        """Figures of each content that is open."""
        return await self._flow.statistics()

    async def close(self) -> None:
        """Everything ends; the session is not told."""
        self._closing = True
        self._engine = None
        await self._flow.end()

    # -- inside -----------------------------------------------------------------------------------

    def _live(self) -> MediaEngine:
        if self._engine is None:
            raise NotAvailable("The call has not begun, or has ended")
        return self._engine

    def _start(self, what: str, script: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.start(what, self._run(script), script=script)
        task.add_done_callback(lambda _: script.close())  # cancelled before it began

    async def _run(self, script: Coroutine[Any, Any, None]) -> None:
        """What goes wrong in a script is the end, and told."""
        try:
            await script
        except SecurityFailed as failure:
            self._listener.dialogue_failed(failure.condition, failure)
        except SecurityError as error:
            self._listener.dialogue_failed("security-error", error)
        except (TelepathyError, PeerError) as error:
            if not self._closing:
                self._listener.dialogue_failed("media-error", error)

    def _post(self, make: Callable[[], object], refused: Callable[[], None] | None = None) -> None:
        """Send what ``make`` makes, unless the session is over.

        Args:
            refused: called when the contact's client answers with an error, or not at all.
        """
        if self._link.ended:
            return
        try:
            stanza = make()
        except NotAvailable as error:
            log.info("not sent: %s", error)
            return

        def was_refused(error: Exception) -> None:
            log.info("the contact's client refused a stanza of the call: %s", error)
            if refused is not None and not self._closing:
                refused()

        self._link.post(stanza, refused=was_refused)  # type: ignore[arg-type]
