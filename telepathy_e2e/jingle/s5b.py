"""Which SOCKS5 candidate is used: both sides' choice, from either side (XEP-0260 section 2).

The caller has the sockets. It is told what to try and reports what became of it; every method
returns the events that follow, to be acted on in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import PeerError
from telepathy_e2e.role import Role

from .candidates import (
    CANDIDATE,
    MAX_CANDIDATES,
    S5B_NS,
    TRANSPORT,
    Candidate,
    Socks5Transport,
    best_first,
    build,
    dstaddr,
    parse,
    place,
    priority,
)

__all__ = [
    "MAX_CANDIDATES",
    "S5B_NS",
    "TRANSPORT",
    "Activate",
    "AwaitActivation",
    "Candidate",
    "Event",
    "Failed",
    "GiveUp",
    "SendTransportInfo",
    "Socks5Negotiation",
    "Socks5Transport",
    "TryCandidates",
    "Use",
    "build",
    "dstaddr",
    "parse",
    "priority",
]


@dataclass(frozen=True)
class TryCandidates:
    """Connect to these, in this order, asking for ``peer_dstaddr``.

    Each of these events is answered once: with ``connected`` for the first that could be reached,
    or with ``could_not_connect`` when none could. No candidate is named twice.
    """

    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class GiveUp:
    """No connection to these can be nominated any more; do not start one."""

    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class SendTransportInfo:
    """Send this to the peer."""

    transport: Element


@dataclass(frozen=True)
class Use:
    """Both sides agreed. All other connections are to be closed."""

    candidate: Candidate
    theirs: bool
    """The peer offered it: the connection is the one that we made to it. Else the one that came
    in, or, to our proxy, the one that was activated."""


@dataclass(frozen=True)
class Activate:
    """Our proxy was nominated: connect to it (``own_dstaddr``), have it activated, then say
    ``activated`` or ``proxy_failed``."""

    candidate: Candidate


@dataclass(frozen=True)
class AwaitActivation:
    """The peer's proxy, to which we are connected, was nominated; nothing may be sent yet."""

    candidate: Candidate


@dataclass(frozen=True)
class Failed:
    """SOCKS5 cannot be had. The initiator replaces the transport or ends the session."""


Event: TypeAlias = (
    TryCandidates | GiveUp | SendTransportInfo | Use | Activate | AwaitActivation | Failed
)


class Phase(Enum):
    """What is awaited."""

    CHOICE = "both sides' candidate-used or candidate-error"
    OUR_ACTIVATION = "our proxy"
    THEIR_ACTIVATION = "the peer's activated or proxy-error"
    DONE = "nothing: a candidate is in use"
    FAILED = "nothing: SOCKS5 cannot be had"


@dataclass(frozen=True)
class _Choice:
    candidate: Candidate | None
    """None: candidate-error."""


class Socks5Negotiation:
    """One negotiation.

    Args:
        role: ours in the Jingle session.
        sid: of the stream; the initiator's choice.
        own_jid, peer_jid: full JIDs.
        own_candidates: what we offer; at most ``MAX_CANDIDATES``.
    """

    def __init__(
        self,
        role: Role,
        sid: str,
        own_jid: str,
        peer_jid: str,
        own_candidates: Sequence[Candidate] = (),
    ) -> None:
        if len(own_candidates) > MAX_CANDIDATES:
            raise ValueError("too many own candidates")
        self.role = role
        self.sid = sid
        self.own_dstaddr = dstaddr(sid, own_jid, peer_jid)
        """What connections to our candidates ask for."""
        self.peer_dstaddr = dstaddr(sid, peer_jid, own_jid)
        """What we ask for at the peer's candidates."""
        self._own = {candidate.cid: candidate for candidate in own_candidates}
        self._offered = False
        self._theirs: dict[str, Candidate] = {}
        self._seen = 0
        self._untried: dict[str, Candidate] = {}
        self._lists = 0
        self._our_choice: _Choice | None = None
        self._their_choice: _Choice | None = None
        self._nominated: Candidate | None = None
        self.phase = Phase.CHOICE

    # -- offers -----------------------------------------------------------------------------

    def transport(self) -> Element:
        """The ``<transport/>`` of our initiate or accept.

        The responder calls it after ``receive_candidates``: what the initiator has offered may
        not be offered again (section 2.2).
        """
        self._offered = True
        candidates = tuple(self._own.values())
        proxied = any(candidate.type == "proxy" for candidate in candidates)
        return build(Socks5Transport(self.sid, candidates, self.own_dstaddr if proxied else None))

    def receive_candidates(self, transport: Element) -> list[Event]:
        """The ``<transport/>`` of the peer's initiate or accept: begins to connect.

        Raises: PeerError; nothing has changed.
        """
        offer = self._parse(transport)
        if offer.used or offer.activated or offer.candidate_error or offer.proxy_error:
            raise PeerError("an offer that chooses already")
        events = self._more(offer)
        if not self._lists and self._our_choice is None:
            # An offer without a place to connect to; more that come later come too late.
            return self._choose(None)
        return events

    def receive_info(self, transport: Element) -> list[Event]:
        """The ``<transport/>`` of a transport-info.

        Raises: PeerError; nothing has changed.
        """
        info = self._parse(transport)
        if info.used is not None:
            return self._they_chose(self._own_candidate(info.used))
        if info.candidate_error:
            return self._they_chose(None)
        if info.activated is not None:
            return self._they_activated(info.activated)
        if info.proxy_error:
            if self.phase not in (Phase.OUR_ACTIVATION, Phase.THEIR_ACTIVATION):
                raise _unexpected("proxy-error without a proxy in question")
            return self._fail()
        return self._more(info)

    @property
    def reached(self) -> Candidate | None:
        """The candidate of ours that the peer has reached, as long as we have not chosen. What we
        still try is for something better, and need not take long."""
        if self._our_choice is not None or self._their_choice is None:
            return None
        return self._their_choice.candidate

    # -- what the caller reports ------------------------------------------------------------

    def connected(self, cid: str) -> list[Event]:
        """One of the peer's candidates took our connection.

        No events: it came too late, and the connection is to be closed.
        """
        candidate = self._theirs.get(cid)
        if candidate is None:
            raise ValueError("a candidate that was not to be tried")
        if self._our_choice is not None:
            return []
        return self._choose(candidate)

    def failed(self, cid: str) -> list[Event]:
        """One of them could not be reached. Optional, and sooner than the end of the list."""
        self._untried.pop(cid, None)
        return self._decide_early()

    def could_not_connect(self) -> list[Event]:
        """None of the candidates of one ``TryCandidates`` could be reached."""
        self._lists = max(0, self._lists - 1)
        if self._lists or self._our_choice is not None:
            return []
        self._untried.clear()
        return self._choose(None)

    def activated(self) -> list[Event]:
        """Our proxy joined the two connections."""
        if self.phase is not Phase.OUR_ACTIVATION or self._nominated is None:
            return []  # the peer gave up meanwhile
        self.phase = Phase.DONE
        return [
            self._send(Socks5Transport(self.sid, activated=self._nominated.cid)),
            Use(self._nominated, theirs=False),
        ]

    def proxy_failed(self) -> list[Event]:
        """The nominated proxy cannot be reached, does not activate, or broke off."""
        if self.phase not in (Phase.OUR_ACTIVATION, Phase.THEIR_ACTIVATION):
            return []
        return [self._send(Socks5Transport(self.sid, proxy_error=True)), *self._fail()]

    # -- the choice -------------------------------------------------------------------------

    def _parse(self, element: Element) -> Socks5Transport:
        transport = parse(element)
        if transport.sid != self.sid:
            raise PeerError("another stream than agreed")
        # Counted before anything changes, and with those that are of no use.
        count = sum(child.tag == CANDIDATE for child in element)
        if self._seen + count > MAX_CANDIDATES:
            raise PeerError("too many candidates", "resource-constraint")
        if any(candidate.cid in self._theirs for candidate in transport.candidates):
            raise PeerError("a cid is used again")
        self._seen += count
        return transport

    def _more(self, offer: Socks5Transport) -> list[Event]:
        """Candidates that are new, and worth trying."""
        if offer.dstaddr is not None:
            self.peer_dstaddr = offer.dstaddr
        if self._our_choice is not None:
            return []
        new = []
        places = {place(candidate) for candidate in self._theirs.values()}
        for candidate in offer.candidates:
            if place(candidate) in places or self._is_our_own(candidate):
                continue
            places.add(place(candidate))
            self._theirs[candidate.cid] = candidate
            if self._could_win(candidate):
                new.append(candidate)
        if not new:
            return []
        self._untried.update((candidate.cid, candidate) for candidate in new)
        self._lists += 1
        return [TryCandidates(best_first(new))]

    def _is_our_own(self, candidate: Candidate) -> bool:
        """Whether it leads back to us, or to a proxy that we offered first.

        The former is how a peer would have us talk to ourselves. As responder we leave the proxy
        that both know to the initiator.
        """
        for own in [own for own in self._own.values() if place(own) == place(candidate)]:
            if self.role is Role.INITIATOR or own.type != "proxy":
                return True
            if not self._offered:
                del self._own[own.cid]
        return False

    def _own_candidate(self, cid: str) -> Candidate:
        candidate = self._own.get(cid)
        if candidate is None:
            raise PeerError("candidate-used names none of ours", "item-not-found")
        return candidate

    def _could_win(self, candidate: Candidate) -> bool:
        """Whether our choice of this candidate could still be nominated (section 2.4)."""
        if self._their_choice is None or self._their_choice.candidate is None:
            return True
        rival = self._their_choice.candidate.priority
        if candidate.priority == rival:
            return self.role is Role.INITIATOR
        return candidate.priority > rival

    def _they_chose(self, candidate: Candidate | None) -> list[Event]:
        if self._their_choice is not None:
            raise _unexpected("the peer has chosen already")
        self._their_choice = _Choice(candidate)
        if self._our_choice is not None:
            return self._nominate()
        hopeless = tuple(each for each in self._untried.values() if not self._could_win(each))
        for each in hopeless:
            del self._untried[each.cid]
        given_up: list[Event] = [GiveUp(best_first(hopeless))] if hopeless else []
        return given_up + self._decide_early()

    def _decide_early(self) -> list[Event]:
        """Say candidate-error as soon as nothing is left to try."""
        if self._our_choice is not None or self._untried or not self._lists:
            return []
        return self._choose(None)

    def _choose(self, candidate: Candidate | None) -> list[Event]:
        self._our_choice = _Choice(candidate)
        left = tuple(each for each in self._untried.values() if each is not candidate)
        self._untried.clear()
        events: list[Event] = [GiveUp(best_first(left))] if left else []
        if candidate is None:
            events.append(self._send(Socks5Transport(self.sid, candidate_error=True)))
        else:
            events.append(self._send(Socks5Transport(self.sid, used=candidate.cid)))
        return events + (self._nominate() if self._their_choice is not None else [])

    def _nominate(self) -> list[Event]:
        """Both have chosen (section 2.4)."""
        ours = None if self._our_choice is None else self._our_choice.candidate
        theirs = None if self._their_choice is None else self._their_choice.candidate
        if ours is not None and (theirs is None or self._could_win(ours)):
            self._nominated = ours
            if ours.type == "proxy":
                self.phase = Phase.THEIR_ACTIVATION
                return [AwaitActivation(ours)]
            self.phase = Phase.DONE
            return [Use(ours, theirs=True)]
        if theirs is None:
            return self._fail()
        self._nominated = theirs
        if theirs.type == "proxy":
            self.phase = Phase.OUR_ACTIVATION
            return [Activate(theirs)]
        self.phase = Phase.DONE
        return [Use(theirs, theirs=False)]

    def _they_activated(self, cid: str) -> list[Event]:
        if self.phase is not Phase.THEIR_ACTIVATION or self._nominated is None:
            raise _unexpected("activated without a proxy of the peer's in question")
        if cid != self._nominated.cid:
            raise PeerError("activated names another candidate", "item-not-found")
        self.phase = Phase.DONE
        return [Use(self._nominated, theirs=True)]

    def _fail(self) -> list[Event]:
        self.phase = Phase.FAILED
        return [Failed()]

    def _send(self, transport: Socks5Transport) -> SendTransportInfo:
        return SendTransportInfo(build(transport))


def _unexpected(text: str) -> PeerError:
    return PeerError(text, "unexpected-request")
