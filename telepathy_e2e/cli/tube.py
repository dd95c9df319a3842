"""``tpe2e tube``: share a local service with a contact, and use one that a contact shares."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import Bus, BusError, typed
from telepathy_e2e.cli.call import check_jid
from telepathy_e2e.cli.exits import OK, UsageError
from telepathy_e2e.cli.names import TubeState
from telepathy_e2e.cli.output import Output
from telepathy_e2e.cli.places import Place, listening_at, service_at
from telepathy_e2e.cli.question import Answers
from telepathy_e2e.cli.relay import Relay
from telepathy_e2e.cli.together import first
from telepathy_e2e.cli.transfer import Guard
from telepathy_e2e.cli.tubes import (
    SERVICE,
    Offers,
    Tube,
    announced,
    bus_access,
    channel_type,
    check_kind,
    follow,
    handled,
    plain_parameters,
    serve,
    state_of,
    taken_elsewhere,
)
from telepathy_e2e.cli.views import ChannelView, the_connection
from telepathy_e2e.cli.words import printable

# Types of parameters that are integers: (least, most).
_INTEGERS: Final = {
    "y": (0, 2**8 - 1),
    "n": (-(2**15), 2**15 - 1),
    "q": (0, 2**16 - 1),
    "i": (-(2**31), 2**31 - 1),
    "u": (0, 2**32 - 1),
    "x": (-(2**63), 2**63 - 1),
    "t": (0, 2**64 - 1),
}


async def run(arguments: argparse.Namespace, output: Output, answers: Answers) -> int:
    """The command; returns the exit code."""
    guard = Guard(arguments.require)
    if arguments.verify or guard.verified:
        answers.check(output, "--verify" if arguments.verify else "--require verified")
    if arguments.action == "offer":
        return await _offer(arguments, guard, output, answers)
    return await _accept(arguments, guard, output, answers)


# -- offering ---------------------------------------------------------------------------------


async def _offer(
    arguments: argparse.Namespace, guard: Guard, output: Output, answers: Answers
) -> int:
    check_jid(arguments.jid)
    if arguments.dbus is (arguments.address is not None):
        raise UsageError("Name the ADDRESS of the service, or say --dbus: one of the two.")
    place = None
    if arguments.address is not None:
        place = await service_at(arguments.address, other_machines=arguments.other_machines)
    parameters = read_parameters(arguments.param)
    bus = await Bus.connect()
    try:
        connection = await the_connection(bus, arguments.account)
        # Whoever handles questions is asked about every peer: only those who mean to answer.
        will_answer = arguments.verify or guard.verified
        classes = [names.PEER_VERIFICATION] if will_answer else []
        async with announced("tube_offer", [connection] if will_answer else [], *classes):
            channel = await connection.create_channel(request(arguments, guard))
            try:
                tube = Tube(channel, output, answers, guard, str(place or ""))
                await channel.fill()
                await tube.run(_life_of_offer(tube, place, parameters, verify=arguments.verify))
                tube.done()
                return OK
            finally:
                await asyncio.shield(channel.close())
    finally:
        await bus.close()


async def _life_of_offer(
    tube: Tube, place: Place | None, parameters: dict[str, object], *, verify: bool
) -> None:
    channel, contact = tube.channel, printable(tube.channel.target)
    if verify:
        await channel.call(names.SECURITY, "Verify")
    if place is None:
        address = str(
            await channel.call(channel.type, "Offer", "a{sv}u", parameters, bus_access(channel))
        )
        what = "a private bus"
    else:
        check_kind(channel, place.kind)
        address, what = str(place), f"{place}"
        await channel.call(
            *(channel.type, "Offer", "uvua{sv}"),
            *(place.kind, place.variant, names.LOCALHOST, parameters),
        )
    tube.say(
        "offered",
        f"Offered {printable(tube.service)} ({what}) to {contact}; waiting for an answer "
        "(Ctrl-C ends it) …",
        address=address,
    )
    await tube.opened()
    if place is None:
        sentence = f"Open. Connect to {address}"
    else:
        sentence = f"Open: {contact} can connect to {address} now."
    tube.say("open", sentence, "bold", address=address)
    await tube.ended()


def request(arguments: argparse.Namespace, guard: Guard) -> dict[str, object]:
    """The CreateChannel request, typed."""
    kind = channel_type(dbus=arguments.dbus)
    wanted: dict[str, object] = {
        names.CHANNEL + ".ChannelType": typed("s", kind),
        names.CHANNEL + ".TargetHandleType": typed("u", names.HANDLE_TYPE_CONTACT),
        names.CHANNEL + ".TargetID": typed("s", arguments.jid),
        f"{kind}.{SERVICE[kind]}": typed("s", arguments.service),
    }
    if guard.encrypted:
        wanted[names.SECURITY + ".RequireEncrypted"] = typed("b", True)
    if guard.verified:
        wanted[names.SECURITY + ".RequireVerified"] = typed("b", True)
    return wanted


def read_parameters(said: Sequence[str]) -> dict[str, object]:
    """``NAME=VALUE`` for strings, ``NAME:TYPE=VALUE`` for others, typed.

    Raises:
        UsageError: a parameter that makes no sense.
    """
    parameters: dict[str, object] = {}
    for each in said:
        name, equals, value = each.partition("=")
        stem, colon, kind = name.rpartition(":")
        if not (colon and kind in (*_INTEGERS, "s", "b")):
            stem, kind = name, "s"
        if not equals or not stem:
            raise UsageError(f"{each} is not a parameter: it looks like name=value or port:u=5900.")
        if stem in parameters:
            raise UsageError(f"The parameter {stem} is there twice.")
        parameters[stem] = typed(kind, _value(kind, value, each))
    return parameters


def _value(kind: str, value: str, said: str) -> object:
    if kind == "s":
        return value
    if kind == "b":
        if value not in ("true", "false"):
            raise UsageError(f"{said}: a parameter of type b is true or false.")
        return value == "true"
    least, most = _INTEGERS[kind]
    try:
        number = int(value)
    except ValueError:
        number = most + 1
    if not least <= number <= most:
        raise UsageError(f"{said}: a parameter of type {kind} is between {least} and {most}.")
    return number


# -- accepting --------------------------------------------------------------------------------


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
        async with announced("tube_accept", following, *classes, *verification):
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
