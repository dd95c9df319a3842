"""A peer that breaks the protection in every way that it can: each ends with security-error.

Where it makes a difference the daemon is TLS server (it receives the file) and TLS client (it
sends); ``ROLES`` plays both.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import secrets
import ssl
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from cryptography import x509

from telepathy_e2e.role import Role
from telepathy_e2e.verify import messages
from telepathy_e2e.xtls.engine import ALPN
from telepathy_e2e.xtls.identity import Credentials
from telepathy_e2e.xtls.sealed import Sealer
from tests.peer import credentials as certificates
from tests.peer import stanzas
from tests.peer.bench import REMOTE_ERROR, Bench, Case
from tests.peer.stanzas import VERIFICATION
from tests.peer.transfer import Transfer
from tests.peer.xtls import Secured
from tests.support.waiting import PATIENCE

pytest_plugins = ["tests.peer.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

ROLES = pytest.mark.parametrize("role", ["the daemon receives", "the daemon sends"])
DATA = b"for nobody else's eyes" * 1000
BAD_REQUEST = ("bad-request", "")


async def ready(bench: Bench, role: str, own: Credentials | None = None) -> Case:
    """Offer and answer are exchanged and the road is up; nothing of TLS yet.

    Args:
        own: the peer's certificates, announced as they are.
    """
    if role == "the daemon receives":
        transfer = Transfer(bench.bob.session(bench.jid), own=own)
        return await bench.receives(DATA, transfer_=transfer)
    case = await bench.offers(DATA)
    case.transfer.own = own or case.transfer.own
    assert await case.transfer.accept() == ("", "")
    await case.transfer.connect()
    return case


async def ends(bench: Bench, case: Case) -> None:
    """On both sides with the right words, and not a byte of payload either way."""
    await bench.failed(case, REMOTE_ERROR, "security-error", "EncryptionError")
    assert not bench.opened(case)
    await bench.got_nothing(case)
    assert (await bench.secure(case))["Encrypted"] is False


async def shaken(case: Case, own: Credentials | None = None) -> Secured:
    """After TLS, before the hellos."""
    return await case.transfer.secured(own).handshake()


# -- not TLS ---------------------------------------------------------------------------------


@ROLES
@pytest.mark.parametrize(
    "first",
    [
        DATA,
        b"\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x16\xff\xff\xff\xff",
    ],
    ids=["the file", "a zero", "HTTP", "an alert", "nonsense in a record"],
)
async def test_what_is_not_tls_after_agreed_security_is_an_attack(
    bench: Bench, role: str, first: bytes
) -> None:
    case = await ready(bench, role)
    with contextlib.suppress(ConnectionError):
        await case.transfer.pipe.write(first)
        await case.transfer.pipe.write_eof()
    await ends(bench, case)


def client_hello() -> bytes:
    """The first flight of a TLS client."""
    to_send = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), to_send).do_handshake()
    return to_send.read()


@ROLES
async def test_a_road_that_ends_before_the_handshake_protects_nothing(
    bench: Bench, role: str
) -> None:
    case = await ready(bench, role)
    # Before the daemon has settled on this road it would look for another one, and rightly so.
    if role == "the daemon receives":
        await case.transfer.pipe.write(client_hello())
    assert await case.transfer.pipe.read()
    await case.transfer.pipe.write_eof()
    await bench.failed(case, REMOTE_ERROR)
    await bench.got_nothing(case)
    assert not bench.opened(case)


# -- certificates ----------------------------------------------------------------------------


@ROLES
async def test_another_leaf_than_announced(bench: Bench, role: str) -> None:
    case = await ready(bench, role)
    await case.transfer.secured(case.transfer.new_credentials()).try_handshake()
    await ends(bench, case)


def wrong_leaf(kind: str, jid: str) -> Credentials:
    match kind:
        case "names somebody":
            return certificates.with_leaf(jid, certificates.naming(jid))
        case "names a host":
            host = x509.SubjectAlternativeName([x509.DNSName("example.test")])
            return certificates.with_leaf(jid, host)
        case "two days long":
            return certificates.with_leaf(jid, life=timedelta(days=2))
        case "an authority":
            return certificates.with_leaf(jid, authority=True)
        case _:
            raise ValueError(kind)


@ROLES
@pytest.mark.parametrize(
    "kind", ["names somebody", "names a host", "two days long", "an authority"]
)
async def test_a_leaf_of_a_wrong_form(bench: Bench, role: str, kind: str) -> None:
    case = await ready(bench, role, wrong_leaf(kind, stanzas.bare(bench.bob.jid)))
    await case.transfer.secured().try_handshake()
    await ends(bench, case)


async def test_no_client_certificate(bench: Bench) -> None:
    case = await ready(bench, "the daemon receives")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ALPN.decode()])
    pipe: Any = case.transfer.pipe
    with contextlib.suppress(ssl.SSLError, OSError):
        async with asyncio.timeout(PATIENCE):
            await pipe.writer.start_tls(context)
            pipe.writer.write(DATA)
            await pipe.writer.drain()
    await ends(bench, case)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2])
async def test_an_older_tls(bench: Bench, version: ssl.TLSVersion) -> None:
    case = await ready(bench, "the daemon receives")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    pipe: Any = case.transfer.pipe
    with contextlib.suppress(ssl.SSLError, OSError):
        async with asyncio.timeout(PATIENCE):
            await pipe.writer.start_tls(context)
    await ends(bench, case)


# -- identities ------------------------------------------------------------------------------


def wrong_identity(kind: str, bench: Bench) -> Credentials:
    bob = stanzas.bare(bench.bob.jid)
    key, _ = certificates.own_identity(bob)
    match kind:
        case "of another JID":
            return certificates.credentials(bench.server.jid("carol"))
        case "of the victim's JID":
            return certificates.credentials(stanzas.bare(bench.jid))
        case "that did not sign the leaf":
            right = certificates.credentials(bob)
            return Credentials(right.key, right.leaf, certificates.fresh_identity(bob)[1])
        case "with two names":
            jids = (bob, bench.server.jid("carol"))
            return certificates.certified(key, certificates.identity_certificate(key, *jids))
        case "without a name":
            return certificates.certified(key, certificates.identity_certificate(key))
        case "that may make authorities":
            wide = certificates.identity_certificate(key, bob, path_length=None)
            return certificates.certified(key, wide)
        case "that is no authority":
            narrow = certificates.identity_certificate(key, bob, authority=False)
            return certificates.certified(key, narrow)
        case "with the victim's own key":
            stolen = certificates.identity_of(bench.side.directory, stanzas.bare(bench.jid))
            return certificates.certified(stolen, certificates.identity_certificate(stolen, bob))
        case _:
            raise ValueError(kind)


@ROLES
@pytest.mark.parametrize(
    "kind",
    [
        "of another JID",
        "of the victim's JID",
        "that did not sign the leaf",
        "with two names",
        "without a name",
        "that may make authorities",
        "that is no authority",
        "with the victim's own key",
    ],
)
async def test_an_identity(bench: Bench, role: str, kind: str) -> None:
    case = await ready(bench, role, wrong_identity(kind, bench))
    secured = await shaken(case)
    await secured.say_hello()
    await ends(bench, case)


# -- hello -----------------------------------------------------------------------------------


@ROLES
@pytest.mark.parametrize(
    "changes",
    [
        {"offered": bytes(32)},
        {"accepted": bytes(32)},
        {"versions": (1,)},
        {"versions": ()},
        {"identity": b"no certificate"},
    ],
    ids=["another offer", "another answer", "another version", "no version", "no certificate"],
)
async def test_a_hello_that_differs(bench: Bench, role: str, changes: dict[str, Any]) -> None:
    case = await ready(bench, role)
    secured = await shaken(case)
    await secured.say_hello(**changes)
    await ends(bench, case)


@ROLES
async def test_something_else_in_the_place_of_the_hello(bench: Bench, role: str) -> None:
    case = await ready(bench, role)
    secured = await shaken(case)
    await secured.say(messages.build("sas-commit", "1", bytes(32)))
    await ends(bench, case)


@ROLES
async def test_an_unreadable_hello(bench: Bench, role: str) -> None:
    case = await ready(bench, role)
    secured = await shaken(case)
    await secured.send_sealed(bad_tag(secured.sealer.seal(secured.own_hello())))
    await ends(bench, case)


@ROLES
async def test_a_hello_under_the_wrong_key(bench: Bench, role: str) -> None:
    """Our own direction's key, as when what we sent is sent back to us."""
    case = await ready(bench, role)
    secured = await shaken(case)
    other = secured.role.other
    reflected = Sealer(secured.keys.sealing(other), case.transfer.session.sid, other)
    await secured.send_sealed(reflected.seal(secured.own_hello()))
    await ends(bench, case)


@ROLES
async def test_a_hello_that_is_not_the_first_message(bench: Bench, role: str) -> None:
    case = await ready(bench, role)
    secured = await shaken(case)
    secured.sealer.seal(secured.own_hello())
    await secured.say_hello()
    await ends(bench, case)


@ROLES
async def test_payload_before_the_hello_waits_for_it(bench: Bench, role: str) -> None:
    """What comes early is kept from the application, and given to it when all is right."""
    case = await ready(bench, role)
    secured = await shaken(case)
    early = b"early" * 100
    await secured.write(early)
    await bench.tick()
    assert not bench.opened(case)
    await secured.hear_hello()
    if role == "the daemon receives":
        assert not bench.opened(case)
        assert case.got == b""
        await secured.say_hello()
        await secured.write(DATA[: len(DATA) - len(early)])
        await secured.write_eof()
        assert await case.client == (early + DATA)[: len(DATA)]
        await bench.completed(case)
    else:
        await secured.say_hello(offered=bytes(32))
        await ends(bench, case)


@ROLES
async def test_a_refused_hello_ends_it(bench: Bench, role: str) -> None:
    case = await ready(bench, role)
    bench.bob.answers = lambda iq: BAD_REQUEST if _is_sealed(iq) else None
    await shaken(case)
    await ends(bench, case)


def _is_sealed(iq: Element) -> bool:
    return next(iq.iter(stanzas.SEALED), None) is not None


async def test_a_handshake_or_a_hello_that_never_comes_is_given_up(bench: Bench) -> None:
    """All waits at once, since each takes half a minute."""
    carol = await bench.peer("carol")
    silent = [await ready(bench, role) for role in ("the daemon receives", "the daemon sends")]
    greeted = []
    for role in ("the daemon receives", "the daemon sends"):
        case = await ready(bench, role)
        await shaken(case)
        greeted.append(case)
    half = await bench.receives(DATA, peer=carol)
    await half.transfer.pipe.write(b"\x16\x03\x01\x00")
    for case in (*silent, *greeted, half):
        await bench.failed(case, REMOTE_ERROR, "security-error", "EncryptionError")
        await bench.got_nothing(case)
        assert not bench.opened(case)


# -- sealed messages before the hello ---------------------------------------------------------


def bad_tag(sealed: Element) -> Element:
    changed = copy.deepcopy(sealed)
    text = changed.text or ""
    changed.text = ("B" if text[0] == "A" else "A") + text[1:]
    return changed


@ROLES
async def test_seventeen_sealed_messages_before_the_handshake(bench: Bench, role: str) -> None:
    case = await ready(bench, role)
    sealer = Sealer(bytes(32), case.transfer.session.sid, Role.INITIATOR)
    answers = [
        await case.transfer.session.send(
            "security-info", sealer.seal(messages.build("cancel", "x", reason="busy"))
        )
        for _ in range(16)
    ]
    assert answers == [("", "")] * 16
    assert case.transfer.session.actions.count("session-terminate") == 0
    await case.transfer.session.send(
        "security-info", sealer.seal(messages.build("cancel", "x", reason="busy"))
    )
    await ends(bench, case)


@ROLES
async def test_an_early_sealed_message_that_does_not_open(bench: Bench, role: str) -> None:
    case = await ready(bench, role)
    sealer = Sealer(bytes(32), case.transfer.session.sid, Role.INITIATOR)
    await case.transfer.session.send(
        "security-info", sealer.seal(messages.build("cancel", "x", reason="busy"))
    )
    await case.transfer.secured().try_handshake()
    await ends(bench, case)


@pytest.mark.parametrize(
    "sealed",
    [
        Element(stanzas.SEALED),
        Element(stanzas.SEALED, {"epoch": "0", "n": "-1"}),
        Element(stanzas.SEALED, {"epoch": "0", "n": "9" * 100}),
        Element(stanzas.SEALED, {"epoch": "0", "n": "0"}),
    ],
    ids=["no numbers", "a negative number", "an enormous number", "nothing in it"],
)
@ROLES
async def test_a_malformed_sealed_message_before_the_hello(
    bench: Bench, role: str, sealed: Element
) -> None:
    case = await ready(bench, role)
    secured = await shaken(case)
    await secured.send_sealed(sealed)
    await ends(bench, case)


async def test_a_sealed_message_in_a_session_that_is_not_accepted_yet(bench: Bench) -> None:
    case = await bench.offered(DATA)
    sealer = Sealer(bytes(32), case.transfer.session.sid, Role.INITIATOR)
    sealed = sealer.seal(messages.build("cancel", "x", reason="busy"))
    answer = await case.transfer.session.send("security-info", sealed)
    assert answer[0] == "bad-request"
    assert await bench.channels() == [case.path]


@ROLES
async def test_a_sealed_message_in_the_clear(bench: Bench, role: str) -> None:
    if role == "the daemon receives":
        case = await bench.receives(DATA, xtls=False)
    else:
        case = await bench.sends(DATA, xtls=False)
    sealer = Sealer(bytes(32), case.transfer.session.sid, Role.INITIATOR)
    sealed = sealer.seal(messages.build("cancel", "x", reason="busy"))
    assert await case.transfer.session.send("security-info", sealed) == BAD_REQUEST


# -- and after it ----------------------------------------------------------------------------


async def _protected(bench: Bench, role: str) -> tuple[Case, Secured]:
    case = await ready(bench, role)
    secured = await (await shaken(case)).hellos()
    return case, secured


async def _completes(bench: Bench, role: str, case: Case, secured: Secured) -> None:
    if role == "the daemon receives":
        await secured.write(DATA)
        await secured.write_eof()
        assert await case.client == DATA
    else:
        got = b""
        while len(got) < len(DATA):
            got += await secured.read()
        assert got == DATA
        await case.transfer.session.terminate("success")
    await bench.completed(case)
    assert await bench.secure(case) == {"Encrypted": True, "Verified": False}


def cancel() -> Element:
    return messages.build("cancel", "x", reason="busy")


def replayed(secured: Secured) -> list[Element]:
    one = secured.sealer.seal(cancel())
    return [one, one]


def reordered(secured: Secured) -> list[Element]:
    one, two = secured.sealer.seal(cancel()), secured.sealer.seal(cancel())
    return [two, one]


def damaged(secured: Secured) -> list[Element]:
    return [bad_tag(secured.sealer.seal(cancel()))]


def of_another_epoch(secured: Secured) -> list[Element]:
    sealed = secured.sealer.seal(cancel())
    sealed.set("epoch", "1")
    return [sealed]


def of_another_length(secured: Secured) -> list[Element]:
    sealed = secured.sealer.seal(cancel())
    sealed.text = (sealed.text or "")[:-8]
    return [sealed]


def unsealed(secured: Secured) -> list[Element]:
    return [messages.build("sas-commit", "x", bytes(32))]


def unsealed_verdict(secured: Secured) -> list[Element]:
    return [messages.build_verdict("verified", "sas")]


def another_namespace(secured: Secured) -> list[Element]:
    return [secured.sealer.seal(Element("{urn:example:0}sas-commit", {"id": "x"}))]


def a_second_hello(secured: Secured) -> list[Element]:
    return [secured.sealer.seal(secured.own_hello())]


@ROLES
@pytest.mark.parametrize(
    "wrong",
    [
        replayed,
        reordered,
        damaged,
        of_another_epoch,
        of_another_length,
        unsealed,
        unsealed_verdict,
        another_namespace,
        a_second_hello,
    ],
    ids=lambda each: each.__name__,
)
async def test_a_wrong_message_after_the_hellos_is_refused_and_changes_nothing(
    bench: Bench, role: str, wrong: Callable[[Secured], list[Element]]
) -> None:
    case, secured = await _protected(bench, role)
    answers = [await secured.send_sealed(each) for each in wrong(secured)]
    assert answers[-1][0] in ("bad-request", "unexpected-request")
    await _completes(bench, role, case, secured)


@ROLES
async def test_after_a_gap_the_next_message_is_taken(bench: Bench, role: str) -> None:
    case, secured = await _protected(bench, role)
    secured.sealer.seal(cancel())
    assert await secured.say(cancel()) == BAD_REQUEST
    assert await secured.say(cancel()) == ("", "")
    await _completes(bench, role, case, secured)


@ROLES
async def test_what_nobody_knows_in_the_future_namespace_is_ignored(
    bench: Bench, role: str
) -> None:
    case, secured = await _protected(bench, role)
    element = Element(f"{{{VERIFICATION}}}dance")
    assert await secured.say(element) == ("", "")
    await _completes(bench, role, case, secured)


async def test_a_peer_that_keeps_sending_before_it_may_be_read_is_held_up(bench: Bench) -> None:
    """The daemon takes no more from the road than it can hold while the hello is missing."""
    case = await ready(bench, "the daemon receives")
    secured = await shaken(case)
    before = bench.memory()
    block = secrets.token_bytes(60_000)

    async def flood() -> None:
        for _ in range(2000):  # 120 MB
            await secured.write(block)

    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(1.5):
            await flood()
    assert bench.memory() - before < 16 * 2**20
    await case.transfer.session.terminate("cancel")
    await bench.got_nothing(case)
