"""XTLS as this peer speaks it: each step by itself, so that each can be left out or done wrong."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import SecurityError
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.role import Role
from telepathy_e2e.verify import messages, pake, sas
from telepathy_e2e.xtls import exporter, hello, identity
from telepathy_e2e.xtls.canonical import offer_digest
from telepathy_e2e.xtls.engine import Engine
from telepathy_e2e.xtls.identity import Credentials, identity_fingerprint
from telepathy_e2e.xtls.sealed import Opener, Sealer, parse_sealed
from tests.peer import credentials as certificates
from tests.peer import stanzas
from tests.peer.client import Session
from tests.peer.roads import CHUNK, Pipe


class Ended(Exception):
    """The road ended where more was expected."""


@dataclass(frozen=True)
class Seen:
    """A content as one of the sides sent it, for the digests."""

    element: Element

    def digest(self) -> bytes:
        element = self.element
        return offer_digest(
            [
                Content(
                    creator=element.get("creator", ""),
                    name=element.get("name", ""),
                    senders=element.get("senders"),
                    description=stanzas.part(element, "description"),
                    security=stanzas.part(element, "security"),
                )
            ]
        )


class Secured:
    """One protected stream; ``handshake()``, ``say_hello()``, ``hear_hello()``, then payload.

    Args:
        session: carries the sealed messages.
        pipe: carries TLS.
        own: what we show.
        offered, accepted: the contents as we sent or received them.
        epoch: of the road.

    Attributes:
        heard: what the other side said sealed, opened, its hello included.
    """

    def __init__(
        self,
        session: Session,
        pipe: Pipe,
        own: Credentials,
        offered: Element,
        accepted: Element,
        epoch: int = 0,
    ) -> None:
        self.epoch = epoch
        self.session = session
        self.pipe = pipe
        self.own = own
        self.offered = Seen(offered).digest()
        self.accepted = Seen(accepted).digest()
        self.role = Role.INITIATOR if session.initiator else Role.RESPONDER
        self.heard: list[Element] = []
        self._taken = 0
        self._read_sealed = 0
        self.engine = Engine(self.role, own.key, own.leaf, self._seen_leaf)
        self.peer_leaf = b""
        self.keys: exporter.Keys
        self.sealer: Sealer
        self.opener: Opener
        self.peer_hello: hello.Hello

    def _seen_leaf(self, leaf: bytes) -> None:
        self.peer_leaf = leaf

    # -- the handshake ----------------------------------------------------------------------

    async def handshake(self) -> Secured:
        """TLS, and the keys.

        Raises:
            SecurityError: TLS failed. Ended: the other side hung up.
        """
        self.engine.start()
        await self._flush()
        while not self.engine.established:
            await self._feed()
        self._keys()
        return self

    async def try_handshake(self) -> None:
        """The same where the other side is expected to end it; nothing is said if it does."""
        with contextlib.suppress(SecurityError, Ended, ConnectionError):
            await self.handshake()

    def _keys(self) -> None:
        own, other = stanzas.bare(self.session.peer.jid), stanzas.bare(self.session.other)
        jids = (own, other) if self.session.initiator else (other, own)
        leaves = (self.own.leaf, self.engine.peer_leaf)
        if not self.session.initiator:
            leaves = (self.engine.peer_leaf, self.own.leaf)
        context = exporter.context(self.session.sid, *jids, *leaves)
        material = self.engine.export(exporter.LABEL, context, exporter.LENGTH)
        self.keys = exporter.split(material)
        sid = self.session.sid
        other_role = self.role.other
        self.sealer = Sealer(self.keys.sealing(self.role), sid, self.role, self.epoch)
        self.opener = Opener(self.keys.sealing(other_role), sid, other_role, self.epoch)

    async def _feed(self) -> None:
        data = await self.pipe.read()
        if not data:
            raise Ended
        try:
            self.engine.receive(data)
        finally:
            await self._flush()

    async def _flush(self) -> None:
        pending = self.engine.data_to_send()
        if pending:
            await self.pipe.write(pending)

    # -- sealed messages --------------------------------------------------------------------

    def own_hello(self, **changes: object) -> Element:
        """Our hello; ``changes`` are fields of ``hello.Hello``."""
        given: dict[str, object] = {
            "identity": self.own.identity,
            "offered": self.offered,
            "accepted": self.accepted,
            "methods": ("sas", "password"),
            **changes,
        }
        return hello.build_hello(hello.Hello(**given))  # type: ignore[arg-type]

    async def say_hello(self, **changes: object) -> tuple[str, str]:
        return await self.say(self.own_hello(**changes))

    async def say(self, element: Element) -> tuple[str, str]:
        """Seal and send; the error conditions of the answer."""
        return await self.send_sealed(self.sealer.seal(element))

    async def send_sealed(self, sealed: Element) -> tuple[str, str]:
        return await self.session.send("security-info", copy.deepcopy(sealed))

    async def hear(self, name: str = "") -> Element:
        """The next sealed message that came; with a name, the next of that name."""
        while True:
            await self.session.peer.until(self._open)
            while self._taken < len(self.heard):
                self._taken += 1
                if name in ("", stanzas.local(self.heard[self._taken - 1])):
                    return self.heard[self._taken - 1]

    def _open(self) -> bool:
        infos = [each for each in self.session.received if each.get("action") == "security-info"]
        sealed = [each for info in infos for each in stanzas.sealed_in(info)]
        for each in sealed[self._read_sealed :]:
            message = parse_sealed(each)
            if message.epoch == self.epoch:
                self.heard.append(self.opener.open(message))
        self._read_sealed = len(sealed)
        return self._taken < len(self.heard)

    async def hear_hello(self) -> hello.Hello:
        """Wait for the other's hello and check it as we want ours to be checked.

        Raises:
            SecurityError: it is not right.
        """
        self.peer_hello = hello.parse_hello(await self.hear("hello"))
        if (self.peer_hello.offered, self.peer_hello.accepted) != (self.offered, self.accepted):
            raise SecurityError("the other side saw another offer or answer")
        other = stanzas.bare(self.session.other)
        leaf = self.engine.peer_leaf
        identity.check_identity(self.peer_hello.identity, leaf, other, certificates.now())
        return self.peer_hello

    async def hellos(self, **changes: object) -> Secured:
        """Both; ``changes`` to ours."""
        answer = asyncio.ensure_future(self.say_hello(**changes))
        await self.hear_hello()
        assert await answer == ("", "")
        return self

    # -- payload ----------------------------------------------------------------------------

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK):
            self.engine.write(data[start : start + CHUNK])
            await self._flush()

    async def write_eof(self) -> None:
        """close_notify, and the end of our direction."""
        self.engine.close()
        await self._flush()
        await self.pipe.write_eof()

    async def read(self, limit: int = CHUNK) -> bytes:
        """Payload; ``b""`` after the close_notify.

        Raises:
            Ended: cut without one. SecurityError: an alert.
        """
        while True:
            data = self.engine.read(limit)
            if data or self.engine.peer_closed:
                return data
            await self._feed()

    async def abort(self) -> None:
        await self.pipe.abort()

    # -- comparing strings ------------------------------------------------------------------

    def fingerprints(self) -> tuple[bytes, bytes]:
        """(the initiator's, the responder's) identity fingerprints."""
        own = identity_fingerprint(self.own.identity)
        other = identity_fingerprint(self.peer_hello.identity)
        return (own, other) if self.session.initiator else (other, own)

    def string(self, ceremony: str, own_nonce: bytes, other_nonce: bytes) -> str:
        """The short string."""
        nonces = (own_nonce, other_nonce)
        if not self.session.initiator:
            nonces = (other_nonce, own_nonce)
        return sas.short_string(self.keys.binding, ceremony, *self.fingerprints(), *nonces)

    async def commit(self, ceremony: str, nonce: bytes) -> tuple[str, str]:
        """Begin a comparison."""
        promise = sas.commitment(self.keys.binding, ceremony, self.role, nonce)
        return await self.say(messages.build("sas-commit", ceremony, promise))

    # -- a shared password ------------------------------------------------------------------

    def party(self, ceremony: str, secret: str, *, starts: bool) -> pake.Party:
        """Our side of a run of the password method."""
        initiator, responder = self.fingerprints()
        return pake.Party(
            starts=starts,
            role=self.role,
            binding=self.keys.binding,
            ceremony=ceremony,
            initiator_fingerprint=initiator,
            responder_fingerprint=responder,
            secret=pake.password_related_string(secret),
        )

    async def start_password(self, ceremony: str, share: bytes) -> tuple[str, str]:
        """Begin a run."""
        return await self.say(messages.build("pake-start", ceremony, share, suite=pake.SUITE))

    async def until_alert(self) -> SecurityError | None:
        """Read until TLS fails or the road ends; the failure, if TLS said one."""
        try:
            while True:
                self.engine.read(CHUNK)
                await self._feed()
        except SecurityError as error:
            return error
        except Ended:
            return None


Hook = Callable[[Secured], object]
