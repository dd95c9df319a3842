"""``<hello/>``, the first sealed message of each side (spec/xtls.md, "hello")."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError, SecurityError
from telepathy_e2e.verify.events import V
from telepathy_e2e.xtls.canonical import DIGEST_SIZE
from telepathy_e2e.xtls.encoding import MAX_CERTIFICATE, decode, encode

HELLO = f"{{{V}}}hello"

VERSION = 0

# From the wire format.
MAX_ATTESTATIONS = 16
MAX_ATTESTATION_BYTES = 32 * 1024

# There is one version and there are two methods; as many as a <security/> may have are plenty.
MAX_VERSIONS = 16
MAX_METHODS = 16
# They are compared with words that we know and shown to nobody: long ones are refused.
MAX_WORD = 64
# One line for people.
MAX_SUMMARY = 1024

_VERSION = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True)
class Attestation:
    """A statement about an identity key from outside, not judged here."""

    type: str
    """``openpgp``, ``x509``, or a word that we do not know."""
    summary: str
    """One line for people, written by the other side: a claim."""
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Hello:
    """What one side says first."""

    identity: bytes = field(repr=False)
    """DER of its identity certificate."""
    offered: bytes = field(repr=False)
    """SHA-256 of what was offered, as this side sent or received it; 32 bytes."""
    accepted: bytes = field(repr=False)
    """The same of what was accepted."""
    methods: tuple[str, ...] = ()
    """What this side can do, of ``sas``, ``password`` and words that we do not know."""
    versions: tuple[int, ...] = (VERSION,)
    attestations: tuple[Attestation, ...] = ()


def check_attestations(attestations: Sequence[Attestation]) -> None:
    """That they fit the bounds.

    Raises:
        PeerError: they do not.
    """
    if len(attestations) > MAX_ATTESTATIONS:
        raise PeerError("too many attestations")
    if sum(len(attestation.data) for attestation in attestations) > MAX_ATTESTATION_BYTES:
        raise PeerError("too much in its attestations")
    if any(
        len(attestation.type) > MAX_WORD or len(attestation.summary) > MAX_SUMMARY
        for attestation in attestations
    ):
        raise PeerError("an attestation that says too much")


def build_hello(hello: Hello) -> Element:
    """The element to seal."""
    element = Element(HELLO)
    SubElement(element, _tag("identity")).text = encode(hello.identity)
    for version in hello.versions:
        SubElement(element, _tag("version")).text = str(version)
    for method in hello.methods:
        SubElement(element, _tag("method"), {"name": method})
    SubElement(element, _tag("offered")).text = encode(hello.offered)
    SubElement(element, _tag("accepted")).text = encode(hello.accepted)
    add_attestations(element, _tag("attestation"), hello.attestations)
    return element


def add_attestations(parent: Element, tag: str, attestations: Iterable[Attestation]) -> None:
    """Children of that tag, one for each."""
    for attestation in attestations:
        attributes = {"type": attestation.type, "summary": attestation.summary}
        SubElement(parent, tag, attributes).text = encode(attestation.data)


def read_attestations(elements: Iterable[Element]) -> tuple[Attestation, ...]:
    """The opposite, as a peer wrote them; not judged.

    Raises:
        PeerError: not base64, or beyond the bounds.
    """
    attestations = tuple(
        Attestation(
            child.get("type", ""),
            child.get("summary", ""),
            decode(child.text, MAX_ATTESTATION_BYTES),
        )
        for child in elements
    )
    check_attestations(attestations)
    return attestations


def parse_hello(element: Element) -> Hello:
    """Read a peer's; elements that we do not know are left alone.

    Raises:
        SecurityError: not a hello, or not of the form: nothing can be protected without one.
    """
    if element.tag != HELLO:
        raise SecurityError("the first sealed message is not a hello")
    versions = element.findall(_tag("version"))
    methods = element.findall(_tag("method"))
    if len(versions) > MAX_VERSIONS or len(methods) > MAX_METHODS:
        raise SecurityError("a hello with too many versions or methods")
    try:
        return Hello(
            identity=decode(_only(element, "identity").text, MAX_CERTIFICATE),
            offered=_digest(element, "offered"),
            accepted=_digest(element, "accepted"),
            methods=tuple(_word(child.get("name", "")) for child in methods),
            versions=tuple(_version(child.text) for child in versions),
            attestations=read_attestations(element.findall(_tag("attestation"))),
        )
    except PeerError as error:
        raise SecurityError(f"a hello with {error}") from None


def _tag(name: str) -> str:
    return f"{{{V}}}{name}"


def _only(element: Element, name: str) -> Element:
    found = element.findall(_tag(name))
    # Of two, one could be checked and the other used.
    if len(found) != 1:
        raise PeerError(f"not exactly one <{name}/>")
    return found[0]


def _digest(element: Element, name: str) -> bytes:
    data = decode(_only(element, name).text, DIGEST_SIZE)
    if len(data) != DIGEST_SIZE:
        raise PeerError(f"an <{name}/> of another length")
    return data


def _word(word: str) -> str:
    if not 0 < len(word) <= MAX_WORD:
        raise PeerError("a method without a proper name")
    return word


def _version(text: str | None) -> int:
    if text is None or not _VERSION.fullmatch(text):
        raise PeerError("a version that is not a number")
    return int(text)
