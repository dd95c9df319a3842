"""What flows in a call: each content's directions, devices and figures, over roads that are up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from telepathy_e2e.errors import NotAvailable
from telepathy_e2e.jingle import call_negotiation as negotiation
from telepathy_e2e.jingle import rtp
from telepathy_e2e.role import Role
from telepathy_e2e.service.call_legs import Key, Leg, key_of_name, name_of
from telepathy_e2e.service.call_media import Choice
from telepathy_e2e.service.call_words import MediaType

if TYPE_CHECKING:
    from telepathy_e2e.media.engine import MediaEngine

log = logging.getLogger(__name__)


class Flow:
    """See the module.

    Args:
        role: ours in the session.
        choice: gives the sources and sinks, and says what the user lets be sent.
        lost: told of a content, ``source`` or ``sink``, and why: a device cannot be used.
    """

    def __init__(self, role: Role, choice: Choice, lost: Callable[[Key, str, str], None]) -> None:
        self._role = role
        self._choice = choice
        self._lost = lost
        self._engine: MediaEngine | None = None

    def begin(self, engine: MediaEngine) -> None:
        """The call has an engine."""
        self._engine = engine

    async def apply(self, leg: Leg) -> None:
        """Let flow what both sides want now.

        Raises:
            NotAvailable: nothing can, not even silence.
        """
        if leg.own is None or leg.peer is None:
            return
        send = receive = None
        wishes = self._choice.wishes(leg.key)
        if negotiation.may_send(self._role, leg.senders) and wishes is not None and wishes.sends:
            send = negotiation.agreed(leg.own, leg.peer)
        if negotiation.may_receive(self._role, leg.senders):
            receive = negotiation.received(leg.own, leg.peer)
        if not leg.open and send is None and receive is None:
            return
        source = self._choice.source(leg.media) if send and not leg.sending else None
        sink = self._choice.sink(leg.media) if receive and not leg.receiving else None
        try:
            await self._let(leg, send, receive, source, sink)
        except NotAvailable as error:
            # A microphone that is not there must not end the call: the other one can be heard.
            self._lost(leg.key, "source" if source else "sink", str(error))
            nothing = "silence" if leg.media is MediaType.AUDIO else "null"
            await self._let(leg, send, receive, source and nothing, sink and "null")
        leg.sending, leg.receiving = send is not None, receive is not None

    async def _let(
        self,
        leg: Leg,
        send: rtp.Description | None,
        receive: rtp.Description | None,
        source: str | None,
        sink: str | None,
    ) -> None:
        engine, name = self._live(), name_of(leg.key)
        if leg.open:
            await engine.change_content(name, send=send, receive=receive, source=source, sink=sink)
            return
        await engine.open_content(
            name,
            leg.road,
            send=send,
            receive=receive,
            source=source or "silence",
            sink=sink or "null",
            mid=leg.key[1],
        )
        leg.open = True
        self.adjust(leg)

    async def close(self, leg: Leg) -> None:
        """A content is no more."""
        if leg.open and self._engine is not None:
            leg.open = False
            await self._engine.close_content(name_of(leg.key))

    def adjust(self, leg: Leg) -> None:
        """Mute and volume are what the user wants now."""
        wishes = self._choice.wishes(leg.key)
        if not leg.open or self._engine is None or wishes is None:
            return
        name, (sent, played) = name_of(leg.key), wishes.volumes
        self._engine.mute(name, wishes.muted)
        self._engine.set_volumes(name, sent=sent, played=played)

    def hold(self, on: bool) -> None:
        """Nothing flows either way. Raises: NotAvailable: the call has not begun."""
        self._live().hold(on)

    def tone(self, key: Key, event: int, milliseconds: int) -> None:
        """Press a key. Raises: NotAvailable: the contact takes none, or nothing flows."""
        self._live().dtmf(name_of(key), event, milliseconds)

    async def chosen(self, legs: Iterable[Leg], kind: MediaType) -> None:
        """Another source or sink, for what flows."""
        for leg in legs:
            if not leg.open or leg.media is not kind:
                continue
            for what, flows in (("source", leg.sending), ("sink", leg.receiving)):
                try:
                    if flows and what == "source":
                        await self._live().replace_source(
                            name_of(leg.key), self._choice.source(kind)
                        )
                    elif flows:
                        await self._live().replace_sink(name_of(leg.key), self._choice.sink(kind))
                except NotAvailable as error:
                    self._lost(leg.key, what, str(error))

    async def statistics(self) -> dict[Key, object]:
        """Figures of each content in which something flows."""
        if self._engine is None:
            return {}
        return {key_of_name(name): each for name, each in (await self._engine.stats()).items()}

    async def end(self) -> None:
        """Nothing flows any more, and no device is held."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()

    def _live(self) -> MediaEngine:
        if self._engine is None:
            raise NotAvailable("The call has not begun, or has ended")
        return self._engine
