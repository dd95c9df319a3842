"""What a server can do to the stanzas that pass through it, one small class each.

Combine them with ``server.Together``. What needs sockets on the path of the payload is in
``path.py`` and ``relay.py``.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
from collections.abc import Collection
from typing import ClassVar, Literal
from xml.etree.ElementTree import Element, SubElement

from tests.hostile import stanzas
from tests.hostile.server import Attack
from tests.hostile.stanzas import CAPS, DISCO_INFO, FILES, JINGLE, S5B, VERIFICATION, XTLS

Step = Literal["session-initiate", "session-accept"]
OFFER: Step = "session-initiate"
ANSWER: Step = "session-accept"
INITIATOR = "initiator"
RESPONDER = "responder"


class ChangeContent(Attack):
    """Something in the offer or in the answer is not what was sent."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.done = 0

    def stanza(self, element: Element) -> list[Element]:
        found = stanzas.content(element, self.step)
        if found is not None and not stanzas.is_xml_stream(found):
            self.change(found)
            self.done += 1
        return [element]

    def change(self, content: Element) -> None:
        raise NotImplementedError


class ChangeFingerprint(ChangeContent):
    """One digit of the fingerprint is another."""

    def change(self, content: Element) -> None:
        for fingerprint in content.iter(f"{{{XTLS}}}fingerprint"):
            text = fingerprint.text or ""
            fingerprint.text = ("0" if text[0] != "0" else "1") + text[1:]


class AddFingerprint(ChangeContent):
    """A second fingerprint beside the true one, by the same hash."""

    def change(self, content: Element) -> None:
        security = stanzas.security(content)
        assert security is not None
        digest = hashlib.sha256(b"another certificate").digest()
        extra = SubElement(security, f"{{{XTLS}}}fingerprint", {"hash": "sha-256"})
        extra.text = digest.hex(":").upper()


class RemoveSecurity(ChangeContent):
    """The offer, or the answer, is without ``<security/>``."""

    def change(self, content: Element) -> None:
        security = stanzas.security(content)
        if security is not None:
            content.remove(security)


class ChangeFileName(ChangeContent):
    """The file is called something else."""

    name = "invoice.exe"

    def change(self, content: Element) -> None:
        for each in content.iter(f"{{{FILES}}}name"):
            each.text = self.name


class ChangeFileSize(ChangeContent):
    """The file has another size."""

    def __init__(self, step: Step, by: int) -> None:
        super().__init__(step)
        self.by = by

    def change(self, content: Element) -> None:
        for each in content.iter(f"{{{FILES}}}size"):
            each.text = str(int(each.text or "0") + self.by)


class RepeatAccept(Attack):
    """The session-accept comes once more in its own session, when the first ``after`` came."""

    def __init__(self, after: str) -> None:
        self.after = after
        self.repeated: Element | None = None
        self._accept: Element | None = None

    def stanza(self, element: Element) -> list[Element]:
        if stanzas.jingle(element, ANSWER) is not None:
            self._accept = copy.deepcopy(element)
        if self._accept is None or self.repeated is not None:
            return [element]
        if stanzas.jingle(element, self.after) is None:
            return [element]
        self.repeated = stanzas.again(self._accept)
        return [element, self.repeated]


class OldAccept(Attack):
    """The first session-accept is delivered again in place of those of later sessions.

    Args:
        fresh_road: with the new session's own transport, so that a connection comes about.
        early: at once when the offer passes, not when the responder has accepted.
    """

    def __init__(self, *, fresh_road: bool = True, early: bool = False) -> None:
        self._fresh_road = fresh_road
        self._early = early
        self._old: Element | None = None
        self.replayed: list[Element] = []

    def stanza(self, element: Element) -> list[Element]:
        offer, answer = stanzas.jingle(element, OFFER), stanzas.jingle(element, ANSWER)
        if answer is not None and self._old is None:
            self._old = copy.deepcopy(element)
            return [element]
        if self._old is None:
            return [element]
        if self._early and offer is not None:
            return [element, self._replay(offer.get("sid", ""), None)]
        if not self._early and answer is not None:
            replayed = self._replay(answer.get("sid", ""), element)
            replayed.set("id", element.get("id", ""))
            return [replayed]
        return [element]

    def _replay(self, sid: str, fresh: Element | None) -> Element:
        assert self._old is not None
        replayed = stanzas.again(self._old)
        for found in replayed.iter(f"{{{JINGLE}}}jingle"):
            found.set("sid", sid)
        if fresh is not None and self._fresh_road:
            old, new = stanzas.content(replayed), stanzas.content(fresh)
            assert old is not None
            assert new is not None
            for tag in [child.tag for child in old if child.tag.endswith("}transport")]:
                for child in old.findall(tag):
                    old.remove(child)
                old.extend(new.findall(tag))
        self.replayed.append(replayed)
        return replayed


class OnSealed(Attack):
    """Picks one sealed message of one side.

    Args:
        role: whose, of ``INITIATOR`` and ``RESPONDER``.
        number: its ``n``; 0 is the hello.
    """

    def __init__(self, role: str, number: int) -> None:
        self.role = role
        self.number = number
        self.done = 0
        self._initiators: dict[str, str] = {}
        self._spared: set[str] = set()

    def stanza(self, element: Element) -> list[Element]:
        found = stanzas.jingle(element)
        sid = "" if found is None else found.get("sid", "")
        offer = stanzas.content(element, OFFER)
        if offer is not None:
            self._initiators[sid] = element.get("from", "")
            if stanzas.is_xml_stream(offer):
                self._spared.add(sid)
        sealed = stanzas.sealed(element)
        if sealed is None or sid in self._spared or self._role(element) != self.role:
            return [element]
        return self.sealed(element, int(sealed.get("n", "-1")))

    def sealed(self, element: Element, number: int) -> list[Element]:
        """A sealed message of that side."""
        if number != self.number:
            return [element]
        self.done += 1
        return self.picked(element)

    def picked(self, element: Element) -> list[Element]:
        """The one."""
        raise NotImplementedError

    def _role(self, element: Element) -> str:
        found = stanzas.jingle(element)
        assert found is not None
        initiator = self._initiators.get(found.get("sid", ""))
        return INITIATOR if element.get("from") == initiator else RESPONDER


class DropSealed(OnSealed):
    """It never arrives; its sender is told that it did."""

    def picked(self, element: Element) -> list[Element]:
        return [stanzas.result(element)]


class RepeatSealed(OnSealed):
    """It arrives twice."""

    def picked(self, element: Element) -> list[Element]:
        return [element, stanzas.again(element)]


class AlterSealed(OnSealed):
    """One bit of it is another.

    Args:
        byte: which, from the front, or with a minus from the end, where the tag is.
    """

    def __init__(self, role: str, number: int, byte: int = 0) -> None:
        super().__init__(role, number)
        self._byte = byte

    def picked(self, element: Element) -> list[Element]:
        sealed = stanzas.sealed(element)
        assert sealed is not None
        data = bytearray(base64.b64decode(sealed.text or ""))
        data[self._byte] ^= 1
        sealed.text = base64.b64encode(data).decode()
        return [element]


class RenumberSealed(OnSealed):
    """It says that it is another one."""

    def __init__(self, role: str, number: int, by: int = 1) -> None:
        super().__init__(role, number)
        self._by = by

    def picked(self, element: Element) -> list[Element]:
        sealed = stanzas.sealed(element)
        assert sealed is not None
        sealed.set("n", str(self.number + self._by))
        return [element]


class ReorderSealed(OnSealed):
    """It arrives after the next one of its side."""

    def __init__(self, role: str, number: int) -> None:
        super().__init__(role, number)
        self._held: list[Element] = []

    def picked(self, element: Element) -> list[Element]:
        self._held.append(element)
        # Told that all is well, its sender goes on to say the next.
        return [stanzas.result(element)]

    def sealed(self, element: Element, number: int) -> list[Element]:
        if number == self.number + 1:
            held = [stanzas.again(each) for each in self._held]
            self._held.clear()
            return [element, *held]
        return super().sealed(element, number)


class ReflectSealed(OnSealed):
    """It comes back to its sender as if the other side had said it."""

    def picked(self, element: Element) -> list[Element]:
        mirrored = stanzas.again(element)
        mirrored.set("from", element.get("to", ""))
        mirrored.set("to", element.get("from", ""))
        return [element, mirrored]


class HoldSealed(OnSealed):
    """It waits until ``release``."""

    def __init__(self, role: str, number: int) -> None:
        super().__init__(role, number)
        self._held: list[Element] = []

    def picked(self, element: Element) -> list[Element]:
        self._held.append(element)
        return []

    def release(self) -> None:
        held, self._held = self._held, []
        for each in held:
            self.server.inject(each)


class Delay(Attack):
    """Stanzas with these Jingle actions (all, without) arrive later, in their order.

    Args:
        seconds: how much later.
    """

    def __init__(self, seconds: float, *actions: str) -> None:
        self._seconds = seconds
        self._actions = actions
        self.delayed = 0

    def stanza(self, element: Element) -> list[Element]:
        if stanzas.jingle(element, *self._actions) is None:
            return [element]
        self.delayed += 1
        asyncio.get_running_loop().call_later(self._seconds, self.server.inject, element)
        return []


class ForgeCapabilities(Attack):
    """Nobody's client seems to know of protection, by disco and by a fitting caps hash alike.

    Needs ``kinds=("iq", "presence")``.
    """

    NODE = "http://example.test/plain"
    IDENTITY = ("client", "pc", "", "plain")
    FEATURES: ClassVar[Collection[str]] = (
        CAPS,
        DISCO_INFO,
        JINGLE,
        FILES,
        S5B,
        "urn:xmpp:jingle:transports:ibb:1",
        "urn:xmpp:hashes:2",
        "urn:xmpp:hash-function-text-names:sha-256",
    )

    def stanza(self, element: Element) -> list[Element]:
        for caps in element.findall(f"{{{CAPS}}}c"):
            caps.attrib.update({"hash": "sha-1", "node": self.NODE, "ver": self.version()})
        if element.tag == "iq" and element.get("type") == "get":
            query = element.find(f"{{{DISCO_INFO}}}query")
            if query is not None:
                return [stanzas.result(element, self.info(query.get("node")))]
        return [element]

    def info(self, node: str | None) -> Element:
        query = Element(f"{{{DISCO_INFO}}}query", {} if node is None else {"node": node})
        category, kind, _, name = self.IDENTITY
        attributes = {"category": category, "type": kind, "name": name}
        SubElement(query, f"{{{DISCO_INFO}}}identity", attributes)
        for feature in self.FEATURES:
            SubElement(query, f"{{{DISCO_INFO}}}feature", {"var": feature})
        assert not {XTLS, VERIFICATION} & set(self.FEATURES)
        return query

    def version(self) -> str:
        """XEP-0115 section 5.1."""
        parts = ["/".join(self.IDENTITY), *sorted(self.FEATURES)]
        text = "".join(f"{part}<" for part in parts)
        # The hash that the standard prescribes, whatever one thinks of it.
        return base64.b64encode(hashlib.sha1(text.encode()).digest()).decode()  # noqa: S324
