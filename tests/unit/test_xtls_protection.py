"""The protection of a session, both roles, through a wire that a test controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.role import Role
from telepathy_e2e.verify.ceremony import build_verdict
from telepathy_e2e.xtls import conversation, identity
from telepathy_e2e.xtls.certificates import make_xmpp_addr
from telepathy_e2e.xtls.engine import ALPN
from telepathy_e2e.xtls.hello import HELLO, Hello, build_hello
from telepathy_e2e.xtls.offer import Fingerprint
from telepathy_e2e.xtls.protection import (
    HANDSHAKE_TIMEOUT,
    HELLO_TIMEOUT,
    MAX_EARLY,
    MAX_HELD,
    Attestation,
    CeremonyEnded,
    Failed,
    PeerStarted,
    PeerVerdict,
    Protected,
    Protection,
    Reported,
    SendSealed,
    StringReady,
)
from tests.unit.test_xtls_identity import CERT_SIGN
from tests.unit.xtls_support import (
    ALICE,
    BOB,
    BOTH,
    NOW,
    PEOPLE,
    WALL,
    Pair,
    Person,
    RawPeer,
    against,
    announced,
    bad_leaf,
    certificate,
    pair,
    protected_pair,
    protection,
)

SECRET = b"the user's own words"


def all_raise(error: type[Exception], match: str, *calls: Callable[[], object]) -> None:
    for call in calls:
        with pytest.raises(error, match=match):
            call()


def forbid_payload(both: Pair, role: Role) -> None:
    """Nothing is given to or taken from the application of ``role``."""
    ours = both.end[role]
    with pytest.raises(NotAvailable):
        ours.write(SECRET)
    assert ours.read() == b""
    assert both.protected(role) is None


# -- the good case ----------------------------------------------------------------------------


def test_both_sides_become_protected_and_agree_on_who_they_are() -> None:
    both = protected_pair()
    for role in BOTH:
        ours, theirs = both.protected(role), both.protected(role.other)
        assert ours is not None
        assert theirs is not None
        assert ours.peer_fingerprint == theirs.own_fingerprint
        assert ours.peer_fingerprint == identity.identity_fingerprint(
            PEOPLE[role.other].certificate
        )
        assert ours.identity_certificate == PEOPLE[role.other].certificate
        assert not ours.leaf_only
        assert ours.cipher_suite == "TLS_AES_256_GCM_SHA384"
        assert ours.key_exchange
        assert ours.peer_methods == ("sas", "password")
        assert ours.attestations == ()
        assert ours.peer_leaf
        assert not both.failures(role)


@pytest.mark.parametrize("role", BOTH)
def test_payload_flows_once_protected(role: Role) -> None:
    both = protected_pair()
    data = bytes(range(256)) * 2000
    both.end[role].write(memoryview(data))
    both.carry_bytes()
    received = b""
    while piece := both.end[role.other].read():
        received += piece
    assert received == data


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_it_does_not_matter_where_the_transport_splits(piece: int) -> None:
    both = pair().start().handshake(piece).run()
    for role in BOTH:
        assert both.protected(role) is not None


@pytest.mark.parametrize("role", BOTH)
def test_nothing_of_payload_moves_before_both_hellos_are_right(role: Role) -> None:
    both = pair()
    forbid_payload(both, role)
    both.start()
    forbid_payload(both, role)
    while both.carry_bytes(100):
        forbid_payload(both, role)
    # TLS is done on both sides, and even the other's payload would be there.
    both.sealed[role.other], kept = [], both.sealed[role.other]
    both.carry_sealed()
    both.end[role.other].write(SECRET)
    both.carry_bytes()
    forbid_payload(both, role)
    assert SECRET not in both.bytes_from[role]
    both.end[role].receive_sealed(kept[0], NOW)
    assert both.protected(role) is not None
    assert both.end[role].read() == SECRET


@pytest.mark.parametrize("role", BOTH)
def test_a_hello_that_overtakes_the_handshake_is_kept(role: Role) -> None:
    """The other side is done first and its hello comes before the bytes of TLS."""
    both = pair().start()
    while not both.sealed[Role.INITIATOR]:
        both.carry_bytes()
    both.carry_sealed()
    both.run()
    assert both.protected(role) is not None


def test_everything_may_arrive_before_the_start() -> None:
    """In-band and through the server, one side is told late that the transport is up."""
    both = pair()
    alice, bob = both.end[Role.INITIATOR], both.end[Role.RESPONDER]
    alice.start(NOW, WALL)
    hello = hello_of(Role.INITIATOR)
    bob.receive_sealed(hello, NOW)
    bob.start(NOW, WALL)
    both.collect()
    assert not both.failures(Role.RESPONDER)


def hello_of(role: Role) -> Element:
    """A sealed hello of some other session."""
    return pair().start().handshake().sealed[role][0]


def test_attestations_arrive() -> None:
    statement = Attestation("openpgp", "signed by Alice", b"signature")
    both = protected_pair({Role.INITIATOR: {"attestations": (statement,)}})
    bob = both.protected(Role.RESPONDER)
    assert bob is not None
    assert bob.attestations == (statement,)


# -- leaves -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", BOTH)
def test_a_leaf_that_was_not_announced_ends_it_on_the_side_that_sees_it(role: Role) -> None:
    other = PEOPLE[role.other].credentials().leaf
    both = pair(changes={role: {"peer_fingerprints": announced(other)}}).start().run()
    assert both.failed(role)
    forbid_payload(both, role)
    # The other side learns it by the alert.
    assert both.failed(role.other)
    forbid_payload(both, role.other)


@pytest.mark.parametrize("role", BOTH)
def test_one_fingerprint_that_does_not_match_is_enough_to_refuse(role: Role) -> None:
    credentials = PEOPLE[role.other].credentials()
    wrong = (*announced(credentials.leaf), Fingerprint("sha-512", bytes(64)))
    both = pair({role.other: credentials}, {role: {"peer_fingerprints": wrong}}).start().run()
    assert both.failed(role)


BAD_LEAVES: dict[str, dict[str, Any]] = {
    "with a name": {"names": [make_xmpp_addr(ALICE)]},
    "expired": {"start": WALL - timedelta(hours=49)},
    "not yet valid": {"start": WALL + timedelta(hours=25)},
    "25 hours": {"life": timedelta(hours=25)},
    "an authority": {"constraints": x509.BasicConstraints(True, 0)},
}


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize("wrong", BAD_LEAVES.values(), ids=BAD_LEAVES)
def test_a_bad_leaf_is_refused_in_the_handshake(role: Role, wrong: dict[str, Any]) -> None:
    credentials = bad_leaf(PEOPLE[role.other], **wrong)
    both = pair({role.other: credentials}).start().run()
    assert both.failed(role)
    assert not both.sealed[role]
    forbid_payload(both, role)


@pytest.mark.parametrize("role", BOTH)
def test_two_certificates_are_refused(role: Role) -> None:
    credentials = PEOPLE[role.other].credentials()
    ours = protection(role, PEOPLE[role].credentials(), credentials.leaf)
    raw = RawPeer(role.other, credentials, alpn=[ALPN], extra=[credentials.identity])
    assert [type(event) for event in against(ours, raw)] == [Failed]


def test_a_client_without_a_certificate_is_refused() -> None:
    leaf = PEOPLE[Role.INITIATOR].credentials().leaf
    ours = protection(Role.RESPONDER, PEOPLE[Role.RESPONDER].credentials(), leaf)
    events = against(ours, RawPeer(Role.INITIATOR, None, alpn=[ALPN]))
    assert [getattr(event, "reason", None) for event in events] == ["security-error"]


@pytest.mark.parametrize("role", BOTH)
def test_tls_1_2_is_refused(role: Role) -> None:
    credentials = PEOPLE[role.other].credentials()
    ours = protection(role, PEOPLE[role].credentials(), credentials.leaf)
    raw = RawPeer(role.other, credentials, alpn=[ALPN], version=SSL.TLS1_2_VERSION)
    assert [type(event) for event in against(ours, raw)] == [Failed]


@pytest.mark.parametrize("role", BOTH)
def test_clear_data_instead_of_tls_is_an_attack(role: Role) -> None:
    both = pair().start()
    both.end[role].receive_data(b"<?xml version='1.0'?>", NOW)
    assert both.failed(role)


# -- peers without verification messages ------------------------------------------------------


@pytest.mark.parametrize("role", BOTH)
def test_a_peer_without_alpn_is_protected_by_its_leaf_alone(role: Role) -> None:
    credentials, own = PEOPLE[role.other].credentials(), PEOPLE[role].credentials()
    ours = protection(role, own, credentials.leaf)
    raw = RawPeer(role.other, credentials)
    (event,) = against(ours, raw)
    assert isinstance(event, Protected)
    assert event.leaf_only
    assert event.identity_certificate is None
    assert event.peer_fingerprint == identity.identity_fingerprint(credentials.leaf)
    assert event.own_fingerprint == identity.identity_fingerprint(own.leaf)
    assert event.peer_methods == ()
    assert event.attestations == ()
    assert event.peer_leaf == credentials.leaf
    assert ours.deadline() is None
    ours.tick(NOW + 1000)
    ours.write(b"hello")
    raw.give(ours.data_to_send())
    assert raw.received() == b"hello"
    all_raise(
        NotAvailable,
        "no verification messages",
        lambda: ours.start_sas(NOW),
        lambda: ours.confirm_sas(True, NOW),
    )
    ours.tell_verdict("verified", "fingerprint")
    with pytest.raises(PeerError):
        ours.receive_sealed(hello_of(role.other), NOW)
    ours.sealed_refused(NOW)
    assert ours.events() == []


def test_early_sealed_messages_of_a_peer_without_alpn_are_dropped() -> None:
    credentials = PEOPLE[Role.RESPONDER].credentials()
    ours = protection(Role.INITIATOR, PEOPLE[Role.INITIATOR].credentials(), credentials.leaf)
    ours.receive_sealed(hello_of(Role.RESPONDER), NOW)
    events = against(ours, RawPeer(Role.RESPONDER, credentials))
    assert [type(event) for event in events] == [Reported, Protected]


@pytest.mark.parametrize("role", BOTH)
def test_another_protocol_is_refused(role: Role) -> None:
    credentials = PEOPLE[role.other].credentials()
    ours = protection(role, PEOPLE[role].credentials(), credentials.leaf)
    events = against(ours, RawPeer(role.other, credentials, alpn=[b"h2"]))
    assert [type(event) for event in events] == [Failed]


# -- hellos -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", BOTH)
def test_a_hello_that_does_not_come_is_waited_for_30_seconds(role: Role) -> None:
    assert HELLO_TIMEOUT == 30
    both = pair().start().handshake()
    ours = both.end[role]
    assert ours.deadline() == NOW + HELLO_TIMEOUT
    ours.tick(NOW + HELLO_TIMEOUT - 0.1)
    assert not both.failed(role)
    ours.tick(NOW + HELLO_TIMEOUT)
    assert both.failed(role)
    assert ours.deadline() is None
    forbid_payload(both, role)


def test_the_wait_for_the_hello_begins_with_the_end_of_the_handshake() -> None:
    both = pair().start()
    later = NOW + 20
    hello = both.bytes_from[Role.INITIATOR]
    both.end[Role.RESPONDER].receive_data(hello, later)
    both.end[Role.INITIATOR].receive_data(both.end[Role.RESPONDER].data_to_send(), later)
    assert both.end[Role.INITIATOR].deadline() == later + HELLO_TIMEOUT


@pytest.mark.parametrize("role", BOTH)
def test_a_handshake_that_does_not_end_is_waited_for_30_seconds(role: Role) -> None:
    both = pair().start()
    ours = both.end[role]
    assert ours.deadline() == NOW + HANDSHAKE_TIMEOUT
    ours.tick(NOW + HANDSHAKE_TIMEOUT - 0.1)
    assert not both.failed(role)
    ours.tick(NOW + HANDSHAKE_TIMEOUT)
    assert both.failed(role)


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize("what", ["offered", "accepted"])
def test_another_offer_or_answer_is_an_attack_on_both_sides(role: Role, what: str) -> None:
    both = pair(changes={role: {what: b"?" * 32}}).start().run()
    for side in BOTH:
        assert both.failed(side)
        forbid_payload(both, side)


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize("what", ["sid", "initiator", "responder"])
def test_another_session_or_another_name_is_an_attack(role: Role, what: str) -> None:
    both = pair(changes={role: {what: "somebody@else.example"}}).start().run()
    for side in BOTH:
        assert both.failed(side)


@pytest.mark.parametrize("role", BOTH)
def test_the_identity_of_another_address_is_refused(role: Role) -> None:
    mallory = Person("mallory@example.org")
    both = pair({role.other: mallory.credentials()}).start().run()
    assert both.failed(role)
    forbid_payload(both, role)


@pytest.mark.parametrize("role", BOTH)
def test_an_identity_that_has_not_signed_the_leaf_is_refused(role: Role) -> None:
    """Bob's leaf with somebody else's identity for Bob."""
    credentials = PEOPLE[role.other].credentials()
    stolen = identity.Credentials(
        credentials.key, credentials.leaf, Person(PEOPLE[role.other].jid).certificate
    )
    both = pair({role.other: stolen}).start().run()
    assert both.failed(role)


def own_key_certified_for(role: Role, jid: str) -> identity.Credentials:
    """Credentials with the identity key of ``role``, in a certificate for ``jid``."""
    mine = PEOPLE[role].key
    der = certificate(
        mine.public_key(),
        mine.reveal(),
        life=timedelta(days=10),
        constraints=x509.BasicConstraints(True, 0),
        names=[make_xmpp_addr(jid)],
        extensions=[(x509.KeyUsage(**CERT_SIGN), True)],
    )
    key = identity.new_session_key()
    return identity.Credentials(key, identity.make_leaf(key.public_key(), mine, der, WALL), der)


@pytest.mark.parametrize("role", BOTH)
def test_the_own_identity_under_another_address_is_refused(role: Role) -> None:
    stolen = own_key_certified_for(role, PEOPLE[role.other].jid)
    both = pair({role.other: stolen}).start().run()
    assert both.failed(role)
    assert "our own identity" in both.failures(role)[0].text


def test_the_own_identity_under_the_own_address_is_another_device() -> None:
    own = {"initiator": ALICE, "responder": ALICE}
    again = PEOPLE[Role.INITIATOR].credentials()
    both = pair({Role.RESPONDER: again}, dict.fromkeys(BOTH, own)).start().run()
    for role in BOTH:
        assert both.protected(role) is not None


@pytest.mark.parametrize("role", BOTH)
def test_without_a_common_version_there_is_no_protection(
    role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = pair().start()
    monkeypatch.setattr(
        conversation, "build_hello", lambda hello: build_hello(with_versions(hello, (1, 2)))
    )
    both.handshake()
    monkeypatch.undo()
    both.run()
    assert both.failed(role)
    assert "version" in both.failures(role)[0].text


def with_versions(hello: Hello, versions: tuple[int, ...]) -> Hello:
    return replace(hello, versions=versions)


@pytest.mark.parametrize("versions", [(0, 1), (7, 0)])
def test_a_newer_peer_that_speaks_ours_too_is_understood(
    versions: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        conversation, "build_hello", lambda hello: build_hello(with_versions(hello, versions))
    )
    protected_pair()


@pytest.mark.parametrize("role", BOTH)
def test_the_first_message_must_be_a_hello(role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "build_hello", lambda _: build_verdict("verified", "sas"))
    both = pair().start().run()
    assert both.failed(role)


@pytest.mark.parametrize("role", BOTH)
def test_a_refused_hello_ends_it(role: Role) -> None:
    both = pair().start().handshake()
    both.end[role].sealed_refused(NOW)
    assert both.failed(role)


# -- the hello last ---------------------------------------------------------------------------


def test_a_responder_may_wait_for_the_others_identity() -> None:
    both = pair(changes={Role.RESPONDER: {"hello_last": True}}).start().handshake()
    assert len(both.sealed[Role.INITIATOR]) == 1
    assert not both.sealed[Role.RESPONDER]
    both.run()
    for role in BOTH:
        assert both.protected(role) is not None
    kinds = [type(event) for event in both.seen[Role.RESPONDER]]
    assert kinds.index(SendSealed) < kinds.index(Protected)


def test_who_says_hello_last_shows_nothing_to_the_wrong_peer() -> None:
    mallory = Person("mallory@example.org")
    both = pair({Role.INITIATOR: mallory.credentials()}, {Role.RESPONDER: {"hello_last": True}})
    both.start().run()
    assert both.failed(Role.RESPONDER)
    assert not [e for e in both.seen[Role.RESPONDER] if isinstance(e, SendSealed)]


def test_the_initiator_may_not_wait() -> None:
    with pytest.raises(ValueError, match="responder"):
        pair(changes={Role.INITIATOR: {"hello_last": True}})


# -- sealed messages before both hellos -------------------------------------------------------


def bent(element: Element) -> Element:
    """The same with a changed tag."""
    changed = Element(element.tag, dict(element.attrib))
    text = element.text or ""
    changed.text = ("A" if text[0] != "A" else "B") + text[1:]
    return changed


def renumbered(element: Element, n: int | str) -> Element:
    changed = Element(element.tag, element.attrib | {"n": str(n)})
    changed.text = element.text
    return changed


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize("change", [bent, lambda e: renumbered(e, 1), lambda e: renumbered(e, "x")])
def test_a_bad_message_before_the_hellos_ends_it(
    role: Role, change: Callable[[Element], Element], early: bool
) -> None:
    both = pair().start()
    if early:
        both.end[role].receive_sealed(change(hello_of(role.other)), NOW)
        both.run()
    else:
        both.handshake()
        both.end[role].receive_sealed(change(both.sealed[role.other][0]), NOW)
    assert both.failed(role)
    forbid_payload(both, role)


@pytest.mark.parametrize("role", BOTH)
def test_an_early_repeat_is_a_disturbance_once_the_hello_was_right(role: Role) -> None:
    """The initiator is done first; what it sent twice reaches a responder in the handshake."""
    both = pair().start()
    while not both.sealed[Role.INITIATOR]:
        both.carry_bytes()
    (hello,) = both.sealed[Role.INITIATOR]
    for _ in range(MAX_EARLY):
        both.end[Role.RESPONDER].receive_sealed(hello, NOW)
    both.carry_bytes()
    both.sealed[Role.INITIATOR].clear()
    both.run()
    assert both.protected(role) is not None
    reported = [e for e in both.seen[Role.RESPONDER] if isinstance(e, Reported)]
    assert len(reported) == MAX_EARLY - 1


@pytest.mark.parametrize("role", BOTH)
def test_sixteen_early_messages_are_kept_and_a_seventeenth_ends_it(role: Role) -> None:
    assert MAX_EARLY == 16
    both = pair().start()
    hello = hello_of(role.other)
    for _ in range(MAX_EARLY):
        both.end[role].receive_sealed(hello, NOW)
    both.collect()
    assert not both.failures(role)
    both.end[role].receive_sealed(hello, NOW)
    assert both.failed(role)


# -- sealed messages after both hellos --------------------------------------------------------


def verdicts(both: Pair, role: Role, many: int) -> list[Element]:
    """Sealed messages of ``role``, not delivered."""
    for _ in range(many):
        both.end[role].tell_verdict("verified", "fingerprint")
    both.collect()
    sealed, both.sealed[role] = both.sealed[role], []
    return sealed


@pytest.mark.parametrize("role", BOTH)
def test_a_repeat_is_a_bad_request_and_what_follows_is_understood(role: Role) -> None:
    both = protected_pair()
    one, two = verdicts(both, role.other, 2)
    ours = both.end[role]
    ours.receive_sealed(one, NOW)
    with pytest.raises(PeerError) as caught:
        ours.receive_sealed(one, NOW)
    assert caught.value.condition == "bad-request"
    ours.receive_sealed(two, NOW)
    kinds = [type(event).__name__ for event in ours.events()]
    assert kinds == ["PeerVerdict", "Reported", "PeerVerdict"]


@pytest.mark.parametrize("role", BOTH)
def test_after_a_gap_the_one_after_it_is_expected(role: Role) -> None:
    both = protected_pair()
    one, two, three = verdicts(both, role.other, 3)
    ours = both.end[role]
    for refused in (two, one):
        with pytest.raises(PeerError):
            ours.receive_sealed(refused, NOW)
    ours.receive_sealed(three, NOW)
    kinds = [type(event).__name__ for event in ours.events()]
    assert kinds == ["Reported", "Reported", "PeerVerdict"]


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize("change", [bent, lambda e: renumbered(e, ""), lambda e: renumbered(e, 9)])
def test_a_bad_tag_is_a_bad_request_and_the_expectation_stands(
    role: Role, change: Callable[[Element], Element]
) -> None:
    both = protected_pair()
    (good,) = verdicts(both, role.other, 1)
    ours = both.end[role]
    with pytest.raises(PeerError) as caught:
        ours.receive_sealed(change(good), NOW)
    assert caught.value.condition == "bad-request"
    ours.receive_sealed(good, NOW)
    kinds = [type(event).__name__ for event in ours.events()]
    assert kinds == ["Reported", "PeerVerdict"]
    assert both.protected(role) is not None
    assert not both.failures(role)


@pytest.mark.parametrize("role", BOTH)
def test_a_reflected_message_does_not_open(role: Role) -> None:
    both = protected_pair()
    for n in (1, 2):
        (own,) = verdicts(both, role, 1)
        with pytest.raises(PeerError):
            both.end[role].receive_sealed(own, NOW)
        assert own.get("n") == str(n)


@pytest.mark.parametrize("role", BOTH)
def test_a_second_hello_is_a_bad_request(role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    both = protected_pair()
    monkeypatch.setattr(conversation, "build_verdict", lambda *_: Element(HELLO))
    (hello,) = verdicts(both, role.other, 1)
    with pytest.raises(PeerError, match="second hello"):
        both.end[role].receive_sealed(hello, NOW)
    assert [type(event) for event in both.end[role].events()] == [Reported]


@pytest.mark.parametrize("role", BOTH)
def test_a_verdict_of_the_peer_is_told(role: Role) -> None:
    both = protected_pair()
    both.end[role].tell_verdict("rejected", "sas")
    both.run()
    told = [e for e in both.seen[role.other] if isinstance(e, PeerVerdict)]
    assert told == [PeerVerdict("rejected", "sas")]


# -- ceremonies -------------------------------------------------------------------------------


def strings(both: Pair) -> list[str]:
    return [e.text for role in BOTH for e in both.seen[role] if isinstance(e, StringReady)]


def endings(both: Pair, role: Role) -> list[str]:
    both.collect()
    return [str(e.outcome) for e in both.seen[role] if isinstance(e, CeremonyEnded)]


def compared(both: Pair, starter: Role) -> None:
    """Until both see a string."""
    both.end[starter].start_sas(NOW)
    both.run()
    assert [type(e).__name__ for e in both.seen[starter.other]][-1] == "PeerStarted"
    both.end[starter.other].start_sas(NOW)
    both.run()


@pytest.mark.parametrize("starter", BOTH)
def test_both_users_see_the_same_string_and_verify(starter: Role) -> None:
    both = protected_pair()
    compared(both, starter)
    one, other = strings(both)
    assert one == other
    assert len(one) == 6
    for role in BOTH:
        both.end[role].confirm_sas(True, NOW)
    both.run()
    for role in BOTH:
        assert endings(both, role) == ["verified"]


@pytest.mark.parametrize("starter", BOTH)
def test_the_same_password_verifies_both(starter: Role) -> None:
    both = protected_pair()
    both.end[starter].start_password("open sesame", NOW)
    both.run()
    assert both.seen[starter.other][-1] == PeerStarted("password")
    both.end[starter.other].start_password("open sesame ", NOW)
    both.run()
    for role in BOTH:
        assert endings(both, role) == ["verified"]


@pytest.mark.parametrize("starter", BOTH)
def test_different_passwords_verify_nobody(starter: Role) -> None:
    both = protected_pair()
    both.end[starter].start_password("open sesame", NOW)
    both.run()
    both.end[starter.other].start_password("open barley", NOW)
    both.run()
    for role in BOTH:
        assert endings(both, role) == ["failed"]
        (ended,) = (e for e in both.seen[role] if isinstance(e, CeremonyEnded))
        assert (ended.method, ended.reason, ended.spent) == ("password", "wrong-password", True)


def test_passwords_that_both_begin_with_at_once_verify() -> None:
    both = protected_pair()
    for role in BOTH:
        both.end[role].start_password("open sesame", NOW)
    both.run()
    for role in BOTH:
        assert endings(both, role) == ["verified"]
        assert not [e for e in both.seen[role] if isinstance(e, PeerStarted)]


@pytest.mark.parametrize("role", BOTH)
def test_a_disturbance_after_the_reply_fails_the_password(role: Role) -> None:
    both = protected_pair()
    both.end[role.other].start_password("open sesame", NOW)
    both.run()
    both.end[role].start_password("open sesame", NOW)
    (message,) = verdicts(both, role.other, 1)
    with pytest.raises(PeerError):
        both.end[role].receive_sealed(bent(message), NOW)
    assert endings(both, role) == ["failed"]


@pytest.mark.parametrize("starter", BOTH)
def test_the_string_depends_on_the_session(starter: Role) -> None:
    found = set()
    for _ in range(3):
        both = protected_pair()
        compared(both, starter)
        found |= set(strings(both))
    assert len(found) == 3


@pytest.mark.parametrize("role", BOTH)
def test_a_disturbance_fails_a_comparison_that_has_spent_its_try(role: Role) -> None:
    both = protected_pair()
    compared(both, role)
    (message,) = verdicts(both, role.other, 1)
    with pytest.raises(PeerError):
        both.end[role].receive_sealed(bent(message), NOW)
    assert endings(both, role) == ["failed"]


@pytest.mark.parametrize("role", BOTH)
def test_a_refused_message_fails_a_comparison_that_has_spent_its_try(role: Role) -> None:
    both = protected_pair()
    compared(both, role)
    both.end[role].sealed_refused(NOW)
    assert endings(both, role) == ["failed"]
    assert not both.failures(role)


@pytest.mark.parametrize("role", BOTH)
def test_a_comparison_has_a_deadline(role: Role) -> None:
    both = protected_pair()
    assert both.end[role].deadline() is None
    compared(both, role)
    deadline = both.end[role].deadline()
    assert deadline is not None
    both.end[role].tick(deadline - 0.1)
    assert endings(both, role) == []
    both.end[role].tick(deadline)
    assert endings(both, role) == ["failed"]
    assert both.end[role].deadline() is None
    assert not both.failures(role)


@pytest.mark.parametrize("role", BOTH)
def test_a_failure_of_tls_fails_a_running_comparison_first(role: Role) -> None:
    both = protected_pair()
    compared(both, role)
    both.end[role].receive_data(b"\x17\x03\x03\x00\x14" + bytes(20), NOW)
    assert both.end[role].read() == b""
    assert endings(both, role) == ["failed"]
    assert both.failed(role)
    assert isinstance(both.seen[role][-1], Failed)


@pytest.mark.parametrize("role", BOTH)
def test_people_are_not_asked_before_both_hellos_are_right(role: Role) -> None:
    both = pair()
    steps: list[Callable[[], object]] = [lambda: None, both.start, both.handshake]
    calls: list[Callable[[], None]] = [
        lambda: both.end[role].start_sas(NOW),
        lambda: both.end[role].start_password("open sesame", NOW),
        lambda: both.end[role].confirm_sas(True, NOW),
    ]
    for step in steps:
        step()
        for call in calls:
            with pytest.raises(NotAvailable, match="not protected"):
                call()
        both.end[role].tell_verdict("verified", "sas")
    assert len(both.sealed[role]) == 1


@pytest.mark.parametrize("role", BOTH)
def test_a_method_that_one_side_lacks_cannot_be_started(role: Role) -> None:
    both = protected_pair({role.other: {"methods": ("password",)}})
    for side in BOTH:
        with pytest.raises(NotAvailable):
            both.end[side].start_sas(NOW)
    ours = both.protected(role)
    assert ours is not None
    assert ours.peer_methods == ("password",)


# -- the ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize("role", BOTH)
def test_each_direction_ends_with_its_close_notify(role: Role) -> None:
    both = protected_pair()
    ours, theirs = both.end[role], both.end[role.other]
    ours.write(b"last")
    ours.close()
    both.carry_bytes()
    theirs.receive_eof(NOW)
    assert not theirs.peer_closed
    assert theirs.read() == b"last"
    assert theirs.read() == b""
    assert theirs.peer_closed
    with pytest.raises(NotAvailable):
        ours.write(b"more")
    theirs.write(b"answer")
    both.carry_bytes()
    assert ours.read() == b"answer"
    theirs.close()
    both.carry_bytes()
    ours.receive_eof(NOW)
    assert ours.read() == b""
    assert ours.peer_closed
    for side in BOTH:
        both.collect()
        assert not both.failures(side)


@pytest.mark.parametrize("role", BOTH)
def test_an_end_without_close_notify_is_told_once_all_was_read(role: Role) -> None:
    both = protected_pair()
    ours, theirs = both.end[role], both.end[role.other]
    theirs.write(b"half")
    both.carry_bytes()
    ours.receive_eof(NOW)
    both.collect()
    assert not both.failures(role)
    assert ours.read() == b"half"
    assert ours.read() == b""
    both.collect()
    assert [failure.reason for failure in both.failures(role)] == ["failed-transport"]
    assert not ours.peer_closed
    # Our own direction does not depend on it.
    ours.write(b"still")
    both.carry_bytes()
    assert theirs.read() == b"still"
    ours.close()
    both.carry_bytes()
    assert theirs.read() == b""
    assert theirs.peer_closed
    # ... and it is told once.
    ours.receive_eof(NOW)
    both.collect()
    assert len(both.failures(role)) == 1


@pytest.mark.parametrize("role", BOTH)
def test_an_end_with_nothing_left_to_read_is_told_at_once(role: Role) -> None:
    both = protected_pair()
    both.end[role].receive_eof(NOW)
    both.collect()
    assert [failure.reason for failure in both.failures(role)] == ["failed-transport"]


@pytest.mark.parametrize("role", BOTH)
def test_an_end_during_the_handshake_is_a_failure_of_it(role: Role) -> None:
    both = pair().start()
    both.end[role].receive_eof(NOW)
    assert both.failed(role)


@pytest.mark.parametrize("role", BOTH)
def test_a_whole_stream_may_come_before_the_hello_does(role: Role) -> None:
    """A small file over a fast road, and a slow server between."""
    both = pair().start().handshake()
    ours, theirs = both.end[role], both.end[role.other]
    (late,) = both.sealed[role.other]
    both.sealed[role.other] = []
    both.carry_sealed()
    theirs.write(b"small file")
    theirs.close()
    both.carry_bytes()
    ours.receive_eof(NOW)
    both.collect()
    assert not both.failures(role)
    assert ours.read() == b""
    assert ours.payload_waits
    ours.receive_sealed(late, NOW)
    assert ours.read() == b"small file"
    assert ours.read() == b""
    assert ours.peer_closed
    assert not both.failures(role)


def test_a_client_learns_of_the_servers_verdict_before_anything_else() -> None:
    """It is done with TLS when the server refuses its certificate; the alert ends it."""
    other = PEOPLE[Role.INITIATOR].credentials().leaf
    both = pair(changes={Role.RESPONDER: {"peer_fingerprints": announced(other)}})
    both.start().handshake()
    assert [type(e) for e in both.seen[Role.INITIATOR]] == [SendSealed, Failed]
    assert both.failed(Role.INITIATOR)


@pytest.mark.parametrize("role", BOTH)
def test_closing_before_the_handshake_does_nothing(role: Role) -> None:
    both = pair()
    both.end[role].close()
    both.start()
    both.end[role].close()
    both.run()
    assert both.protected(role) is not None


# -- bounds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", BOTH)
def test_payload_that_waits_is_seen_and_bounded(role: Role) -> None:
    both = pair().start().handshake()
    ours, theirs = both.end[role], both.end[role.other]
    (late,) = both.sealed[role.other]
    both.sealed[role.other] = []
    both.carry_sealed()
    assert not ours.payload_waits
    theirs.write(bytes(1000))
    both.carry_bytes()
    assert ours.payload_waits
    sent = 1000
    while sent < MAX_HELD:
        theirs.write(bytes(256 * 1024))
        sent += 256 * 1024
    ours.receive_data(theirs.data_to_send(), NOW)
    both.collect()
    assert not both.failures(role)
    theirs.write(b"x")
    ours.receive_data(theirs.data_to_send(), NOW)
    assert both.failed(role)
    assert not ours.payload_waits
    with pytest.raises(PeerError):
        ours.receive_sealed(late, NOW)


@pytest.mark.parametrize("role", BOTH)
def test_as_much_as_one_likes_may_come_while_it_is_read(role: Role) -> None:
    both = protected_pair()
    for _ in range(5):
        both.end[role.other].write(bytes(1 << 20))
        both.carry_bytes()
        while both.end[role].read():
            pass
    assert not both.failures(role)


@pytest.mark.parametrize("role", BOTH)
def test_payload_that_waits_after_the_hellos_is_seen_too(role: Role) -> None:
    """While people are asked."""
    both = protected_pair()
    assert not both.end[role].payload_waits
    both.end[role.other].write(b"x")
    both.carry_bytes()
    assert both.end[role].payload_waits
    assert both.end[role].read() == b"x"
    assert not both.end[role].payload_waits


@pytest.mark.parametrize("role", BOTH)
def test_tampering_is_found_while_payload_waits(role: Role) -> None:
    both = protected_pair()
    both.end[role].receive_data(b"\x17\x03\x03\x00\x14" + bytes(20), NOW)
    assert not both.end[role].payload_waits
    assert both.failed(role)


def test_attestations_that_do_not_fit_are_our_mistake() -> None:
    too_many = (Attestation("x", "", b""),) * 17
    with pytest.raises(ValueError, match="attestations"):
        pair(changes={Role.INITIATOR: {"attestations": too_many}})
    # Within the bounds one by one, but escaped they do not fit into a sealed message.
    long = (Attestation("x", "&" * 1024, bytes(2048)),) * 16
    with pytest.raises(ValueError, match="too long"):
        pair(changes={Role.INITIATOR: {"attestations": long}})


def test_credentials_that_cannot_be_read_are_our_mistake() -> None:
    good = PEOPLE[Role.INITIATOR].credentials()
    with pytest.raises(ValueError, match="certificate"):
        pair({Role.INITIATOR: identity.Credentials(good.key, good.leaf, b"?")})


# -- after a failure --------------------------------------------------------------------------


@pytest.mark.parametrize("role", BOTH)
def test_the_first_failure_counts_and_nothing_follows(role: Role) -> None:
    both = protected_pair()
    ours = both.end[role]
    ours.receive_data(b"\x17\x03\x03\x00\x14" + bytes(20), NOW)
    both.end[role.other].write(b"good")
    assert ours.read() == b""
    assert both.failed(role)
    both.carry_bytes()
    ours.receive_data(b"\x17\x03\x03\x00\x14" + bytes(20), NOW)
    ours.receive_eof(NOW)
    ours.sealed_refused(NOW)
    ours.tick(NOW + 1000)
    ours.tell_verdict("verified", "sas")
    ours.close()
    ours.start(NOW, WALL)
    assert ours.read() == b""
    all_raise(
        NotAvailable,
        "not protected",
        lambda: ours.write(b"x"),
        lambda: ours.start_sas(NOW),
        lambda: ours.confirm_sas(True, NOW),
    )
    with pytest.raises(PeerError):
        ours.receive_sealed(hello_of(role.other), NOW)
    assert ours.deadline() is None
    assert ours.events() == []


@pytest.mark.parametrize("role", BOTH)
def test_the_peer_gets_the_alert(role: Role) -> None:
    both = protected_pair()
    both.end[role].receive_data(b"\x17\x03\x03\x00\x14" + bytes(20), NOW)
    both.end[role].read()
    both.carry_bytes()
    both.end[role.other].read()
    assert both.failed(role.other)


def test_a_failure_before_the_start_makes_the_start_pointless() -> None:
    both = pair()
    ours = both.end[Role.RESPONDER]
    ours.sealed_refused(NOW)
    ours.start(NOW, WALL)
    ours.receive_data(b"\x16", NOW)
    ours.receive_eof(NOW)
    assert ours.data_to_send() == b""
    assert both.failed(Role.RESPONDER)


def test_a_failure_during_a_write_is_told() -> None:
    both = protected_pair()
    ours = both.end[Role.INITIATOR]
    ours.receive_data(b"\x17\x03\x03\x00\x14" + bytes(20), NOW)
    engine = ours._engine
    assert engine is not None
    with pytest.raises(PeerError):
        engine.waiting()
    with pytest.raises(NotAvailable):
        ours.write(b"x")
    assert both.failed(Role.INITIATOR)


# -- our own mistakes -------------------------------------------------------------------------


def test_starting_twice_or_feeding_before_the_start_is_our_mistake() -> None:
    both = pair()
    ours = both.end[Role.RESPONDER]
    all_raise(
        ValueError,
        "not started",
        lambda: ours.receive_data(b"\x16", NOW),
        lambda: ours.receive_eof(NOW),
    )
    assert ours.data_to_send() == b""
    assert not ours.peer_closed
    assert not ours.payload_waits
    assert ours.deadline() is None
    ours.tick(NOW)
    ours.start(NOW, WALL)
    with pytest.raises(ValueError, match="already"):
        ours.start(NOW, WALL)


# -- anything -------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    role=st.sampled_from(BOTH),
    junk=st.lists(st.tuples(st.integers(0, 8), st.binary(max_size=80)), max_size=3),
    at=st.integers(0, 5000),
)
def test_no_bytes_from_the_transport_raise_anything_or_protect_a_stranger(
    role: Role, junk: list[tuple[int, bytes]], at: int
) -> None:
    both = pair().start()
    for step in range(6):
        for when, data in junk:
            if when == step:
                wire = both.bytes_from[role.other]
                wire[at % (len(wire) + 1) : 0] = data
        both.carry_bytes()
        both.carry_sealed()
        both.end[role].read()
    ours = both.protected(role)
    if ours is not None:
        assert ours.identity_certificate == PEOPLE[role.other].certificate


def test_the_names_of_the_addresses_are_those_of_the_helpers() -> None:
    assert PEOPLE[Role.INITIATOR].jid == ALICE
    assert PEOPLE[Role.RESPONDER].jid == BOB
    assert isinstance(pair().end[Role.INITIATOR], Protection)
