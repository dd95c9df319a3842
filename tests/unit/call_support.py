"""Two calls and a wire between them on which nothing is overtaken."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, tostring

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle import ice, rtp
from telepathy_e2e.jingle.call_session import CallSession
from telepathy_e2e.jingle.events import Event, Send
from telepathy_e2e.jingle.stanzas import Content, Jingle, build, parse
from telepathy_e2e.role import Role

from .jingle_support import ALICE, BOB, xml


def media(
    name: str,
    creator: str = "initiator",
    *,
    kind: str = "audio",
    senders: str | None = None,
) -> Content:
    return Content(
        creator,
        name,
        senders,
        description=Element(f"{{{rtp.RTP_NS}}}description", {"media": kind}),
        transport=Element(ice.TRANSPORT),
    )


@dataclass
class Packet:
    """A stanza, or the answer to one."""

    jingle: Jingle
    answers: bool = False
    error: PeerError | None = None


@dataclass
class CallWire:
    """What one sends waits in order for the other one, and so do the answers."""

    alice: CallSession = field(
        default_factory=lambda: CallSession(Role.INITIATOR, ALICE, BOB, "sid1")
    )
    bob: CallSession = field(
        default_factory=lambda: CallSession(Role.RESPONDER, BOB, ALICE, "sid1")
    )
    to_alice: deque[Packet] = field(default_factory=deque)
    to_bob: deque[Packet] = field(default_factory=deque)
    errors: list[PeerError] = field(default_factory=list)

    def send(self, sender: CallSession, jingle: Jingle) -> None:
        # Over the wire and back: what cannot be written down cannot be sent.
        again = parse(xml(tostring(build(jingle))))
        self._queue_from(sender).append(Packet(again))

    def deliver(self, receiver: CallSession) -> list[Event]:
        """The oldest thing for ``receiver``; the answer to a stanza goes back at once."""
        packet = (self.to_alice if receiver is self.alice else self.to_bob).popleft()
        if packet.answers:
            if packet.error is None:
                receiver.acknowledged(packet.jingle)
            else:
                receiver.not_taken(packet.jingle)
            return []
        try:
            events = receiver.receive(packet.jingle)
        except PeerError as error:
            self.errors.append(error)
            self._queue_from(receiver).append(Packet(packet.jingle, True, error))
            return []
        self._queue_from(receiver).append(Packet(packet.jingle, True))
        for event in events:
            if isinstance(event, Send):
                self.send(receiver, event.jingle)
        return events

    def settle(self) -> list[Event]:
        events: list[Event] = []
        while self.to_alice or self.to_bob:
            if self.to_bob:
                events += self.deliver(self.bob)
            if self.to_alice:
                events += self.deliver(self.alice)
        return events

    def _queue_from(self, sender: CallSession) -> deque[Packet]:
        return self.to_bob if sender is self.alice else self.to_alice


def active(contents: Sequence[Content] = ()) -> CallWire:
    """A call that was taken."""
    wire = CallWire()
    offered = contents or (media("voice"),)
    wire.send(wire.alice, wire.alice.initiate(offered))
    wire.settle()
    wire.send(wire.bob, wire.bob.accept(offered))
    wire.settle()
    return wire


def ringing(contents: Sequence[Content] = ()) -> CallWire:
    """A call that was not answered yet."""
    wire = CallWire()
    wire.send(wire.alice, wire.alice.initiate(contents or (media("voice"),)))
    wire.settle()
    return wire
