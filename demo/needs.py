"""Debian packages that the demo needs, and how to get them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

# Program to package.
NEEDS = {"dbus-daemon": "dbus", "prosody": "prosody"}


def missing() -> list[str]:
    """Packages whose program is not here."""
    # Prosody is in /usr/sbin in some releases, which is not everybody's PATH.
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin"
    os.environ["PATH"] = path
    return [package for program, package in NEEDS.items() if shutil.which(program) is None]


def provide() -> bool:
    """Install what is missing, after asking; whether everything is there now."""
    packages = missing()
    if not packages:
        return True
    names = " ".join(packages)
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    print(f"The demo needs a real server and a real bus; missing here: {names}.")
    if os.geteuid() != 0:
        command = ["sudo", *command]
    if shutil.which("apt-get") is None or shutil.which(command[0]) is None:
        print(f"Install them with your system's package manager: {names}")
        return False
    if os.geteuid() != 0:
        if not sys.stdin.isatty():
            print(f"Install them: sudo apt-get install {names}")
            return False
        print(f"Run '{' '.join(command)}' now? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return False
    # A server that Debian's package starts by itself is not needed: the demo runs its own.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(command, env=environment, check=False)
    return not missing()
