"""What the daemon shows of real channels is what Telepathy's specification and ours say."""

from __future__ import annotations

import asyncio
import contextlib
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


class Checker:
    """The specification's checker: it looks at all that there is, then at what happens."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._said: list[str] = []

    @classmethod
    async def start(cls, side: Side, seconds: float) -> Checker:
        """Let it watch a side for so long."""
        return cls(
            await asyncio.create_subprocess_exec(
                "/usr/bin/python3",
                str(SHARED / "tools" / "spec_check.py"),
                str(SHARED / "reference" / "telepathy-spec"),
                *("--cm", "e2e", "--extra-spec", str(ROOT / "spec"), "--bus", side.address),
                *("--watch", str(seconds), "--strict", "--verbose"),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )

    async def looked(self) -> None:
        """Wait until it has seen what there is, and has no more to say: a channel that goes while
        it is looked at is one that is not as it should be.
        """
        while await self._line() and not self._said[-1].startswith("PASS Channel/"):
            pass
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(1):
                    if not await self._line():
                        return

    async def ended(self) -> str:
        """All that it said; it has found nothing wrong."""
        while await self._line():
            pass
        said = "".join(self._said)
        assert await self._process.wait() == 0, said
        return said

    async def _line(self) -> str:
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode()
        if line:
            self._said.append(line)
        return line


async def _check(side: Side) -> str:
    """What there is now."""
    return await (await Checker.start(side, 0.5)).ended()


async def test_the_specifications_checker_finds_nothing_wrong_with_any_channel(pair: Pair) -> None:
    data = b"for Bob" * 1000
    mine = await pair.alice.offer_file(pair.server.jid("bob"), "notes.txt", len(data))
    asked, _ = await pair.alice.new_channel(CERTIFICATE_REQUEST)
    seen = await _check(pair.alice)
    assert "PASS Channel/CertificateRequest1" in seen

    watching = await Checker.start(pair.alice, 6)
    await watching.looked()
    await pair.alice.cm(asked, CERTIFICATE_REQUEST, "UseOwn")
    theirs, _ = await pair.bob.new_channel(FILE_TRANSFER)
    both: Any = asyncio.gather(pair.bob.accept(theirs), pair.alice.provide(mine, data))
    hers, _ = await pair.alice.new_channel(VERIFICATION)
    his, _ = await pair.bob.new_channel(VERIFICATION)
    await watching.ended()
    for side in (pair.alice, pair.bob):
        seen = await _check(side)
        for what in ("Channel/FileTransfer", "Channel/PeerVerification1", "TLSCertificate"):
            assert f"PASS {what}" in seen

    watching = await Checker.start(pair.alice, 5)
    await watching.looked()
    for side, path in ((pair.alice, hers), (pair.bob, his)):
        await side.cm(path, VERIFICATION, "Accept", "s", "fingerprint")
    got, _ = await both
    assert got == data
    await pair.alice.cm(mine, CHANNEL, "Close")
    await watching.ended()
