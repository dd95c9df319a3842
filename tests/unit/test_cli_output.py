import asyncio
import io
import json
import os
import pty
import termios
from collections.abc import Iterator
from typing import TextIO

import pytest

from telepathy_e2e.cli import output as module
from telepathy_e2e.cli.exits import Exit, UsageError
from telepathy_e2e.cli.output import HumanOutput, JsonOutput, read_line
from tests.support.waiting import PATIENCE


@pytest.fixture
def terminal() -> Iterator[tuple[TextIO, int]]:
    """Our end of a terminal as a stream, and the end at which somebody types."""
    keyboard, ours = pty.openpty()
    with open(ours) as stream:
        yield stream, keyboard
    os.close(keyboard)


@pytest.fixture
def pipe() -> Iterator[tuple[TextIO, TextIO]]:
    reading, writing = os.pipe()
    with open(reading) as reader, open(writing, "w") as writer:
        yield reader, writer


async def test_a_line_is_read_and_the_next_one_left(pipe: tuple[TextIO, TextIO]) -> None:
    reader, writer = pipe
    writer.write("yes\nno\n")
    writer.flush()
    assert await read_line(reader) == "yes"
    assert await read_line(reader) == "no"


async def test_a_last_line_without_end_counts(pipe: tuple[TextIO, TextIO]) -> None:
    reader, writer = pipe
    writer.write("yes")
    writer.close()
    assert await read_line(reader) == "yes"
    with pytest.raises(EOFError):
        await read_line(reader)


async def test_an_endless_line_ends_at_the_bound(
    pipe: tuple[TextIO, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LINE", 8)
    reader, writer = pipe
    writer.write("x" * 20)
    writer.flush()
    assert await read_line(reader) == "x" * 8


async def test_reading_can_be_cancelled_and_taken_up_again(pipe: tuple[TextIO, TextIO]) -> None:
    reader, writer = pipe
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await read_line(reader)
    writer.write("yes\n")
    writer.flush()
    assert await read_line(reader) == "yes"


async def test_a_regular_file_can_answer(tmp_path: object) -> None:
    path = f"{tmp_path}/answers"
    with open(path, "w") as file:
        file.write("no\n")
    with open(path) as file:
        assert await read_line(file) == "no"


def test_json_is_one_object_a_line_whatever_the_peer_wrote() -> None:
    stream = io.StringIO()
    JsonOutput(stream).say("offer", "a\nb", file='x"\n{"event":"done"}\u2028')
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line) == {
        "event": "offer",
        "file": 'x"\n{"event":"done"}\u2028',
        "message": "a\nb",
    }


def test_a_failure_carries_its_exit_code_in_json() -> None:
    stream = io.StringIO()
    JsonOutput(stream).fail(Exit(3, "Not encrypted.", "org.example.Error"))
    assert json.loads(stream.getvalue()) == {
        "event": "error",
        "code": 3,
        "error": "org.example.Error",
        "message": "Not encrypted.",
    }


async def test_json_never_asks() -> None:
    with pytest.raises(UsageError):
        await JsonOutput(io.StringIO()).ask("Really?", {"y": "", "n": ""})


async def test_progress_in_json_is_sparse_and_reaches_the_end() -> None:
    stream = io.StringIO()
    with JsonOutput(stream).meter("a", 1000, 0) as meter:
        for count in range(1, 1001):
            meter.moved(count)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines[-1]["bytes"] == 1000
    assert len(lines) <= 3


def test_a_peer_writes_no_markup_and_no_escapes(terminal: tuple[TextIO, int]) -> None:
    out = io.StringIO()
    HumanOutput(out, out, terminal[0]).say("offer", "[red]x[/red] \x1b[2J\r")
    assert out.getvalue() == "[red]x[/red] \ufffd[2J\ufffd\n"


def test_errors_go_to_the_error_stream(terminal: tuple[TextIO, int]) -> None:
    out, errors = io.StringIO(), io.StringIO()
    HumanOutput(out, errors, terminal[0]).fail(Exit(1, "It failed."))
    assert out.getvalue() == ""
    assert errors.getvalue() == "tpe2e: It failed.\n"


async def test_a_person_is_asked_until_the_answer_is_one(terminal: tuple[TextIO, int]) -> None:
    stream, keyboard = terminal
    out = io.StringIO()
    output = HumanOutput(out, out, stream)
    assert output.can_ask
    os.write(keyboard, b"perhaps\n\nYES\n")
    assert await output.ask("Are they the same?", {"n": "differ", "y": "same"}) == "y"
    assert out.getvalue().count("Please answer") == 2


async def test_an_empty_answer_is_the_default_where_there_is_one(
    terminal: tuple[TextIO, int],
) -> None:
    stream, keyboard = terminal
    os.write(keyboard, b"\n")
    out = io.StringIO()
    assert await HumanOutput(out, out, stream).ask("Sure?", {"y": "", "n": ""}, "n") == "n"
    assert "[y/N]" in out.getvalue()


async def echoes(stream: TextIO) -> bool:
    return bool(termios.tcgetattr(stream)[3] & termios.ECHO)


async def test_a_secret_is_read_without_echo(terminal: tuple[TextIO, int]) -> None:
    stream, keyboard = terminal
    out = io.StringIO()
    asking = asyncio.ensure_future(HumanOutput(out, out, stream).ask_secret("The word:"))
    async with asyncio.timeout(PATIENCE):
        while await echoes(stream):
            await asyncio.sleep(0)
    os.write(keyboard, b"open sesame\n")
    assert await asking == "open sesame"
    assert await echoes(stream)
    assert out.getvalue() == "The word: \n"
    # Something that is echoed, so that there is something to read.
    os.write(keyboard, b"later\n")
    said = b""
    while b"later" not in said:
        said += os.read(keyboard, 100)
    assert b"sesame" not in said


async def test_the_echo_comes_back_when_nobody_wants_the_secret_any_more(
    terminal: tuple[TextIO, int],
) -> None:
    stream, _ = terminal
    output = HumanOutput(io.StringIO(), io.StringIO(), stream)
    asking = asyncio.ensure_future(output.ask_secret("The word:"))
    async with asyncio.timeout(PATIENCE):
        while await echoes(stream):
            await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    assert await echoes(stream)


async def test_without_a_terminal_nobody_is_asked(pipe: tuple[TextIO, TextIO]) -> None:
    output = HumanOutput(io.StringIO(), io.StringIO(), pipe[0])
    assert not output.can_ask
    for quiet in (output, JsonOutput(io.StringIO())):
        with pytest.raises(UsageError, match="option"):
            await quiet.ask_secret("The word:")
    with pytest.raises(UsageError, match="option"):
        await output.ask("Sure?", {"y": ""})


async def test_a_question_stops_the_moving_bar_and_it_moves_on(
    terminal: tuple[TextIO, int],
) -> None:
    stream, keyboard = terminal
    out = io.StringIO()
    output = HumanOutput(out, out, stream)
    with output.meter("a.txt", 100, 10) as meter:
        meter.moved(50)
        os.write(keyboard, b"y\n")
        assert await output.ask("Sure?", {"y": ""}) == "y"
        meter.moved(100)


async def test_keys_are_taken_one_by_one_except_while_a_question_is_asked(
    terminal: tuple[TextIO, int],
) -> None:
    stream, keyboard = terminal
    before = termios.tcgetattr(stream.fileno())
    output = HumanOutput(io.StringIO(), io.StringIO(), stream)
    keys: list[str] = []
    came = asyncio.Event()

    def pressed(key: str) -> None:
        keys.append(key)
        came.set()

    with output.keys(pressed):
        assert not await echoes(stream)
        os.write(keyboard, b"m")
        await asyncio.wait_for(came.wait(), PATIENCE)
        came.clear()
        os.write(keyboard, b"y\n")
        assert await output.ask("Sure?", {"y": ""}) == "y"
        os.write(keyboard, b"q")
        await asyncio.wait_for(came.wait(), PATIENCE)
    assert keys == ["m", "q"]
    assert termios.tcgetattr(stream.fileno()) == before


def test_a_line_changes_on_a_terminal_and_is_not_there_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    keyboard, ours = pty.openpty()
    with open(ours, "w") as screen:
        output = HumanOutput(screen, screen, io.StringIO())
        with output.line() as line:
            assert line.visible
            line.set("talking \x1b[2J [bold]")
        shown = b""
        while b"[bold]" not in shown:
            shown += os.read(keyboard, 4096)
    os.close(keyboard)
    quiet = HumanOutput(io.StringIO(), io.StringIO(), io.StringIO())
    for elsewhere in (quiet, JsonOutput(io.StringIO())):
        with elsewhere.line() as line, elsewhere.keys(lambda key: None):
            assert not line.visible
            line.set("talking")
