"""Addresses and the ``xmpp:`` URI of a fingerprint (spec/xtls.md, "Identity"; RFC 5122)."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote, unquote

from telepathy_e2e.errors import InvalidArgument

QUERY = "x-e2e-verify"
PARAMETER = "spki-sha-256"
FINGERPRINT_SIZE = 32

# A JID has at most 3,071 bytes (RFC 7622 section 3.1), percent-encoded three times as many; the
# rest of the URI is short. Who scans a code may be shown a longer one.
MAX_URI = 10 * 1024

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)

# RFC 5122 section 2.2: nodeallow, and what a host may have beside letters and digits.
_LOCAL_SAFE = "!$()*+,;="
_DOMAIN_SAFE = "[]:"


def enforced(jid: str) -> str:
    """A bare JID in the form in which RFC 7622 section 3 compares JIDs.

    It only maps: the local part's width and case (RFC 8265 section 3.3), the domain's case and
    final dot, both to NFC. It does not refuse what RFC 7622 forbids, because the result is always
    compared with an address that came through the stream and has been checked.
    """
    local, at, domain = jid.rpartition("@")
    narrow = "".join(_narrow(c) for c in local)
    mapped = unicodedata.normalize("NFC", narrow.lower())
    return mapped + at + unicodedata.normalize("NFC", domain.lower().removesuffix("."))


def make_uri(bare_jid: str, digest: bytes) -> str:
    """What a QR code of a fingerprint holds.

    Args:
        digest: the identity fingerprint, 32 bytes.
    """
    if len(digest) != FINGERPRINT_SIZE:
        raise ValueError(f"an identity fingerprint has {FINGERPRINT_SIZE} bytes")
    local, at, domain = bare_jid.rpartition("@")
    address = quote(local, safe=_LOCAL_SAFE) + at + quote(domain, safe=_DOMAIN_SAFE)
    return f"xmpp:{address}?{QUERY};{PARAMETER}={digest.hex()}"


def parse_uri(uri: str) -> tuple[str, bytes]:
    """The bare JID (enforced) and the identity fingerprint in a URI.

    Raises:
        InvalidArgument: anything but what ``make_uri`` makes, for another address or digest.
    """
    scheme, _, rest = uri.partition(":")
    address, _, query = rest.partition("?")
    kind, *pairs = query.split(";")
    if len(uri) > MAX_URI or scheme.lower() != "xmpp" or kind != QUERY:
        raise InvalidArgument("This is not the address of a key to verify")
    found = [pair.partition("=")[2] for pair in pairs if pair.partition("=")[0] == PARAMETER]
    if len(found) != 1 or not _DIGEST.fullmatch(found[0]):
        raise InvalidArgument("This address does not hold the fingerprint of a key")
    try:
        jid = unquote(address, errors="strict")
    except UnicodeDecodeError:
        raise InvalidArgument("This address is not properly encoded") from None
    local, at, domain = jid.rpartition("@")
    # A slash would be a resource, or the authority form of RFC 5122 section 2.3: then the address
    # that is shown is not the one whose key this is.
    host = domain.removesuffix(".")
    if "/" in jid or "@" in local or not host or (at and not local) or "#" in address:
        raise InvalidArgument("This address is not that of a contact")
    return enforced(jid), bytes.fromhex(found[0])


def _narrow(character: str) -> str:
    """RFC 8265 section 3.3.1, width mapping."""
    decomposition = unicodedata.decomposition(character)
    if decomposition.startswith(("<wide>", "<narrow>")):
        return chr(int(decomposition.split()[1], 16))
    return character
