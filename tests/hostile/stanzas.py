"""Taking stanzas apart and making them, for attacks.

Stanzas are elements of no namespace (``iq``, ``message``, ``presence``), as they come from the
server's module; everything inside has its own.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement

JINGLE = "urn:xmpp:jingle:1"
S5B = "urn:xmpp:jingle:transports:s5b:1"
XML_STREAM = "urn:xmpp:jingle:apps:xmlstream:0"
FILES = "urn:xmpp:jingle:apps:file-transfer:5"
XTLS = "urn:xmpp:jingle:security:xtls:0"
VERIFICATION = "urn:x-telepathy-e2e:verification:0"
DISCO_INFO = "http://jabber.org/protocol/disco#info"
CAPS = "http://jabber.org/protocol/caps"
STANZA_ERRORS = "urn:ietf:params:xml:ns:xmpp-stanzas"

SEALED = f"{{{VERIFICATION}}}sealed"

_numbers = itertools.count()


def jingle(stanza: Element, *actions: str) -> Element | None:
    """The ``<jingle/>`` of a stanza if its action is one of these (of any, without)."""
    if stanza.tag != "iq" or stanza.get("type") != "set":
        return None
    found = stanza.find(f"{{{JINGLE}}}jingle")
    if found is None or (actions and found.get("action") not in actions):
        return None
    return found


def content(stanza: Element, *actions: str) -> Element | None:
    """The first ``<content/>`` of a Jingle stanza with one of these actions."""
    found = jingle(stanza, *actions)
    return None if found is None else found.find(f"{{{JINGLE}}}content")


def is_xml_stream(content_element: Element) -> bool:
    """Whether it is no people's session: two clients tell each other of their keys, if their nodes
    do not."""
    return content_element.find(f"{{{XML_STREAM}}}description") is not None


def security(content_element: Element) -> Element | None:
    return content_element.find(f"{{{XTLS}}}security")


def sealed(stanza: Element) -> Element | None:
    """The ``<sealed/>`` of a security-info stanza."""
    found = jingle(stanza, "security-info")
    return None if found is None else found.find(SEALED)


def bare(jid: str) -> str:
    return jid.partition("/")[0]


def name(jid: str) -> str:
    """``alice`` of ``alice@example.test/x``."""
    return jid.partition("@")[0]


def new_id() -> str:
    """An id that no client chose."""
    return f"hostile-{next(_numbers)}"


def result(request: Element, *children: Element) -> Element:
    """What its addressee would answer if all were well."""
    answer = Element(
        "iq",
        {
            "type": "result",
            "id": request.get("id", ""),
            "from": request.get("to", ""),
            "to": request.get("from", ""),
        },
    )
    answer.extend(children)
    return answer


def jingle_set(sender: str, receiver: str, sid: str, action: str, *children: Element) -> Element:
    """A Jingle stanza of our own, with an id from ``new_id``."""
    iq = Element("iq", {"type": "set", "id": new_id(), "from": sender, "to": receiver})
    SubElement(iq, f"{{{JINGLE}}}jingle", {"action": action, "sid": sid}).extend(children)
    return iq


def again(stanza: Element) -> Element:
    """The same stanza with an id of its own, as a replay needs it."""
    copied = copy.deepcopy(stanza)
    copied.set("id", new_id())
    return copied


def elements(stanza: Element, tag: str) -> Iterator[Element]:
    """All descendants of this name (Clark notation)."""
    return stanza.iter(tag)
