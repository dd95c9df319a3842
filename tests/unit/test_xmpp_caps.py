"""Service discovery hashes: the XEP's own examples, and poisoning."""

from __future__ import annotations

from xml.etree.ElementTree import XML, Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.xmpp import caps
from telepathy_e2e.xmpp.caps import (
    MAX_FEATURES,
    MAX_OWN,
    MAX_STRING,
    Advertised,
    Cache,
    Form,
    Identity,
    Info,
    Own,
    build_info,
    parse_caps,
    parse_info,
    ver,
    verification_string,
)

ALICE, MALLORY = "alice@example.test", "mallory@example.test"
XTLS = "urn:xmpp:jingle:security:xtls:0"

SIMPLE = """<query xmlns='http://jabber.org/protocol/disco#info'>
<identity category='client' type='pc' name='Exodus 0.9.1'/>
<feature var='http://jabber.org/protocol/caps'/>
<feature var='http://jabber.org/protocol/disco#items'/>
<feature var='http://jabber.org/protocol/disco#info'/>
<feature var='http://jabber.org/protocol/muc'/></query>"""

COMPLEX = """<query xmlns='http://jabber.org/protocol/disco#info'>
<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>
<identity xml:lang='el' category='client' name='\u03a8 0.11' type='pc'/>
<feature var='http://jabber.org/protocol/caps'/>
<feature var='http://jabber.org/protocol/disco#info'/>
<feature var='http://jabber.org/protocol/disco#items'/>
<feature var='http://jabber.org/protocol/muc'/>
<x xmlns='jabber:x:data' type='result'>
<field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>
<field var='ip_version' type='text-multi'><value>ipv4</value><value>ipv6</value></field>
<field var='os'><value>Mac</value></field><field var='os_version'><value>10.5.1</value></field>
<field var='software'><value>Psi</value></field>
<field var='software_version'><value>0.11</value></field></x></query>"""


def query(*children: str) -> Element:
    return XML(
        "<query xmlns='http://jabber.org/protocol/disco#info'>" + "".join(children) + "</query>"
    )


def advertised(info: Info, hash_name: str = "sha-1") -> Advertised:
    return Advertised("http://node", ver(info, hash_name), hash_name)


def info(*features: str, forms: tuple[Form, ...] = ()) -> Info:
    return Info((Identity("client", "pc", "", "X"),), frozenset(features), forms)


def test_the_simple_example_of_the_standard() -> None:
    """XEP-0115 section 5.2"""
    assert ver(parse_info(XML(SIMPLE))) == "QgayPKawpkPSDYmwT/WM94uAlu0="


def test_the_complex_example_of_the_standard() -> None:
    """XEP-0115 section 5.3"""
    assert ver(parse_info(XML(COMPLEX))) == "q07IKJEyjvHSyhy//CH0CxmKi8w="


def test_what_we_say_is_what_others_read() -> None:
    said = Info((Identity("client", "pc", "en", "Me"),), frozenset({"a", "b"}))
    assert parse_info(build_info(said)) == said


@pytest.mark.parametrize(
    "children",
    [
        ("<feature var='a'/>", "<feature var='a'/>"),
        ("<identity category='a' type='b'/>", "<identity category='a' type='b'/>"),
        (
            "<x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'><value>a</value>"
            "<value>b</value></field></x>",
        ),
        (
            "<x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'><value>a</value>"
            "</field></x>",
        )
        * 2,
        ("<feature var='" + "a" * (MAX_STRING + 1) + "'/>",),
        tuple(f"<feature var='{n}'/>" for n in range(MAX_FEATURES + 1)),
    ],
)
def test_ill_formed_answers_are_refused(children: tuple[str, ...]) -> None:
    with pytest.raises(PeerError):
        parse_info(query(*children))


def test_as_many_and_as_long_features_as_the_bounds_say() -> None:
    parsed = parse_info(query(*(f"<feature var='{n}'/>" for n in range(MAX_FEATURES))))
    assert len(parsed.features) == MAX_FEATURES
    assert parse_info(query("<feature var='" + "a" * MAX_STRING + "'/>")).features


def test_forms_without_a_type_do_not_count() -> None:
    plain = "<x xmlns='jabber:x:data'><field var='a'><value>b</value></field></x>"
    shown = (
        "<x xmlns='jabber:x:data'><field var='FORM_TYPE'><value>t</value></field>"
        "<field var='a'><value>b</value></field></x>"
    )
    assert parse_info(query(plain, shown)) == Info()


def test_a_right_answer_serves_everybody_with_that_hash() -> None:
    cache, right = Cache(), info("urn:a", "urn:b")
    assert cache.put(MALLORY, advertised(right), right)
    assert cache.get(ALICE, advertised(right)) == right


@pytest.mark.parametrize("hash_name", ["sha-1", "sha-256", "sha-512"])
def test_a_wrong_answer_is_never_kept(hash_name: str) -> None:
    cache, right = Cache(), info("urn:a")
    assert not cache.put(MALLORY, advertised(right, hash_name), info("urn:b"))
    assert cache.get(ALICE, advertised(right, hash_name)) is None
    assert cache.get(MALLORY, advertised(right, hash_name)) is None


POISON = [
    # features that moved into a form
    (
        info("urn:a", XTLS, "urn:z"),
        info("urn:a", forms=(Form(XTLS, (("urn:z", ()),)),)),
    ),
    # a feature that moved into an identity
    (
        info("http://a/b/c", "urn:z"),
        Info(
            (Identity("client", "pc", "", "X"), Identity("http:", "", "a", "b/c")),
            frozenset({"urn:z"}),
        ),
    ),
    # an identity that moved into the features
    (
        Info((Identity("client", "pc", "", "A"), Identity("client", "pc", "", "B")), frozenset()),
        Info((Identity("client", "pc", "", "A"),), frozenset({"client/pc//B"})),
    ),
    # two features in one
    (info("urn:a", "urn:b"), info("urn:a<urn:b")),
    # nothing but features
    (info(XTLS), Info((), frozenset({"client/pc//X", XTLS}))),
]


@pytest.mark.parametrize(("honest", "forged"), POISON)
def test_an_answer_of_the_same_hash_deceives_nobody_but_about_its_author(
    honest: Info, forged: Info
) -> None:
    assert verification_string(honest) == verification_string(forged)
    cache = Cache()
    cache.put(MALLORY, advertised(honest), forged)
    assert cache.get(ALICE, advertised(honest)) is None
    cache.put(ALICE, advertised(honest), honest)
    assert cache.get(ALICE, advertised(honest)) == honest


def test_the_cache_is_bounded_and_forgets_what_was_used_least() -> None:
    cache = Cache(size=2)
    infos = [info(f"urn:{n}") for n in range(3)]
    cache.put(ALICE, advertised(infos[0]), infos[0])
    cache.put(ALICE, advertised(infos[1]), infos[1])
    assert cache.get(ALICE, advertised(infos[0])) is not None
    cache.put(ALICE, advertised(infos[2]), infos[2])
    assert len(cache) == 2
    assert cache.get(ALICE, advertised(infos[0])) is not None
    assert cache.get(ALICE, advertised(infos[1])) is None


def test_only_hashes_that_we_can_check_count() -> None:
    def presence(**attributes: str) -> Element:
        result = Element("{jabber:client}presence")
        result.append(Element(f"{{{caps.CAPS}}}c", attributes))
        return result

    assert parse_caps(presence(node="n", ver="v", hash="sha-1")) == Advertised("n", "v", "sha-1")
    assert parse_caps(presence(node="n", ver="v")) is None
    assert parse_caps(presence(node="n", ver="v", hash="md5")) is None
    assert parse_caps(presence(node="n", hash="sha-1")) is None
    assert parse_caps(presence(ver="v", hash="sha-1")) is None
    assert parse_caps(presence(node="n" * (MAX_STRING + 1), ver="v", hash="sha-1")) is None
    assert parse_caps(Element("{jabber:client}presence")) is None


def test_our_own_answer_has_the_hash_that_we_advertise() -> None:
    own = Own("http://me", Identity("client", "pc"), ["urn:always"])
    assert own.set_features(["urn:x"])
    assert not own.set_features(["urn:x"])
    told = parse_caps(presence_with(own.element()))
    assert told is not None
    answer = own.answer(f"{told.node}#{told.ver}")
    assert answer.get("node") == f"http://me#{told.ver}"
    assert caps.is_right(parse_info(answer), told)
    assert parse_info(own.answer(None)).features == {"urn:always", "urn:x"}


def test_an_answer_is_still_given_for_the_hash_of_a_moment_ago() -> None:
    own = Own("http://me", Identity("client", "pc"), [])
    own.set_features(["urn:old"])
    before = own.ver
    for n in range(MAX_OWN - 1):
        own.set_features([f"urn:{n}"])
    assert parse_info(own.answer(f"http://me#{before}")).features == {"urn:old"}
    own.set_features(["urn:last"])
    with pytest.raises(PeerError):
        own.answer(f"http://me#{before}")


@pytest.mark.parametrize("node", ["http://other#x", "http://me", "http://me#", "x", "#"])
def test_other_nodes_are_not_found(node: str) -> None:
    with pytest.raises(PeerError) as raised:
        Own("http://me", Identity("client", "pc"), []).answer(node)
    assert raised.value.condition == "item-not-found"


def presence_with(child: Element) -> Element:
    result = Element("{jabber:client}presence")
    result.append(child)
    return result


tags = st.sampled_from(
    [f"{{{caps.DISCO_INFO}}}{name}" for name in ("query", "identity", "feature")]
    + [f"{{jabber:x:data}}{name}" for name in ("x", "field", "value")]
)
attributes = st.dictionaries(
    st.sampled_from(["var", "type", "category", "name"]),
    st.sampled_from(["FORM_TYPE", "hidden", "a"]),
)


def nested(tag: str, attrib: dict[str, str], children: list[Element]) -> Element:
    element = Element(tag, attrib)
    element.extend(children)
    return element


@given(
    st.recursive(
        st.builds(Element, tags, attributes),
        lambda inner: st.builds(nested, tags, attributes, st.lists(inner)),
    )
)
def test_any_element_is_an_answer_or_a_peer_error(element: Element) -> None:
    try:
        verification_string(parse_info(element))
    except PeerError:
        return
