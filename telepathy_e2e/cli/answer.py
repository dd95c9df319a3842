"""``tpe2e answer``: wait for calls, ring, and take them."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final, cast

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import Bus, BusError
from telepathy_e2e.cli.call import check_jid
from telepathy_e2e.cli.calls import (
    NOTHING,
    Media,
    hang_up,
    how_it_ended,
    is_over,
    prepare,
    state_of,
)
from telepathy_e2e.cli.exits import OK, Exit, NotConnected, UsageError
from telepathy_e2e.cli.names import CALL, CallReason, CallState
from telepathy_e2e.cli.output import Output
from telepathy_e2e.cli.question import Answers
from telepathy_e2e.cli.talking import Talk
from telepathy_e2e.cli.together import first
from telepathy_e2e.cli.transfer import Guard
from telepathy_e2e.cli.views import (
    ChannelView,
    ConnectionView,
    connections,
    same_account,
    the_connection,
)
from telepathy_e2e.cli.words import printable

# What the command is called in UpdateCapabilities.
WHAT: Final = "answer"


async def run(arguments: argparse.Namespace, output: Output, answers: Answers) -> int:
    """The command; returns the exit code, with ``--once`` that of the one call."""
    guard = Guard(arguments.require)
    if arguments.verify or guard.verified:
        answers.check(output, "--verify" if arguments.verify else "--require-verified")
    if arguments.jid is not None:
        check_jid(arguments.jid)
    elif not (arguments.any or arguments.reject or output.can_ask):
        raise UsageError("Nobody can be asked here: name whose calls to take, or add --any.")
    bus = await Bus.connect()
    try:
        if arguments.account is not None:
            following = [await the_connection(bus, arguments.account)]
        else:
            following = [c for c in await connections(bus) if c.status == names.CONNECTED]
        if not following:
            raise NotConnected("Nobody is logged in: run 'tpe2e connect ACCOUNT' first.")
        return await _Answerer(arguments, guard, output, answers).run(following)
    finally:
        await bus.close()


class _Answerer:
    def __init__(
        self, arguments: argparse.Namespace, guard: Guard, output: Output, answers: Answers
    ) -> None:
        self._arguments = arguments
        self._guard = guard
        self._output = output
        self._answers = answers
        self._seen: set[str] = set()

    async def run(self, following: list[ConnectionView]) -> int:
        types = [CALL]
        # Whoever handles questions is asked about every peer: only those who mean to answer.
        if self._arguments.verify or self._guard.verified or self._answers.given:
            types.append(names.PEER_VERIFICATION)
        try:
            for connection in following:
                await connection.announce(WHAT, *types)
            accounts = ", ".join(connection.account for connection in following)
            self._output.say(
                "waiting",
                f"Waiting for calls to {printable(accounts)} (Ctrl-C ends it) …",
                accounts=[connection.account for connection in following],
            )
            return await self._take_calls(following)
        finally:
            for connection in following:
                await asyncio.shield(connection.withdraw(WHAT))

    async def _take_calls(self, following: list[ConnectionView]) -> int:
        """One call after the other; ends with ``--once``, or with a connection."""
        while True:
            channel = await self._ringing(following)
            self._seen.add(channel.path)
            code = await self._one(channel, following)
            if self._arguments.once and code is not None:
                return code

    async def _ringing(self, following: list[ConnectionView]) -> ChannelView:
        """The next call.

        Raises:
            NotConnected: an account is not logged in any more.
        """
        number, channel = await first(*(self._next(connection) for connection in following))
        if channel is None:
            raise NotConnected(f"{following[number].account} is not logged in any more.")
        return cast(ChannelView, channel)

    async def _next(self, connection: ConnectionView) -> ChannelView | None:
        """The next call of one account; None when it is logged out."""
        await connection.wait(
            lambda: connection.status != names.CONNECTED or self._fresh(connection) is not None
        )
        return self._fresh(connection) if connection.status == names.CONNECTED else None

    def _fresh(self, connection: ConnectionView) -> ChannelView | None:
        return next(
            (
                channel
                for channel in connection.channels.values()
                if channel.type == CALL
                and not channel.requested
                and not channel.closed
                and channel.path not in self._seen
                and self._wanted(channel)
            ),
            None,
        )

    def _wanted(self, channel: ChannelView) -> bool:
        caller: str | None = self._arguments.jid
        return caller is None or same_account(channel.target, caller)

    async def _one(self, channel: ChannelView, following: list[ConnectionView]) -> int | None:
        """One call from its ring to its end; None if nobody took it here."""
        await channel.fill()
        if state_of(channel) != CallState.INITIALISED:
            return None
        try:
            if not await self._agreed(channel):
                return None
            if self._arguments.reject:
                await self._decline(channel)
                return OK
        except BusError:
            if not is_over(channel):
                raise
            self._withdrawn(channel)
            return None
        try:
            _, code = await first(self._take(channel), self._busy(following))
            return int(code)
        except Exit as error:
            if channel.lost:
                raise
            self._output.fail(error)
            return error.code
        finally:
            await asyncio.shield(channel.close())

    async def _agreed(self, channel: ChannelView) -> bool:
        """Ring, and ask whether to take it. A call that nobody here answers is left to others."""
        contact = printable(channel.target)
        video = channel.get(CALL, "InitialVideo") is True
        self._tell(
            "call",
            f"{contact} calls{', with pictures' if video else ''}.",
            channel,
            style="bold",
            video=video,
        )
        arguments = self._arguments
        if arguments.reject:
            return True
        await channel.call(CALL, "SetRinging")
        if arguments.any or arguments.jid is not None:
            return True
        answer = await channel.unless(
            lambda: state_of(channel) != CallState.INITIALISED or channel.closed,
            self._output.ask("Take it?", {"y": "", "n": ""}),
        )
        if answer == "n":
            await self._decline(channel)
        elif answer == "":
            self._withdrawn(channel)
        return answer == "y"

    async def _decline(self, channel: ChannelView) -> None:
        await hang_up(channel, CallReason.REJECTED)
        self._tell("declined", "Declined.", channel)
        await channel.close()

    def _withdrawn(self, channel: ChannelView) -> None:
        if is_over(channel):
            self._tell("withdrawn", str(how_it_ended(channel, talked=False)), channel)
        else:
            self._tell("withdrawn", "Another program took the call.", channel)

    async def _take(self, channel: ChannelView) -> int:
        media = Media.of(self._arguments)
        later: Media | None = None
        if self._guard.verified:
            # Nothing is heard or played before it is known who it is, whatever the daemon lets
            # through when somebody else answers the question.
            connection = channel.connection
            shown = await connection.bus.get_all(connection.name, channel.path, names.CALL_MEDIA)
            later = media.or_as(shown)
            media = NOTHING
            await channel.call(names.SECURITY, "Verify")
        await prepare(channel, media, muted=self._arguments.mute)
        await channel.call(CALL, "Accept")
        return await Talk(
            channel,
            self._output,
            self._answers,
            self._guard,
            verify=self._arguments.verify and later is None,
            seconds=self._arguments.seconds,
            media=later,
        ).run()

    async def _busy(self, following: list[ConnectionView]) -> None:
        """Tell whoever else calls meanwhile that we talk, until cancelled."""
        while True:
            channel = await self._ringing(following)
            self._seen.add(channel.path)
            await hang_up(channel, CallReason.BUSY)
            self._tell("busy", f"{printable(channel.target)} calls, and hears: busy.", channel)
            await channel.close()

    def _tell(
        self, event: str, sentence: str, channel: ChannelView, style: str = "", **fields: object
    ) -> None:
        self._output.say(
            event, sentence, style, channel=channel.path, contact=channel.target, **fields
        )
