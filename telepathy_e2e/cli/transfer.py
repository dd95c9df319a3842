"""What sending and receiving have in common: waiting for the daemon, its socket, the end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

from telepathy_e2e.cli import names
from telepathy_e2e.cli.bus import typed
from telepathy_e2e.cli.exits import FAILED, UNPROTECTED, UNVERIFIED, Exit
from telepathy_e2e.cli.output import Output
from telepathy_e2e.cli.question import Answers, answer
from telepathy_e2e.cli.views import ChannelView
from telepathy_e2e.cli.words import Protection, printable

FT: Final = names.FILE_TRANSFER

CHUNK: Final = 1 << 18


class Guard:
    """What --require asks for, checked again on this side before a byte moves."""

    def __init__(self, require: str | None) -> None:
        self.encrypted = require in ("encrypted", "verified")
        self.verified = require == "verified"

    def check(self, channel: ChannelView) -> None:
        """Raises: Exit if the channel is less protected than demanded."""
        protection = Protection(channel)
        if self.encrypted and not protection.encrypted:
            raise Exit(UNPROTECTED, "The channel is not encrypted, as --require demands.")
        if self.verified and not protection.verified:
            raise Exit(UNPROTECTED, "The peer is not verified, as --require demands.")


def socket_choice(available: dict[int, list[int]]) -> tuple[int, int]:
    """The kind of socket to ask for: a Unix one if the daemon has it, with its weakest access
    control (the daemon looks at the user who connects), else IPv4.

    Raises:
        Exit: the daemon offers none of those.
    """
    for kind in (names.UNIX, names.IPV4):
        if names.LOCALHOST in available.get(kind, ()):
            return kind, names.LOCALHOST
    raise Exit(FAILED, "The daemon offers no kind of socket that tpe2e can use.")


def no_parameter() -> object:
    """The parameter of access control Localhost: any variant, ignored."""
    return typed("s", "")


async def open_socket(kind: int, address: Any) -> socket.socket:
    """Connect to the address that ProvideFile or AcceptFile returned.

    Raises:
        Exit: nobody listens there (any more).
    """
    loop = asyncio.get_running_loop()
    if kind == names.UNIX:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        where: Any = bytes(address).rstrip(b"\0")
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        where = tuple(address)
    sock.setblocking(False)
    try:
        await loop.sock_connect(sock, where)
    except OSError as error:
        sock.close()
        raise Exit(FAILED, f"The daemon's socket is gone ({error.strerror}).") from error
    except asyncio.CancelledError:
        sock.close()
        raise
    return sock


async def reach(channel: ChannelView, state: int) -> None:
    """Wait until the transfer has come to ``state``.

    Raises:
        Exit: it was cancelled, or closed, before.
    """
    await channel.wait(lambda: channel.state >= state or channel.closed)
    if channel.state == names.CANCELLED or (channel.closed and channel.state < state):
        raise await failure(channel)


async def failure(channel: ChannelView) -> Exit:
    """Why a transfer ended badly, with the exit code that fits."""
    if (error := await channel.why()) is not None:
        return error
    contact = printable(channel.target)
    if channel.state_reason == names.REMOTE_STOPPED:
        return Exit(FAILED, f"{contact} declined, or stopped the transfer.")
    if channel.state_reason == names.LOCAL_STOPPED:
        return Exit(FAILED, "The transfer was stopped on this side.")
    return Exit(FAILED, "The transfer failed.")


async def watch_questions(channel: ChannelView, output: Output, answers: Answers) -> None:
    """Answer every question about ``channel``, one after the other, until cancelled.

    Raises:
        Exit: the answer was no.
    """
    connection = channel.connection
    seen: set[str] = set()

    def fresh() -> ChannelView | None:
        question = connection.question_about(channel.path)
        if question is None or (question.path in seen and not _raised_again(question, answers)):
            return None
        return question

    while True:
        await connection.wait(lambda: fresh() is not None)
        question = fresh()
        if question is None:
            continue
        seen.add(question.path)
        question.finished = None
        state, _ = await answer(question, output, answers)
        if not state:
            # Left to somebody else: the same beginning of the other side is no news any more.
            question.peer_started = ""
        if state == "rejected":
            raise Exit(UNVERIFIED, f"{printable(channel.target)} was not verified.")


def _raised_again(question: ChannelView, answers: Answers) -> bool:
    """Whether a question that was put off comes back: the other side wants to compare now. Who
    only ever says to go on has nothing to add.
    """
    return bool(question.peer_started) and answers.on_unverified is None


class Reporter:
    """Says how a channel is protected, whenever that changes."""

    def __init__(self, channel: ChannelView, output: Output) -> None:
        self._channel = channel
        self._output = output
        self._said: str | None = None

    async def tell(self, *, even_none: bool) -> None:
        """Say it if it is news; ``even_none`` also says that there is no protection."""
        # "Encrypted" and how it is encrypted come in two signals: read the whole picture.
        await self._channel.read(names.SECURITY)
        protection = Protection(self._channel)
        level = protection.level
        if level == self._said or (level == "none" and not even_none):
            return
        self._said = level
        detail = ", ".join(part for part in (protection.suite, protection.exchange) if part)
        self._output.say(
            "protection",
            f"Protection: {protection.sentence}{f' ({printable(detail)})' if detail else ''}.",
            style={"none": "bold red", "encrypted": "yellow", "verified": "bold green"}[level],
            channel=self._channel.path,
            contact=self._channel.target,
            **protection.fields(),
        )

    async def follow(self) -> None:
        """Tell every change until cancelled."""
        while True:
            level = Protection(self._channel).level
            await self.tell(even_none=False)
            await self._channel.wait(_differs(self._channel, level))


def _differs(channel: ChannelView, level: str) -> Callable[[], bool]:
    return lambda: Protection(channel).level != level
