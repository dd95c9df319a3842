"""``tpe2e send``: offer a file, hand it over, and see it confirmed."""

from __future__ import annotations

import argparse
import asyncio
import mimetypes
import os
import socket
from pathlib import Path

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import Bus, typed
from telepathy_e2e.cli.exits import FAILED, OK, Exit, UsageError
from telepathy_e2e.cli.files import SourceFile, open_source, sha256_of
from telepathy_e2e.cli.output import Meter, Output
from telepathy_e2e.cli.question import Answers
from telepathy_e2e.cli.together import first
from telepathy_e2e.cli.transfer import (
    CHUNK,
    FT,
    Guard,
    Reporter,
    failure,
    no_parameter,
    open_socket,
    reach,
    socket_choice,
    watch_questions,
)
from telepathy_e2e.cli.views import ChannelView, the_connection
from telepathy_e2e.cli.words import Protection, printable, size_text

# Bytes handed to sendfile at once: enough to keep the daemon busy, and still a smooth bar.
SENDFILE_SIZE = 16 * CHUNK


async def run(arguments: argparse.Namespace, output: Output, answers: Answers) -> int:
    """The command; returns the exit code."""
    guard = Guard(arguments.require)
    if arguments.verify or guard.verified:
        answers.check(output, "--verify" if arguments.verify else "--require verified")
    if "@" not in arguments.jid.partition("/")[0]:
        raise UsageError(f"{arguments.jid} is not a JID: it looks like bob@example.org.")
    source = open_source(Path(arguments.file))
    try:
        output.say(
            "hashing",
            f"{printable(source.name)}: {size_text(source.size)}, computing its SHA-256 …",
            file=source.name,
            size=source.size,
        )
        digest = (await sha256_of(source.fd, source.size)).hexdigest()
        bus = await Bus.connect()
        try:
            return await _send(bus, source, digest, guard, arguments, output, answers)
        finally:
            await bus.close()
    finally:
        source.close()


async def _send(
    bus: Bus,
    source: SourceFile,
    digest: str,
    guard: Guard,
    arguments: argparse.Namespace,
    output: Output,
    answers: Answers,
) -> int:
    connection = await the_connection(bus, arguments.account)
    will_answer = arguments.verify or guard.verified
    if will_answer:
        await connection.announce("send", names.PEER_VERIFICATION)
    try:
        channel = await connection.create_channel(
            request(source, digest, arguments.jid, guard, arguments.description)
        )
        output.say(
            "offered",
            f"Offered to {printable(arguments.jid)}; waiting for an answer. SHA-256 {digest}",
            channel=channel.path,
            contact=arguments.jid,
            file=source.name,
            size=source.size,
            sha256=digest,
        )
        try:
            await channel.fill()
            if arguments.verify:
                await channel.call(names.SECURITY, "Verify")
            reporter = Reporter(channel, output)
            await first(
                _transfer(channel, source, guard, output, reporter),
                watch_questions(channel, output, answers),
                reporter.follow(),
            )
        finally:
            await asyncio.shield(channel.close())
    finally:
        if will_answer:
            await asyncio.shield(connection.withdraw("send"))
    return OK


def request(
    source: SourceFile, digest: str, jid: str, guard: Guard, description: str
) -> dict[str, object]:
    """The CreateChannel request, typed."""
    content_type = mimetypes.guess_type(source.name)[0] or "application/octet-stream"
    wanted: dict[str, object] = {
        names.CHANNEL + ".ChannelType": typed("s", FT),
        names.CHANNEL + ".TargetHandleType": typed("u", names.HANDLE_TYPE_CONTACT),
        names.CHANNEL + ".TargetID": typed("s", jid),
        FT + ".Filename": typed("s", source.name),
        FT + ".Size": typed("t", source.size),
        FT + ".ContentType": typed("s", content_type),
        FT + ".ContentHashType": typed("u", names.HASH_SHA256),
        FT + ".ContentHash": typed("s", digest),
        FT + ".Description": typed("s", description),
        FT + ".Date": typed("x", source.modified),
    }
    if guard.encrypted:
        wanted[names.SECURITY + ".RequireEncrypted"] = typed("b", True)
    if guard.verified:
        wanted[names.SECURITY + ".RequireVerified"] = typed("b", True)
    return wanted


async def _transfer(
    channel: ChannelView, source: SourceFile, guard: Guard, output: Output, reporter: Reporter
) -> None:
    kind, control = socket_choice(channel.get(FT, "AvailableSocketTypes") or {})
    try:
        address = await channel.call(FT, "ProvideFile", "uuv", kind, control, no_parameter())
    except Exit:
        if channel.state == names.CANCELLED:
            raise await failure(channel) from None
        raise
    await reach(channel, names.ACCEPTED)
    output.say("accepted", f"{printable(channel.target)} accepted.", channel=channel.path)
    await reach(channel, names.OPEN)
    await reporter.tell(even_none=True)
    # The daemon keeps the demand; that no byte even reaches it otherwise is one more line.
    guard.check(channel)
    offset = int(channel.get(FT, "InitialOffset") or 0)
    if offset:
        output.say("resumed", f"{size_text(offset)} of it are there already.", offset=offset)
    loop = asyncio.get_running_loop()
    started = loop.time()
    if channel.state == names.OPEN:
        sock = await open_socket(kind, address)
        with sock, output.meter(source.name, source.size, offset) as meter:
            await _hand_over(sock, source, offset, meter)
            await reach(channel, names.COMPLETED)
    seconds = loop.time() - started
    done(channel, output, source.size - offset, seconds, source.name, str(channel.target))


async def _hand_over(sock: socket.socket, source: SourceFile, offset: int, meter: Meter) -> None:
    """Give the daemon the file from ``offset`` on. If it takes no more, its state says why.

    Raises:
        Exit: the file is shorter than it was.
    """
    loop = asyncio.get_running_loop()
    position = offset
    with os.fdopen(source.fd, "rb", buffering=0, closefd=False) as file:
        try:
            while position < source.size:
                count = min(SENDFILE_SIZE, source.size - position)
                moved = await loop.sock_sendfile(sock, file, position, count)
                if not moved:
                    raise Exit(FAILED, "The file became shorter while it was sent.")
                position += moved
                meter.moved(position)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            return


def done(
    channel: ChannelView,
    output: Output,
    count: int,
    seconds: float,
    name: str,
    contact: str,
    **fields: object,
) -> None:
    """The closing sentence of a transfer that worked."""
    protection = Protection(channel)
    speed = f", {size_text(int(count / seconds))}/s" if count and seconds > 0 else ""
    output.say(
        "done",
        f"Done: {printable(name)}, {size_text(count)} in {seconds:.1f} s{speed}; "
        f"{protection.sentence}.",
        style={"none": "bold red", "encrypted": "yellow", "verified": "bold green"}[
            protection.level
        ],
        channel=channel.path,
        contact=contact,
        file=name,
        bytes=count,
        seconds=round(seconds, 6),
        **protection.fields(),
        **fields,
    )
