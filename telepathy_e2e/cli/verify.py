"""``tpe2e verify``: is the peer of a running channel really Bob?"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys

from telepathy_e2e.cli import names, qr
from telepathy_e2e.cli.bus import Bus, BusError
from telepathy_e2e.cli.exits import NOT_CONNECTED, OK, UNVERIFIED, Exit, NotConnected, UsageError
from telepathy_e2e.cli.output import Output
from telepathy_e2e.cli.question import Answers, answer
from telepathy_e2e.cli.views import ChannelView, ConnectionView, connections, same_account
from telepathy_e2e.cli.words import Protection, printable, verification_uri

_PATH = re.compile(r"(/[A-Za-z0-9_]+)+\Z")


async def run(arguments: argparse.Namespace, output: Output, answers: Answers) -> int:
    """The command; returns the exit code."""
    answers.check(output, "verify")
    bus = await Bus.connect()
    try:
        found = await connections(bus)
        channel = _pick(found, arguments.target)
        connection = channel.connection
        await connection.announce("verify", names.PEER_VERIFICATION)
        try:
            return await _verify(channel, output, answers)
        finally:
            if not connection.lost:
                with contextlib.suppress(Exit):
                    await connection.announce("verify")
    finally:
        await bus.close()


def _pick(found: list[ConnectionView], target: str | None) -> ChannelView:
    """The running channel that is meant.

    Raises:
        UsageError: the target makes no sense, or several are meant.
        NotConnected: there is none.
    """
    if not found:
        raise NotConnected("Nobody is logged in: run 'tpe2e connect ACCOUNT' first.")
    running = [
        channel
        for connection in found
        for channel in connection.channels.values()
        if channel.type not in (names.PEER_VERIFICATION, names.SERVER_TLS) or _alone(channel)
    ]
    if target is None:
        chosen, what = running, "any contact"
    elif target.startswith("/"):
        if not _PATH.match(target):
            raise UsageError(f"{target} is not a channel: 'tpe2e status --json' shows them.")
        chosen = [channel for channel in running if _about(channel) == _payload(found, target)]
        what = "that path"
    elif "@" in target:
        chosen = [channel for channel in running if same_account(channel.target, target)]
        what = target
    else:
        raise UsageError(f"{target} is neither a JID (bob@example.org) nor a channel's path.")
    if not chosen:
        raise NotConnected(
            f"There is no running channel with {what}: start a transfer, then verify it."
        )
    if len(chosen) > 1:
        paths = " ".join(channel.path for channel in chosen)
        raise UsageError(f"There are several; name one of these: {paths}")
    return chosen[0]


def _alone(channel: ChannelView) -> bool:
    """Whether it is a question about what is no channel: a stream between two programs."""
    return (
        channel.type == names.PEER_VERIFICATION
        and _about(channel) not in channel.connection.channels
    )


def _about(channel: ChannelView) -> str:
    """The path of the payload of a question; of any other channel, its own."""
    if channel.type != names.PEER_VERIFICATION:
        return channel.path
    return str(channel.get(names.PEER_VERIFICATION, "PayloadChannel"))


def _payload(found: list[ConnectionView], path: str) -> str:
    """The payload channel of a question's path; any other path is itself."""
    for connection in found:
        channel = connection.channels.get(path)
        if channel is not None and channel.type == names.PEER_VERIFICATION:
            return _about(channel)
    return path


async def _verify(channel: ChannelView, output: Output, answers: Answers) -> int:
    connection = channel.connection
    contact = printable(channel.target)
    if channel.type == names.PEER_VERIFICATION:
        state, _ = await answer(channel, output, answers)
        return OK if state == "verified" else UNVERIFIED
    try:
        await channel.call(names.SECURITY, "Verify")
    except BusError as error:
        if error.code == NOT_CONNECTED:
            raise NotConnected(f"The channel with {contact} is gone.", error.error) from error
        raise Exit(
            UNVERIFIED, f"{contact} cannot be verified here: {error}", error.error
        ) from error
    question = connection.question_about(channel.path)
    if question is None:
        output.say("waiting", "Waiting until the channel is encrypted …", channel=channel.path)
        await connection.wait(
            lambda: connection.question_about(channel.path) is not None or channel.closed
        )
        question = connection.question_about(channel.path)
    if question is None:
        raise Exit(UNVERIFIED, f"The channel with {contact} ended before it could be verified.")
    await channel.fill()
    _show_own(channel, output)
    state, _ = await answer(question, output, answers)
    if state == "verified":
        return OK
    if state == "":
        raise Exit(UNVERIFIED, "The channel ended before it was verified.")
    return UNVERIFIED


def _show_own(channel: ChannelView, output: Output) -> None:
    """What the other side can scan: the own fingerprint as URI and QR code."""
    own = Protection(channel).own_fingerprints.get("sha-256", "")
    if not own:
        return
    uri = verification_uri(channel.connection.account.partition("/")[0], own)
    output.show("To be scanned on the other side (your own fingerprint):")
    drawn = qr.for_terminal(uri, sys.stdout)
    if drawn:
        output.show(drawn)
    output.show(f"  {uri}")
    output.say("own-uri", "", uri=uri)
