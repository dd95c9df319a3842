"""What both sides say of each content of a call, apart from when they say it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.jingle import call_negotiation as negotiation
from telepathy_e2e.jingle import ice, rtp
from telepathy_e2e.jingle.call_contents import key_of
from telepathy_e2e.jingle.call_session import CallSession
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.service.call_roads import Roads
from telepathy_e2e.service.call_words import MediaType

if TYPE_CHECKING:
    from telepathy_e2e.media.engine import MediaEngine

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""(creator, name) of a Jingle content."""


@dataclass
class Leg:
    """One content as both sides see it.

    Attributes:
        road: which transport it is on.
        own, peer: what each side said it takes.
        senders: of XEP-0166: both, initiator, responder, none.
        agreed: both sides want it.
        open: media may flow in it, in the directions that both want.
        sending: they do, from here.
    """

    key: Key
    media: MediaType
    road: str
    senders: str = "both"
    own: rtp.Description | None = None
    peer: rtp.Description | None = None
    agreed: bool = False
    open: bool = False
    sending: bool = False
    receiving: bool = False


class Legs:
    """All of one call.

    Args:
        session: which says who sends.
        roads: which are described with them.
    """

    def __init__(self, session: CallSession, roads: Roads) -> None:
        self._session = session
        self._roads = roads
        self._engine: MediaEngine | None = None
        self._of: dict[Key, Leg] = {}

    def begin(self, engine: MediaEngine) -> None:
        """The call has an engine."""
        self._engine = engine

    def __len__(self) -> int:
        return len(self._of)

    def __iter__(self) -> Iterator[Leg]:
        """In the order in which they came; it may be changed meanwhile."""
        return iter(list(self._of.values()))

    def get(self, key: Key) -> Leg | None:
        return self._of.get(key)

    def on(self, road: str) -> list[Leg]:
        """Those that share a road."""
        return [leg for leg in self._of.values() if leg.road == road]

    def make(self, key: Key, kind: MediaType, road: str) -> Leg:
        """One more."""
        leg = self._of[key] = Leg(key, kind, road)
        return leg

    def remove(self, leg: Leg) -> None:
        """It is no more."""
        self._of.pop(leg.key, None)

    # -- the peer's side ------------------------------------------------------------------------

    def understand(self, content: Content) -> Leg | None:
        """Make one of what the peer offers, if it is anything that we can.

        Raises:
            PeerError: malformed.
        """
        description = rtp.parse(_present(content.description))
        if description.media not in ("audio", "video"):
            return None
        try:
            own = negotiation.answer(description)
        except negotiation.Unsupported:
            return None
        leg = self.make(key_of(content), MediaType[description.media.upper()], content.name)
        leg.own = own
        return leg

    def take(self, leg: Leg, content: Content) -> None:
        """What the peer says of it, in an offer or an answer.

        Raises:
            PeerError: malformed.
            SecurityError: another certificate than that of its other contents.
        """
        leg.peer = rtp.parse(_present(content.description))
        if leg.peer.media != leg.media.word:
            raise PeerError("the answer is of another kind than the offer")
        if leg.peer.sdes:
            log.info("SDES was offered beside DTLS, and is not used")
        leg.senders = self.senders(leg.key)
        self._roads.take(leg.road, ice.parse(content.transport))

    def senders(self, key: Key) -> str:
        """As the session has it: an answer only narrows what was offered."""
        return next((each.senders for each in self._session.contents if each.key == key), "none")

    # -- ours -----------------------------------------------------------------------------------

    def content(self, leg: Leg) -> Content:
        """What we say of it: what we can, or the answer to what the peer can.

        Raises:
            NotAvailable: the call has ended meanwhile.
        """
        if self._engine is None:
            raise NotAvailable("The call has not begun")
        creator, name = leg.key
        word: Literal["audio", "video"] = "audio" if leg.media is MediaType.AUDIO else "video"
        sources, groups = self._engine.local_sources(name_of(leg.key), word)
        base = leg.own if leg.own is not None else negotiation.offer(word)
        ssrc = sources[0].ssrc if sources else None
        leg.own = replace(base, sources=sources, groups=groups, ssrc=ssrc)
        return Content(
            creator=creator,
            name=name,
            senders=leg.senders,
            description=rtp.build(leg.own),
            transport=ice.build(self._roads.own(leg.road)),
        )


def name_of(key: Key) -> str:
    """Of a content in the engine."""
    return "/".join(key)


def key_of_name(name: str) -> Key:
    """Of a content, from its name in the engine."""
    creator, _, rest = name.partition("/")
    return creator, rest


def _present(element: Element | None) -> Element:
    if element is None:
        raise PeerError("a content without description or transport")
    return element
