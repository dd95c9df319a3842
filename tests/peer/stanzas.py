"""Elements as this peer writes them: by hand, so that each can be wrong in any way."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import Element, SubElement

CLIENT = "jabber:client"
JINGLE = "urn:xmpp:jingle:1"
JINGLE_ERRORS = "urn:xmpp:jingle:errors:1"
STANZA_ERRORS = "urn:ietf:params:xml:ns:xmpp-stanzas"
FILES = "urn:xmpp:jingle:apps:file-transfer:5"
HASHES = "urn:xmpp:hashes:2"
S5B = "urn:xmpp:jingle:transports:s5b:1"
JINGLE_IBB = "urn:xmpp:jingle:transports:ibb:1"
IBB = "http://jabber.org/protocol/ibb"
XTLS = "urn:xmpp:jingle:security:xtls:0"
VERIFICATION = "urn:x-telepathy-e2e:verification:0"
SEALED = f"{{{VERIFICATION}}}sealed"


def bare(jid: str) -> str:
    return jid.partition("/")[0]


def jingle(action: str, sid: str, *children: Element, **attributes: str) -> Element:
    """``<jingle/>``; attributes that are given as "" are left out."""
    given = {"action": action, "sid": sid, **attributes}
    element = Element(f"{{{JINGLE}}}jingle", {k: v for k, v in given.items() if v})
    element.extend(children)
    return element


def content(
    *children: Element | None,
    name: str = "file",
    creator: str = "initiator",
    senders: str = "initiator",
) -> Element:
    given = {"creator": creator, "name": name, "senders": senders}
    element = Element(f"{{{JINGLE}}}content", {k: v for k, v in given.items() if v})
    element.extend(child for child in children if child is not None)
    return element


def description(
    name: str | None = "file.bin",
    size: int | str | None = 0,
    *,
    desc: str | None = None,
    sha256: bytes | None = None,
    hash_used: str | None = None,
    ranged: bool = True,
    more: Iterable[Element] = (),
) -> Element:
    """A file (XEP-0234).

    Args:
        size: also a string that is no number; None leaves it out.
        sha256: digest of the whole file.
        hash_used: name of a hash that comes later.
    """
    element = Element(f"{{{FILES}}}description")
    file = SubElement(element, f"{{{FILES}}}file")
    if name is not None:
        SubElement(file, f"{{{FILES}}}name").text = name
    if size is not None:
        SubElement(file, f"{{{FILES}}}size").text = str(size)
    SubElement(file, f"{{{FILES}}}media-type").text = "application/octet-stream"
    if desc is not None:
        SubElement(file, f"{{{FILES}}}desc").text = desc
    if ranged:
        SubElement(file, f"{{{FILES}}}range")
    if sha256 is not None:
        digest = SubElement(file, f"{{{HASHES}}}hash", {"algo": "sha-256"})
        digest.text = base64.b64encode(sha256).decode()
    if hash_used is not None:
        SubElement(file, f"{{{HASHES}}}hash-used", {"algo": hash_used})
    file.extend(more)
    return element


def s5b(sid: str, *children: Element, dstaddr: str = "") -> Element:
    """A SOCKS5 transport (XEP-0260)."""
    element = Element(f"{{{S5B}}}transport", {"sid": sid})
    if dstaddr:
        element.set("dstaddr", dstaddr)
    element.extend(children)
    return element


def candidate(
    cid: str,
    host: str,
    port: int | str,
    jid: str,
    *,
    priority: int | str = 8257636,
    type: str = "direct",
) -> Element:
    return Element(
        f"{{{S5B}}}candidate",
        {
            "cid": cid,
            "host": host,
            "port": str(port),
            "jid": jid,
            "priority": str(priority),
            "type": type,
        },
    )


def s5b_note(name: str, cid: str = "") -> Element:
    """``<candidate-used/>``, ``<candidate-error/>``, ``<activated/>``, ``<proxy-error/>``."""
    return Element(f"{{{S5B}}}{name}", {"cid": cid} if cid else {})


def ibb(sid: str, block_size: int | str = 4096) -> Element:
    """An in-band transport (XEP-0261)."""
    return Element(f"{{{JINGLE_IBB}}}transport", {"sid": sid, "block-size": str(block_size)})


def reason(condition: str, text: str = "") -> Element:
    element = Element(f"{{{JINGLE}}}reason")
    SubElement(element, f"{{{JINGLE}}}{condition}")
    if text:
        SubElement(element, f"{{{JINGLE}}}text").text = text
    return element


def security(*fingerprints: tuple[str | None, str], methods: Iterable[str] = ("x509",)) -> Element:
    """``<security/>``; fingerprints are (hash or None, text)."""
    element = Element(f"{{{XTLS}}}security")
    for name, text in fingerprints:
        child = SubElement(
            element, f"{{{XTLS}}}fingerprint", {} if name is None else {"hash": name}
        )
        child.text = text
    for method in methods:
        SubElement(element, f"{{{XTLS}}}method", {"name": method})
    return element


def fingerprint(certificate: bytes, name: str = "sha-256") -> tuple[str, str]:
    """(hash, text) of a certificate in DER."""
    digest = hashlib.new(name.replace("-", ""), certificate).digest()
    return name, digest.hex(":").upper()


def received(name: str = "file", creator: str = "initiator") -> Element:
    return Element(f"{{{FILES}}}received", {"creator": creator, "name": name})


def checksum(sha256: bytes | str) -> Element:
    """The hash that was promised; as text it is what stands in the element."""
    element = Element(f"{{{FILES}}}checksum", {"creator": "initiator", "name": "file"})
    file = SubElement(element, f"{{{FILES}}}file")
    digest = SubElement(file, f"{{{HASHES}}}hash", {"algo": "sha-256"})
    digest.text = sha256 if isinstance(sha256, str) else base64.b64encode(sha256).decode()
    return element


def range_of(offset: int | str) -> Element:
    return Element(f"{{{FILES}}}range", {"offset": str(offset)})


def dstaddr(sid: str, offerer: str, other: str) -> str:
    """What is asked of the candidates that ``offerer`` offers (XEP-0260 sections 2.1 and 2.2)."""
    return hashlib.sha1(f"{sid}{offerer}{other}".encode(), usedforsecurity=False).hexdigest()


# -- reading --------------------------------------------------------------------------------


def local(element: Element) -> str:
    """The tag without its namespace."""
    return element.tag.rpartition("}")[2]


def find_jingle(iq: Element) -> Element | None:
    return iq.find(f"{{{JINGLE}}}jingle")


def only_content(element: Element) -> Element:
    """The one content of a ``<jingle/>``."""
    (found,) = element.findall(f"{{{JINGLE}}}content")
    return found


def part(content_element: Element, name: str) -> Element | None:
    """``description``, ``transport`` or ``security`` of a content, whatever its namespace."""
    for child in content_element:
        if local(child) == name:
            return child
    return None


def condition_of(terminate: Element) -> str:
    """The condition of a session-terminate."""
    found = terminate.find(f"{{{JINGLE}}}reason")
    names = [local(child) for child in found] if found is not None else []
    return next((name for name in names if name != "text"), "")


def error_of(answer: Element) -> tuple[str, str]:
    """(stanza condition, Jingle condition) of an answer; both "" for a result."""
    if answer.get("type") == "result":
        return "", ""
    stanza = jingle_condition = ""
    for child in answer.iter():
        if child.tag.startswith(f"{{{STANZA_ERRORS}}}") and local(child) != "text":
            stanza = local(child)
        if child.tag.startswith(f"{{{JINGLE_ERRORS}}}"):
            jingle_condition = local(child)
    return stanza, jingle_condition


def sealed_in(element: Element) -> Iterator[Element]:
    """The ``<sealed/>`` of a security-info."""
    yield from element.findall(SEALED)
