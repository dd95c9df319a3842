"""Addresses (RFC 7622). Pure, and cheap for ASCII: Unicode tables are loaded for others only.

The rules are those of RFC 7622 and not the older stringprep, because stringprep merges more: it
takes ``straße@`` for ``strasse@``, and where a server tells them apart one could pose as the other.
"""

from __future__ import annotations

import re
import socket

# RFC 7622 section 3.1: each part at most this many octets of UTF-8.
MAX_PART = 1023
# RFC 1035 section 2.3.4, of the form on the wire.
MAX_LABEL = 63

_FORBIDDEN_IN_LOCAL = frozenset("\"&'/:<>@")
_ASCII_LOCAL = re.compile(r"[!#-%(-.0-9;=?A-Z\[-~]+\Z")
_ASCII_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\Z")
_ASCII_RESOURCE = re.compile(r"[ -~]+\Z")
# PRECIS IdentifierClass (RFC 8264 section 4.2.1): letters, digits, marks.
_IDENTIFIER = frozenset(("Ll", "Lu", "Lo", "Nd", "Lm", "Mn", "Mc"))
# PRECIS FreeformClass does not contain: controls, surrogates, private use, unassigned.
_NOT_FREEFORM = frozenset(("Cc", "Cs", "Co", "Cn"))
_OLD_HANGUL = ((0x1100, 0x11FF), (0xA960, 0xA97C), (0xD7B0, 0xD7FB))


def normalise(jid: str) -> str:
    """The one spelling of a bare or full JID.

    Raises:
        ValueError: not a JID; the text is a sentence for the person who typed it.
    """
    rest, slash, resource = jid.strip().partition("/")
    local, at, domain = rest.rpartition("@") if "@" in rest else ("", "", rest)
    result = _domain(domain)
    if at:
        result = f"{_local(local)}@{result}"
    if slash:
        result = f"{result}/{_resource(resource)}"
    return result


def bare(jid: str) -> str:
    """A normalised JID without its resource."""
    return jid.partition("/")[0]


def resource_of(jid: str) -> str:
    """The resource of a normalised JID, or the empty string."""
    return jid.partition("/")[2]


def local_of(jid: str) -> str:
    """The part of a normalised JID before the ``@``, or the empty string."""
    return bare(jid).rpartition("@")[0]


def domain_of(jid: str) -> str:
    """The domain of a normalised JID."""
    return bare(jid).rpartition("@")[2]


def ascii_domain(domain: str) -> str:
    """A normalised domain as DNS and certificates spell it (RFC 5890, A-labels)."""
    return ".".join(
        label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii")
        for label in domain.split(".")
    )


def _bounded(part: str, name: str) -> str:
    try:
        length = len(part.encode("utf-8"))
    except UnicodeEncodeError:
        raise ValueError(f"The {name} of the address is not text") from None
    if length == 0:
        raise ValueError(f"The {name} of the address is empty")
    if length > MAX_PART:
        raise ValueError(f"The {name} of the address is too long")
    return part


def _local(local: str) -> str:
    """RFC 7622 section 3.3: UsernameCaseMapped, without some ASCII characters."""
    _bounded(local, "user name")
    if local.isascii():
        if not _ASCII_LOCAL.match(local):
            raise ValueError("The user name has a character that addresses cannot have")
        return local.lower()
    mapped = _normal_form(_narrow(local).lower())
    if not all(_is_identifier(c) and c not in _FORBIDDEN_IN_LOCAL for c in mapped):
        raise ValueError("The user name has a character that addresses cannot have")
    return _bounded(mapped, "user name")


def _domain(domain: str) -> str:
    """RFC 7622 section 3.2: labels as people read them, an IPv6 address in brackets."""
    _bounded(domain, "domain")
    if domain.startswith("["):
        try:
            socket.inet_pton(socket.AF_INET6, domain[1:-1] if domain.endswith("]") else "")
        except OSError:
            raise ValueError("The domain of the address is not an IPv6 address") from None
        return domain.lower()
    labels = domain.removesuffix(".").split(".")
    return _bounded(".".join(_label(label) for label in labels), "domain")


def _label(label: str) -> str:
    if not label.isascii():
        result = _normal_form(_narrow(label).lower())
        _check_u_label(result)
        return result
    label = label.lower()
    if len(label) > MAX_LABEL or not _ASCII_LABEL.match(label):
        raise ValueError("The domain of the address is not a host name")
    if not label.startswith("xn--"):
        return label
    try:
        result = label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        raise ValueError("The domain of the address is not a host name") from None
    _check_u_label(result)
    # Only the one encoding of the one spelling: else two addresses would be shown as the same.
    if ascii_domain(result) != label or _normal_form(_narrow(result).lower()) != result:
        raise ValueError("The domain of the address is not a host name")
    return result


def _check_u_label(label: str) -> None:
    if (
        label.isascii()
        or label[2:4] == "--"  # RFC 5891 section 4.2.3.1
        or label.startswith("-")
        or label.endswith("-")
        or not all(
            c == "-" or (_is_identifier(c) and (c.isalnum() or not c.isascii())) for c in label
        )
        or len(ascii_domain(label)) > MAX_LABEL
    ):
        raise ValueError("The domain of the address is not a host name")


def _resource(resource: str) -> str:
    """RFC 7622 section 3.4: OpaqueString (RFC 8265 section 4.2)."""
    _bounded(resource, "resource")
    if resource.isascii():
        if not _ASCII_RESOURCE.match(resource):
            raise ValueError("The resource has a control character")
        return resource
    import unicodedata

    spaced = "".join(" " if unicodedata.category(c) == "Zs" else c for c in resource)
    result = _normal_form(spaced)
    if any(unicodedata.category(c) in _NOT_FREEFORM for c in result):
        raise ValueError("The resource has a character that addresses cannot have")
    return _bounded(result, "resource")


def _narrow(text: str) -> str:
    """The width mapping of RFC 8265 section 3.3.2."""
    import unicodedata

    def one(c: str) -> str:
        kind, _, code = unicodedata.decomposition(c).partition(" ")
        return chr(int(code, 16)) if kind in ("<wide>", "<narrow>") and " " not in code else c

    return "".join(map(one, text))


def _normal_form(text: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFC", text)


def _is_identifier(c: str) -> bool:
    """PRECIS IdentifierClass; characters that RFC 8264 allows by context only are refused."""
    if c.isascii():
        return "!" <= c <= "~"
    import unicodedata

    return (
        unicodedata.category(c) in _IDENTIFIER
        and unicodedata.normalize("NFKC", c) == c
        and not any(low <= ord(c) <= high for low, high in _OLD_HANGUL)
    )
