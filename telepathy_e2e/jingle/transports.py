"""The agreement on one content's transport (XEP-0166 section 7.2.15), as both sides see it."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.role import Role

from .events import out_of_order, tie_break
from .stanzas import Action
from .states import TRANSPORT_MOVES, TransportState


class TransportAgreement:
    """Which transport is in use, and which one is offered in its place.

    Args:
        role: ours.
        tag: of the transport that the content was offered with.
    """

    def __init__(self, role: Role, tag: str) -> None:
        self.role = role
        self.tag = tag
        self.state = TransportState.AGREED
        self.replacement: Element | None = None
        # How often another transport was agreed on, as both sides count it.
        self.generation = 0
        # Own offers of a transport that the peer's has overruled, and whose refusal is to come.
        self._overruled = 0

    def knows(self, transport: Element) -> bool:
        """Whether it is of the kind that is in use or offered."""
        return transport.tag in (self.tag, self._replacement_tag())

    # -- our moves: NotAvailable when they cannot be made -----------------------------------------

    def offer(self, transport: Element) -> None:
        # Both sides' offers may cross on the wire, but whoever has seen the other's answers it.
        if self.state is not TransportState.AGREED:
            raise NotAvailable("A change of transport is being agreed on already")
        self.state, self.replacement = self._after(Action.TRANSPORT_REPLACE), transport

    def accept(self, transport: Element) -> None:
        """Raises: ValueError: not the transport that was offered."""
        after = self._after(Action.TRANSPORT_ACCEPT)
        if transport.tag != self._replacement_tag():
            raise ValueError("the answer is not to the transport that was offered")
        self.state, self.replacement, self.tag = after, None, transport.tag
        self.generation += 1

    def reject(self) -> Element:
        """What stands in the transport-reject."""
        after = self._after(Action.TRANSPORT_REJECT)
        refused = Element(self._replacement_tag())
        self.state, self.replacement = after, None
        return refused

    def offer_refused(self) -> None:
        """The peer answered our transport-replace with an error, or not at all."""
        if self._overruled:
            self._overruled -= 1  # not the offer that may be open by now
        elif self.state is self._offered_by_us():
            self.state, self.replacement = TransportState.AGREED, None

    # -- the peer's -------------------------------------------------------------------------------

    def check(self, action: Action, transport: Element | None) -> None:
        """Raises: PeerError: it cannot come now, or is not what was offered."""
        if (self.state, self.role.other, action) not in TRANSPORT_MOVES:
            if (
                action is Action.TRANSPORT_REPLACE
                and self.role is Role.INITIATOR
                and self.state is TransportState.INITIATOR_OFFERED
            ):
                raise tie_break()
            raise out_of_order(action)
        if action is Action.TRANSPORT_REJECT:
            return
        if transport is None:
            raise PeerError("no transport")
        if action is Action.TRANSPORT_ACCEPT and transport.tag != self._replacement_tag():
            raise PeerError("the answer has a transport that was not offered")

    def take(self, action: Action, transport: Element | None) -> None:
        """What ``check`` has let pass."""
        after = TRANSPORT_MOVES[(self.state, self.role.other, action)]
        if action is Action.TRANSPORT_REPLACE:
            self._overruled += self.state is self._offered_by_us()
            self.state, self.replacement = after, transport
            return
        if action is Action.TRANSPORT_ACCEPT:
            self.tag = self._replacement_tag()
            self.generation += 1
        self.state, self.replacement = after, None

    def offer_declined(self) -> None:
        """We answered the peer's transport-replace with an error."""
        if self.state not in (TransportState.AGREED, self._offered_by_us()):
            self.state, self.replacement = TransportState.AGREED, None

    # -- lookups ----------------------------------------------------------------------------------

    def _after(self, action: Action) -> TransportState:
        after = TRANSPORT_MOVES.get((self.state, self.role, action))
        if after is None:
            raise NotAvailable(f"{action} cannot be sent now")
        return after

    def _replacement_tag(self) -> str:
        return "" if self.replacement is None else self.replacement.tag

    def _offered_by_us(self) -> TransportState:
        if self.role is Role.INITIATOR:
            return TransportState.INITIATOR_OFFERED
        return TransportState.RESPONDER_OFFERED
