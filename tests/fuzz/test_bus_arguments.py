"""Whatever a D-Bus client asks for raises nothing but errors with a Telepathy name.

Parameters of connections and requests for channels: any names, any types, any values, the right
ones among them. The texts of the errors can go over the bus, and an account that is accepted is
accepted again in the form in which it came out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbus_fast import Variant
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.bus import parameters
from telepathy_e2e.bus.channels.table import requested, signatures, typed
from telepathy_e2e.bus.values import INTEGERS, fit
from telepathy_e2e.errors import (
    TP_ERROR,
    InvalidArgument,
    InvalidHandle,
    NotImplementedByUs,
    TelepathyError,
)
from telepathy_e2e.service import file_requests, names, requests
from telepathy_e2e.service.capabilities import FILE_TRANSFER_ALLOWED, channel_classes
from telepathy_e2e.service.handles import Handles

from .support import VALUES, budget

# What no client can send: half a character is no UTF-8, and a string ends at its first zero.
TEXTS = st.one_of(
    VALUES,
    st.sampled_from(
        (
            "alice@example.test",
            "Alice@EXAMPLE.test/Home",
            "/",
            "/org/freedesktop/x",
            "opportunistic",
            "verified",
            names.FILE_TRANSFER,
            "a" * 4097,
            "f" * 64,
        )
    ),
).map(lambda text: "".join(c for c in text if c != "\0" and not 0xD800 <= ord(c) < 0xE000))


def _integers(signature: str) -> st.SearchStrategy[Variant]:
    low, high = INTEGERS[signature]
    edges = [n for n in (low, -1, 0, 1, 2, 3, 127, 128, 2**33, 2**63, high) if low <= n <= high]
    return st.builds(Variant, st.just(signature), st.sampled_from(edges) | st.integers(low, high))


SIMPLE = st.one_of(
    st.builds(Variant, st.just("s"), TEXTS),
    st.builds(Variant, st.just("b"), st.booleans()),
    st.sampled_from(sorted(INTEGERS)).flatmap(_integers),
    st.builds(Variant, st.just("d"), st.sampled_from((0.0, -1.5, float("nan"), float("inf")))),
    st.sampled_from((Variant("o", "/"), Variant("o", "/a/b"), Variant("g", "a{sv}"))),
)
ANY = st.one_of(
    SIMPLE,
    st.builds(Variant, st.just("as"), st.lists(TEXTS, max_size=70)),
    st.builds(Variant, st.just("ay"), st.binary(max_size=20)),
    st.builds(Variant, st.just("v"), SIMPLE),
    st.builds(Variant, st.just("av"), st.lists(SIMPLE, max_size=3)),
    st.builds(Variant, st.just("a{sv}"), st.dictionaries(TEXTS, SIMPLE, max_size=3)),
    st.builds(Variant, st.just("(sv)"), st.tuples(TEXTS, SIMPLE).map(list)),
)

PARAMETERS = {each.name: each.signature for each in parameters.PARAMETERS}
PROPERTIES = {
    **{name: signatures()[name] for name in FILE_TRANSFER_ALLOWED},
    **{
        name: signatures()[name]
        for name in (requests.CHANNEL_TYPE, requests.TARGET_HANDLE_TYPE, requests.REQUESTED)
    },
}


@st.composite
def given_to(draw: st.DrawFn, known: Mapping[str, str]) -> dict[str, Variant]:
    """Some known names, mostly with values of the right type, and now and then an unknown one."""
    result: dict[str, Variant] = {}
    for name in draw(st.lists(st.sampled_from(sorted(known)), max_size=4, unique=True)):
        signature = known[name]
        right: st.SearchStrategy[Variant] = ANY
        if signature in INTEGERS:
            right = _integers(signature)
        elif signature == "s":
            right = st.builds(Variant, st.just("s"), TEXTS)
        elif signature == "b":
            right = st.builds(Variant, st.just("b"), st.booleans())
        elif signature == "as":
            right = st.builds(Variant, st.just("as"), st.lists(TEXTS, max_size=70))
        result[name] = draw(right if draw(st.integers(0, 5)) else ANY)
    if draw(st.integers(0, 9)) == 0:
        result[draw(TEXTS)] = draw(ANY)
    return result


def answerable(error: TelepathyError, *kinds: type[TelepathyError]) -> None:
    """One of the documented errors, with a text that D-Bus can carry."""
    assert type(error) in kinds, repr(error)
    assert error.dbus_name.startswith(TP_ERROR)
    text = str(error)
    assert text
    assert "\0" not in text
    assert len(text.encode()) < 20_000


@budget(3)
@given(given_to(PARAMETERS), st.booleans())
def test_no_parameters_raise_anything_but_the_documented_errors(
    asked: dict[str, Variant], account: bool
) -> None:
    if account:
        asked = {**asked, "account": Variant("s", "alice@example.test")}
    try:
        parameters.identify(asked)
    except TelepathyError as error:
        answerable(error, InvalidArgument)
    try:
        result = parameters.parse(asked)
    except TelepathyError as error:
        answerable(error, InvalidArgument, NotImplementedByUs)
        return
    known = {name: PARAMETERS[name] for name in result}
    assert all(type(value) in (str, bool, int, list) for value in result.values())
    again = {name: Variant(known[name], value) for name, value in result.items()}
    assert parameters.parse(again) == result
    assert parameters.identify(again) == result["account"]


@budget(3)
@given(
    given_to(PROPERTIES),
    st.booleans(),
    st.sampled_from((0, 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1)),
)
def test_no_channel_request_raises_anything_but_the_documented_errors(
    asked: dict[str, Variant], plausible: bool, size: int
) -> None:
    handles = Handles()
    handles.ensure("bob@example.test")
    if plausible:
        named = requests.TARGET_HANDLE in asked or requests.TARGET_ID in asked
        asked = {
            names.FILE_TRANSFER + ".Filename": Variant("s", "a.txt"),
            names.FILE_TRANSFER + ".Size": Variant("t", size),
            names.FILE_TRANSFER + ".ContentType": Variant("s", "text/plain"),
            **({} if named else {requests.TARGET_HANDLE: Variant("u", 1)}),
            **asked,
            requests.CHANNEL_TYPE: Variant("s", names.FILE_TRANSFER),
            requests.TARGET_HANDLE_TYPE: Variant("u", 1),
        }
    try:
        plain = requested(asked)
        request = requests.parse(plain, channel_classes(), handles)
        file = file_requests.parse(request)
    except TelepathyError as error:
        answerable(error, InvalidArgument, InvalidHandle, NotImplementedByUs)
        return
    handles.inspect(file.handle)
    if file.demands.verified:
        assert file.demands.encrypted
    offer = file.details.to_offer()
    assert offer.size is None or 0 <= offer.size < 2**63
    typed({name: plain[name] for name in plain})


@budget(3)
@given(ANY, st.sampled_from([*INTEGERS, "s", "b", "as", "o", "ay", "a{sv}", "v"]))
def test_a_value_of_another_type_is_refused_and_one_that_fits_is_plain(
    value: Variant, signature: str
) -> None:
    try:
        plain: Any = fit("It", value, signature)
    except TelepathyError as error:
        answerable(error, InvalidArgument)
        return
    if signature in INTEGERS:
        low, high = INTEGERS[signature]
        assert type(plain) is int
        assert low <= plain <= high
    assert not isinstance(plain, Variant)
