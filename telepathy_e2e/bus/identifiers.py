"""Names on the bus that are made from accounts."""

from __future__ import annotations

import hashlib
from typing import Final

from telepathy_e2e.service import names

CM_NAME: Final = "e2e"
MANAGER_NAME: Final = names.TP + "ConnectionManager." + CM_NAME
MANAGER_PATH: Final = "/" + MANAGER_NAME.replace(".", "/")

# D-Bus specification, "Valid Names".
MAX_NAME: Final = 255

_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_DIGITS: Final = frozenset(b"0123456789")


def escape(text: str) -> str:
    """Any text as one part of a bus name or object path.

    As ``tp_escape_as_identifier`` does it: every byte of UTF-8 that is not an ASCII letter or
    digit, and a digit at the start, as ``_xx``; nothing is ``_``. Different texts stay different.
    """
    encoded = text.encode()
    return (
        "".join(
            chr(byte) if byte in _PLAIN and (i or byte not in _DIGITS) else f"_{byte:02x}"
            for i, byte in enumerate(encoded)
        )
        or "_"
    )


def connection_names(protocol: str, account: str, resource: str) -> tuple[str, str]:
    """Bus name and object path of an account's connection.

    Args:
        account: bare JID.
        resource: may be empty.
    """
    prefix = f"{names.CONNECTION}.{CM_NAME}.{protocol.replace('-', '_')}."
    part = escape(f"{account}/{resource}" if resource else account)
    room = MAX_NAME - len(prefix)
    if len(part) > room:
        # "_z" never comes out of escape(): no account can be chosen to have another's name.
        digest = "_z" + hashlib.sha256(part.encode()).hexdigest()
        part = part[: room - len(digest)] + digest
    return prefix + part, "/" + (prefix + part).replace(".", "/")
