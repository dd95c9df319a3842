"""What the commands of tubes have in common: one tube from its offer to its end, and waiting."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from typing import Any, Final

from telepathy_e2e.cli import names
from telepathy_e2e.cli.exits import FAILED, TP_ERROR, Exit, NotConnected, code_of
from telepathy_e2e.cli.names import TubeState
from telepathy_e2e.cli.output import STYLES, Output
from telepathy_e2e.cli.places import Place
from telepathy_e2e.cli.question import Answers
from telepathy_e2e.cli.relay import Relay
from telepathy_e2e.cli.together import first
from telepathy_e2e.cli.transfer import Guard, Reporter, no_parameter, watch_questions
from telepathy_e2e.cli.views import (
    ChannelView,
)
from telepathy_e2e.cli.words import Protection, printable, size_text

SERVICE: Final = {names.STREAM_TUBE: "Service", names.DBUS_TUBE: "ServiceName"}


def channel_type(*, dbus: bool) -> str:
    """That of a private bus, or of a service."""
    return names.DBUS_TUBE if dbus else names.STREAM_TUBE


def service_of(channel: ChannelView) -> str:
    """The name under which something is shared."""
    return str(channel.get(channel.type, SERVICE[channel.type], ""))


def state_of(channel: ChannelView) -> int:
    """Tube_Channel_State."""
    return int(channel.get(names.TUBE, "State", TubeState.NOT_OFFERED))


def plain_parameters(channel: ChannelView) -> dict[str, object]:
    """What came with the offer, fit for JSON: bytes in base64."""
    return {
        str(name): base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for name, value in dict(channel.get(names.TUBE, "Parameters") or {}).items()
    }


class Tube:
    """One tube that this program offered or took.

    Args:
        what: where its connections go, for people; empty: to the contact's service.
    """

    def __init__(
        self, channel: ChannelView, output: Output, answers: Answers, guard: Guard, what: str = ""
    ) -> None:
        self.channel = channel
        self.service = service_of(channel)
        self._output = output
        self._answers = answers
        self._guard = guard
        self._what = what
        self._reporter = Reporter(channel, output)
        self._since: float | None = None
        self._open: set[int] = set()
        self._connections = 0
        self._closed_by = ""

    async def run(self, life: Coroutine[Any, Any, None]) -> None:
        """See it through.

        Args:
            life: from here to the end of the tube.
        Raises:
            Exit: it was not opened, or ended in another way than that somebody closed it.
        """
        try:
            await first(
                life,
                watch_questions(self.channel, self._output, self._answers),
                self._reporter.follow(),
                self._narrate(),
            )
        finally:
            self._tell_connections()

    # -- its life -----------------------------------------------------------------------------

    async def accept(self, kind: int, *, verify: bool) -> str | Place:
        """Take an offer; where the daemon's socket is going to be.

        Args:
            kind: Socket_Address_Type; not of private buses.
            verify: before it opens.
        Raises:
            BusError: it is no offer any more.
        """
        channel = self.channel
        if verify or self._guard.verified:
            await channel.call(names.SECURITY, "Verify")
        if channel.type == names.DBUS_TUBE:
            return str(await channel.call(channel.type, "Accept", "u", bus_access(channel)))
        check_kind(channel, kind)
        control = names.LOCALHOST
        address = await channel.call(channel.type, "Accept", "uuv", kind, control, no_parameter())
        return Place.told(kind, address)

    async def opened(self) -> None:
        """Wait until it is open, and check the guard once more on this side.

        Raises:
            Exit: it ended before, or is less protected than demanded.
        """
        channel = self.channel
        await channel.wait(lambda: channel.closed or state_of(channel) == TubeState.OPEN)
        if state_of(channel) != TubeState.OPEN:
            raise await self._ending()
        await self._reporter.tell(even_none=True)
        self._guard.check(channel)
        self._since = asyncio.get_running_loop().time()

    async def ended(self) -> None:
        """Wait for the end.

        Raises:
            Exit: nobody closed it.
        """
        await self.channel.wait(lambda: self.channel.closed)
        ending = await self._ending()
        if not self._closed_by:
            raise ending

    async def _ending(self) -> Exit:
        channel = self.channel
        if channel.lost:
            return NotConnected("The daemon went away: its log says why (TELEPATHY_E2E_DEBUG).")
        error = str(channel.get(names.SECURITY, "Error") or "")
        message = str(channel.get(names.SECURITY, "ErrorMessage") or "")
        if not error and (asked := await channel.why()) is not None:
            error, message = asked.error, str(asked)
        contact = printable(channel.target)
        if self._since is not None:
            who = {TP_ERROR + "Terminated": "there", TP_ERROR + "Cancelled": "here"}
            self._closed_by = who.get(error, "")
        elif error == TP_ERROR + "Terminated":
            what = "did not take it" if channel.requested else "took the offer back"
            return Exit(FAILED, f"{contact} {what} ({printable(message)}).", error)
        return Exit(code_of(error), printable(message) or "The tube is gone.", error)

    # -- what is said of it -------------------------------------------------------------------

    def say(self, event: str, sentence: str, style: str = "", **fields: object) -> None:
        """An event of this tube."""
        channel = self.channel
        self._output.say(
            event,
            sentence,
            style,
            channel=channel.path,
            contact=channel.target,
            service=self.service,
            **fields,
        )

    async def _narrate(self) -> None:
        while True:
            await self.channel.wait(lambda: bool(self.channel.tube_news))
            self._tell_connections()

    def _tell_connections(self) -> None:
        news, contact = self.channel.tube_news, printable(self.channel.target)
        while news:
            number, ending = news.popleft()
            if ending is None:
                self._open.add(number)
                self._connections += 1
                way = "from" if self.channel.requested else "to"
                self.say(
                    "connection",
                    f"Connection {number} {way} {contact}.",
                    number=number,
                    open=len(self._open),
                )
                continue
            self._open.discard(number)
            error, message = ending
            self.say(
                "connection-closed",
                f"Connection {number} {self._over(error)}",
                "" if error.endswith(".Cancelled") else "yellow",
                number=number,
                open=len(self._open),
                error=error,
                reason=message,
            )

    def _over(self, error: str) -> str:
        match error.removeprefix(TP_ERROR):
            case "Cancelled":
                return "is closed."
            case "ConnectionRefused":
                where = self._what or f"{printable(self.channel.target)}'s side"
                return f"was refused: nothing answers at {where}."
            case _:
                return "broke: the way to the contact, or one of the programs, was cut off."

    def done(self, relay: Relay | None = None) -> None:
        """The closing sentence of a tube that somebody closed."""
        protection = Protection(self.channel)
        since = self._since
        seconds = 0.0 if since is None else asyncio.get_running_loop().time() - since
        contact = printable(self.channel.target)
        moved, fields = "", dict[str, object]()
        if relay is not None:
            fields = {"bytes_sent": relay.sent, "bytes_received": relay.received}
            moved = f", {size_text(relay.sent)} sent, {size_text(relay.received)} received"
        by = contact if self._closed_by == "there" else "This side"
        many = "1 connection" if self._connections == 1 else f"{self._connections} connections"
        what = f"closed the tube after {seconds:.0f} s: {many}{moved}"
        if self.channel.type == names.DBUS_TUBE:  # it has no connections that are told
            what = f"closed the private bus after {seconds:.0f} s"
        self.say(
            "done",
            f"{by} {what}; {protection.sentence}.",
            STYLES[protection.level],
            seconds=round(seconds, 3),
            connections=self._connections,
            closed_by=self._closed_by,
            **fields,
            **protection.fields(),
        )


def stronger(guard: Guard, level: str) -> Guard:
    """The guard that asks for this level besides what it asked for before."""
    if guard.verified or level == "verified":
        return Guard("verified")
    return Guard("encrypted") if guard.encrypted or level == "encrypted" else guard


def check_kind(channel: ChannelView, kind: int) -> None:
    """Raises: Exit: the daemon has no such sockets."""
    supported = channel.get(names.STREAM_TUBE, "SupportedSocketTypes") or {}
    if names.LOCALHOST not in supported.get(kind, ()):
        raise Exit(FAILED, "The daemon offers no kind of socket that tpe2e can use.")


def bus_access(channel: ChannelView) -> int:
    """Who may connect to a private bus: this user, if the daemon can see to that."""
    supported = channel.get(names.DBUS_TUBE, "SupportedAccessControls") or ()
    return names.CREDENTIALS if names.CREDENTIALS in supported else names.LOCALHOST


async def serve(tube: Tube, relay: Relay | None, address: str | Place) -> None:
    """Let programs here into a tube that was accepted and is open, until it ends.

    Args:
        relay: where they connect; None: at the daemon's own address.
        address: that one.
    """
    if relay is None or isinstance(address, str):
        tube.say("open", f"Open. Connect to {address}", "bold", address=str(address))
        await tube.ended()
        return
    relay.add(address)
    try:
        tube.say("open", f"Open. Connect to {relay.place}", "bold", address=str(relay.place))
        await tube.ended()
    finally:
        relay.remove(address)
