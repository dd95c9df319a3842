"""``tpe2e call`` and ``tpe2e hangup``: call somebody, and end a call."""

from __future__ import annotations

import argparse
import asyncio

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import Bus, typed
from telepathy_e2e.cli.calls import Media, hang_up, is_over, prepare
from telepathy_e2e.cli.exits import OK, NotConnected, UsageError
from telepathy_e2e.cli.names import CALL
from telepathy_e2e.cli.output import Output
from telepathy_e2e.cli.question import Answers
from telepathy_e2e.cli.talking import Talk
from telepathy_e2e.cli.transfer import Guard
from telepathy_e2e.cli.views import ChannelView, connections, same_account, the_connection
from telepathy_e2e.cli.words import printable


async def run(arguments: argparse.Namespace, output: Output, answers: Answers) -> int:
    """``tpe2e call``; returns the exit code."""
    guard = Guard(arguments.require)
    if arguments.verify or guard.verified:
        answers.check(output, "--verify" if arguments.verify else "--require-verified")
    check_jid(arguments.jid)
    bus = await Bus.connect()
    try:
        return await _call(bus, guard, arguments, output, answers)
    finally:
        await bus.close()


def check_jid(jid: str) -> None:
    """Raises: UsageError: it is none."""
    if "@" not in jid.partition("/")[0]:
        raise UsageError(f"{jid} is not a JID: it looks like bob@example.org.")


async def _call(
    bus: Bus, guard: Guard, arguments: argparse.Namespace, output: Output, answers: Answers
) -> int:
    connection = await the_connection(bus, arguments.account)
    # Whoever handles questions is asked about every peer: only those who mean to answer.
    will_answer = arguments.verify or guard.verified
    if will_answer:
        await connection.announce("call", names.PEER_VERIFICATION)
    try:
        channel = await connection.create_channel(request(arguments, guard))
        try:
            await channel.fill()
            await prepare(channel, Media.of(arguments), muted=arguments.mute)
            output.say(
                "calling",
                f"Calling {printable(arguments.jid)} (Ctrl-C hangs up) …",
                channel=channel.path,
                contact=arguments.jid,
                video=arguments.video,
            )
            await channel.call(CALL, "Accept")
            return await Talk(
                channel,
                output,
                answers,
                guard,
                verify=arguments.verify and not guard.verified,
                seconds=arguments.seconds,
            ).run()
        finally:
            # Closing hangs up, and lets the other side know.
            await asyncio.shield(channel.close())
    finally:
        if will_answer:
            await asyncio.shield(connection.withdraw("call"))


def request(arguments: argparse.Namespace, guard: Guard) -> dict[str, object]:
    """The CreateChannel request, typed."""
    wanted: dict[str, object] = {
        names.CHANNEL + ".ChannelType": typed("s", CALL),
        names.CHANNEL + ".TargetHandleType": typed("u", names.HANDLE_TYPE_CONTACT),
        names.CHANNEL + ".TargetID": typed("s", arguments.jid),
        CALL + ".InitialAudio": typed("b", True),
    }
    if arguments.video:
        wanted[CALL + ".InitialVideo"] = typed("b", True)
    if guard.verified:
        wanted[names.SECURITY + ".RequireVerified"] = typed("b", True)
    return wanted


async def hangup(arguments: argparse.Namespace, output: Output) -> int:
    """``tpe2e hangup``; returns the exit code."""
    bus = await Bus.connect()
    try:
        going = await _going_on(bus, arguments.account)
        if arguments.jid is not None:
            check_jid(arguments.jid)
            going = [each for each in going if same_account(each.target, arguments.jid)]
        if not going:
            whom = f" with {arguments.jid}" if arguments.jid is not None else ""
            raise NotConnected(f"There is no call{whom}.")
        contacts = {each.target for each in going}
        if arguments.jid is None and len(contacts) > 1:
            listed = ", ".join(sorted(printable(each) for each in contacts))
            raise UsageError(f"There are several calls; name one of these: {listed}")
        for channel in going:
            await hang_up(channel)
            output.say(
                "hung-up",
                f"Hung up on {printable(channel.target)}.",
                channel=channel.path,
                contact=channel.target,
            )
        return OK
    finally:
        await bus.close()


async def _going_on(bus: Bus, account: str | None) -> list[ChannelView]:
    if account is not None:
        following = [await the_connection(bus, account)]
    else:
        following = await connections(bus)
    calls = [
        channel
        for connection in following
        for channel in connection.channels.values()
        if channel.type == CALL
    ]
    for channel in calls:
        await channel.fill()
    return [channel for channel in calls if not is_over(channel)]
