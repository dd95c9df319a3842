"""Proving the password, and letting the server prove that it knows it."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import AuthenticationFailed, ServiceConfused
from telepathy_e2e.xmpp import sasl
from telepathy_e2e.xmpp.sasl import MAX_ROUNDS, MIN_ROUNDS, Offer, Plain, Scram, choose, saslprep
from telepathy_e2e.xmpp.settings import Password, Settings

PENCIL = Password("pencil")
# RFC 5802 section 5 and RFC 7677 section 3
EXAMPLES = [
    (
        "SCRAM-SHA-1",
        "fyko+d2lbbFgONRv9qkxdawL",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    (
        "SCRAM-SHA-256",
        "rOprNGfwEbeRWgbNEkqO",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
]


def mechanism(example: int = 0) -> tuple[Scram, bytes, bytes, bytes]:
    name, nonce, challenge, answer, proof = EXAMPLES[example]
    return Scram(name, "user", PENCIL, nonce=nonce), challenge, answer, proof


@pytest.mark.parametrize("example", range(len(EXAMPLES)))
@pytest.mark.parametrize("in_success", [True, False])
def test_the_examples_of_the_standards(example: int, in_success: bool) -> None:
    scram, challenge, answer, proof = mechanism(example)
    assert scram.first() == b"n,,n=user,r=" + EXAMPLES[example][1].encode()
    assert scram.respond(challenge) == answer
    if in_success:
        scram.finish(proof)
    else:
        assert scram.respond(proof) == b""
        scram.finish(b"")


def test_success_without_proof_is_no_success() -> None:
    scram, challenge, _, proof = mechanism()
    with pytest.raises(AuthenticationFailed):
        scram.finish(proof)
    for wrong in (b"", b"v=", b"v=AAAA", proof[:-2], b"e=other-error", challenge):
        scram, challenge, _, proof = mechanism()
        scram.respond(challenge)
        with pytest.raises(AuthenticationFailed):
            scram.finish(wrong)


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"s=QSXCR+Q6sek8bf92,i=4096",
        b"r=somebody,s=QSXCR+Q6sek8bf92,i=4096",
        b"r=fyko+d2lbbFgONRv9qkxdawL,s=QSXCR+Q6sek8bf92,i=4096",
        b"r=fyko+d2lbbFgONRv9qkxdawL3,s=!,i=4096",
        b"r=fyko+d2lbbFgONRv9qkxdawL3,s=,i=4096",
        b"r=fyko+d2lbbFgONRv9qkxdawL3,s=QSXC,i=x",
        b"r=fyko+d2lbbFgONRv9qkxdawL3,s=QSXC,i=-4096",
        b"m=x,r=fyko+d2lbbFgONRv9qkxdawL3,s=QSXC,i=4096",
        b"\xff",
        b"r=fyko+d2lbbFgONRv9qkxdawL" + b"x" * sasl.MAX_MESSAGE + b",s=QSXC,i=4096",
        b"e=unknown-user",
    ],
)
def test_a_challenge_that_is_none_gets_no_proof(challenge: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        mechanism()[0].respond(challenge)


@pytest.mark.parametrize(
    ("rounds", "fine"),
    [(MIN_ROUNDS, True), (MIN_ROUNDS - 1, False), (1, False), (MAX_ROUNDS + 1, False)],
)
def test_the_server_may_not_make_it_too_easy_or_too_hard(rounds: int, fine: bool) -> None:
    scram, challenge, _, _ = mechanism()
    challenge = challenge.replace(b"4096", str(rounds).encode())
    if fine:
        assert scram.respond(challenge)
    else:
        with pytest.raises(AuthenticationFailed, match="weak"):
            scram.respond(challenge)


@given(st.binary() | st.text("rsiev=,AB4096+").map(str.encode))
def test_no_challenge_raises_anything_but_authentication_failed(challenge: bytes) -> None:
    scram = mechanism()[0]
    try:
        scram.respond(challenge)
        scram.finish(challenge)
    except AuthenticationFailed:
        return


def test_nonces_are_fresh_and_long() -> None:
    first = {Scram("SCRAM-SHA-1", "u", PENCIL).first() for _ in range(10)}
    assert len(first) == 10
    assert all(re.fullmatch(rb"n,,n=u,r=[\w-]{32}", each) for each in first)


def test_names_are_escaped() -> None:
    assert Scram("SCRAM-SHA-1", "a=b,c", PENCIL, nonce="x").first() == b"n,,n=a=3Db=2Cc,r=x"


def test_plain_is_the_last_resort_and_needs_tls() -> None:
    def chosen(*names: str, encrypted: bool = True) -> str | None:
        result = choose(Offer(names, safe=encrypted), "user", PENCIL)
        return result.name if result is not None else None

    assert chosen("PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256") == "SCRAM-SHA-256"
    assert chosen("PLAIN", "SCRAM-SHA-1", encrypted=False) == "SCRAM-SHA-1"
    assert chosen("PLAIN", "DIGEST-MD5") == "PLAIN"
    assert chosen("PLAIN", encrypted=False) is None
    assert chosen("DIGEST-MD5", "CRAM-MD5", "ANONYMOUS") is None


def test_plain_says_name_and_password() -> None:
    plain = Plain("user", PENCIL)
    assert plain.first() == b"\0user\0pencil"
    with pytest.raises(AuthenticationFailed):
        plain.respond(b"")


def test_passwords_are_prepared() -> None:
    """RFC 4013 section 3"""
    assert saslprep("I\u00adX") == "IX"
    assert saslprep("user") == "user"
    assert saslprep("\u00aa") == "a"
    assert saslprep("\u2168") == "IX"
    assert saslprep("a\u00a0b") == "a b"
    with pytest.raises(AuthenticationFailed):
        saslprep("\u0007")


def test_a_password_shows_itself_nowhere() -> None:
    settings = Settings("a@b", Password("hunter2"))
    assert "hunter2" not in repr(settings) + str(settings) + f"{settings.password}"
    assert repr(settings.password) == ""
    assert settings.password
    assert not Password("")


# -- bound to the connection (RFC 5802 section 6, RFC 5929, XEP-0440) ------------------------

END_POINT = {"tls-server-end-point": b"\x01" * 32}
BOTH = {**END_POINT, "tls-unique": b"\x02" * 12}


def header_of(chosen: object) -> bytes:
    assert isinstance(chosen, Scram)
    return chosen.first().partition(b"n=")[0]


@pytest.mark.parametrize(
    ("bindings", "types", "expected", "header"),
    [
        (END_POINT, ("tls-server-end-point",), "SCRAM-SHA-1-PLUS", b"p=tls-server-end-point,,"),
        (BOTH, ("tls-server-end-point", "tls-unique"), "SCRAM-SHA-1-PLUS", b"p=tls-unique,,"),
        (BOTH, ("tls-exporter", "tls-server-end-point"), "SCRAM-SHA-1-PLUS", None),
        (BOTH, None, "SCRAM-SHA-1-PLUS", b"p=tls-unique,,"),
        # It can bind, but not to what we have: to say "y" would be a lie.
        (END_POINT, None, "SCRAM-SHA-256", b"n,,"),
        (END_POINT, ("tls-exporter",), "SCRAM-SHA-256", b"n,,"),
        ({}, ("tls-server-end-point",), "SCRAM-SHA-256", b"n,,"),
    ],
)
def test_what_both_can_bind_to_is_used(
    bindings: dict[str, bytes],
    types: tuple[str, ...] | None,
    expected: str,
    header: bytes | None,
) -> None:
    offer = Offer(("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "PLAIN"), types, bindings)
    chosen = choose(offer, "user", PENCIL)
    assert chosen is not None
    assert chosen.name == expected
    if header is not None:
        assert header_of(chosen) == header


def test_the_strongest_hash_is_taken_first() -> None:
    names = ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512")
    chosen = choose(Offer(names, tuple(END_POINT), END_POINT), "user", PENCIL)
    assert chosen is not None
    assert chosen.name == "SCRAM-SHA-256-PLUS"


def test_a_server_hears_that_we_could_have_if_it_says_that_it_cannot() -> None:
    """So that it finds out when somebody in between removed -PLUS from its offer."""
    assert header_of(choose(Offer(("SCRAM-SHA-1",), None, END_POINT), "u", PENCIL)) == b"y,,"
    assert header_of(choose(Offer(("SCRAM-SHA-1",)), "u", PENCIL)) == b"n,,"


@pytest.mark.parametrize("data", [END_POINT["tls-server-end-point"], b"of the man in the middle"])
def test_what_a_login_is_bound_to_is_in_what_the_password_signs(data: bytes) -> None:
    offer = Offer(("SCRAM-SHA-1-PLUS",), tuple(END_POINT), {"tls-server-end-point": data})
    _, nonce, challenge, _, _ = EXAMPLES[0]
    answer = Scram("SCRAM-SHA-1-PLUS", "user", PENCIL, offer, nonce).respond(challenge)
    bound = re.match(rb"c=([^,]*),", answer)
    assert bound is not None
    assert base64.b64decode(bound[1]) == b"p=tls-server-end-point,," + data
    other = Offer(("SCRAM-SHA-1-PLUS",), tuple(END_POINT), {"tls-server-end-point": data + b"x"})
    another = Scram("SCRAM-SHA-1-PLUS", "user", PENCIL, other, nonce).respond(challenge)
    assert answer.rpartition(b"p=")[2] != another.rpartition(b"p=")[2]


# -- the offer itself (XEP-0474) ------------------------------------------------------------


def test_the_digest_of_an_offer_is_the_standards() -> None:
    """XEP-0474 section 5.1: sorted, %x1E between, %x1F before the binding types."""
    offer = Offer(("SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"), ("tls-unique", "tls-exporter"))
    text = b"SCRAM-SHA-1\x1eSCRAM-SHA-1-PLUS\x1ftls-exporter\x1etls-unique"
    assert offer.digest("sha256") == hashlib.sha256(text).digest()
    assert Offer(("B", "A")).digest("sha512") == hashlib.sha512(b"A\x1eB").digest()


@pytest.mark.parametrize("seen", [("SCRAM-SHA-1", "SCRAM-SHA-256"), ("SCRAM-SHA-1",)])
def test_an_offer_that_was_changed_on_the_way_ends_the_login(seen: tuple[str, ...]) -> None:
    _, nonce, challenge, _, _ = EXAMPLES[0]
    sent = Offer(("SCRAM-SHA-256", "SCRAM-SHA-1"))
    said = b",x=other,h=" + base64.b64encode(sent.digest("sha1"))
    scram = Scram("SCRAM-SHA-1", "user", PENCIL, Offer(seen), nonce)
    if len(seen) == 2:
        assert scram.respond(challenge + said)
    else:
        with pytest.raises(ServiceConfused, match="changed"):
            scram.respond(challenge + said)


def test_what_others_may_drive_shows_nothing_in_the_clear() -> None:
    names = ("PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "DIGEST-MD5", "X-OAUTH2")
    assert Offer(names).for_others() == ("PLAIN", "SCRAM-SHA-1", "DIGEST-MD5", "X-OAUTH2")
    assert Offer(names, safe=False).for_others() == ("SCRAM-SHA-1",)


def test_an_offer_has_an_end_and_only_names() -> None:
    names = [f"M{number}" for number in range(sasl.MAX_MECHANISMS + 1)]
    bad = ["", "plain", "A" * 21, "PLAIN\n", "Ä"]
    offer = Offer.read([*bad, "M0", *names], None, {}, safe=True)
    assert offer.mechanisms == tuple(names[: sasl.MAX_MECHANISMS])
