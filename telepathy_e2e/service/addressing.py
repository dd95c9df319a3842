"""Addressing: the other ways to write a contact's address (vCard fields, RFC 5122 URIs).

Light: the protocol shows it before there is an account.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from telepathy_e2e.errors import InvalidArgument, InvalidHandle, NotImplementedByUs
from telepathy_e2e.xmpp.jid import bare, local_of, normalise

VCARD_FIELDS: Final = ("x-jabber",)
URI_SCHEMES: Final = ("xmpp",)

# Characters of an address as somebody wrote it: a JID of three kilobytes, all of it escaped.
MAX_ADDRESS: Final = 10 * 1024

# RFC 5122 section 2.2: nodeallow beside unreserved characters, and what a host may have.
_SAFE: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$()*+,;=@[]:"
)
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def _check_field(field: str) -> None:
    if field.lower() not in VCARD_FIELDS:
        raise NotImplementedByUs(f"{field[:40]!r} is no vCard field that has addresses here")


def from_vcard(field: str, address: str) -> str:
    """The bare JID in a vCard field (Protocol.Interface.Addressing.NormalizeVCardAddress).

    Raises:
        NotImplementedByUs: not a field of ``VCARD_FIELDS``.
        InvalidArgument: not an address.
    """
    _check_field(field)
    return _contact(address)


def from_uri(uri: str) -> str:
    """The bare JID that a URI means, whatever it wants done (RFC 5122).

    Raises:
        NotImplementedByUs: not a scheme of ``URI_SCHEMES``.
        InvalidArgument: it means no contact.
    """
    scheme, colon, rest = uri[: MAX_ADDRESS + 1].partition(":")
    if not colon or scheme.lower() not in URI_SCHEMES:
        raise NotImplementedByUs("Addresses here are xmpp: URIs")
    if len(uri) > MAX_ADDRESS or _BAD_ESCAPE.search(rest):
        raise InvalidArgument("This is not an xmpp: URI")
    if rest.startswith("//"):  # the account to use, and then whom to talk to (section 2.3)
        rest = rest[2:].partition("/")[2]
    path = rest.partition("#")[0].partition("?")[0]
    address = _unescaped(path.partition("/")[0])
    if "/" in address:  # an escaped one begins no resource, and addresses have no other
        raise InvalidArgument("This is not an xmpp: URI")
    return _contact(address)


def _contact(address: str) -> str:
    if len(address) > MAX_ADDRESS:
        raise InvalidArgument("The address is too long")
    try:
        jid = bare(normalise(address))
    except ValueError as error:
        raise InvalidArgument(f"This is not a contact's address: {error}") from error
    if not local_of(jid):
        raise InvalidArgument("A contact looks like name@example.org")
    return jid


def _unescaped(text: str) -> str:
    try:
        data = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), text.encode())
        return data.decode()
    except UnicodeError:
        raise InvalidArgument("This is not an xmpp: URI") from None


def to_uri(bare_jid: str) -> str:
    """The ``xmpp:`` URI of a contact."""
    return "xmpp:" + "".join(
        chr(each) if each in _SAFE else f"%{each:02X}" for each in bare_jid.encode()
    )


def addresses(bare_jid: str) -> dict[str, str]:
    """Addressing1/addresses of a contact."""
    return {VCARD_FIELDS[0]: bare_jid}


def uris(bare_jid: str) -> list[str]:
    """Addressing1/uris of a contact."""
    return [to_uri(bare_jid)]


def by_vcard_field(
    field: str, given: Sequence[str], ensure: Callable[[str], int]
) -> dict[str, int]:
    """GetContactsByVCardField: the handles of those that are addresses.

    Args:
        ensure: gives a bare JID a handle, or raises InvalidHandle.
    Raises:
        NotImplementedByUs: not a field of ``VCARD_FIELDS``.
    """
    _check_field(field)
    return _handles(given, lambda address: from_vcard(field, address), ensure)


def by_uri(given: Sequence[str], ensure: Callable[[str], int]) -> dict[str, int]:
    """GetContactsByURI, likewise."""
    return _handles(given, from_uri, ensure)


def _handles(
    given: Sequence[str], parse: Callable[[str], str], ensure: Callable[[str], int]
) -> dict[str, int]:
    found = {}
    for each in given:
        try:
            found[each] = ensure(parse(each))
        except (InvalidArgument, NotImplementedByUs, InvalidHandle):
            continue  # "Requested addresses that are not valid [...] MUST be omitted"
    return found
