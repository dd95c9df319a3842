"""tpe2e as a process: signals, streams, exit codes."""

import asyncio
import json
import os
import pty
import signal
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Variant

from telepathy_e2e.cli import names
from telepathy_e2e.cli.names import CallState
from tests.support.children import interruptible
from tests.unit.cli_support import BOB, PATIENCE, PV, FakeCM, bus_address, cm

__all__ = ["bus_address", "cm"]

TPE2E = (sys.executable, "-m", "telepathy_e2e.cli.main")


async def start(*words: str, **streams: Any) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *TPE2E,
        *words,
        cwd=Path(__file__).parents[2],
        env=dict(os.environ),
        preexec_fn=interruptible,
        **streams,
    )


@pytest.fixture
def outgoing(cm: FakeCM) -> asyncio.Event:
    """Set when a file was offered and its socket provided; nobody ever accepts."""
    provided = asyncio.Event()

    async def create(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        path = cm.add_transfer(requested=True, announce=False)
        asyncio.get_running_loop().call_soon(cm.announce, path)
        return "oa{sv}", [path, cm.channels[path]]

    async def provide(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        provided.set()
        return "v", [Variant("ay", b"/nonexistent")]

    cm.handlers.update({"CreateChannel": create, "ProvideFile": provide})
    return provided


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_an_interrupt_cancels_the_transfer_and_takes_announcements_back(
    cm: FakeCM, outgoing: asyncio.Event, tmp_path: Path, sent: signal.Signals
) -> None:
    await cm.add_connection()
    file = tmp_path / "a"
    file.write_bytes(b"hello")
    words = ("send", str(file), BOB, "--json", "--verify", "--sas-matches", "yes")
    process = await start(*words, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(PATIENCE):
        await outgoing.wait()
        assert cm.announced == {names.CLIENT + ".send": [PV]}
        process.send_signal(sent)
        out, _ = await process.communicate()
    assert process.returncode == 130
    assert json.loads(out.splitlines()[-1])["code"] == 130
    assert "Close" in cm.members()
    assert cm.announced == {names.CLIENT + ".send": []}


async def test_a_whole_dialogue_on_a_terminal(
    cm: FakeCM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a person sees who takes a file and says no to the sender."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "300")
    await cm.add_connection()
    path = cm.add_transfer(requested=False, Filename=Variant("s", "a\x1b[31m.txt"))

    async def accept(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        cm.state(path, names.ACCEPTED)
        cm.encrypt(path)
        cm.add_question(path)
        return "v", [Variant("ay", b"/nonexistent")]

    async def reject(question: str, call: list[Any]) -> tuple[str, list[Any]]:
        cm.finish_question(question, "rejected")
        cm.state(path, names.CANCELLED, names.LOCAL_STOPPED)
        return "", []

    cm.handlers.update({"AcceptFile": accept, "Reject": reject})
    keyboard, terminal = pty.openpty()
    try:
        words = ("receive", "--once", "--dir", str(tmp_path))
        process = await start(*words, stdin=terminal, stdout=terminal, stderr=terminal)
        seen = b""

        async def until(text: bytes) -> None:
            nonlocal seen
            while text not in seen:
                readable = asyncio.Event()
                asyncio.get_running_loop().add_reader(keyboard, readable.set)
                await readable.wait()
                asyncio.get_running_loop().remove_reader(keyboard)
                seen += os.read(keyboard, 4096)

        async with asyncio.timeout(PATIENCE):
            await until(b"Accept it? [y/n] ")
            os.write(keyboard, b"y\n")
            await until(b"What shall be done? [s/f/q/p/r] ")
            os.write(keyboard, b"r\n")
            await until(b"was rejected.")
            assert await process.wait() == 4
    finally:
        os.close(terminal)
        os.close(keyboard)
    assert b"\x1b[31m.txt" not in seen
    assert b"AB AB AB" in seen
    assert b"bob@example.org offers" in seen


async def test_a_call_on_a_terminal(cm: FakeCM, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line with its meters, a question in between, and keys."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    await cm.add_connection()

    async def create(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        path = cm.add_call(requested=True, announce=False)
        asyncio.get_running_loop().call_soon(cm.announce, path)
        return "oa{sv}", [path, cm.channels[path]]

    async def accept(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        cm.call_state(path, CallState.ACCEPTED)
        cm.encrypt(path)
        cm.call_state(path, CallState.ACTIVE)
        return "", []

    async def statistics(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        figures = {"level-sent": Variant("d", -30.0), "codec-sent": Variant("s", "opus")}
        return "a{oa{sv}}", [{path + "/Content1": figures}]

    async def verify(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        return "o", [cm.add_question(path, reason="upgrade")]

    async def put_off(question: str, call: list[Any]) -> tuple[str, list[Any]]:
        cm.finish_question(question, "unverified")
        return "", []

    async def hang_up(path: str, call: list[Any]) -> tuple[str, list[Any]]:
        cm.call_state(path, CallState.ENDED, (1, call[1], "", ""))
        return "", []

    cm.handlers.update(
        {
            "CreateChannel": create,
            "Accept": accept,
            "GetStatistics": statistics,
            "Verify": verify,
            "ProceedUnverified": put_off,
            "Hangup": hang_up,
        }
    )
    keyboard, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    try:
        process = await start("call", BOB, stdin=terminal, stdout=terminal, stderr=terminal)
        seen = b""

        async def until(text: bytes) -> None:
            nonlocal seen
            while text not in seen:
                readable = asyncio.Event()
                asyncio.get_running_loop().add_reader(keyboard, readable.set)
                await readable.wait()
                asyncio.get_running_loop().remove_reader(keyboard)
                seen += os.read(keyboard, 4096)
            seen = seen[seen.index(text) :]

        async with asyncio.timeout(PATIENCE):
            await until("█████░░░░░   -30 dB".encode())
            await until(b"encrypted, not verified")
            os.write(keyboard, b"v")
            await until(b"What shall be done? [s/f/q/p/r] ")
            os.write(keyboard, b"p\n")
            await until(b"stays unverified.")
            await until(b"q: hang up")
            os.write(keyboard, b"q")
            await until(b"You hung up.")
            assert await process.wait() == 0
        assert termios.tcgetattr(terminal) == before
    finally:
        os.close(terminal)
        os.close(keyboard)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_an_interrupt_hangs_up(cm: FakeCM, sent: signal.Signals) -> None:
    await cm.add_connection()
    path = cm.add_call(requested=False)
    words = ("answer", "--any", "--json")
    process = await start(*words, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(PATIENCE):
        await cm.called("Accept")
        process.send_signal(sent)
        assert await process.wait() == 130
    assert cm.announced == {names.CLIENT + ".answer": []}
    assert path not in cm.channels
