"""``tpe2e identity``: what the key agent keeps, for people and for scripts."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from telepathy_e2e.xtls.identity import identity_fingerprint, new_session_key
from telepathy_e2e.xtls.offer import shown
from tests.support.agent import AgentClient, connected
from tests.support.secret_service import secret_service
from tests.support.side import Side

ALICE = "alice@example.test"


@pytest_asyncio.fixture
async def side() -> AsyncIterator[Side]:
    side = await Side.start("alice", daemon=False)
    yield side
    await side.stop()


@pytest_asyncio.fixture
async def agent(side: Side) -> AsyncIterator[AgentClient]:
    async with connected(side.address) as agent:
        yield agent


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("open sesame\n")
    return tmp_path / "secret"


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    (tmp_path / "wrong").write_text("open barley\n")
    return tmp_path / "wrong"


async def tpe2e(side: Side, *words: object) -> tuple[int, dict[str, Any]]:
    """The exit code, and what was said last."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "telepathy_e2e.cli.main", "identity", *map(str, words), "--json"),
        env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": side.address},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert out, err
    assert process.returncode is not None
    return process.returncode, json.loads(out.splitlines()[-1])


async def test_fingerprints_are_shown(side: Side, agent: AgentClient) -> None:
    code, said = await tpe2e(side, "show")
    assert (code, said["identities"]) == (0, [])
    certificate = await agent.call("GetIdentity", "s", ALICE)
    code, said = await tpe2e(side, "show", ALICE)
    digest = shown(identity_fingerprint(certificate))
    one = {"account": ALICE, "locked": False, "fingerprints": {"sha-256": digest}}
    assert (code, said["identities"]) == (0, [one])
    assert (await tpe2e(side, "show", "bob@example.test"))[0] == 2
    assert await agent.get("Accounts") == [ALICE]


async def test_an_identity_is_moved_by_a_file(
    side: Side, agent: AgentClient, tmp_path: Path, secret: Path, wrong: Path
) -> None:
    certificate = await agent.call("GetIdentity", "s", ALICE)
    file = tmp_path / "identity.pem"
    with_secret = ("--passphrase-file", secret)
    assert (await tpe2e(side, "export", ALICE, file, *with_secret))[0] == 0
    assert file.stat().st_mode & 0o777 == 0o600
    written = file.read_bytes()
    assert b"ENCRYPTED" in written
    # Never over another one.
    assert (await tpe2e(side, "export", ALICE, file, *with_secret))[0] == 2
    assert file.read_bytes() == written
    assert (await tpe2e(side, "forget", ALICE))[0] == 2
    assert (await tpe2e(side, "forget", ALICE, "--yes"))[0] == 0
    assert await agent.get("Accounts") == []
    code, said = await tpe2e(side, "import", ALICE, file, "--passphrase-file", wrong)
    assert (code, "wrong" in said["message"]) == (1, True)
    assert (await tpe2e(side, "import", ALICE, tmp_path / "nothing", *with_secret))[0] == 2
    assert (await tpe2e(side, "import", ALICE, file, *with_secret))[0] == 0
    assert await agent.call("GetIdentity", "s", ALICE) == certificate


async def test_a_passphrase_is_set_asked_for_and_taken_away(
    side: Side, agent: AgentClient, secret: Path, wrong: Path
) -> None:
    await agent.call("GetIdentity", "s", ALICE)
    assert (await tpe2e(side, "passphrase", ALICE, "--passphrase-file", secret))[0] == 0
    assert (await tpe2e(side, "lock"))[0] == 0
    assert (await tpe2e(side, "show"))[1]["identities"][0]["locked"] is True
    assert (await tpe2e(side, "unlock", "--passphrase-file", wrong))[0] == 1
    assert (await tpe2e(side, "unlock", "--passphrase-file", secret))[0] == 0
    assert await agent.get("Locked") == []
    remove = ("passphrase", ALICE, "--remove", "--current-file")
    assert (await tpe2e(side, *remove, wrong))[0] == 1
    assert (await tpe2e(side, *remove, secret))[0] == 0
    await agent.call("Lock")
    assert await agent.get("Locked") == []


async def test_a_program_is_asked_nothing(side: Side, agent: AgentClient) -> None:
    await agent.call("GetIdentity", "s", ALICE)
    for words in (("unlock",), ("export", ALICE, "/nonexistent/file"), ("passphrase", ALICE)):
        code, said = await tpe2e(side, *words)
        assert (code, "no questions" in said["message"]) == (2, True)


async def test_the_desktops_keyring_keeps_a_passphrase(side: Side, agent: AgentClient) -> None:
    await agent.call("GetIdentity", "s", ALICE)
    # Nothing falls back to a key without a passphrase, or to one that somebody would have to know.
    code, said = await tpe2e(side, "passphrase", ALICE, "--secret-service")
    assert code != 0
    assert "keyring" in json.dumps(said)
    async with secret_service(side.address) as service:
        code, said = await tpe2e(side, "passphrase", ALICE, "--secret-service")
        assert (code, said["event"]) == (0, "sealed")
        assert len(service.items) == 1
        # The agent that runs now has never seen it.
        await agent.kill()
        await agent.call("Certify", "say", ALICE, new_session_key().public_key())
        assert (await tpe2e(side, "show", ALICE))[1]["identities"][0]["locked"] is False
        assert (await tpe2e(side, "passphrase", ALICE, "--remove"))[0] == 0
        assert service.items == {}
