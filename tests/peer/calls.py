"""Calls as a scripted peer makes them: elements that can be wrong, and a side with real media."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.jingle import ice, rtp
from telepathy_e2e.media.events import Connected, GatheringDone
from tests.peer import stanzas
from tests.peer.client import BASE, Session
from tests.support.media import OPUS, Person

RTP = rtp.RTP_NS
ICE = ice.ICE_NS
DTLS = ice.DTLS_NS
MESSAGES = "urn:xmpp:jingle-message:0"
# A client that has media and no identities, and gets its offers at once.
CALLS = (*BASE, *(each for each in rtp.FEATURES if each != MESSAGES))

OPUS_ONLY = ((96, "opus", "48000", "2"),)


def description(
    media: str = "audio",
    payload_types: Iterable[tuple[int, str, str, str]] = OPUS_ONLY,
    *,
    sdes: bool = False,
) -> Element:
    """``<description/>``; payload types are (id, name, clockrate, channels)."""
    element = Element(f"{{{RTP}}}description", {"media": media})
    for id_, name, rate, channels in payload_types:
        given = {"id": str(id_), "name": name, "clockrate": rate, "channels": channels}
        SubElement(element, f"{{{RTP}}}payload-type", given)
    if sdes:
        crypto = {
            "crypto-suite": "AES_CM_128_HMAC_SHA1_80",
            "key-params": "inline:LAMP82QP8fZKEDusEyHKVDO8HGGkKcYrTs4/J6s5",
            "tag": "1",
        }
        SubElement(SubElement(element, f"{{{RTP}}}encryption"), f"{{{RTP}}}crypto", crypto)
    SubElement(element, f"{{{RTP}}}rtcp-mux")
    return element


def transport(
    *,
    digest: bytes | None = bytes(32),
    setup: str | None = "actpass",
    candidates: int = 1,
) -> Element:
    """``<transport/>`` with candidates where nobody listens.

    Args:
        digest: None: no fingerprint.
        setup: None: the attribute is missing.
    """
    given = {"ufrag": secrets.token_hex(4), "pwd": secrets.token_hex(16)}
    element = Element(f"{{{ICE}}}transport", given)
    if digest is not None:
        fingerprint = SubElement(element, f"{{{DTLS}}}fingerprint", {"hash": "sha-256"})
        if setup is not None:
            fingerprint.set("setup", setup)
        fingerprint.text = digest.hex(":").upper()
    for number in range(candidates):
        SubElement(
            element,
            f"{{{ICE}}}candidate",
            {
                "component": "1",
                "foundation": str(number),
                "generation": "0",
                "id": f"c{number}",
                "ip": "192.0.2.1",
                "network": "0",
                "port": str(40000 + number),
                "priority": str(2000000 + number),
                "protocol": "udp",
                "type": "host",
            },
        )
    return element


def content(
    name: str = "voice",
    description_: Element | None = None,
    transport_: Element | None = None,
    *,
    creator: str = "initiator",
) -> Element:
    return stanzas.content(
        description() if description_ is None else description_,
        transport() if transport_ is None else transport_,
        name=name,
        creator=creator,
        senders="both",
    )


def message(to: str, kind: str, id_: str, *children: Element) -> Element:
    """A message about a call (XEP-0353)."""
    stanza = Element(f"{{{stanzas.CLIENT}}}message", {"to": to, "type": "chat"})
    SubElement(stanza, f"{{{MESSAGES}}}{kind}", {"id": id_}).extend(children)
    SubElement(stanza, "{urn:xmpp:hints}store")
    return stanza


def propose(to: str, id_: str, media: str = "audio") -> Element:
    return message(to, "propose", id_, Element(f"{{{RTP}}}description", {"media": media}))


class Talker(Person):
    """A peer with media that are real: it calls or is called, and its road comes up.

    Args:
        session: of the peer; not begun yet where it calls.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(controlling=session.initiator)
        self.session = session
        self.answer: ice.Transport
        self.name = "voice"

    async def offer(self) -> tuple[str, str]:
        """The error conditions of the answer to it."""
        await self.engine.gather(self.road)
        await self.until(GatheringDone)
        own = ice.build(self.engine.local_transport(self.road))
        return await self.session.send(
            "session-initiate", content("voice", rtp.build(replace(OPUS, rtcp_mux=True)), own)
        )

    async def accepted(self) -> None:
        """Wait for the session-accept."""
        accept = await self.session.wait("session-accept")
        found = accept.find(f"{{{stanzas.JINGLE}}}content/{{{ICE}}}transport")
        self.answer = ice.parse(found)
        self.engine.remote_transport(self.road, self.answer)

    def start(self) -> None:
        """ICE, then DTLS."""
        self.engine.start(
            self.road,
            ice.dtls_role("actpass", self.answer.fingerprints[0].setup),
            self.answer.fingerprints,
            strict_leaf=False,
        )

    async def connected(self) -> None:
        self.start()
        await self.until(Connected)

    async def takes(self, offer: Element) -> None:
        """Answer a session-initiate, and connect."""
        (asked,) = offer.iter(f"{{{stanzas.JINGLE}}}content")
        self.name = asked.get("name", "")
        self.answer = ice.parse(asked.find(f"{{{ICE}}}transport"))
        self.engine.remote_transport(self.road, self.answer)
        await self.engine.gather(self.road)
        await self.until(GatheringDone)
        own = ice.build(self.engine.local_transport(self.road, "active"))
        accept = content(self.name, rtp.build(replace(OPUS, rtcp_mux=True)), own)
        assert await self.session.send("session-accept", accept) == ("", "")
        self.engine.start(self.road, "client", self.answer.fingerprints, strict_leaf=False)
        await self.until(Connected)

    async def told(self) -> ice.Transport:
        """Wait for the next transport-info, and take it."""
        info = await self.session.wait("transport-info")
        told = ice.parse(info.find(f"{{{stanzas.JINGLE}}}content/{{{ICE}}}transport"))
        self.engine.remote_transport(self.road, told)
        return told

    async def news(self) -> ice.Transport:
        """Wait for new credentials; what was on the way before them is taken."""
        while (told := await self.told()).ufrag in ("", self.answer.ufrag):
            pass
        self.answer = told
        return told

    async def tell(self, *candidates: ice.Candidate) -> tuple[str, str]:
        """Our credentials as they are now, and these candidates; nothing besides them."""
        own = self.engine.local_transport(self.road)
        told = ice.build(ice.Transport(own.ufrag, own.pwd, candidates))
        element = stanzas.content(told, name=self.name, creator="initiator", senders="")
        return await self.session.send("transport-info", element)

    async def add(self, name: str) -> None:
        """One more content, with a road of its own that comes up."""
        self.engine.add_road(name)
        await self.engine.gather(name)
        await self.until(GatheringDone, 2)
        own = ice.build(self.engine.local_transport(name))
        added = content(name, rtp.build(replace(OPUS, rtcp_mux=True)), own)
        assert await self.session.send("content-add", added) == ("", "")
        accept = await self.session.wait("content-accept")
        answer = ice.parse(accept.find(f"{{{stanzas.JINGLE}}}content/{{{ICE}}}transport"))
        self.engine.remote_transport(name, answer)
        role = ice.dtls_role("actpass", answer.fingerprints[0].setup)
        self.engine.start(name, role, answer.fingerprints, strict_leaf=False)
        await self.until(Connected, 2)
