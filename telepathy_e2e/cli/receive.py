"""``tpe2e receive``: wait for files, ask, and store them."""

from __future__ import annotations

import argparse
import asyncio
import hmac
import os
from pathlib import Path
from typing import Final

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import Bus, BusError
from telepathy_e2e.cli.exits import FAILED, OK, Exit, NotConnected, UsageError
from telepathy_e2e.cli.files import PartialFile, safe_name, sha256_of
from telepathy_e2e.cli.output import Output
from telepathy_e2e.cli.question import Answers
from telepathy_e2e.cli.send import done
from telepathy_e2e.cli.together import first, plain
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
from telepathy_e2e.cli.views import (
    ChannelView,
    ConnectionView,
    connections,
    same_account,
    the_connection,
)
from telepathy_e2e.cli.words import printable, size_text

# Transfers at the same time; further offers wait unanswered. More would only share the disk.
MAX_PARALLEL: Final = 8


async def run(arguments: argparse.Namespace, output: Output, answers: Answers) -> int:
    """The command; returns the exit code, with ``--once`` that of the one transfer."""
    guard = Guard(arguments.require)
    if not output.can_ask and not arguments.accept_all:
        raise UsageError("Nobody can be asked here: add --accept-all, and --from to limit it.")
    if arguments.verify or guard.verified:
        answers.check(output, "--verify" if arguments.verify else "--require verified")
    directory = _directory(arguments.dir)
    bus = await Bus.connect()
    try:
        if arguments.account is not None:
            following = [await the_connection(bus, arguments.account)]
        else:
            following = [c for c in await connections(bus) if c.status == names.CONNECTED]
        if not following:
            raise NotConnected("Nobody is logged in: run 'tpe2e connect ACCOUNT' first.")
        receiver = _Receiver(arguments, directory, guard, output, answers)
        return await receiver.run(following)
    finally:
        await bus.close()


def _directory(name: str) -> Path:
    directory = Path(name)
    if not directory.is_dir() or not os.access(directory, os.W_OK | os.X_OK):
        raise UsageError(f"{directory} is not a directory that can be written to: see --dir.")
    return directory


class _Receiver:
    def __init__(
        self,
        arguments: argparse.Namespace,
        directory: Path,
        guard: Guard,
        output: Output,
        answers: Answers,
    ) -> None:
        self._arguments = arguments
        self._directory = directory
        self._guard = guard
        self._output = output
        self._answers = answers
        self._seen: set[str] = set()
        self._places = asyncio.Semaphore(MAX_PARALLEL)
        self._prompt = asyncio.Lock()

    async def run(self, following: list[ConnectionView]) -> int:
        types = [names.FILE_TRANSFER]
        if self._output.can_ask or self._answers.given:
            types.append(names.PEER_VERIFICATION)
        try:
            for connection in following:
                await connection.announce("receive", *types)
            accounts = ", ".join(connection.account for connection in following)
            self._output.say(
                "waiting",
                f"Waiting for files to {printable(accounts)}, into {self._directory} "
                "(Ctrl-C ends it) …",
                accounts=[connection.account for connection in following],
                directory=str(self._directory),
            )
            _, code = await first(*(self._follow(connection) for connection in following))
            return int(code)
        finally:
            for connection in following:
                await asyncio.shield(connection.withdraw("receive"))

    async def _follow(self, connection: ConnectionView) -> int:
        """Take what one connection offers; ends with ``--once``, or with the connection."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int] = loop.create_future()
        try:
            async with asyncio.TaskGroup() as group:
                while not ended.done():
                    await connection.wait(
                        lambda: (
                            ended.done()
                            or connection.status != names.CONNECTED
                            or self._next(connection) is not None
                        )
                    )
                    if connection.status != names.CONNECTED and not ended.done():
                        raise NotConnected(f"{connection.account} is not logged in any more.")
                    channel = self._next(connection)
                    if channel is None or ended.done():
                        continue
                    self._seen.add(channel.path)
                    task = self._one(channel, ended)
                    if self._arguments.once:
                        await task
                    else:
                        group.create_task(task)
        except BaseExceptionGroup as failed:
            raise plain(failed) from None
        return ended.result()

    def _next(self, connection: ConnectionView) -> ChannelView | None:
        for channel in connection.channels.values():
            if (
                channel.type == FT
                and not channel.requested
                and not channel.closed
                and channel.path not in self._seen
                and self._wanted(channel)
            ):
                return channel
        return None

    def _wanted(self, channel: ChannelView) -> bool:
        sender: str | None = self._arguments.sender
        return sender is None or same_account(channel.target, sender)

    async def _one(self, channel: ChannelView, ended: asyncio.Future[int]) -> None:
        """One offer, from the question whether to take it to its end."""
        async with self._places:
            try:
                await channel.fill()
                if channel.state != names.PENDING or not await self._agreed(channel):
                    return
                await self._take(channel)
                code = OK
            except Exit as error:
                if channel.lost:
                    raise
                self._output.fail(error)
                code = error.code
            finally:
                await asyncio.shield(channel.close())
        if self._arguments.once and not ended.done():
            ended.set_result(code)

    async def _agreed(self, channel: ChannelView) -> bool:
        name = safe_name(str(channel.get(FT, "Filename", "")))
        size = int(channel.get(FT, "Size", names.UNKNOWN_SIZE))
        description = str(channel.get(FT, "Description") or "")
        contact = printable(channel.target)
        about = f' ("{printable(description)}")' if description else ""
        self._output.say(
            "offer",
            f"{contact} offers {printable(name)}, {size_text(size)}{about}.",
            style="bold",
            channel=channel.path,
            contact=channel.target,
            file=name,
            size=None if size == names.UNKNOWN_SIZE else size,
            description=description,
            sha256=_announced_hash(channel),
        )
        if self._arguments.accept_all:
            return True
        async with self._prompt:
            answer = await channel.unless(
                lambda: channel.state != names.PENDING or channel.closed,
                self._output.ask("Accept it?", {"y": "", "n": ""}),
            )
        if answer == "y":
            return True
        if answer == "":
            self._output.say("withdrawn", f"{contact} took the offer back.", channel=channel.path)
        else:
            self._output.say("declined", "Declined.", channel=channel.path)
        return False

    async def _take(self, channel: ChannelView) -> None:
        reporter = Reporter(channel, self._output)
        if self._arguments.verify or self._guard.verified:
            await channel.call(names.SECURITY, "Verify")
        name = safe_name(str(channel.get(FT, "Filename", "")))
        announced = int(channel.get(FT, "Size", names.UNKNOWN_SIZE))
        size = None if announced == names.UNKNOWN_SIZE else announced
        partial = PartialFile(self._directory, name, _key(channel, name, size), size)
        try:
            await first(
                self._transfer(channel, partial, size, reporter),
                watch_questions(channel, self._output, self._answers),
                reporter.follow(),
            )
        finally:
            partial.close()

    async def _transfer(
        self, channel: ChannelView, partial: PartialFile, size: int | None, reporter: Reporter
    ) -> None:
        loop = asyncio.get_running_loop()
        kind, control = socket_choice(channel.get(FT, "AvailableSocketTypes") or {})
        try:
            address = await channel.call(
                FT, "AcceptFile", "uuvt", kind, control, no_parameter(), partial.offset
            )
        except BusError:
            if channel.state == names.CANCELLED:
                raise await failure(channel) from None
            raise
        self._output.say("accepted", "Accepted; waiting for the data …", channel=channel.path)
        await reach(channel, names.OPEN)
        await reporter.tell(even_none=True)
        self._guard.check(channel)
        # What the sender agreed to, which may be less than what was asked for.
        offset = int(channel.get(FT, "InitialOffset") or 0)
        partial.start_at(offset)
        if offset:
            self._output.say(
                "resumed", f"{size_text(offset)} of it are here already.", offset=offset
            )
        digest = await sha256_of(partial.fd, offset)
        started = loop.time()
        sock = await open_socket(kind, address)
        with sock, self._output.meter(partial.name, size, offset) as meter:
            buffer = memoryview(bytearray(CHUNK))
            while True:
                try:
                    count = await loop.sock_recv_into(sock, buffer)
                except OSError:
                    break  # the state says why
                if not count:
                    break
                if size is not None and partial.offset + count > size:
                    partial.discard()
                    raise Exit(FAILED, "More came than was announced.")
                partial.write(buffer[:count])
                digest.update(buffer[:count])
                meter.moved(partial.offset)
        await reach(channel, names.COMPLETED)
        seconds = loop.time() - started
        got = digest.hexdigest()
        self._check(channel, partial, size, got)
        target = partial.finish(int(channel.get(FT, "Date") or 0))
        self._output.show(f"SHA-256 {got}")
        done(
            channel,
            self._output,
            partial.offset - offset,
            seconds,
            target.name,
            channel.target,
            path=str(target),
            sha256=got,
            sha256_announced=_announced_hash(channel),
        )

    def _check(
        self, channel: ChannelView, partial: PartialFile, size: int | None, got: str
    ) -> None:
        """The whole file against what was announced; where it was resumed, only this side can."""
        if size is not None and partial.offset != size:
            raise Exit(FAILED, "The file is shorter than announced.")
        announced = _announced_hash(channel)
        if announced and not hmac.compare_digest(announced.encode(), got.encode()):
            partial.discard()
            raise Exit(FAILED, "The file is not the one that was announced: its hash differs.")


def _announced_hash(channel: ChannelView) -> str:
    """SHA-256 from the offer as lower-case hex, or empty."""
    if channel.get(FT, "ContentHashType") != names.HASH_SHA256:
        return ""
    return str(channel.get(FT, "ContentHash") or "").lower()


def _key(channel: ChannelView, name: str, size: int | None) -> str:
    """What makes an interrupted file the same one; empty where nothing could tell."""
    digest = _announced_hash(channel)
    if not digest or size is None:
        return ""
    sender = channel.target.partition("/")[0]
    return "\0".join(
        (channel.connection.account.partition("/")[0], sender, name, str(size), digest)
    )
