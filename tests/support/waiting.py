"""How long tests wait for what must come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# Seconds. No measurement: it says when somebody who waits is told that nothing comes. A busy
# machine has taken twenty for what takes one.
PATIENCE = 60.0


async def until(condition: Callable[[], object]) -> None:
    """Wait until it is true: for what no signal tells of."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)
