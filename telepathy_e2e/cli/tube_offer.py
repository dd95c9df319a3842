"""``tpe2e tube offer``: share a local service, or a private bus, with a contact."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence
from typing import Final

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import Bus, typed
from telepathy_e2e.cli.call import check_jid
from telepathy_e2e.cli.exits import FAILED, OK, TP_ERROR, Exit, NotConnected, UsageError
from telepathy_e2e.cli.offers import announced
from telepathy_e2e.cli.output import Output
from telepathy_e2e.cli.places import Place, service_at
from telepathy_e2e.cli.question import Answers
from telepathy_e2e.cli.transfer import Guard
from telepathy_e2e.cli.tubes import SERVICE, Tube, bus_access, channel_type, check_kind, stronger
from telepathy_e2e.cli.views import ConnectionView, the_connection
from telepathy_e2e.cli.words import Protection, printable

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

# Names of services that a contact's program can say it waits for.
_ANNOUNCED: Final = re.compile(r"[A-Za-z0-9._+-]{1,255}\Z")

# Seconds until something is offered again, and again after there was no way to the contact.
PAUSE: Final = 2.0
LONG_PAUSE: Final = 15.0


async def run(arguments: argparse.Namespace, guard: Guard, output: Output, answers: Answers) -> int:
    """The command; returns the exit code."""
    check_jid(arguments.jid)
    if arguments.dbus is (arguments.address is not None):
        raise UsageError("Name the ADDRESS of the service, or say --dbus: one of the two.")
    if arguments.keep and not _ANNOUNCED.match(arguments.service):
        raise UsageError(
            "With --keep the name of the service has letters, digits and . _ + - only: others "
            "cannot be waited for."
        )
    place = None
    if arguments.address is not None:
        place = await service_at(arguments.address, other_machines=arguments.other_machines)
    offerer = _Offerer(arguments, guard, output, answers, place)
    bus = await Bus.connect()
    try:
        connection = await the_connection(bus, arguments.account)
        # Whoever handles questions is asked about every peer: only those who mean to answer.
        will_answer = arguments.verify or guard.verified
        classes = [names.PEER_VERIFICATION] if will_answer else []
        asked = [connection] if will_answer else []
        key = (arguments.jid, arguments.service)
        async with announced("tube_offer", key, asked, *classes):
            if arguments.keep:
                await offerer.keep(connection)
            else:
                (await offerer.once(connection)).done()
        return OK
    finally:
        await bus.close()


class _Offerer:
    def __init__(
        self,
        arguments: argparse.Namespace,
        guard: Guard,
        output: Output,
        answers: Answers,
        place: Place | None,
    ) -> None:
        self._arguments = arguments
        self._guard = guard
        self._output = output
        self._answers = answers
        self._place = place
        self._parameters = read_parameters(arguments.param)
        self._kind = channel_type(dbus=arguments.dbus)

    async def once(self, connection: ConnectionView) -> Tube:
        """Offer it, and see it through to the end.

        Raises:
            Exit: see ``Tube.run``.
        """
        guard = self._guard
        channel = await connection.create_channel(self._request(guard))
        try:
            tube = Tube(channel, self._output, self._answers, guard, str(self._place or ""))
            await channel.fill()
            await tube.run(self._life(tube))
            return tube
        finally:
            await asyncio.shield(channel.close())

    async def _life(self, tube: Tube) -> None:
        channel, contact = tube.channel, printable(tube.channel.target)
        if self._arguments.verify:
            await channel.call(names.SECURITY, "Verify")
        address = await self._offer(tube)
        what = "a private bus" if self._place is None else address
        tube.say(
            "offered",
            f"Offered {printable(tube.service)} ({what}) to {contact}; waiting for an answer "
            "(Ctrl-C ends it) …",
            address=address,
        )
        await tube.opened()
        if self._place is None:
            sentence = f"Open. Connect to {address}"
        else:
            sentence = f"Open: {contact} can connect to {address} now."
        tube.say("open", sentence, "bold", address=address)
        try:
            await tube.ended()
        finally:
            # A server that cannot break into a tube can end it, and take the next one itself.
            self._guard = stronger(self._guard, Protection(channel).level)

    async def _offer(self, tube: Tube) -> str:
        channel, place, parameters = tube.channel, self._place, self._parameters
        if place is None:
            control = bus_access(channel)
            return str(await channel.call(channel.type, "Offer", "a{sv}u", parameters, control))
        check_kind(channel, place.kind)
        address = (place.kind, place.variant, names.LOCALHOST)
        await channel.call(channel.type, "Offer", "uvua{sv}", *address, parameters)
        return str(place)

    def _request(self, guard: Guard) -> dict[str, object]:
        """The CreateChannel request, typed."""
        wanted: dict[str, object] = {
            names.CHANNEL + ".ChannelType": typed("s", self._kind),
            names.CHANNEL + ".TargetHandleType": typed("u", names.HANDLE_TYPE_CONTACT),
            names.CHANNEL + ".TargetID": typed("s", self._arguments.jid),
            f"{self._kind}.{SERVICE[self._kind]}": typed("s", self._arguments.service),
        }
        if guard.encrypted:
            wanted[names.SECURITY + ".RequireEncrypted"] = typed("b", True)
        if guard.verified:
            wanted[names.SECURITY + ".RequireVerified"] = typed("b", True)
        return wanted

    # -- again and again ----------------------------------------------------------------------

    async def keep(self, connection: ConnectionView) -> None:
        """Offer it whenever the contact's program waits for it.

        Raises:
            Exit: what must not simply be followed by another offer.
        """
        jid, service = self._arguments.jid, self._arguments.service
        handle, attributes = await connection.call(
            names.CONTACTS, "GetContactByID", "sas", jid, [names.CONTACT_CAPABILITIES]
        )
        found = attributes.get(names.CONTACT_CAPABILITIES + "/capabilities", [])
        connection.capabilities.setdefault(handle, found)
        wanted = (self._kind, f"{self._kind}.{SERVICE[self._kind]}", service)

        def waits() -> bool:
            return _waits(connection.capabilities.get(handle, []), *wanted)

        while True:
            if not waits():
                self._output.say(
                    "waiting",
                    f"Waiting until {printable(jid)} waits for {printable(service)} "
                    "(Ctrl-C ends it) …",
                    accounts=[connection.account],
                    contact=jid,
                    service=service,
                    address=str(self._place or ""),
                )
            await _until(connection, waits)
            error = await self._again(connection)
            if error is not None and error.error == TP_ERROR + "Terminated":
                # Whoever said no is not asked again, until he waits for it anew.
                await _until(connection, lambda: not waits())
            else:
                await _pause(connection, PAUSE if error is None else LONG_PAUSE)

    async def _again(self, connection: ConnectionView) -> Exit | None:
        """Offer it once more; why it did not come to a tube, or None."""
        try:
            tube = await self.once(connection)
        except Exit as error:
            if connection.lost or connection.status != names.CONNECTED or error.code != FAILED:
                raise
            self._output.say(
                "closed",
                str(error),
                "yellow",
                contact=self._arguments.jid,
                service=self._arguments.service,
                error=error.error,
                reason=str(error),
            )
            return error
        tube.say("closed", "The tube was closed.", error="", reason="The tube was closed.")
        return None


def _waits(
    classes: Sequence[tuple[dict[str, object], list[str]]], kind: str, name: str, service: str
) -> bool:
    """Whether a contact's program takes tubes of this service, by name."""
    return any(
        fixed.get(names.CHANNEL + ".ChannelType") == kind and fixed.get(name) == service
        for fixed, _ in classes
    )


async def _until(connection: ConnectionView, holds: Callable[[], bool]) -> None:
    """Wait for it.

    Raises:
        NotConnected: the account is not logged in any more.
    """
    await connection.wait(lambda: connection.status != names.CONNECTED or holds())
    if connection.status != names.CONNECTED:
        raise NotConnected(f"{connection.account} is not logged in any more.")


async def _pause(connection: ConnectionView, seconds: float) -> None:
    """So many seconds, unless the account logs out meanwhile. Raises: as ``_until``."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await _until(connection, lambda: False)


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
