"""Passwords from files: never from the command line, which every user of the machine can read."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from telepathy_e2e.cli.exits import UsageError

# A password file holds a password, not a database.
MAX_PASSWORD_BYTES: Final = 4096


def first_line(name: str) -> str:
    """The password in a file: its first line.

    Raises:
        UsageError: it cannot be read, or that is no password.
    """
    try:
        with Path(name).open("rb") as file:
            content = file.read(MAX_PASSWORD_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{name} cannot be read ({error.strerror}).") from error
    line = content.partition(b"\n")[0].rstrip(b"\r")
    try:
        password = line.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not UTF-8 text.") from None
    if not password or len(line) > MAX_PASSWORD_BYTES:
        raise UsageError(f"The first line of {name} is not a password.")
    return password
