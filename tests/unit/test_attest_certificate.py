import hashlib
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import example, given
from hypothesis import strategies as st

from telepathy_e2e.attest import chain as chains
from telepathy_e2e.attest.certificate import (
    MAX_AUTHORITIES,
    MAX_AUTHORITIES_FILE,
    MAX_NAMES,
    check_x509,
    read_authorities,
)
from telepathy_e2e.attest.chain import MAX_CHAIN, MAX_DATA, fingerprint, from_file, split
from telepathy_e2e.errors import InvalidArgument, SecurityError
from telepathy_e2e.xtls.certificates import MAX_CERTIFICATE, make_xmpp_addr, parse
from telepathy_e2e.xtls.identity import PrivateKey, identity_fingerprint, make_identity
from tests.support.authority import DAY, Authority, ca_extensions, issue, key_usage

JID = "bob@example.org"
NOW = datetime.now(UTC)


@cache
def bob() -> tuple[PrivateKey, bytes]:
    return make_identity(JID, NOW)


@cache
def company() -> Authority:
    return Authority.make()


def key() -> bytes:
    return bob()[0].public_key()


def check(
    data: bytes,
    *,
    authorities: tuple[Authority, ...] | None = None,
    jid: str = JID,
    wall: datetime = NOW,
    identity: bytes | None = None,
) -> None:
    given = (company(),) if authorities is None else authorities
    check_x509(
        data,
        identity=bob()[1] if identity is None else identity,
        bare_jid=jid,
        authorities=tuple(each.certificate for each in given),
        wall=wall,
    )


def refused(data: bytes, match: str, **more: object) -> None:
    with pytest.raises(SecurityError, match=match):
        check(data, **more)  # type: ignore[arg-type]


NOBODY = "none of the chosen authorities"


def test_a_chosen_authority_vouches() -> None:
    check(company().attest(JID, key()))


def test_so_does_one_below_it() -> None:
    check(company().below("Department").below("Team").attest(JID, key()))


def test_and_one_with_an_rsa_key_as_companies_have_them() -> None:
    root = Authority.make(key=rsa.generate_private_key(65537, 2048))
    check(root.attest(JID, key()), authorities=(company(), root))


def test_the_root_may_come_along_and_counts_for_nothing() -> None:
    other = Authority.make()
    chain = other.attest(JID, key()) + other.certificate.public_bytes(Encoding.DER)
    refused(chain, NOBODY)
    check(chain, authorities=(other,))


def test_without_chosen_authorities_nobody_vouches() -> None:
    refused(company().attest(JID, key()), "no authorities", authorities=())


def test_an_authority_of_the_same_name_is_another_one() -> None:
    refused(Authority.make().attest(JID, key()), NOBODY)


def test_a_chain_without_what_is_between_is_refused() -> None:
    chain = split(company().below("Department").attest(JID, key()))
    refused(chain[0], NOBODY)


# -- whom and what it is about --------------------------------------------------------------------


def test_a_certificate_of_another_person_is_refused() -> None:
    refused(company().attest("eve@example.org", key()), "somebody else")


def test_a_certificate_of_another_key_of_the_same_person_is_refused() -> None:
    other, _ = make_identity(JID, NOW)
    refused(company().attest(JID, other.public_key()), "another key")


def test_the_name_is_compared_after_enforcement() -> None:
    check(company().attest("BOB@Example.ORG.", key()))
    fullwidth = "\uff22ob@example.org"
    check(company().attest(fullwidth, key()))


@pytest.mark.parametrize(
    "name",
    ["bob@example.org/phone", "bob@example.org.evil", "xmpp:bob@example.org", "", "example.org"],
)
def test_what_only_looks_like_the_name_is_refused(name: str) -> None:
    refused(company().attest(name, key()), "somebody else")


def test_the_name_counts_only_where_it_belongs() -> None:
    for names in (
        [],
        [x509.DNSName(JID)],
        [x509.RFC822Name(JID)],
        [x509.UniformResourceIdentifier("xmpp:" + JID)],
        # The right kind, another string type.
        [x509.OtherName(make_xmpp_addr(JID).type_id, b"\x16" + make_xmpp_addr(JID).value[1:])],
    ):
        refused(company().attest(JID, key(), names=names), "somebody else")


def test_other_names_beside_it_do_no_harm() -> None:
    names = [x509.RFC822Name(JID), make_xmpp_addr("bob@old.example"), make_xmpp_addr(JID)]
    check(company().attest(JID, key(), names=names))


def test_more_names_than_a_person_has_are_refused() -> None:
    names: list[x509.GeneralName] = [make_xmpp_addr(JID)]
    some: list[x509.GeneralName] = [x509.DNSName("a.example")] * (MAX_NAMES - 1)
    check(company().attest(JID, key(), names=names + some))
    refused(company().attest(JID, key(), names=[*names, *some, some[0]]), "too many names")


# -- what it may be used for -----------------------------------------------------------------------


def test_a_certificate_that_makes_an_authority_is_refused() -> None:
    more = [(x509.BasicConstraints(ca=True, path_length=None), True)]
    refused(company().attest(JID, key(), more=more), "an authority")


def test_one_that_says_it_makes_none_is_taken() -> None:
    check(company().attest(JID, key(), more=[(x509.BasicConstraints(False, None), True)]))


def test_a_key_that_may_not_sign_is_refused() -> None:
    refused(
        company().attest(JID, key(), more=[(key_usage(key_agreement=True), True)]), "may not sign"
    )
    check(company().attest(JID, key(), more=[(key_usage(digital_signature=True), True)]))


def test_a_certificate_for_something_else_than_persons_is_refused() -> None:
    for usage in (ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.SERVER_AUTH):
        more = [(x509.ExtendedKeyUsage([usage]), False)]
        refused(company().attest(JID, key(), more=more), "not for persons")
    for usage in (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION):
        check(company().attest(JID, key(), more=[(x509.ExtendedKeyUsage([usage]), False)]))


def test_an_unknown_critical_extension_is_refused_anywhere() -> None:
    unknown = [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"), True)]
    refused(company().attest(JID, key(), more=unknown), "critical")
    refused(company().below("Department", more=unknown).attest(JID, key()), NOBODY)


# -- the path --------------------------------------------------------------------------------------


def test_whom_nobody_made_an_authority_cannot_vouch() -> None:
    person = company().below("Carol", extensions=[])
    refused(person.attest(JID, key()), NOBODY)
    person = company().below(
        "Carol", extensions=[(x509.BasicConstraints(ca=False, path_length=None), True)]
    )
    refused(person.attest(JID, key()), NOBODY)


def test_an_authority_that_may_not_certify_cannot_vouch() -> None:
    extensions = [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (key_usage(digital_signature=True), True),
    ]
    refused(company().below("Department", extensions=extensions).attest(JID, key()), NOBODY)


def test_an_identity_is_no_authority_over_people() -> None:
    """Identity certificates say CA:TRUE; somebody in the company could use his like that."""
    chain = split(company().attest(JID, key()))
    eve, identity = make_identity("eve@example.org", NOW)
    signed = issue(
        "e2e identity",
        eve.reveal(),
        "A person",
        bob()[0].reveal().public_key(),
        [(x509.SubjectAlternativeName([make_xmpp_addr(JID)]), False)],
    ).public_bytes(Encoding.DER)
    refused(signed + identity, NOBODY)
    refused(signed + identity + chain[0], NOBODY)


def test_the_path_length_holds() -> None:
    short = company().below("Department", path_length=0)
    check(short.attest(JID, key()))
    refused(short.below("Team").attest(JID, key()), NOBODY)


def test_name_constraints_hold_or_are_refused() -> None:
    elsewhere = x509.NameConstraints([x509.DNSName("example.org")], None)
    others = x509.NameConstraints(None, [make_xmpp_addr(JID)])
    check(company().below("D", more=[(elsewhere, True)]).attest(JID, key()))
    refused(company().below("D", more=[(others, True)]).attest(JID, key()), NOBODY)


@pytest.mark.parametrize("hash", [hashes.SHA224(), hashes.SHA3_256()])
def test_algorithms_that_are_not_taken_are_refused(hash: hashes.HashAlgorithm) -> None:
    with pytest.raises(SecurityError):
        check(company().attest(JID, key(), hash=hash))


def test_an_authority_with_a_weak_key_is_refused() -> None:
    root = Authority.make(key=rsa.generate_private_key(65537, 1024))  # noqa: S505 - that is the point
    refused(root.attest(JID, key()), NOBODY, authorities=(root,))


def test_a_changed_signature_is_refused() -> None:
    data = bytearray(company().attest(JID, key()))
    data[-1] ^= 1
    refused(bytes(data), NOBODY)


# -- the time --------------------------------------------------------------------------------------


def test_it_has_to_be_valid_now_give_or_take_a_day() -> None:
    hour = timedelta(hours=1)
    data = company().attest(JID, key(), not_before=NOW - 5 * DAY, not_after=NOW + 5 * DAY)
    check(data, wall=NOW + 6 * DAY - hour)
    refused(data, NOBODY, wall=NOW + 6 * DAY + hour)
    check(data, wall=NOW - 6 * DAY + hour)
    refused(data, NOBODY, wall=NOW - 6 * DAY - hour)


def test_so_have_the_authorities() -> None:
    gone = company().below("D", not_before=NOW - 9 * DAY, not_after=NOW - 2 * DAY)
    refused(gone.attest(JID, key()), NOBODY)


# -- bounds ----------------------------------------------------------------------------------------


def test_a_chain_of_the_greatest_length_is_taken_and_one_more_is_not() -> None:
    authority = company()
    for number in range(MAX_CHAIN - 1):
        authority = authority.below(f"Level {number}")
    chain = authority.attest(JID, key())
    assert len(split(chain)) == MAX_CHAIN
    check(chain)
    refused(authority.below("One more").attest(JID, key()), "too long")


def test_bytes_of_a_chain_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    data = company().attest(JID, key())
    monkeypatch.setattr(chains, "MAX_DATA", len(data))
    check(data)
    monkeypatch.setattr(chains, "MAX_DATA", len(data) - 1)
    refused(data, "too long")


def test_a_certificate_in_it_has_the_usual_bound() -> None:
    size = MAX_CERTIFICATE - 4
    assert split(b"\x30\x82" + size.to_bytes(2, "big") + bytes(size))
    size += 1
    with pytest.raises(SecurityError, match="too long"):
        split(b"\x30\x82" + size.to_bytes(2, "big") + bytes(size))
    assert MAX_CERTIFICATE <= MAX_DATA


@pytest.mark.parametrize(
    "data",
    [b"", b"\x30", b"\x31\x00", b"\x30\x80", b"\x30\x83\x00\x00\x01a", b"\x30\x05abc", b"\x30\x82"],
)
def test_what_is_no_chain_is_refused(data: bytes) -> None:
    with pytest.raises(SecurityError):
        split(data)


def test_authorities_are_certificates_in_pem_and_not_too_many() -> None:
    pem = company().pem
    assert len(read_authorities(b"my company\n" + pem * MAX_AUTHORITIES)) == MAX_AUTHORITIES
    for wrong in (
        b"",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        pem * (MAX_AUTHORITIES + 1),
        b" " * MAX_AUTHORITIES_FILE + pem,
    ):
        with pytest.raises(InvalidArgument):
            read_authorities(wrong)


def test_the_key_is_found_as_the_parser_finds_it() -> None:
    chain = split(company().below("Department").attest(JID, key()))
    assert fingerprint(chain[0]) == identity_fingerprint(bob()[1])
    assert fingerprint(bob()[1]) == identity_fingerprint(bob()[1])
    assert fingerprint(chain[1]) == hashlib.sha256(parse(chain[1]).spki).digest()


def test_a_file_holds_a_chain_in_pem_or_as_it_is() -> None:
    chain = company().below("Department").attest(JID, key())
    pem = b"".join(
        b"subject=x\n" + x509.load_der_x509_certificate(each).public_bytes(Encoding.PEM)
        for each in split(chain)
    )
    assert from_file(pem) == chain
    assert from_file(chain) == chain


@given(st.binary(max_size=300))
def test_a_key_is_looked_for_in_anything(data: bytes) -> None:
    for each in (data, bob()[1][: len(data)]):
        try:
            fingerprint(each)
        except SecurityError:
            pass


@given(st.binary(max_size=300))
@example(b"\x30\x03\x02\x01\x01")
def test_no_bytes_of_a_peer_raise_anything_else(data: bytes) -> None:
    with pytest.raises(SecurityError):
        check(data)


@given(st.data())
def test_no_changed_chain_raises_anything_else(data: st.DataObject) -> None:
    chain = _department_chain()
    at = data.draw(st.integers(0, len(chain) - 1))
    changed = bytearray(chain)
    changed[at] = data.draw(st.integers(0, 255).filter(lambda each: each != chain[at]))
    try:
        check(bytes(changed))
    except SecurityError:
        return
    # What nobody signed may be anything: the outer length forms are DER, so nothing is left.
    pytest.fail(f"byte {at} of a chain may be changed")


@cache
def _department_chain() -> bytes:
    return company().below("Department").attest(JID, key())


def test_an_authority_that_the_user_chose_without_usual_extensions_is_refused() -> None:
    """Certificates from before 2000 have no basic constraints: nobody can tell what they are."""
    private = ec.generate_private_key(ec.SECP256R1())
    bare = Authority("Old", private, issue("Old", private, "Old", private.public_key(), []))
    refused(bare.attest(JID, key()), NOBODY, authorities=(bare,))
    assert ca_extensions(private.public_key(), None)
