"""Proving the password, and letting the server prove that it knows it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import AuthenticationFailed
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
