"""The agent's memory is not for the user's other programs."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import ctypes, resource
from telepathy_e2e.agent.hardening import harden
dumpable = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
before = dumpable()
assert harden()
print(before, dumpable(), resource.getrlimit(resource.RLIMIT_CORE))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_it_leaves_no_core_and_cannot_be_read() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split(" ", 1) == ["1", "0 (0, 0)\n"]
