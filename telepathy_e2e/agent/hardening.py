"""Keep the memory of this process away from the user's other processes (Linux)."""

from __future__ import annotations

import ctypes
import logging
import resource
import sys
from typing import Final

log = logging.getLogger(__name__)

_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h


def harden() -> bool:
    """No core files, and no ptrace or /proc/PID/mem by programs of the same user.

    What this stops: a program that was taken over, the connection manager first of all, reads
    unlocked keys out of the agent. What it does not stop: that program reads key files that are
    not sealed; they belong to the same user.

    Returns:
        Whether all of it worked.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sys.platform.startswith("linux"):
        return False
    done: bool = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
    if not done:
        log.warning("prctl: other programs can read this one's memory (%d)", ctypes.get_errno())
    return done
