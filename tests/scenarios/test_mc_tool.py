"""What a user types: ``mc-tool`` from the new account to being online, and away again."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from dbus_fast import Message

from tests.support import mission_control
from tests.support.mission_control import Desktop
from tests.support.prosody import Prosody
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(
    not mission_control.available() or shutil.which("mc-tool") is None,
    reason="Mission Control (telepathy-mission-control-5) is not installed",
)


@pytest_asyncio.fixture
async def desktop() -> AsyncIterator[Desktop]:
    async with mission_control.mission_control() as made:
        yield made


async def mc_tool(desktop: Desktop, *arguments: str) -> str:
    """Run it; its standard output."""
    process = await asyncio.create_subprocess_exec(
        "mc-tool",
        *arguments,
        env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": desktop.address},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def add(desktop: Desktop, server: Prosody, **more: str) -> str:
    """A new account, enabled; its name."""
    parameters = {
        "string:account": server.jid("alice"),
        "string:password": server.password,
        "string:server": server.host,
        "uint:port": str(server.port),
        "string:ca-file": str(server.ca_file),
        **more,
    }
    told = await mc_tool(
        desktop, "add", "e2e/jabber", "Alice", *(f"{k}={v}" for k, v in parameters.items())
    )
    account = told.split()[-1]
    await mc_tool(desktop, "enable", account)
    return account


async def status(desktop: Desktop, wanted: int) -> list[Any]:
    """Wait for a Connection.StatusChanged."""

    def matches(message: Message) -> bool:
        return message.member == "StatusChanged" and message.body[0] == wanted

    return list((await desktop.client.until(matches)).body)


async def until_shown(desktop: Desktop, account: str, pattern: str) -> str:
    """``mc-tool show`` until it says this: Mission Control hears of things as we do."""
    async with asyncio.timeout(PATIENCE):
        while not re.search(pattern, shown := await mc_tool(desktop, "show", account)):
            await asyncio.sleep(0.05)
    return shown


async def test_an_account_is_added_goes_online_changes_its_presence_and_goes(
    desktop: Desktop, prosody: Prosody
) -> None:
    account = await add(desktop, prosody)
    assert "e2e/jabber" in await mc_tool(desktop, "list")
    await mc_tool(desktop, "request", account, "available", "I am here")
    assert await status(desktop, 0) == [0, 1]
    shown = await until_shown(desktop, account, r"Current:\s+available")
    assert "I am here" in shown
    assert prosody.jid("alice") in shown
    await mc_tool(desktop, "request", account, "dnd", "Not now")
    await until_shown(desktop, account, r"Current:\s+dnd.*Not now")
    await mc_tool(desktop, "request", account, "offline")
    assert await status(desktop, 2) == [2, 1]
    await until_shown(desktop, account, r"Current:\s+offline")
    await mc_tool(desktop, "remove", account)
    with pytest.raises(AssertionError):  # it fails where there is nothing to list
        await mc_tool(desktop, "list")


async def test_a_wrong_password_is_said_to_be_one(desktop: Desktop, prosody: Prosody) -> None:
    account = await add(desktop, prosody, **{"string:password": "wrong"})
    await mc_tool(desktop, "request", account, "available")
    assert await status(desktop, 2) == [2, 3]


async def test_a_parameter_that_there_is_not_is_refused(desktop: Desktop) -> None:
    with pytest.raises(AssertionError, match="colour"):
        await mc_tool(
            desktop, "add", "e2e/jabber", "Alice", "string:account=a@b", "string:colour=blue"
        )
