"""One function for each parser of a peer's bytes: whatever they are, it returns.

They are made of the checks that the fuzzers beside this folder make: nothing but ``PeerError`` (of
which ``SecurityError`` is one) comes out, and what is let through is fit for what is done with it
next. The same bytes always do the same, so that what was found is found again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree.ElementTree import Element

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from telepathy_e2e.attest import identity, openpgp
from telepathy_e2e.attest.certificate import check_x509, read_authorities
from telepathy_e2e.attest.chain import fingerprint, split
from telepathy_e2e.errors import InvalidArgument, NotAvailable, PeerError, SecurityError
from telepathy_e2e.jingle.ibb import MIN_BLOCK_SIZE, InBandOffer, InBandReceiver, check_open
from telepathy_e2e.net.socks5 import ClientHandshake, ServerHandshake
from telepathy_e2e.role import Role
from telepathy_e2e.verify import messages as verification
from telepathy_e2e.verify.ceremony import TIMEOUT, CeremonyEnded, Event, Outcome, Send
from telepathy_e2e.xmpp import avatar, caps, forms, messages, muc, muc_config, nick, pubsub, vcard
from telepathy_e2e.xmpp import parser as parser_module
from telepathy_e2e.xtls.certificates import MAX_CERTIFICATE, read_key
from telepathy_e2e.xtls.encoding import from_xml, to_xml
from telepathy_e2e.xtls.engine import Engine
from telepathy_e2e.xtls.hello import parse_hello
from telepathy_e2e.xtls.identity import PrivateKey, identity_fingerprint, make_leaf
from telepathy_e2e.xtls.published import check_published, parse_published
from telepathy_e2e.xtls.sealed import PADDING, Opener, SealedMessage, _additional_data
from telepathy_e2e.xtls.uri import parse_uri
from tests.fuzz import (
    test_certificates,
    test_peer_streams,
    test_socks5_strangers,
    test_stanzas,
    test_xmpp_stream,
)
from tests.fuzz.support import STANZAS
from tests.unit.net_support import DSTADDR
from tests.unit.verify_support import Side

Harness = Callable[[bytes], None]

VECTORS = Path(__file__).parents[2] / "vectors"
#: What was found once, by name of the harness; each is there for good.
CRASHES = Path(__file__).parent / "crashes"

# Bytes; somewhat more than any bound of a parser of bytes, so that both sides of it are looked at.
LONGEST = 2 * MAX_CERTIFICATE


def vectors(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


_XTLS = vectors("xtls")
_NODE = vectors("identity-node")
_WORDS = vectors("attestations")["identity"]
WALL = datetime.fromisoformat(_NODE["wall"])


def _key(private: str) -> PrivateKey:
    return PrivateKey(ec.derive_private_key(int(private, 16), ec.SECP256R1()))


@dataclass(frozen=True)
class Person:
    """One of the two in the vectors."""

    jid: str
    leaf: bytes
    identity: bytes

    @classmethod
    def of(cls, role: str) -> Person:
        given = _XTLS["peers"][role]
        identity = base64.b64decode(given["identity_certificate_base64"])
        # Those of the vectors live too long to be taken.
        keys = [_key(given[f"{name}_key_p256_private"]) for name in ("session", "identity")]
        leaf = make_leaf(keys[0].public_key(), keys[1], identity, WALL)
        return cls(given["jid"], leaf, identity)


ALICE, BOB = Person.of("initiator"), Person.of("responder")


def documents(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Bytes as a row of steps, cut at zeros, which no XML has: (what to do, with what)."""
    for part in data.split(b"\0")[:64]:
        if part:
            yield chr(part[0]), part[1:]


def element_of(data: bytes) -> Element | None:
    with suppress(PeerError):
        element = from_xml(data)
        # Nothing grows by being read, as it would with entities, and nothing is in it that is not
        # there to be seen. A tag or an attribute has its namespace in full, so of these the texts.
        text = "".join(element.itertext())
        assert len(text.encode()) <= len(data)
        assert b"<!DOCTYPE" not in data.replace(b"\0", b"") or b"CDATA" in data
        return element
    return None


# -- stanzas ---------------------------------------------------------------------------------------


def stanzas(data: bytes) -> None:
    """Everything of Jingle, files, roads, security offers and hellos, in every place."""
    element = element_of(data)
    if element is None:
        return
    for part in list(element.iter())[:60]:
        for parse in test_stanzas.PARSERS.values():
            with suppress(PeerError):
                parse(part)


_READERS: tuple[Callable[[Element], object], ...] = (
    messages.parse,
    muc.parse,
    muc_config.parse_info,
    nick.parse,
    avatar.parse_metadata,
    avatar.parse_update,
    caps.parse_info,
    caps.parse_caps,
    forms.parse,
    pubsub.parse_event,
    vcard.read,
    lambda element: pubsub.parse_items(element, "node"),
)


def presence(data: bytes) -> None:
    """What contacts and rooms say beside sessions."""
    element = element_of(data)
    if element is None:
        return
    for part in list(element.iter())[:60]:
        for read in _READERS:
            with suppress(PeerError):
                read(part)


def stream(data: bytes) -> None:
    """An XMPP stream: the same stanzas come out whole and in pieces."""
    if not data:
        return
    size, begun = 1 + data[0] % 64, bool(data[0] & 0x80)
    whole = (test_xmpp_stream.HEADER if begun else b"") + data[1:]

    def outcome(parts: list[bytes]) -> tuple[list[bytes | str], str]:
        parser = parser_module.StreamParser()
        told: list[bytes | str] = []
        try:
            for part in parts:
                told += test_xmpp_stream.shown(list(parser.feed(part)))
        except PeerError as error:
            assert error.condition in test_xmpp_stream.CONDITIONS  # noqa: PT017
            return told, error.condition
        return told, ""

    with mock.patch.object(parser_module, "RENEW_AFTER", 100):
        told, condition = outcome([whole])
        cut, other = outcome([whole[at : at + size] for at in range(0, len(whole), size)])
    # In pieces expat may see later that something is wrong; it never sees other things.
    assert told == cut[: len(told)] or cut == told[: len(cut)]
    assert condition or other or told == cut


def in_band(data: bytes) -> None:
    """Blocks of an in-band stream."""
    receiver = InBandReceiver("stream", MIN_BLOCK_SIZE)
    for _, text in documents(data):
        element = element_of(text)
        if element is None:
            continue
        with suppress(PeerError):
            assert len(receiver.receive(element)) <= MIN_BLOCK_SIZE
        with suppress(PeerError):
            receiver.receive_close(element)
        with suppress(PeerError):
            check_open(element, InBandOffer("stream", 4096))


def socks5(data: bytes) -> None:
    """Either side of the handshake, in pieces."""
    size, rest = 1 + (data[0] % 64 if data else 0), data[1:]
    parts = [rest[at : at + size] for at in range(0, len(rest), size)]
    for machine in (ServerHandshake(), ClientHandshake(DSTADDR)):
        with suppress(PeerError):
            test_socks5_strangers._drive(machine, list(parts))
            if isinstance(machine, ServerHandshake):
                assert bool(machine.dstaddr) is not bool(machine.needed)
                assert machine.dstaddr.encode() in rest.lower()


# -- certificates and attestations -----------------------------------------------------------------


def certificates(data: bytes) -> None:
    """A certificate, in every place where one is read."""
    test_certificates.judge(data, ALICE.leaf, ALICE.identity, ALICE.jid, WALL)
    with suppress(SecurityError):
        read_key(data)


AUTHORITIES = read_authorities(
    b"-----BEGIN CERTIFICATE-----\n"
    + base64.encodebytes(BOB.identity)
    + b"-----END CERTIFICATE-----\n"
)


def x509(data: bytes) -> None:
    """A chain of certificates that vouches for somebody."""
    with suppress(SecurityError):
        for each in split(data):
            with suppress(SecurityError):
                known = identity_fingerprint(each)
                # The short way to the key and the long one agree.
                assert fingerprint(each) == known
        check_x509(
            data,
            identity=ALICE.identity,
            bare_jid=ALICE.jid,
            authorities=AUTHORITIES,
            wall=WALL,
        )
        raise AssertionError("nobody signed that")


def vouching(data: bytes) -> None:
    """What another device of somebody is said to have signed."""
    with suppress(SecurityError):
        certificate, signature = identity.read(data)
        assert identity.build(certificate, signature) == data
    for each in _WORDS:
        vouched, signer = bytes.fromhex(each["vouched"]), bytes.fromhex(each["signer"])
        wall = datetime.fromisoformat(each["wall"])
        with suppress(SecurityError):
            # ECDSA has more than one signature of the same; nobody else ever signed that.
            assert signer == identity.check(data, vouched=vouched, bare_jid=each["jid"], wall=wall)


_PRIMARY = "1EBC923B13DD7F3313B692D0E9D3D5B92A431B48"


def openpgp_signature(data: bytes) -> None:
    """A signature, and what gpg may print about one: it quotes what the signer wrote."""
    with suppress(SecurityError):
        openpgp.check_packet(data)
        assert len(data) <= openpgp.MAX_SIGNATURE
    with suppress(SecurityError):
        openpgp.list_arguments(openpgp.signer(data))
    with suppress(SecurityError):
        for each in openpgp.user_ids(data, _PRIMARY):
            each.text.encode()
    with suppress(NotAvailable):
        openpgp.secret_key(data)


# -- what is sealed --------------------------------------------------------------------------------

_SEALING_KEY = bytes(32)
_ADDITIONAL = _additional_data("sid1", Role.INITIATOR, 0)


def sealed(data: bytes) -> None:
    """The inside of sealed messages, by somebody who has the keys."""
    cipher, opener = AESGCM(_SEALING_KEY), Opener(_SEALING_KEY, "sid1", Role.INITIATOR)
    for n, (_, text) in enumerate(documents(data)):
        plaintext = text + b" " * (-len(text) % PADDING)
        out = cipher.encrypt(n.to_bytes(12, "big"), plaintext, _ADDITIONAL)
        with suppress(PeerError):
            inside = opener.open(SealedMessage(0, n, out))
            for read in (verification.parse, parse_hello):
                with suppress(PeerError):
                    read(inside)


def ceremonies(data: bytes) -> None:
    """Messages of ceremonies, while a user presses what he likes: he alone verifies anybody."""
    side = Side(Role.RESPONDER)
    rejected = False
    now = 0.0

    def act(step: Callable[[], list[Event]], yes: bool = False) -> None:
        nonlocal rejected
        with suppress(PeerError, NotAvailable):
            for event in step():
                if not isinstance(event, CeremonyEnded):
                    continue
                if event.outcome is Outcome.VERIFIED:
                    # With the password only who knows it, and it is in no seed but a whole one.
                    assert yes or event.method == "password", "verified without a yes"
                    assert not rejected, "verified after a no"
                rejected = rejected or event.outcome is Outcome.REJECTED

    for what, text in documents(data):
        match what:
            case "s":
                act(lambda: side.start(now))  # noqa: B023 - called at once
            case "p":
                act(lambda: side.password(now=now))  # noqa: B023
            case "y":
                act(lambda: side.confirm(True, now), yes=True)  # noqa: B023
            case "n":
                act(lambda: side.confirm(False, now))  # noqa: B023
            case "d":
                act(lambda: side.disturb(now))  # noqa: B023
            case "t":
                now += TIMEOUT / 2
                act(lambda: side.tick(now))  # noqa: B023
            case _ if (element := element_of(text)) is not None:
                act(lambda: side.hear(element, now))  # noqa: B023
    side.tick(now + 2 * TIMEOUT)
    assert side.machine.deadline() is None, "it never ends"


# -- the rest --------------------------------------------------------------------------------------


def node(data: bytes) -> None:
    """An item of an identity node."""
    with suppress(PeerError):
        published = parse_published(from_xml(data))
        found = check_published(published.identity, ALICE.jid, WALL)
        assert found == identity_fingerprint(ALICE.identity), "an identity that nobody made"


def uri(data: bytes) -> None:
    """What a QR code says."""
    with suppress(InvalidArgument, UnicodeDecodeError):
        jid, digest = parse_uri(data.decode())
        assert jid
        assert len(digest) == 32


_KEY = _key(_XTLS["peers"]["initiator"]["session_key_p256_private"])


def _engine(role: Role) -> Engine:
    engine = Engine(role, _KEY, ALICE.leaf, lambda leaf: None)
    engine.start()
    return engine


def tls(data: bytes) -> None:
    """What comes before and instead of TLS; nobody gets through it who is guessing."""
    for role in Role:
        engine = _engine(role)
        with suppress(PeerError):
            engine.receive(data)
        engine.data_to_send()
        assert not engine.established


def peer_stream(data: bytes) -> None:
    """The stream of a contact's program: what comes out of it is in his name."""
    if not data:
        return
    size, role = 1 + data[0] % 64, list(Role)[data[0] >> 7]
    whole = data[1:]
    for parts in ([whole], [whole[at : at + size] for at in range(0, len(whole), size)]):
        test_peer_streams.check(*test_peer_streams.told(role, parts)[:1])


HARNESSES: dict[str, Harness] = {
    "stanzas": stanzas,
    "presence": presence,
    "stream": stream,
    "peer-stream": peer_stream,
    "in-band": in_band,
    "socks5": socks5,
    "certificates": certificates,
    "x509": x509,
    "openpgp": openpgp_signature,
    "vouching": vouching,
    "sealed": sealed,
    "ceremonies": ceremonies,
    "node": node,
    "uri": uri,
    "tls": tls,
}


# -- seeds -----------------------------------------------------------------------------------------


def _row(*steps: bytes) -> bytes:
    return b"\0".join(steps)


def _spoken(button: bytes) -> Iterator[bytes]:
    """Whole ceremonies as the responder lives them: what he presses and what he is told.

    Args:
        button: by which both begin, or agree.
    """
    for first in Role:
        sides = {role: Side(role) for role in Role}
        row: list[bytes] = []

        def pass_on(
            events: list[Event],
            who: Role,
            sides: dict[Role, Side] = sides,
            row: list[bytes] = row,
        ) -> None:
            for event in events:
                if isinstance(event, Send):
                    if who is Role.INITIATOR:
                        row.append(b"x" + to_xml(event.element))
                    pass_on(sides[who.other].hear(event.element), who.other)

        for who in (first, first.other):
            if who is Role.RESPONDER:
                row.append(button)
            pass_on(sides[who].start() if button == b"s" else sides[who].password(), who)
        if button == b"s":
            row.append(b"y")
            for who in (Role.RESPONDER, Role.INITIATOR):
                pass_on(sides[who].confirm(True), who)
        assert sides[Role.RESPONDER].ends[-1].outcome is Outcome.VERIFIED
        yield _row(*row)


_PRESENCE = (
    b"<presence xmlns='jabber:client' from='r@c.test/n'><x xmlns='http://jabber.org/protocol/muc"
    b"#user'><item affiliation='owner' role='moderator' jid='a@b.test/c'><reason>r</reason></item>"
    b"<status code='110'/></x><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' "
    b"ver='QgayPKawpkPSDYmwT/WM94uAlu0='/><x xmlns='vcard-temp:x:update'><photo>"
    b"0123456789012345678901234567890123456789</photo></x></presence>",
    b"<message xmlns='jabber:client' type='groupchat' id='1' from='a@b.test/c'><body>Hi</body>"
    b"<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/><received xmlns="
    b"'urn:xmpp:receipts' id='1'/><composing xmlns='http://jabber.org/protocol/chatstates'/>"
    b"</message>",
    b"<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='n'><item id='1'>"
    b"<metadata xmlns='urn:xmpp:avatar:metadata'><info bytes='1' type='image/png' "
    b"id='0123456789012345678901234567890123456789'/></metadata></item><retract id='2'/></items>"
    b"</event>",
    b"<query xmlns='http://jabber.org/protocol/disco#info'><identity category='client' type='pc' "
    b"name='x'/><feature var='urn:xmpp:jingle:1'/><x xmlns='jabber:x:data' type='result'>"
    b"<field var='FORM_TYPE' type='hidden'><value>urn:x</value></field><field var='a' "
    b"type='list-multi'><option label='l'><value>1</value></option></field></x></query>",
    b"<vCard xmlns='vcard-temp'><FN>A</FN><N><FAMILY>B</FAMILY></N><TEL><HOME/><NUMBER>1</NUMBER>"
    b"</TEL><PHOTO><TYPE>image/png</TYPE><BINVAL>AAAA</BINVAL></PHOTO><BDAY>2000-01-01</BDAY>"
    b"</vCard>",
    b"<nick xmlns='http://jabber.org/protocol/nick'>Bo</nick>",
)

# As gpg prints it, see tests/unit/test_attest_openpgp.py.
_GPG = (
    f"[GNUPG:] GOODSIG E9D3D5B92A431B48 xmpp:bob@example.org\n[GNUPG:] VALIDSIG {'2' * 40} "
    f"2026-11-21 1795256234 0 4 0 22 8 00 {_PRIMARY}\n[GNUPG:] TRUST_FULLY 0 pgp\n",
    f"tru::1:1795256234:1795342634:3:1:5\npub:f:255:22:E9D3D5B92A431B48:1795256234:1795342634::u:::"
    f"scSC:::::ed25519:::0:\nfpr:::::::::{_PRIMARY}:\nuid:f::::1795256234::9D38::xmpp\\x3abob@"
    f"example.org::::::::::0:\nsub:u:255:18:55:1795256234::::::e:::::cv25519::\nfpr:::::::::"
    f"{'2' * 40}:\n",
)

_PEERS = (ALICE.leaf, ALICE.identity, BOB.leaf, BOB.identity)
_BLOCKS = [b"x" + to_xml(each) for each in STANZAS if "/ibb}" in each.tag]
_VERIFICATION = [b"x" + to_xml(each) for each in test_stanzas.VERIFICATION]
_SIGNATURE = b"\x04\x00" + bytes(10)

_SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "stanzas": lambda: [to_xml(each) for each in test_stanzas.ORIGINALS],
    "presence": lambda: list(_PRESENCE),
    "stream": lambda: [
        b"\x80" + b"".join(test_xmpp_stream.STANZAS),
        b"\x05" + test_xmpp_stream.HEADER + b"</stream:stream>",
        *(b"\x83" + stanza for stanza in test_xmpp_stream.STANZAS),
    ],
    "peer-stream": lambda: [
        bytes((first,)) + test_peer_streams.HEADER + stanza
        for first in (0x05, 0xBF)
        for stanza in test_peer_streams.STANZAS
    ],
    "in-band": lambda: [_row(*_BLOCKS), *_BLOCKS],
    "socks5": lambda: [
        bytes((size,)) + each
        for size in (0, 63)
        for each in (
            test_socks5_strangers.GREETING + test_socks5_strangers.REQUEST,
            *test_socks5_strangers.REPLIES,
        )
    ],
    "certificates": lambda: list(_PEERS),
    "vouching": lambda: [bytes.fromhex(each["data"]) for each in _WORDS],
    "x509": lambda: [*_PEERS, ALICE.identity + BOB.identity],
    "openpgp": lambda: [
        *(each.encode() for each in _GPG),
        b"\x88\x0c" + _SIGNATURE,
        b"\xc2\x0c" + _SIGNATURE,
        b"\xc2\xc0\x00" + _SIGNATURE + bytes(180),
        b"\xc2\xff\x00\x00\x00\x0c" + _SIGNATURE,
    ],
    "sealed": lambda: [_row(*_VERIFICATION), *_VERIFICATION],
    "ceremonies": lambda: [*_spoken(b"s"), *_spoken(b"p")],
    "node": lambda: [each["xml"].encode() for each in _NODE["items"]],
    "uri": lambda: [each["uri"].encode() for each in _XTLS["uri"]],
    "tls": lambda: [_engine(Role.INITIATOR).data_to_send()],
}


def seeds(name: str) -> list[bytes]:
    """What is right, made of the vectors and of what real clients sent."""
    return _SEEDS[name]()


def crashes(name: str) -> list[Path]:
    """What was found, kept for good."""
    return sorted((CRASHES / name).glob("*"))
