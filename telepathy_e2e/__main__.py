"""``telepathy-e2e``: the connection manager as a program."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from telepathy_e2e import debug_log

DESCRIPTION = """\
A Telepathy connection manager that protects XMPP channels end to end. The session bus starts it
when it is needed, and it leaves when no account has been connected for some seconds.
"""
EPILOGUE = """\
TELEPATHY_E2E_DEBUG=all in the environment writes down everything that happens; a list such as
"bus,xmpp" only what happens there. Passwords, keys and messages are never written down.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    persist = given == ["--persist"]
    if given and not persist:
        version, persist = _parse(given)
        if version:
            print(f"telepathy-e2e {_version()}")
            return 0
    ring = debug_log.configure(os.environ.get("TELEPATHY_E2E_DEBUG", ""))

    from telepathy_e2e import daemon

    return asyncio.run(daemon.run(persist=persist, ring=ring))


def _parse(arguments: Sequence[str]) -> tuple[bool, bool]:
    """(say the version, stay) from what a person typed; errors and help end the program.

    argparse is a megabyte and ten milliseconds, and the bus starts us without arguments.
    """
    import argparse

    parser = argparse.ArgumentParser(prog="telepathy-e2e", description=DESCRIPTION, epilog=EPILOGUE)
    parser.add_argument("--persist", action="store_true", help="stay when no account is connected")
    parser.add_argument("--version", action="store_true", help="say which version this is")
    options = parser.parse_args(arguments)
    return options.version, options.persist


def _version() -> str:
    from importlib import metadata  # slow, and nothing else needs it

    try:
        return metadata.version("telepathy-e2e")
    except metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
