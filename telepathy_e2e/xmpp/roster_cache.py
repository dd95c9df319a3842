"""The contact list of the last session, on disk (RFC 6121 section 2.6).

A list that did not change since is not sent again. What is here is a copy: whatever is odd about it
is reason enough to forget it and ask for the whole list. It names the user's contacts, so that it
is his alone to read.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from telepathy_e2e.xmpp.markup import serialise
from telepathy_e2e.xmpp.roster import QUERY_ROSTER

log = logging.getLogger(__name__)

# Bytes of one file: 20,000 contacts (``roster.MAX_CONTACTS``) with names and groups need 5 MB.
MAX_FILE: Final = 8 * 1024 * 1024
# Characters of a version. Servers use counters and hashes.
MAX_VERSION: Final = 1024

_TAG: Final = "{urn:x-telepathy-e2e:roster-cache:0}list"


@dataclass(frozen=True)
class Cached:
    """A list, and the server's name for that state of it."""

    version: str
    query: ET.Element


def directory(environment: Mapping[str, str]) -> Path:
    """Where caches are kept (XDG Base Directory Specification: a relative path is none)."""
    home = environment.get("XDG_CACHE_HOME", "")
    base = Path(home) if home.startswith("/") else Path(environment.get("HOME", "/")) / ".cache"
    return base / "telepathy-e2e"


class RosterCache:
    """The file of one account. Its functions block; run them in a thread.

    Args:
        directory: of all caches.
        bare_jid: whose list.
    """

    def __init__(self, directory: Path, bare_jid: str) -> None:
        # An address may have characters that names of files cannot have, and be too long for one.
        digest = hashlib.sha256(bare_jid.encode()).hexdigest()
        self.path = directory / "rosters" / digest[:32]
        self._jid = bare_jid

    def read(self) -> Cached | None:
        """The list, or None if there is none that makes sense; such a file is removed."""
        try:
            data = self._bytes()
        except OSError:
            return None
        if data is None or (cached := self._parsed(data)) is None:
            log.info("the cached contact list is damaged: it is ignored")
            self.drop()
            return None
        return cached

    def _bytes(self) -> bytes | None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            # Whoever can write the file could hide or invent contacts.
            status = os.fstat(descriptor)
            if status.st_uid != os.getuid() or status.st_mode & 0o077 or status.st_size > MAX_FILE:
                return None
            data = file.read(MAX_FILE + 1)
        return data if len(data) <= MAX_FILE else None

    def _parsed(self, data: bytes) -> Cached | None:
        digest, _, rest = data.partition(b"\n")
        if digest.decode("ascii", "replace") != hashlib.sha256(rest).hexdigest():
            return None
        if b"<!" in rest:  # no declarations, so no entities
            return None
        try:
            root = ET.fromstring(rest)  # noqa: S314, our own file, without declarations
        except (ET.ParseError, ValueError):
            return None
        version = root.get("ver", "")
        query = root.find(QUERY_ROSTER)
        if root.tag != _TAG or root.get("account") != self._jid or query is None or not version:
            return None
        return Cached(version, query)

    def write(self, version: str, query: ET.Element) -> None:
        """Replace the file; none is left if this cannot be."""
        root = ET.Element(_TAG, account=self._jid, ver=version)
        root.append(query)
        try:
            rest = serialise(root)
            if not version or len(version) > MAX_VERSION or len(rest) + 65 > MAX_FILE:
                raise ValueError("too large")
            data = hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest
            self.path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            self._replace(data)
        except (OSError, ValueError) as error:
            log.info("the contact list is not cached: %s", error)
            self.drop()

    def _replace(self, data: bytes) -> None:
        temporary = self.path.with_name(f"{self.path.name}.{secrets.token_hex(8)}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with open(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(data)
            temporary.replace(self.path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def drop(self) -> None:
        """Forget the list."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
