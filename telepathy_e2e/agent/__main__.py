"""``telepathy-e2e-agent``: the key agent as a program."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from telepathy_e2e import debug_log
from telepathy_e2e.agent import hardening, program

DESCRIPTION = """\
Keeps the keys that your contacts verify, and certifies the keys of sessions with them. The session
bus starts it when it is needed, and it leaves when nobody has asked for some seconds, unless a key
is unlocked.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the agent; returns the exit code."""
    parser = argparse.ArgumentParser(prog="telepathy-e2e-agent", description=DESCRIPTION)
    parser.add_argument("--persist", action="store_true", help="stay when nobody asks")
    options = parser.parse_args(arguments)
    # Before there is anything to hide.
    hardening.harden()
    debug_log.configure(os.environ.get("TELEPATHY_E2E_DEBUG", ""))
    return asyncio.run(program.run(persist=options.persist))


if __name__ == "__main__":
    sys.exit(main())
