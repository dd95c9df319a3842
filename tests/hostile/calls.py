"""What a server can do to calls that pass through it.

``TransportRelay`` ends DTLS on both sides with leaves that fit what it announces; it cannot say
hello for anybody, for sealed messages are bound to each side's own handshake.
``CallInTheMiddle`` forges identities too, so that only people can find it out.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError
from telepathy_e2e.jingle import ice, rtp
from telepathy_e2e.jingle.stanzas import parse as parse_jingle
from telepathy_e2e.media.engine import MediaEngine
from telepathy_e2e.media.events import Connected, MediaEvent
from telepathy_e2e.role import Role
from telepathy_e2e.verify.tries import ContactTries
from telepathy_e2e.xtls import events
from telepathy_e2e.xtls.association import Handshake
from telepathy_e2e.xtls.canonical import offer_digest
from telepathy_e2e.xtls.conversation import Session
from telepathy_e2e.xtls.dtls_protection import DtlsProtection
from telepathy_e2e.xtls.offer import Fingerprint
from tests.hostile import stanzas
from tests.hostile.attacks import ChangeContent, Step
from tests.hostile.relay import forged
from tests.hostile.server import Attack

DTLS = f"{{{ice.DTLS_NS}}}fingerprint"
SIDES = ("initiator", "responder")


class ChangeDtlsFingerprint(ChangeContent):
    """One digit of the fingerprint is another."""

    def change(self, content: Element) -> None:
        for fingerprint in content.iter(DTLS):
            text = fingerprint.text or ""
            fingerprint.text = ("0" if text[0] != "0" else "1") + text[1:]


class SetupIs(ChangeContent):
    """The role in the handshake is another, or (None) missing."""

    def __init__(self, step: Step, setup: str | None) -> None:
        super().__init__(step)
        self.setup = setup

    def change(self, content: Element) -> None:
        for fingerprint in content.iter(DTLS):
            fingerprint.attrib.pop("setup", None)
            if self.setup is not None:
                fingerprint.set("setup", self.setup)


class SdesOnly(ChangeContent):
    """Keys in the signalling in the place of DTLS."""

    def change(self, content: Element) -> None:
        for transport in content.findall(ice.TRANSPORT):
            for fingerprint in transport.findall(DTLS):
                transport.remove(fingerprint)
        for description in content.findall(f"{{{rtp.RTP_NS}}}description"):
            encryption = SubElement(description, f"{{{rtp.RTP_NS}}}encryption")
            crypto = {
                "crypto-suite": "AES_CM_128_HMAC_SHA1_80",
                "key-params": "inline:LAMP82QP8fZKEDusEyHKVDO8HGGkKcYrTs4/J6s5",
                "tag": "1",
            }
            SubElement(encryption, f"{{{rtp.RTP_NS}}}crypto", crypto)


class TransportRelay(Attack):
    """Ends DTLS on both sides of a call with one content; the rest is the clients' own.

    Attributes:
        connected: the sides (by role) with which DTLS was done.
    """

    def __init__(self) -> None:
        self.connected: dict[str, Connected] = {}
        self.sid = ""
        self.jids: dict[str, str] = {}
        self.sent: dict[str, Element] = {}
        """The content as each side sent it."""
        self.delivered: dict[str, Element] = {}
        """The content as it was delivered, by who had sent it."""
        self.credentials = {side: forged(f"{side}@example.test") for side in SIDES}
        """Shown in the name of each side, to the other."""
        # Towards the initiator we are the responder, and the other way round.
        self.engines: dict[str, MediaEngine] = {}

    async def stop(self) -> None:
        for engine in self.engines.values():
            await engine.close()
        self.engines.clear()

    def stanza(self, element: Element) -> list[Element]:
        found = stanzas.jingle(element, "session-initiate", "session-accept", "transport-info")
        if found is None:
            return [element]
        side = "initiator" if found.get("action") == "session-initiate" else "responder"
        if side == "responder" and found.get("sid") != self.sid:
            return [element]  # of a call before ours, late
        content = found.find(f"{{{stanzas.JINGLE}}}content")
        transport = None if content is None else content.find(ice.TRANSPORT)
        if content is None or transport is None:
            return [element]
        if found.get("action") == "transport-info":
            sender = "initiator" if element.get("from") == self.jids["initiator"] else SIDES[1]
            self.engines[sender].remote_transport("m", ice.parse(transport))
            self.server.inject(stanzas.result(element))
            return []
        if side == "initiator":
            self.begin(element, found.get("sid", ""))
        self.sent[side] = copy.deepcopy(content)
        # At once: a transport-info may be right behind, and says that these were all.
        self.engines[side].remote_transport("m", ice.parse(transport))
        self._work(self._swap(element, content, transport, side))
        return []

    def begin(self, element: Element, sid: str) -> None:
        self.sid = sid
        self.jids = {"initiator": element.get("from", ""), "responder": element.get("to", "")}
        for side in SIDES:
            other = SIDES[1 - SIDES.index(side)]
            self.credentials[other] = forged(stanzas.bare(self.jids[other]))
            self.engines[side] = MediaEngine(
                controlling=side == "responder",
                credentials=self.credentials[other],
                servers=[],
                events=self._events(side),
            )
            self.engines[side].add_road("m")

    def _work(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._ran)
        self._running = task

    def _ran(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (problem := task.exception()) is not None:
            self.server.problems.append(problem)

    async def _swap(
        self, element: Element, content: Element, transport: Element, side: str
    ) -> None:
        other = SIDES[1 - SIDES.index(side)]
        await self.engines[other].gather("m")
        setup = "actpass" if side == "initiator" else "active"
        ours = ice.build(self.engines[other].local_transport("m", setup))
        index = list(content).index(transport)
        content.remove(transport)
        content.insert(index, ours)
        self.delivered[side] = copy.deepcopy(content)
        self.server.inject(element)
        if side == "responder":
            # What was announced to each: an actpass offer, and an active answer.
            prints = {each: ice.parse(self.sent[each].find(ice.TRANSPORT)) for each in SIDES}
            self.engines["initiator"].start(
                "m", "client", prints["initiator"].fingerprints, strict_leaf=False
            )
            answered = prints["responder"].fingerprints
            role = ice.dtls_role("actpass", answered[0].setup)
            self.engines["responder"].start("m", role, answered, strict_leaf=False)

    def _events(self, side: str) -> Callable[[MediaEvent], None]:
        def happened(event: MediaEvent) -> None:
            if isinstance(event, Connected):
                self.connected[side] = event
                self.secured(side, event)

        return happened

    def secured(self, side: str, event: Connected) -> None:
        """DTLS with one side is done."""


class CallInTheMiddle(TransportRelay):
    """Everything fits: fingerprints, digests, hellos. It is a client to either side.

    Attributes:
        strings: what it knows the users to see, by role of the user.
    """

    def __init__(self) -> None:
        super().__init__()
        self.strings: dict[str, str] = {}
        self.protected: set[str] = set()
        self._machines: dict[str, DtlsProtection] = {}
        self._early: dict[str, list[Element]] = {side: [] for side in SIDES}
        self._started: set[str] = set()

    def stanza(self, element: Element) -> list[Element]:
        if element.tag == "iq" and element.get("id", "").startswith("hostile-"):
            return []  # an answer to what we said
        sealed = stanzas.sealed(element)
        found = stanzas.jingle(element)
        if sealed is None or found is None or found.get("sid") != self.sid:
            return super().stanza(element)
        side = "initiator" if element.get("from") == self.jids["initiator"] else "responder"
        self.server.inject(stanzas.result(element))
        if side in self._machines:
            self._take(side, sealed)
        else:
            self._early[side].append(sealed)
        return []

    def secured(self, side: str, event: Connected) -> None:
        engine, facts = self.engines[side], event.facts
        other = SIDES[1 - SIDES.index(side)]
        if side == "initiator":
            offered, accepted = self.sent["initiator"], self.delivered["responder"]
        else:
            offered, accepted = self.delivered["initiator"], self.sent["responder"]
        initiator, responder = (stanzas.bare(self.jids[each]) for each in SIDES)
        transport = ice.parse(self.sent[side].find(ice.TRANSPORT))
        machine = self._machines[side] = DtlsProtection(
            Session(
                role=Role(other),
                sid=self.sid,
                initiator=initiator,
                responder=responder,
                credentials=self.credentials[other],
                offered=offer_digest([_parsed(offered)]),
                accepted=offer_digest([_parsed(accepted)]),
                methods=("sas", "password"),
                tries=ContactTries().session(initiator, responder),
            ),
            [Fingerprint(each.hash, each.digest) for each in transport.fingerprints],
            messages=True,
        )
        machine.connected(
            Handshake(facts.peer_leaf, facts.cipher, facts.key_exchange),
            lambda label, context, length: engine.export("m", label, context, length),
            time.monotonic(),
            datetime.now(UTC),
        )
        self._listen(side)
        for sealed in self._early[side]:
            self._take(side, sealed)

    def _take(self, side: str, sealed: Element) -> None:
        try:
            self._machines[side].receive_sealed(sealed, time.monotonic())
        except PeerError as error:
            self.server.problems.append(error)
        self._listen(side)

    def _listen(self, side: str) -> None:
        for event in self._machines[side].events():
            match event:
                case events.SendSealed(sealed):
                    other = SIDES[1 - SIDES.index(side)]
                    self.server.inject(
                        stanzas.jingle_set(
                            self.jids[other], self.jids[side], self.sid, "security-info", sealed
                        )
                    )
                case events.Protected():
                    self.protected.add(side)
                case events.PeerStarted():
                    for each in SIDES:
                        if each not in self._started:
                            self._started.add(each)
                            self._machines[each].start_sas(time.monotonic())
                            self._listen(each)
                case events.StringReady(text):
                    self.strings[side] = text
                case _:
                    pass


def _parsed(content: Element) -> Any:
    jingle = Element(f"{{{stanzas.JINGLE}}}jingle", {"action": "session-accept", "sid": "x"})
    jingle.append(content)
    return parse_jingle(jingle).contents[0]
