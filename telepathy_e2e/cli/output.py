"""What tpe2e says and asks: to a person on a terminal, or as one JSON object a line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import termios
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from telepathy_e2e.cli.exits import Exit, UsageError
from telepathy_e2e.cli.keys import Keys
from telepathy_e2e.cli.words import printable

STYLES: Final = {"none": "bold red", "encrypted": "yellow", "verified": "bold green"}

# Seconds between two lines of progress in JSON, and two redraws of the bar.
PROGRESS_INTERVAL: Final = 0.5

# The longest line that is read as an answer; more is not an answer.
MAX_LINE: Final = 4096


class Meter(Protocol):
    """Shows how far one transfer is."""

    def moved(self, count: int) -> None:
        """``count`` bytes of the file are there by now, in all."""


class Line(Protocol):
    """What changes all the time, in its place on a terminal.

    Attributes:
        visible: whether there is such a place; elsewhere events have to do.
    """

    visible: bool

    def set(self, text: str) -> None:
        """What stands there from now on; it may have several lines."""


class Output(Protocol):
    """Where a command speaks."""

    can_ask: bool

    def say(self, event: str, sentence: str, style: str = "", **fields: object) -> None:
        """Something happened: a sentence for people, a name and fields for programs."""

    def show(self, text: str) -> None:
        """Something for eyes only (a QR code, a block of digits)."""

    def fail(self, error: Exit) -> None:
        """Why the command ends."""

    def meter(
        self, name: str, size: int | None, start: int
    ) -> contextlib.AbstractContextManager[Meter]:
        """A progress bar for as long as the context lasts."""

    def line(self) -> contextlib.AbstractContextManager[Line]:
        """A line that changes, for as long as the context lasts."""

    def keys(self, pressed: Callable[[str], None]) -> contextlib.AbstractContextManager[None]:
        """Call ``pressed`` with each key that somebody presses, except while a question is asked;
        nothing where there is no terminal.
        """

    async def ask(self, question: str, choices: dict[str, str], default: str = "") -> str:
        """Ask for one of ``choices`` (key to meaning); an empty answer is ``default``, or asks
        again where there is none.
        """

    async def ask_secret(self, question: str) -> str:
        """Ask for a line that is not shown while it is typed."""


async def read_line(stream: TextIO) -> str:
    """One line from a terminal, pipe or file, without its end; it can be cancelled at any time.

    Raises:
        EOFError: there is no more.
    """
    fd = stream.fileno()
    line = bytearray()
    while True:
        await _readable(fd)
        # Byte by byte: what follows the line belongs to the next question.
        byte = os.read(fd, 1)
        if not byte and not line:
            raise EOFError
        if byte in (b"\n", b"") or len(line) >= MAX_LINE:
            return line.decode("utf-8", "replace").strip()
        line += byte


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(fd, ready.set)
    except PermissionError:
        return  # a regular file is always ready
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


class JsonOutput:
    """One JSON object a line on ``stream``; never asks."""

    can_ask = False

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, event: str, sentence: str, style: str = "", **fields: object) -> None:
        print(
            json.dumps({"event": event, **fields, "message": sentence}),
            file=self._stream,
            flush=True,
        )

    def show(self, text: str) -> None:
        pass

    def fail(self, error: Exit) -> None:
        self.say("error", str(error), code=error.code, error=error.error)

    @contextlib.contextmanager
    def meter(self, name: str, size: int | None, start: int) -> Iterator[Meter]:
        yield _JsonMeter(self, name, size)

    @contextlib.contextmanager
    def line(self) -> Iterator[Line]:
        yield _NoLine()

    @contextlib.contextmanager
    def keys(self, pressed: Callable[[str], None]) -> Iterator[None]:
        yield

    async def ask(self, question: str, choices: dict[str, str], default: str = "") -> str:
        raise UsageError("--json asks no questions: give the answer as an option.")

    async def ask_secret(self, question: str) -> str:
        raise UsageError("--json asks no questions: give the answer as an option.")


class _NoLine:
    visible = False

    def set(self, text: str) -> None:
        pass


class _JsonMeter:
    def __init__(self, output: JsonOutput, name: str, size: int | None) -> None:
        self._output = output
        self._name = name
        self._size = size
        self._next = 0.0

    def moved(self, count: int) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._next or count == self._size:
            self._next = now + PROGRESS_INTERVAL
            self._output.say("progress", "", file=self._name, bytes=count, size=self._size)


class HumanOutput:
    """Sentences, colours and a progress bar; asks on ``stdin`` if that is a terminal."""

    def __init__(self, stdout: TextIO, stderr: TextIO, stdin: TextIO) -> None:
        self.console = Console(file=stdout, highlight=False, soft_wrap=True)
        self._errors = Console(file=stderr, highlight=False, soft_wrap=True)
        self._stdin = stdin
        self.can_ask = stdin.isatty()
        self._progress: Progress | None = None
        self._live: Live | None = None
        self._keys: Keys | None = None
        self._asking = asyncio.Lock()

    def say(self, event: str, sentence: str, style: str = "", **fields: object) -> None:
        if sentence:
            self.console.print(printable(sentence, 1000), style=style or None, markup=False)

    def show(self, text: str) -> None:
        self.console.print(text, markup=False)

    def fail(self, error: Exit) -> None:
        self._errors.print("tpe2e: " + printable(str(error), 1000), style="red", markup=False)

    @contextlib.contextmanager
    def meter(self, name: str, size: int | None, start: int) -> Iterator[Meter]:
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.fields[label]}", markup=False),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
        progress = self._progress
        task = progress.add_task("", total=size, completed=start, label=printable(name, 40))
        progress.start()
        try:
            yield _Bar(progress, task)
        finally:
            progress.remove_task(task)
            if not progress.task_ids:
                progress.stop()

    @contextlib.contextmanager
    def line(self) -> Iterator[Line]:
        if not self.console.is_terminal:
            yield _NoLine()
            return
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        self._live.start()
        try:
            yield _LiveLine(self._live)
        finally:
            self._live.stop()
            self._live = None

    @contextlib.contextmanager
    def keys(self, pressed: Callable[[str], None]) -> Iterator[None]:
        if not self.can_ask:
            yield
            return
        self._keys = Keys(self._stdin, pressed)
        self._keys.start()
        try:
            yield
        finally:
            self._keys.stop()
            self._keys = None

    @contextlib.asynccontextmanager
    async def _quiet(self) -> AsyncIterator[None]:
        """The terminal for one question: nothing moves meanwhile, no key means anything else, and
        there is no second question.
        """
        async with self._asking:
            moving = self._progress is not None and self._progress.live.is_started
            if moving and self._progress is not None:
                self._progress.stop()
            if self._live is not None:
                self._live.stop()
            if self._keys is not None:
                self._keys.stop()
            try:
                yield
            finally:
                if moving and self._progress is not None and self._progress.task_ids:
                    self._progress.start()
                if self._live is not None:
                    self._live.start()
                if self._keys is not None:
                    self._keys.start()

    async def ask(self, question: str, choices: dict[str, str], default: str = "") -> str:
        if not self.can_ask:
            raise UsageError("There is no terminal to ask on: give the answer as an option.")
        keys = list(choices)
        hint = "/".join(key.upper() if key == default else key for key in keys)
        async with self._quiet():
            for key, meaning in choices.items():
                if meaning:
                    self.console.print(f"  {key}  {meaning}", markup=False)
            while True:
                self.console.print(f"{printable(question, 1000)} [{hint}] ", end="", markup=False)
                self.console.file.flush()
                try:
                    answer = (await read_line(self._stdin)).lower()
                except EOFError:
                    raise UsageError("The terminal was closed before the answer.") from None
                if not answer and default:
                    return default
                for key in keys:
                    if answer == key or (key in ("y", "n") and answer in (_WORDS[key], key)):
                        return key
                self.console.print(f"Please answer with one of {', '.join(keys)}.")

    async def ask_secret(self, question: str) -> str:
        if not self.can_ask:
            raise UsageError("There is no terminal to ask on: give the answer as an option.")
        async with self._quiet():
            self.console.print(f"{printable(question, 1000)} ", end="", markup=False)
            self.console.file.flush()
            try:
                with _without_echo(self._stdin):
                    return await read_line(self._stdin)
            except EOFError:
                raise UsageError("The terminal was closed before the answer.") from None
            finally:
                self.console.print()


@contextlib.contextmanager
def _without_echo(terminal: TextIO) -> Iterator[None]:
    """What is typed is not shown, however this ends."""
    fd = terminal.fileno()
    before = termios.tcgetattr(fd)
    hidden = list(before)
    hidden[3] &= ~termios.ECHO
    # What was typed before the question is not the answer to it (as getpass does).
    termios.tcsetattr(fd, termios.TCSAFLUSH, hidden)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


_WORDS: Final = {"y": "yes", "n": "no"}


class _LiveLine:
    visible = True

    def __init__(self, live: Live) -> None:
        self._live = live

    def set(self, text: str) -> None:
        self._live.update(Text(text, no_wrap=True, overflow="ellipsis"))
        # While a question is asked, the place of the line is taken.
        if self._live.is_started:
            self._live.refresh()


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def moved(self, count: int) -> None:
        self._progress.update(self._task, completed=count)


def make_output(json_lines: bool) -> Output:
    """The output for this run of the program."""
    if json_lines:
        return JsonOutput(sys.stdout)
    return HumanOutput(sys.stdout, sys.stderr, sys.stdin)
