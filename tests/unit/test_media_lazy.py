"""Who makes no calls does not pay for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("aiortc", "aioice", "av", "pylibsrtp", "telepathy_e2e.media")


@pytest.mark.parametrize(
    "module",
    [
        "telepathy_e2e.daemon",
        "telepathy_e2e.service.connection",
        "telepathy_e2e.bus.manager",
        "telepathy_e2e.agent.program",
        "telepathy_e2e.handler.client",
        "telepathy_e2e.cli.main",
    ],
)
def test_no_program_begins_with_the_libraries_of_media(module: str) -> None:
    script = f"import sys, {module}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_the_package_itself_loads_nothing() -> None:
    script = "import sys, telepathy_e2e.media; print('aiortc' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
