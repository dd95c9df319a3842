"""What accounts may say, and the answer when they say something else."""

from __future__ import annotations

from contextlib import suppress

import pytest
from dbus_fast import Variant
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.bus.parameters import (
    MAX_ITEMS,
    MAX_TEXT,
    PARAMETERS,
    Flag,
    identify,
    parse,
)
from telepathy_e2e.errors import InvalidArgument, NotImplementedByUs, TelepathyError

ACCOUNT = {"account": Variant("s", "alice@example.test")}


def test_the_least_is_an_account_and_all_defaults_are_filled_in() -> None:
    result = parse(ACCOUNT)
    assert result["account"] == "alice@example.test"
    defaults = {each.name: each.default for each in PARAMETERS if each.default is not None}
    assert {key: result[key] for key in defaults} == defaults
    assert set(result) == {"account", *defaults}
    assert result["require-encryption"] is True
    assert result["port"] == 5222


def test_a_default_is_not_shared_between_connections() -> None:
    parse(ACCOUNT)["fallback-socks5-proxies"].append("mallory")
    assert parse(ACCOUNT)["fallback-socks5-proxies"] == []


def test_an_account_is_normalised_and_its_resource_taken_off() -> None:
    result = parse({"account": Variant("s", "Alice@Example.TEST/Home")})
    assert (result["account"], result["resource"]) == ("alice@example.test", "Home")
    result = parse(
        {"account": Variant("s", "alice@example.test/Home"), "resource": Variant("s", "Work")}
    )
    assert result["resource"] == "Work"
    result = parse({**ACCOUNT, "resource": Variant("s", "")})
    assert not result["resource"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("account", Variant("s", ""), "account is missing"),
        ("account", Variant("s", "example.test"), "alice@example.org"),
        ("account", Variant("s", "a b@example.test"), "alice@example.org"),
        ("account", Variant("u", 1), "account must be a string"),
        ("resource", Variant("s", "a\nb"), "resource"),
        ("port", Variant("s", "5222"), "port must be a number"),
        ("port", Variant("i", 0), "port must not be 0"),
        ("port", Variant("i", -1), "from 0 to 65535"),
        ("port", Variant("u", 65536), "from 0 to 65535"),
        ("priority", Variant("i", 128), "from -128 to 127"),
        ("priority", Variant("i", -129), "from -128 to 127"),
        ("require-encryption", Variant("s", "yes"), "true or false"),
        ("require-encryption", Variant("u", 1), "true or false"),
        ("fallback-socks5-proxies", Variant("s", "proxy"), "a list of strings"),
        ("fallback-socks5-proxies", Variant("as", ["x"] * (MAX_ITEMS + 1)), "more than"),
        ("server", Variant("s", "x" * (MAX_TEXT + 1)), "longer than"),
        ("fallback-socks5-proxies", Variant("as", ["x" * (MAX_TEXT + 1)]), "longer than"),
        ("e2e-policy", Variant("s", "none"), "opportunistic"),
        ("https-proxy-server", Variant("s", "proxy"), "There is no parameter"),
    ],
)
def test_a_wrong_parameter_is_named(name: str, value: Variant, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        parse({**ACCOUNT, name: value})


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        ("port", Variant("i", 65535), 65535),
        ("port", Variant("x", 1), 1),
        ("priority", Variant("i", -128), -128),
        ("priority", Variant("n", 127), 127),
        ("server", Variant("s", "x" * MAX_TEXT), "x" * MAX_TEXT),
        ("fallback-socks5-proxies", Variant("as", ["x"] * MAX_ITEMS), ["x"] * MAX_ITEMS),
        ("e2e-policy", Variant("s", "verified"), "verified"),
        ("keepalive-interval", Variant("i", 0), 0),
    ],
)
def test_what_just_fits_is_taken_whatever_the_integer_type(
    name: str, value: Variant, result: object
) -> None:
    assert parse({**ACCOUNT, name: value})[name] == result


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InvalidArgument, match="account is missing"):
        parse({"password": Variant("s", "open sesame")})
    with pytest.raises(InvalidArgument, match="account is missing"):
        identify({})


def test_no_error_repeats_a_value() -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse({**ACCOUNT, "password": Variant("as", ["open sesame"])})
    assert "sesame" not in str(caught.value)
    with pytest.raises(InvalidArgument) as caught:
        parse({**ACCOUNT, "password": Variant("s", "open sesame" * MAX_TEXT)})
    assert "sesame" not in str(caught.value)


def test_registering_is_refused_before_it_looks_like_a_wrong_password() -> None:
    with pytest.raises(NotImplementedByUs, match="register"):
        parse({**ACCOUNT, "register": Variant("b", True)})
    assert parse({**ACCOUNT, "register": Variant("b", False)})["register"] is False


def test_old_ssl_has_its_own_customary_port() -> None:
    old = {**ACCOUNT, "old-ssl": Variant("b", True)}
    assert parse(old)["port"] == 5223
    assert parse({**old, "port": Variant("q", 5222)})["port"] == 5222


def test_who_hides_his_identity_does_not_publish_it_unless_he_says_so() -> None:
    hides = {**ACCOUNT, "e2e-hide-identity": Variant("b", True)}
    assert parse(ACCOUNT)["e2e-publish-identity"] is True
    assert parse(hides)["e2e-publish-identity"] is False
    both = {**hides, "e2e-publish-identity": Variant("b", True)}
    assert parse(both)["e2e-publish-identity"] is True


def test_an_account_is_identified_by_its_bare_jid() -> None:
    assert identify({"account": Variant("s", "Alice@example.test/x")}) == "alice@example.test"
    with pytest.raises(InvalidArgument):
        identify({"account": Variant("s", "example.test")})


def test_secrets_are_flagged_and_the_account_is_required() -> None:
    flags = {each.name: each.all_flags for each in PARAMETERS}
    assert flags["account"] == Flag.REQUIRED | Flag.REGISTER
    assert flags["password"] == Flag.SECRET | Flag.REGISTER
    assert [name for name, flag in flags.items() if Flag.SECRET in flag] == [
        "password",
        "turn-password",
    ]
    assert [name for name, flag in flags.items() if Flag.REQUIRED in flag] == ["account"]


def test_each_default_has_the_type_of_its_parameter() -> None:
    for each in PARAMETERS:
        name, flags, signature, shown = each.spec()
        assert shown.signature == signature
        assert bool(flags & Flag.HAS_DEFAULT) is (each.default is not None)
        assert name == each.name


_values = st.one_of(
    st.text().map(lambda text: Variant("s", text.replace("\0", ""))),
    st.booleans().map(lambda value: Variant("b", value)),
    st.integers(-(2**63), 2**63 - 1).map(lambda value: Variant("x", value)),
    st.lists(st.text(alphabet="ab;")).map(lambda value: Variant("as", value)),
)


@given(
    st.dictionaries(
        st.one_of(st.sampled_from([each.name for each in PARAMETERS]), st.text(max_size=5)), _values
    )
)
def test_no_parameters_raise_anything_but_our_errors(parameters: dict[str, Variant]) -> None:
    for function in (parse, identify):
        with suppress(TelepathyError):
            function(parameters)
