"""``tpe2e tube``: share a local service with a contact, and use one that a contact shares."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Sequence

from telepathy_e2e.cli import names, tube_offer
from telepathy_e2e.cli.bus import Bus, BusError
from telepathy_e2e.cli.call import check_jid
from telepathy_e2e.cli.exits import OK, UsageError
from telepathy_e2e.cli.names import TubeState
from telepathy_e2e.cli.offers import Offers, announced, follow, handled, taken_elsewhere
from telepathy_e2e.cli.output import Output
from telepathy_e2e.cli.places import listening_at
from telepathy_e2e.cli.question import Answers
from telepathy_e2e.cli.relay import Relay
from telepathy_e2e.cli.together import first
from telepathy_e2e.cli.transfer import Guard
from telepathy_e2e.cli.tubes import Tube, channel_type, plain_parameters, serve, state_of
from telepathy_e2e.cli.views import ChannelView
from telepathy_e2e.cli.words import printable


async def run(arguments: argparse.Namespace, output: Output, answers: Answers) -> int:
    """The command; returns the exit code."""
    guard = Guard(arguments.require)
    if arguments.verify or guard.verified:
        answers.check(output, "--verify" if arguments.verify else "--require verified")
    if arguments.action == "offer":
        return await tube_offer.run(arguments, guard, output, answers)
    return await _accept(arguments, guard, output, answers)


async def _accept(
    arguments: argparse.Namespace, guard: Guard, output: Output, answers: Answers
) -> int:
    jid, service = _who_and_what(arguments.jid, arguments.service)
    if not (arguments.take or output.can_ask):
        raise UsageError("Nobody can be asked here: add --yes, and a JID to limit it.")
    with contextlib.ExitStack() as stack:
        relay = None
        if (where := arguments.listen or arguments.unix) is not None:
            if arguments.dbus:
                raise UsageError(
                    "A private bus is where the daemon has it: no --listen, no --unix."
                )
            if arguments.unix is not None and not where.startswith(("/", "unix:")):
                where = "unix:" + where
            relay = Relay(await listening_at(where, other_machines=arguments.other_machines))
            stack.callback(relay.close)
        bus = await Bus.connect()
        try:
            acceptor = _Acceptor(arguments, guard, output, answers, relay)
            return await acceptor.run(bus, jid, service)
        finally:
            await bus.close()


def _who_and_what(jid: str | None, service: str | None) -> tuple[str | None, str | None]:
    if jid is not None and service is None and "@" not in jid:
        return None, jid
    if jid is not None:
        check_jid(jid)
    return jid, service


class _Acceptor:
    def __init__(
        self,
        arguments: argparse.Namespace,
        guard: Guard,
        output: Output,
        answers: Answers,
        relay: Relay | None,
    ) -> None:
        self._arguments = arguments
        self._guard = guard
        self._output = output
        self._answers = answers
        self._relay = relay

    async def run(self, bus: Bus, jid: str | None, service: str | None) -> int:
        following = await follow(bus, self._arguments.account)
        kind = channel_type(dbus=self._arguments.dbus)
        classes = [handled(kind, service)]
        verification = [names.PEER_VERIFICATION] if self._will_answer else []
        offers = Offers(following, kind, jid, service)
        async with announced("tube_accept", (jid, service), following, *classes, *verification):
            waiting(self._output, following, jid, service, self._relay)
            if self._relay is None:
                await self._take(offers)
            else:
                await first(self._take(offers), self._relay.run())
            return OK

    async def _take(self, offers: Offers) -> None:
        while not await self._one(await offers.next()):
            pass

    @property
    def _will_answer(self) -> bool:
        return bool(self._arguments.verify or self._guard.verified or self._answers.given)

    async def _one(self, channel: ChannelView) -> bool:
        """One offer; whether it was taken, and came to its end."""
        tube = Tube(channel, self._output, self._answers, self._guard)
        tell_offer(tube)
        if not await self._agreed(tube):
            return False
        mine = True
        try:
            await tube.run(self._carry(tube))
        except BusError as error:
            if not taken_elsewhere(channel, error):
                raise
            mine = False
            tube.say("withdrawn", "Another program took it.")
            return False
        finally:
            if mine:
                await asyncio.shield(channel.close())
        tube.done(self._relay)
        return True

    async def _carry(self, tube: Tube) -> None:
        relay = self._relay
        kind = names.UNIX if relay is None else relay.upstream
        address = await tube.accept(kind, verify=self._arguments.verify)
        await tube.opened()
        await serve(tube, relay, address)

    async def _agreed(self, tube: Tube) -> bool:
        if self._arguments.take:
            return True
        channel = tube.channel
        answer = await channel.unless(
            lambda: channel.closed or state_of(channel) != TubeState.LOCAL_PENDING,
            self._output.ask("Take it?", {"y": "", "n": ""}),
        )
        if answer == "n":
            tube.say("declined", "Declined.")
            await channel.close()
        elif answer == "":
            tube.say("withdrawn", "It is not offered any more, or another program took it.")
        return answer == "y"


def tell_offer(tube: Tube) -> None:
    """Somebody offers something."""
    channel = tube.channel
    parameters = plain_parameters(channel)
    listed = ", ".join(f"{name}={value}" for name, value in sorted(parameters.items()))
    shown = f" ({printable(listed)})" if listed else ""
    what = "a private bus, " if channel.type == names.DBUS_TUBE else ""
    tube.say(
        "tube",
        f"{printable(channel.target)} offers {what}{printable(tube.service)}{shown}.",
        "bold",
        parameters=parameters,
    )


def waiting(
    output: Output,
    following: Sequence[object],
    jid: str | None,
    service: str | None,
    relay: Relay | None,
) -> None:
    """What the command waits for."""
    accounts = [str(getattr(each, "account", "")) for each in following]
    what = printable(service) if service is not None else "any service"
    who = printable(jid) if jid is not None else "anybody"
    output.say(
        "waiting",
        f"Waiting until {who} offers {what} to {printable(', '.join(accounts))} (Ctrl-C ends it) …",
        accounts=accounts,
        contact=jid,
        service=service,
        address=None if relay is None else str(relay.place),
    )
