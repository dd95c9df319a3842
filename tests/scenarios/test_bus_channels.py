"""What the daemon shows of real channels is what Telepathy's specification and ours say."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import CERTIFICATE_REQUEST, CHANNEL, FILE_TRANSFER, VERIFICATION, Side

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"

pytestmark = pytest.mark.skipif(
    not (SHARED / "tools" / "spec_check.py").is_file(), reason="no checker here"
)


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    handles = (FILE_TRANSFER, VERIFICATION)
    ask = {"e2e_ask_certificate": Variant("b", True)}
    pair = await Pair.start(prosody, alice=ask, alice_handles=handles, bob_handles=handles)
    yield pair
    await pair.stop()


async def _check(side: Side, seconds: float) -> str:
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/python3",
        str(SHARED / "tools" / "spec_check.py"),
        str(SHARED / "reference" / "telepathy-spec"),
        *("--cm", "e2e", "--extra-spec", str(ROOT / "spec"), "--bus", side.address),
        *("--watch", str(seconds), "--strict", "--verbose"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_the_specifications_checker_finds_nothing_wrong_with_any_channel(pair: Pair) -> None:
    data = b"for Bob" * 1000
    mine = await pair.alice.offer_file(pair.server.jid("bob"), "notes.txt", len(data))
    asked, _ = await pair.alice.new_channel(CERTIFICATE_REQUEST)
    seen = await _check(pair.alice, 0.5)
    assert "PASS Channel/CertificateRequest1" in seen

    watching = asyncio.create_task(_check(pair.alice, 4))
    await pair.alice.cm(asked, CERTIFICATE_REQUEST, "UseOwn")
    theirs, _ = await pair.bob.new_channel(FILE_TRANSFER)
    both: Any = asyncio.gather(pair.bob.accept(theirs), pair.alice.provide(mine, data))
    hers, _ = await pair.alice.new_channel(VERIFICATION)
    his, _ = await pair.bob.new_channel(VERIFICATION)
    bobs = await _check(pair.bob, 0.5)
    seen = await watching
    for output in (bobs, seen):
        for what in ("Channel/FileTransfer", "Channel/PeerVerification1", "TLSCertificate"):
            assert f"PASS {what}" in output

    watching = asyncio.create_task(_check(pair.alice, 2))
    for side, path in ((pair.alice, hers), (pair.bob, his)):
        await side.cm(path, VERIFICATION, "Accept", "s", "fingerprint")
    got, _ = await both
    assert got == data
    await pair.alice.cm(mine, CHANNEL, "Close")
    await watching
