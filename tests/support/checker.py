"""The specification's checker, where it is at hand."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from tests.support.side import Side

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
CHECKER = SHARED / "tools" / "spec_check.py"


async def check(side: Side, seconds: float) -> str:
    """What it says of all that a daemon shows now and in these seconds; it finds nothing wrong."""
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/python3",
        str(CHECKER),
        str(SHARED / "reference" / "telepathy-spec"),
        *("--cm", "e2e", "--extra-spec", str(ROOT / "spec"), "--bus", side.address),
        *("--watch", str(seconds), "--strict", "--verbose"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, "\n".join(
        line for line in output.decode().splitlines() if not line.startswith("PASS")
    )
    return output.decode()
