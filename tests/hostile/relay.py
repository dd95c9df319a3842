"""Relays that end the encryption on both sides and read what passes.

How well they fit their forgery to what the clients check is what makes the difference:

``SwappedCertificate`` shows its own certificates and leaves the announced fingerprints alone;
``RelayWithoutIdentity`` fits the fingerprints, but cannot say hello for anybody;
``ManInTheMiddle`` forges identities too, so that only people can find it out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import NotAvailable, PeerError, SecurityError
from telepathy_e2e.role import Role
from telepathy_e2e.verify.sas_run import SasRun
from telepathy_e2e.verify.tries import ContactTries
from telepathy_e2e.xtls import protection
from telepathy_e2e.xtls.canonical import offer_digest
from telepathy_e2e.xtls.conversation import Session as Agreed
from telepathy_e2e.xtls.engine import Engine
from telepathy_e2e.xtls.hello import Attestation
from telepathy_e2e.xtls.identity import (
    Credentials,
    make_identity,
    make_leaf,
    new_session_key,
)
from telepathy_e2e.xtls.offer import Fingerprint, build_security, parse_security
from telepathy_e2e.xtls.protection import Protection
from tests.hostile import stanzas
from tests.hostile.path import Connection, OnThePath, Session
from tests.hostile.stanzas import XTLS

READ = 64 * 1024


def forged(bare_jid: str) -> Credentials:
    """Credentials in somebody's name; everything about them is right but the key."""
    wall = datetime.now(UTC)
    identity_key, identity = make_identity(bare_jid, wall)
    key = new_session_key()
    return Credentials(key, make_leaf(key.public_key(), identity_key, identity, wall), identity)


def _replace_security(content: Element, credentials: Credentials) -> None:
    old = content.find(f"{{{XTLS}}}security")
    if old is None:
        return
    index = list(content).index(old)
    content.remove(old)
    content.insert(index, build_security(credentials.leaf))


class TlsRelay(OnThePath):
    """Ends TLS on both sides; ``plaintext`` is what passed, by the role of its sender."""

    fit_fingerprints = True

    def __init__(self) -> None:
        super().__init__()
        self.plaintext = {"initiator": bytearray(), "responder": bytearray()}
        self.errors: dict[str, str] = {}
        self.as_initiator: Credentials
        """Shown to the responder, in the initiator's name."""
        self.as_responder: Credentials

    def offer(self, session: Session, content: Element) -> None:
        self.as_initiator = forged(stanzas.bare(session.initiator))
        self.as_responder = forged(stanzas.bare(session.responder))
        if self.fit_fingerprints:
            _replace_security(content, self.as_initiator)

    def answer(self, session: Session, content: Element) -> None:
        if self.fit_fingerprints:
            _replace_security(content, self.as_responder)

    async def between(self, session: Session, initiator: Connection, responder: Connection) -> None:
        def anybody(leaf: bytes) -> None:
            pass

        towards_initiator = Engine(
            Role.RESPONDER, self.as_responder.key, self.as_responder.leaf, anybody
        )
        towards_responder = Engine(
            Role.INITIATOR, self.as_initiator.key, self.as_initiator.leaf, anybody
        )
        await asyncio.gather(
            self._half("initiator", initiator, towards_initiator, responder, towards_responder),
            self._half("responder", responder, towards_responder, initiator, towards_initiator),
        )

    async def _half(
        self,
        role: str,
        source: Connection,
        engine: Engine,
        sink: Connection,
        onwards: Engine,
    ) -> None:
        """Everything that one client sends, until it ends or TLS fails."""
        try:
            engine.start()
            await source.write(engine.data_to_send())
            while data := await source.read():
                engine.receive(data)
                await source.write(engine.data_to_send())
                while plain := engine.read(READ):
                    self.plaintext[role] += plain
                    onwards.write(plain)
                    await sink.write(onwards.data_to_send())
            onwards.close()
            await sink.write(onwards.data_to_send())
        except (SecurityError, NotAvailable) as error:
            self.errors[role] = str(error)
            await source.write(engine.data_to_send())
        await sink.write_eof()


class SwappedCertificate(TlsRelay):
    """Its certificates are not the announced ones."""

    fit_fingerprints = False


class RelayWithoutIdentity(TlsRelay):
    """The fingerprints fit; the sealed messages are the clients' own."""


class ManInTheMiddle(OnThePath):
    """Everything fits: fingerprints, digests, hellos. It is a client to either side.

    ``plaintext`` is what passed, by the role of its sender; ``strings`` what it knows the users to
    see, by role of the user.

    Args:
        compare: agree to comparisons, begin one with the other side, and say that all is well.
        lie: reveal another nonce than was promised when it compares.
        guess: what it types when a user begins with a password, towards both.
        borrowed: the clients' true identity certificates by role, as another relay has learned
            them: to show in their names, with leaves that these identities did not sign.
        vouched: what others say of the clients, by role, as another relay has learned it: to show
            beside the identities that this one made.
    """

    def __init__(
        self,
        *,
        compare: bool = True,
        lie: bool = False,
        guess: str = "sesame?",
        borrowed: Mapping[str, bytes] | None = None,
        vouched: Mapping[str, Sequence[Attestation]] | None = None,
    ) -> None:
        super().__init__()
        self._borrowed = borrowed or {}
        self._vouched = vouched or {}
        self.plaintext = {"initiator": bytearray(), "responder": bytearray()}
        self.strings: dict[str, str] = {}
        self._compared = asyncio.Event()
        self.events: dict[str, list[protection.Event]] = {"initiator": [], "responder": []}
        self._compare = compare
        self._lie = lie
        self._guess = guess
        self._started: set[str] = set()
        self._guessed: set[str] = set()
        self._wanted: list[tuple[str, str]] = []
        self._machines: dict[str, Protection] = {}
        self._connections: dict[str, Connection] = {}
        self._closed: set[str] = set()
        self._advancing = asyncio.Lock()
        self._session: Session
        self.as_initiator: Credentials
        self.as_responder: Credentials

    def offer(self, session: Session, content: Element) -> None:
        self._session = session
        self.as_initiator = self._credentials("initiator", session.initiator)
        self.as_responder = self._credentials("responder", session.responder)
        _replace_security(content, self.as_initiator)

    def answer(self, session: Session, content: Element) -> None:
        _replace_security(content, self.as_responder)

    def _credentials(self, role: str, jid: str) -> Credentials:
        credentials = forged(stanzas.bare(jid))
        if role in self._borrowed:
            return replace(credentials, identity=self._borrowed[role])
        return credentials

    @property
    def learned(self) -> dict[str, bytes]:
        """The clients' true identity certificates, by role."""
        return {
            role: event.identity_certificate
            for role, events in self.events.items()
            for event in events
            if isinstance(event, protection.Protected) and event.identity_certificate is not None
        }

    @property
    def vouchers(self) -> dict[str, tuple[Attestation, ...]]:
        """What the clients showed beside their identities, by role."""
        return {
            role: event.attestations
            for role, events in self.events.items()
            for event in events
            if isinstance(event, protection.Protected)
        }

    async def compared(self) -> dict[str, str]:
        """Wait for both of ``strings``: a user may see his before we can compute ours."""
        await self._compared.wait()
        return self.strings

    # -- signalling -------------------------------------------------------------------------

    def stanza(self, element: Element) -> list[Element]:
        if element.tag == "iq" and element.get("id", "").startswith("hostile-"):
            return []  # an answer to what we said
        sealed = stanzas.sealed(element)
        if sealed is None:
            return super().stanza(element)
        role = self._role(element.get("from", ""))
        self.server.inject(stanzas.result(element))
        try:
            self._machines[role].receive_sealed(sealed, time.monotonic())
        except PeerError:
            pass
        self.run(self._advance())
        return []

    def _role(self, jid: str) -> str:
        return "initiator" if jid == self._session.initiator else "responder"

    def _machine(self, role: str) -> Protection:
        """Our end of the protection of the client with this role."""
        session = self._session
        assert session.answer_sent is not None
        assert session.answer_delivered is not None
        assert session.offer_delivered is not None
        if role == "initiator":
            own_role, credentials = Role.RESPONDER, self.as_responder
            offered, accepted = session.offer_sent, session.answer_delivered
            announced = fingerprints(session.offer_sent)
        else:
            own_role, credentials = Role.INITIATOR, self.as_initiator
            offered, accepted = session.offer_delivered, session.answer_sent
            announced = fingerprints(session.answer_sent)
        initiator, responder = stanzas.bare(session.initiator), stanzas.bare(session.responder)
        agreed = Agreed(
            role=own_role,
            sid=session.sid,
            initiator=initiator,
            responder=responder,
            credentials=credentials,
            offered=offer_digest([parsed_content(offered)]),
            accepted=offer_digest([parsed_content(accepted)]),
            methods=("sas", "password"),
            tries=ContactTries().session(initiator, responder),
            attestations=tuple(self._vouched.get(own_role.value, ())),
        )
        return Protection(agreed, announced)

    # -- the two halves ---------------------------------------------------------------------

    async def between(self, session: Session, initiator: Connection, responder: Connection) -> None:
        self._connections = {"initiator": initiator, "responder": responder}
        for role in self._connections:
            self._machines[role] = self._machine(role)
            self._machines[role].start(time.monotonic(), datetime.now(UTC))
        await self._advance()
        await asyncio.gather(self._half("initiator"), self._half("responder"))

    async def _half(self, role: str) -> None:
        """Everything that one client sends."""
        machine, connection = self._machines[role], self._connections[role]
        while data := await connection.read():
            machine.receive_data(data, time.monotonic())
            await self._advance()
        machine.receive_eof(time.monotonic())
        await self._advance()

    async def _advance(self) -> None:
        """Move what can be moved, and send what waits to be sent."""
        async with self._advancing:
            for role in self._machines:
                self._listen(role)
            if all(self._happened(role, protection.Protected) for role in self._machines):
                while self._wanted:  # one client may begin before we have the other's hello
                    method, role = self._wanted.pop(0)
                    if method == "password":
                        self._guess_with(role)
                    else:
                        self._compare_with(role)
                self._move("initiator", "responder")
                self._move("responder", "initiator")
            failed = any(self._happened(role, protection.Failed) for role in self._machines)
            for role, machine in self._machines.items():
                await self._connections[role].write(machine.data_to_send())
                if failed or role in self._closed:
                    await self._connections[role].write_eof()

    def _move(self, source: str, sink: str) -> None:
        machines = self._machines
        try:
            while data := machines[source].read(READ):
                self.plaintext[source] += data
                machines[sink].write(data)
        except NotAvailable:
            return
        if machines[source].peer_closed:
            machines[sink].close()
            self._closed.add(sink)

    def _happened(self, role: str, event: type[protection.Event]) -> bool:
        return any(isinstance(each, event) for each in self.events[role])

    # -- what our ends say ------------------------------------------------------------------

    def _listen(self, role: str) -> None:
        """Act on the events of our end towards one client."""
        for event in self._machines[role].events():
            self.events[role].append(event)
            match event:
                case protection.SendSealed(sealed):
                    self._say(role, sealed)
                case protection.PeerStarted(method):
                    # Towards this one an answer, towards the other a beginning.
                    roles = (role, "responder" if role == "initiator" else "initiator")
                    self._wanted += [(method, each) for each in roles]
                case protection.StringReady(text):
                    self.strings[role] = text
                    if len(self.strings) == 2:
                        self._compared.set()
                    self._machines[role].confirm_sas(True, time.monotonic())
                    self._listen(role)
                case _:
                    pass

    def _say(self, role: str, sealed: Element) -> None:
        session = self._session
        jids = (session.responder, session.initiator)
        sender, receiver = jids if role == "initiator" else (jids[1], jids[0])
        self.server.inject(
            stanzas.jingle_set(sender, receiver, session.sid, "security-info", sealed)
        )

    def _guess_with(self, role: str) -> None:
        if role in self._guessed:
            return
        self._guessed.add(role)
        self._machines[role].start_password(self._guess, time.monotonic())
        self._listen(role)

    def _compare_with(self, role: str) -> None:
        if not self._compare or role in self._started:
            return
        self._started.add(role)
        machine = self._machines[role]
        machine.start_sas(time.monotonic())
        if self._lie:
            _change_nonce(machine)
        self._listen(role)


def _change_nonce(machine: Protection) -> None:
    """What we reveal will not be what we promised. No honest code can do that, so reach inside."""
    conversation = machine._conversation
    assert conversation is not None
    run = conversation.people()._run
    assert isinstance(run, SasRun)
    run._nonce = bytes(len(run._nonce))


@dataclass(frozen=True)
class ParsedContent:
    """What ``offer_digest`` needs."""

    creator: str
    name: str
    senders: str | None
    description: Element | None
    security: Element | None


def parsed_content(element: Element) -> ParsedContent:
    """What of a ``<content/>`` goes into the digests."""
    return ParsedContent(
        creator=element.get("creator", ""),
        name=element.get("name", ""),
        senders=element.get("senders"),
        description=next((each for each in element if each.tag.endswith("}description")), None),
        security=stanzas.security(element),
    )


def fingerprints(content: Element) -> tuple[Fingerprint, ...]:
    """What the sender of this ``<content/>`` announces."""
    offer = parse_security(stanzas.security(content))
    assert offer is not None
    return offer.fingerprints
