"""Plain words for what the daemon says; pure."""

from __future__ import annotations

import unicodedata
from typing import Final, Protocol

from telepathy_e2e.cli import names
from telepathy_e2e.xtls.uri import make_uri

METHODS: Final = {
    "sas": "comparing short strings",
    "fingerprint": "comparing fingerprints",
    "password": "a shared password",
    "pin": "an earlier verification of the same key",
    "x509": "a certificate authority that you chose",
    "openpgp": "an OpenPGP key",
    "cross-signature": "another device that was verified",
}

# Why a verification came to no result.
FAILURES: Final = {
    "wrong-password": "the two passwords differ, or somebody is in between",
    "refused": "the other side did not want to",
    "timeout": "it took too long",
    "busy": "the other side was busy with another one",
    "crossed": "the other side began at the same moment",
    "bad-share": "the other side, or somebody in between, tried to cheat",
    "wrong-reveal": "the other side, or somebody in between, tried to cheat",
    "tries": "too many have failed already",
}

REASONS: Final = {
    "requested": "verification was asked for",
    "policy": "your policy asks for verification",
    "continuity": "a new session with this contact",
    "upgrade": "verification was asked for while the channel runs",
    "no-encryption": "the contact's client cannot encrypt",
}

# What may not reach a terminal from outside: control characters move the cursor and rewrite what
# stands there, format characters (bidirectional overrides) reorder it, others have no glyph.
_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str, limit: int = 200) -> str:
    """``text`` from outside, fit for a terminal: one line, nothing invisible, at most ``limit``
    characters.
    """
    shown = "".join("\ufffd" if unicodedata.category(c) in _UNPRINTABLE else c for c in text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def size_text(count: int) -> str:
    """Bytes as people write them; an unknown size is said to be unknown."""
    if count == names.UNKNOWN_SIZE:
        return "unknown size"
    if count < 1000:
        return f"{count} bytes" if count != 1 else "1 byte"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":
            break
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"


class Properties(Protocol):
    """What has D-Bus properties: a channel."""

    def get(self, interface: str, name: str, default: object = None) -> object: ...


class Protection:
    """How one channel is protected at this moment.

    Args:
        channel: where the properties come from.
    """

    def __init__(self, channel: Properties) -> None:
        self.encrypted = channel.get(names.SECURABLE, "Encrypted") is True
        # Verified without encrypted would be a contradiction; the lower level counts.
        self.verified = self.encrypted and channel.get(names.SECURABLE, "Verified") is True
        self.by = str(channel.get(names.SECURITY, "VerifiedBy") or "") if self.verified else ""
        methods = channel.get(names.SECURITY, "VerifiedMethods")
        listed = [str(each) for each in methods] if isinstance(methods, list) else []
        self.methods = (listed or [self.by]) if self.by else []
        self.suite = str(channel.get(names.SECURITY, "CipherSuite") or "")
        self.exchange = str(channel.get(names.SECURITY, "KeyExchange") or "")
        self.protocol = str(channel.get(names.SECURITY, "Protocol") or "")
        peer = channel.get(names.SECURITY, "PeerFingerprints")
        own = channel.get(names.SECURITY, "OwnFingerprints")
        self.peer_fingerprints = dict(peer) if isinstance(peer, dict) else {}
        self.own_fingerprints = dict(own) if isinstance(own, dict) else {}

    @property
    def level(self) -> str:
        """``none``, ``encrypted`` or ``verified``."""
        return "verified" if self.verified else "encrypted" if self.encrypted else "none"

    @property
    def sentence(self) -> str:
        """The level in plain words."""
        if self.verified:
            ways = " and ".join(METHODS.get(each, each) for each in self.methods)
            return f"encrypted, and the peer is verified by {ways}"
        if self.encrypted:
            return "encrypted, but nobody has verified that the peer is who it says"
        return "NOT PROTECTED: every server on the way can read and change it"

    def fields(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "protection": self.level,
            "encrypted": self.encrypted,
            "verified": self.verified,
            "verified_by": self.by,
            "verified_methods": self.methods,
            "protocol": self.protocol,
            "cipher_suite": self.suite,
            "key_exchange": self.exchange,
            "peer_fingerprints": self.peer_fingerprints,
            "own_fingerprints": self.own_fingerprints,
        }


def fingerprint_lines(fingerprint: str) -> list[str]:
    """``AA:BB:…`` in lines of eight bytes, so that eyes keep their place."""
    parts = fingerprint.split(":")
    return [" ".join(parts[i : i + 8]) for i in range(0, len(parts), 8)]


def verification_uri(bare_jid: str, fingerprint: str) -> str:
    """The URI that the other side can scan: SHA-256 of the identity key of ``bare_jid``."""
    return make_uri(bare_jid, bytes.fromhex(fingerprint.replace(":", "")))


def parse_fingerprint(text: str) -> str:
    """A fingerprint or verification URI as somebody typed, pasted or scanned it, as 64 lower-case
    hex digits.

    Raises:
        ValueError: it is neither.
    """
    text = text.strip()
    if text.lower().startswith("xmpp:"):
        _, found, text = text.partition("?x-e2e-verify;spki-sha-256=")
        if not found:
            raise ValueError("not a verification URI")
    digits = "".join(c for c in text if c not in ": \t-").lower()
    if len(digits) != 64 or any(c not in "0123456789abcdef" for c in digits):
        raise ValueError("not 64 hexadecimal digits")
    return digits
