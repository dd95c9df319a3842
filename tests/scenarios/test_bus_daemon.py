"""The real daemon on a private bus: how it comes, what it says of itself, how it goes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.support.bus import PROPERTIES, PrivateBus, RawClient, available, client_of
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(not available(), reason="dbus-daemon is not installed")

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
DATA = ROOT / "data" / "dbus-services"

TP = "org.freedesktop.Telepathy."
NAME = TP + "ConnectionManager.e2e"
PATH = "/org/freedesktop/Telepathy/ConnectionManager/e2e"
MANAGER = TP + "ConnectionManager"
BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


class Desktop:
    """A bus that can start the daemon, and a client on it."""

    def __init__(self, bus: PrivateBus, client: RawClient, environment: dict[str, str]) -> None:
        self.bus = bus
        self.client = client
        self.environment = environment

    async def pid(self) -> int:
        """Of the daemon; starts it if needed."""
        await self.client.value(NAME, PATH, "org.freedesktop.DBus.Peer", "Ping")
        return int(await self.client.value(*BUS, "GetConnectionUnixProcessID", "s", NAME))

    async def request_connection(self, **more: Variant) -> tuple[str, str]:
        # Nobody listens on port 1.
        parameters = {
            "account": Variant("s", "alice@example.test"),
            "password": Variant("s", "open sesame"),
            "server": Variant("s", "127.0.0.1"),
            "port": Variant("q", 1),
            **more,
        }
        reply = await self.client.call(
            NAME, PATH, MANAGER, "RequestConnection", "sa{sv}", "jabber", parameters
        )
        assert len(reply.body) == 2, reply.body
        return reply.body[0], reply.body[1]

    async def name_lost(self, name: str) -> None:
        await self.client.until(
            lambda m: m.member == "NameOwnerChanged" and m.body[0] == name and not m.body[2]
        )


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    return {
        **os.environ,
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "XDG_RUNTIME_DIR": str(runtime),
        "TELEPATHY_E2E_DEBUG": "all",
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture
def private_bus(environment: dict[str, str]) -> Iterator[PrivateBus]:
    bus = PrivateBus.start(environment)
    (bus.services / f"{NAME}.service").write_text(
        f"[D-BUS Service]\nName={NAME}\nExec={sys.executable} -m telepathy_e2e\n"
    )
    yield bus
    bus.stop()


@pytest_asyncio.fixture
async def desktop(private_bus: PrivateBus, environment: dict[str, str]) -> AsyncIterator[Desktop]:
    async with client_of(private_bus) as client:
        yield Desktop(private_bus, client, environment)


def _start(desktop: Desktop, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "telepathy_e2e", *arguments],
        env={**desktop.environment, "DBUS_SESSION_BUS_ADDRESS": desktop.bus.address},
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )


async def _ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    _, said = await asyncio.to_thread(process.communicate, timeout=PATIENCE)
    return process.returncode, said.decode()


async def test_the_first_call_starts_it_and_gets_an_answer(desktop: Desktop) -> None:
    shown = await desktop.client.value(NAME, PATH, PROPERTIES, "GetAll", "s", MANAGER)
    assert list(shown["Protocols"].value) == ["jabber"]


async def test_it_leaves_when_nobody_needs_it_and_comes_back(desktop: Desktop) -> None:
    first = await desktop.pid()
    await desktop.name_lost(NAME)
    assert await desktop.pid() != first


async def test_a_server_that_is_not_there_is_named_as_the_error(desktop: Desktop) -> None:
    name, path = await desktop.request_connection()
    await desktop.client.value(name, path, TP + "Connection", "Connect")
    await desktop.name_lost(name)
    told = [m for m in desktop.client.log if m.path == path]
    assert [(m.member, m.body[0]) for m in told] == [
        ("StatusChanged", 1),
        ("ConnectionError", TP + "Error.ConnectionRefused"),
        ("StatusChanged", 2),
    ]
    assert told[-1].body == [2, 2]


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_its_connections_and_then_itself(
    desktop: Desktop, which: signal.Signals
) -> None:
    process = _start(desktop, "--persist")
    await desktop.client.until(lambda m: m.member == "NameOwnerChanged" and m.body[0] == NAME)
    name, path = await desktop.request_connection()
    process.send_signal(which)
    code, said = await _ended(process)
    assert (code, "Traceback" in said) == (0, False), said
    await desktop.name_lost(name)
    assert [m.body for m in desktop.client.log if m.path == path] == [[2, 1]]


async def test_it_leaves_with_the_bus(desktop: Desktop) -> None:
    process = _start(desktop, "--persist")
    await desktop.client.until(lambda m: m.member == "NameOwnerChanged" and m.body[0] == NAME)
    await desktop.request_connection()
    desktop.bus.process.kill()
    code, said = await _ended(process)
    assert (code, "Traceback" in said) == (0, False), said


async def test_a_second_one_says_why_it_does_not_start(desktop: Desktop) -> None:
    first = _start(desktop, "--persist")  # one that may leave would, while the other starts
    await desktop.client.until(lambda m: m.member == "NameOwnerChanged" and m.body[0] == NAME)
    code, said = await _ended(_start(desktop))
    assert code == 1
    assert "already" in said
    first.terminate()
    assert (await _ended(first))[0] == 0


async def test_without_a_bus_it_says_so(desktop: Desktop, tmp_path: Path) -> None:
    desktop.bus.address = f"unix:path={tmp_path}/nothing"
    code, said = await _ended(_start(desktop))
    assert code == 1
    assert "cannot be reached" in said
    assert "Traceback" not in said


async def test_no_secret_is_in_the_log(desktop: Desktop) -> None:
    process = _start(desktop, "--persist")
    await desktop.client.until(lambda m: m.member == "NameOwnerChanged" and m.body[0] == NAME)
    name, path = await desktop.request_connection()
    await desktop.client.value(name, path, TP + "Connection", "Connect")
    await desktop.name_lost(name)
    process.terminate()
    _, said = await _ended(process)
    assert "sesame" not in said


async def _introspect(desktop: Desktop, name: str, path: str) -> ET.Element:
    interface = "org.freedesktop.DBus.Introspectable"
    text = await desktop.client.value(name, path, interface, "Introspect")
    return ET.fromstring(text)  # noqa: S314, of our own daemon


async def test_every_object_is_found_by_walking_down_from_the_root(desktop: Desktop) -> None:
    name, path = await desktop.request_connection()
    found: set[str] = set()
    todo = ["/"]
    while todo:
        here = todo.pop()
        found.add(here)
        node = await _introspect(desktop, name, here)
        todo += [f"{here.rstrip('/')}/{child.attrib['name']}" for child in node.findall("node")]
    assert {PATH, PATH + "/jabber", path} <= found


@pytest.mark.skipif(shutil.which("busctl") is None, reason="busctl is not installed")
async def test_busctl_takes_its_introspection(desktop: Desktop) -> None:
    """It refuses members listed twice and properties left out."""
    name, path = await desktop.request_connection()
    for where in (path, PATH, PATH + "/jabber"):
        process = await asyncio.create_subprocess_exec(
            "busctl",
            f"--address={desktop.bus.address}",
            "introspect",
            name,
            where,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        assert b"property" in output


@pytest.mark.skipif(not (SHARED / "tools" / "spec_check.py").is_file(), reason="no checker here")
async def test_the_specifications_checker_finds_nothing_wrong(desktop: Desktop) -> None:
    await desktop.request_connection()
    arguments: list[Any] = [SHARED / "reference" / "telepathy-spec", "--cm", "e2e"]
    arguments += ["--extra-spec", ROOT / "spec", "--manager-file", DATA / "e2e.manager"]
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/python3",
        SHARED / "tools" / "spec_check.py",
        *map(str, arguments),
        "--bus",
        desktop.bus.address,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert b"1 connections looked at" in output
