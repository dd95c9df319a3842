"""The attestations that we show: one file each, written by ``tpe2e identity attest``.

They are public statements about a public key. What is wrong with a file is said in the log, and the
others are shown all the same: without them people compare, which is no less safe.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

from telepathy_e2e.errors import InvalidArgument

log = logging.getLogger(__name__)

# Of each, so that all of them and an identity certificate fit into one sealed message of 64 KiB,
# in base64 and with everything in the summaries escaped.
MAX_OWN: Final = 8
MAX_OWN_BYTES: Final = 24 * 1024
MAX_SUMMARY: Final = 100

# Base64 of the most that fits, and the words around it.
MAX_FILE: Final = 64 * 1024
# File systems end a name at 255 bytes.
_MAX_NAME: Final = 200
_SUFFIX: Final = ".json"
_TYPE_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_MAX_TYPE: Final = 32


@dataclass(frozen=True)
class OwnAttestation:
    """A statement about our identity key.

    Raises:
        InvalidArgument: not of a form that can be sent.
    """

    type: str
    """``openpgp``, ``x509``, or what somebody else makes of it."""
    summary: str
    """One line for people."""
    fingerprint: bytes
    """Of the identity that it is about, 32 bytes."""
    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not 0 < len(self.type) <= _MAX_TYPE or not _TYPE_LETTERS.issuperset(self.type):
            raise InvalidArgument("An attestation's type is a short word of small letters")
        if len(self.summary) > MAX_SUMMARY or not self.summary.isprintable():
            raise InvalidArgument(f"A summary is one line of at most {MAX_SUMMARY} characters")
        if len(self.fingerprint) != hashlib.sha256().digest_size:
            raise InvalidArgument("An identity fingerprint has 32 bytes")
        if not 0 < len(self.data) <= MAX_OWN_BYTES:
            raise InvalidArgument(f"An attestation has at most {MAX_OWN_BYTES} bytes")

    def to_json(self) -> str:
        """As it is in its file, and between two devices of the same person."""
        content = {
            "type": self.type,
            "summary": self.summary,
            "identity": self.fingerprint.hex(),
            "data": base64.b64encode(self.data).decode("ascii"),
        }
        return json.dumps(content, indent=1)

    @classmethod
    def from_json(cls, raw: bytes) -> OwnAttestation:
        """The opposite.

        Raises:
            ValueError, InvalidArgument: it is none.
        """
        if len(raw) > MAX_FILE:
            raise ValueError("it is too long")
        try:
            content = json.loads(raw)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        names = ("type", "summary", "identity", "data")
        if not isinstance(content, dict):
            raise ValueError("it holds no attestation")
        texts = [content.get(name) for name in names]
        kind, summary, identity, data = (each if isinstance(each, str) else "" for each in texts)
        return cls(kind, summary, bytes.fromhex(identity), base64.b64decode(data, validate=True))


def directory(environment: Mapping[str, str], account: str) -> Path:
    """Where those of an account are (XDG Base Directory Specification).

    Args:
        account: bare JID, normalised.
    Raises:
        InvalidArgument: not an account.
    """
    if not account.strip("."):
        raise InvalidArgument("An identity belongs to an account")
    home = environment.get("XDG_DATA_HOME", "")
    # The specification: relative paths are to be ignored.
    base = Path(home) if Path(home).is_absolute() else Path.home() / ".local" / "share"
    name = quote(account, safe="@")
    if len(name) > _MAX_NAME:
        name = "%sha256-" + hashlib.sha256(account.encode()).hexdigest()
    return base / "telepathy-e2e" / "attestations" / name


def store(where: Path, attestation: OwnAttestation, signer: bytes = b"") -> Path:
    """Write it whole or not at all; another of the same type for the same key, and by the same
    signer where there may be several, is replaced.

    Args:
        signer: fingerprint of the identity that vouches, in one of the type ``identity``.
    Raises:
        OSError: it cannot be written.
    """
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    by = f"-{signer.hex()[:16]}" if signer else ""
    path = where / f"{attestation.type}-{attestation.fingerprint.hex()[:16]}{by}{_SUFFIX}"
    temporary = where / f".{secrets.token_hex(8)}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(attestation.to_json())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read(where: Path, fingerprint: bytes) -> list[OwnAttestation]:
    """Those that are about this identity and fit into a hello, in the order of their names.

    Args:
        fingerprint: of the identity that is to be shown, 32 bytes.
    """
    try:
        paths = sorted(path for path in where.iterdir() if path.suffix == _SUFFIX)
    except FileNotFoundError:
        return []
    except OSError as error:
        log.warning("own attestations cannot be read: %s", error.strerror)
        return []
    found: list[OwnAttestation] = []
    size = 0
    for path in paths:
        try:
            attestation = _parse(path)
        except (OSError, ValueError, InvalidArgument) as error:
            log.warning("the attestation in %s cannot be used: %s", path, error)
            continue
        # A statement about another key vouches for nothing here.
        if attestation.fingerprint != fingerprint:
            continue
        size += len(attestation.data)
        if len(found) == MAX_OWN or size > MAX_OWN_BYTES:
            log.warning("more attestations than are sent: %s and what follows is left out", path)
            break
        found.append(attestation)
    return found


def _parse(path: Path) -> OwnAttestation:
    with path.open("rb") as file:
        return OwnAttestation.from_json(file.read(MAX_FILE + 1))
