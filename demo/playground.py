"""``make playground``: a shell in which everything of the README can be typed.

A private session bus, the connection manager (started by the bus), a Prosody on loopback with the
accounts alice and bob. All of it ends with the shell.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from demo import needs
from demo.desktop import Desktop
from tests.support.prosody import PASSWORD, Prosody

WELCOME = """\
You are on a private bus. Set here: ALICE, BOB (accounts), PASSWORD, SERVER, PORT, CA.
Log in, for example:  TPE2E_PASSWORD="$PASSWORD" tpe2e connect "$ALICE" \\
                          --server "$SERVER" --port "$PORT" --ca-file "$CA"
'exit' takes everything down again."""


def variables(server: Prosody, desktop: Desktop) -> dict[str, str]:
    """The environment of the shell."""
    programs = str(Path(sys.executable).parent)
    return {
        **desktop.environment,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "ALICE": server.jid("alice"),
        "BOB": server.jid("bob"),
        "PASSWORD": PASSWORD,
        "SERVER": server.host,
        "PORT": str(server.port),
        "CA": str(server.ca_file),
    }


def main(command: list[str]) -> int:
    """Run ``command``, or a shell; its exit code."""
    if not needs.provide():
        return 2
    directory = Path(tempfile.mkdtemp(prefix="telepathy-e2e-playground-"))
    desktop = Desktop("you", directory)
    server = Prosody.start(accounts=("alice", "bob"))
    try:
        asyncio.run(desktop.start())
        if not command:
            print(WELCOME)
            command = [shutil.which("bash") or "/bin/sh"]
        return subprocess.run(command, env=variables(server, desktop), check=False).returncode
    finally:
        asyncio.run(desktop.stop())
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
