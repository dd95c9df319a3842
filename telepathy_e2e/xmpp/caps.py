"""What programs say they can do: service discovery and its hash (XEP-0030, XEP-0115). Pure."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement

from telepathy_e2e.errors import PeerError

CAPS = "http://jabber.org/protocol/caps"
DISCO_INFO = "http://jabber.org/protocol/disco#info"
DISCO_ITEMS = "http://jabber.org/protocol/disco#items"
QUERY_INFO = f"{{{DISCO_INFO}}}query"
QUERY_ITEMS = f"{{{DISCO_ITEMS}}}query"
_DATA = "{jabber:x:data}"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"

# Per answer. The richest clients list some 120 features and 10 identities.
MAX_FEATURES = 500
MAX_IDENTITIES = 32
MAX_FORM_FIELDS = 200
# Characters of one string in an answer; namespaces have some 60.
MAX_STRING = 1024
# Answers kept. A contact list sees some 30 kinds of client; each answer is some 5 kB.
MAX_CACHED = 256
# Own answers still given for hashes that we sent a moment ago.
MAX_OWN = 8

_HASHES = {"sha-1": "sha1", "sha-256": "sha256", "sha-512": "sha512"}
# What a feature would look like that could be read as an identity (see ``_shareable``).
_LIKE_IDENTITY = re.compile(r"[^:/]*/[^/]*/[^/]*/")
# What the category of an identity looks like, and the beginning of a feature never does: without
# this, http://a/b would pass for the identity ("http:", "", "a", "b").
_CATEGORY = re.compile(r"[A-Za-z0-9_-]+\Z")


class Identity(NamedTuple):
    """What kind of program it is (XEP-0030 section 3.1)."""

    category: str
    type: str
    lang: str = ""
    name: str = ""


class Form(NamedTuple):
    """An extension (XEP-0128): FORM_TYPE, and (variable, values) of the other fields."""

    type: str
    fields: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Info:
    """One answer to disco#info."""

    identities: tuple[Identity, ...] = ()
    features: frozenset[str] = frozenset()
    forms: tuple[Form, ...] = ()


@dataclass(frozen=True)
class Advertised:
    """The ``<c/>`` of a presence; ``hash`` is one that we can check."""

    node: str
    ver: str
    hash: str


def parse_info(query: Element) -> Info:
    """Read an answer.

    Raises:
        PeerError: not one, ill-formed by XEP-0115 section 5.4, or too much.
    """
    if query.tag != QUERY_INFO:
        raise PeerError("not an answer to disco#info")
    identities: list[Identity] = []
    features: list[str] = []
    forms: list[Form] = []
    for child in query:
        if child.tag == f"{{{DISCO_INFO}}}identity":
            parts = (child.get("category"), child.get("type"), child.get(_LANG), child.get("name"))
            identities.append(Identity(*(_string(part) for part in parts)))
        elif child.tag == f"{{{DISCO_INFO}}}feature":
            features.append(_string(child.get("var")))
        elif child.tag == f"{_DATA}x" and (form := _parse_form(child)) is not None:
            forms.append(form)
        if len(features) > MAX_FEATURES or max(len(identities), len(forms)) > MAX_IDENTITIES:
            raise PeerError("too long an answer to disco#info")
    types = [form.type for form in forms]
    # Duplicates are one of the ways to make two answers of the same hash (section 5.4, step 3).
    if any(len(set(each)) != len(each) for each in (identities, features, types)):
        raise PeerError("an answer to disco#info with duplicates")
    return Info(tuple(identities), frozenset(features), tuple(forms))


def _parse_form(x: Element) -> Form | None:
    """A form, or None if it does not count for the hash (section 5.4, step 3.6)."""
    kinds: list[str] = []
    fields: list[tuple[str, tuple[str, ...]]] = []
    for field in x.iterfind(f"{_DATA}field"):
        values = tuple(_string(value.text) for value in field.iterfind(f"{_DATA}value"))
        if len(fields) + len(values) > MAX_FORM_FIELDS:
            raise PeerError("too long an answer to disco#info")
        if field.get("var") != "FORM_TYPE":
            fields.append((_string(field.get("var")), values))
        elif field.get("type") == "hidden":
            kinds.extend(values)
    if len(set(kinds)) > 1:
        raise PeerError("an answer to disco#info with an ambiguous form")
    return Form(kinds[0], tuple(fields)) if kinds else None


def _string(text: str | None) -> str:
    text = text or ""
    if len(text) > MAX_STRING:
        raise PeerError("too long an answer to disco#info")
    return text


def build_info(info: Info, node: str | None = None) -> Element:
    """The answer that says this (without forms: we have none)."""
    query = Element(QUERY_INFO)
    if node:
        query.set("node", node)
    for identity in info.identities:
        child = SubElement(query, f"{{{DISCO_INFO}}}identity")
        child.set("category", identity.category)
        child.set("type", identity.type)
        if identity.lang:
            child.set(_LANG, identity.lang)
        if identity.name:
            child.set("name", identity.name)
    for feature in sorted(info.features):
        SubElement(query, f"{{{DISCO_INFO}}}feature", var=feature)
    return query


def verification_string(info: Info) -> bytes:
    """S of XEP-0115 section 5.1."""
    parts = [
        f"{each.category}/{each.type}/{each.lang}/{each.name}".encode() for each in info.identities
    ]
    parts.sort()
    parts += sorted(feature.encode() for feature in info.features)
    for form in sorted(info.forms, key=lambda each: each.type.encode()):
        parts.append(form.type.encode())
        for name, values in sorted(form.fields, key=lambda each: each[0].encode()):
            parts.append(name.encode())
            parts += sorted(value.encode() for value in values)
    return b"".join(part + b"<" for part in parts)


def ver(info: Info, hash_name: str = "sha-1") -> str:
    """The hash as it stands in ``<c/>``."""
    digest = hashlib.new(_HASHES[hash_name], verification_string(info), usedforsecurity=False)
    return b64encode(digest.digest()).decode("ascii")


def parse_caps(presence: Element) -> Advertised | None:
    """The ``<c/>`` of a presence, or None: no such, the legacy format, or a hash we do not have."""
    c = presence.find(f"{{{CAPS}}}c")
    if c is None:
        return None
    node, value, hash_name = c.get("node", ""), c.get("ver", ""), c.get("hash", "")
    if not node or not value or hash_name not in _HASHES or max(len(node), len(value)) > MAX_STRING:
        return None
    return Advertised(node, value, hash_name)


def build_caps(node: str, value: str) -> Element:
    """Our ``<c/>``."""
    return Element(f"{{{CAPS}}}c", hash="sha-1", node=node, ver=value)


def is_right(info: Info, advertised: Advertised) -> bool:
    """Whether this answer has the hash that was advertised."""
    return hmac.compare_digest(
        ver(info, advertised.hash).encode(), advertised.ver.encode("utf-8", "replace")
    )


def _shareable(info: Info) -> bool:
    """Whether an answer may stand for everybody who advertises its hash.

    The string that is hashed does not say where identities end, features and forms begin, so one
    contact could answer with a form where the features of another's client are, of the same hash,
    and make us believe that the other cannot encrypt (XEP-0115 section 8.3). Without forms, and
    with features that cannot be identities, no feature can be hidden that way.
    """
    strings = [part for identity in info.identities for part in identity] + list(info.features)
    return (
        not info.forms
        and bool(info.identities)
        and not any("<" in each for each in strings)
        and all(_CATEGORY.match(each.category) for each in info.identities)
        and not any(_LIKE_IDENTITY.match(feature) for feature in info.features)
    )


class Cache:
    """Answers whose hash was checked; the least recently used go first."""

    def __init__(self, size: int = MAX_CACHED) -> None:
        self._size = size
        self._infos: OrderedDict[tuple[str, str, str], Info] = OrderedDict()

    def get(self, bare_jid: str, advertised: Advertised) -> Info | None:
        """What this contact's program can do, if it is known."""
        for scope in (bare_jid, ""):
            key = (scope, advertised.hash, advertised.ver)
            if (info := self._infos.get(key)) is not None:
                self._infos.move_to_end(key)
                return info
        return None

    def put(self, bare_jid: str, advertised: Advertised, info: Info) -> bool:
        """Keep an answer of this contact.

        Returns:
            False if it does not have the advertised hash: it counts for that one JID and no other.
        """
        if not is_right(info, advertised):
            return False
        scope = "" if _shareable(info) else bare_jid
        self._infos[(scope, advertised.hash, advertised.ver)] = info
        self._infos.move_to_end((scope, advertised.hash, advertised.ver))
        while len(self._infos) > self._size:
            self._infos.popitem(last=False)
        return True

    def __len__(self) -> int:
        return len(self._infos)


class Own:
    """What we say of ourselves.

    Args:
        node: URI of this program.
        identity: what we are.
        always: features that we always have.
    """

    def __init__(self, node: str, identity: Identity, always: Iterable[str]) -> None:
        self.node = node
        self._identity = identity
        self._always = frozenset(always)
        self._told: OrderedDict[str, Info] = OrderedDict()
        self.ver = ""
        self.set_features(())

    def set_features(self, features: Iterable[str]) -> bool:
        """Say this from now on; whether it is anything new."""
        info = Info((self._identity,), self._always | frozenset(features))
        before, self.ver = self.ver, ver(info)
        self._told[self.ver] = info
        self._told.move_to_end(self.ver)
        while len(self._told) > MAX_OWN:
            self._told.popitem(last=False)
        return self.ver != before

    def element(self) -> Element:
        """The ``<c/>`` for our presence."""
        return build_caps(self.node, self.ver)

    def answer(self, node: str | None) -> Element:
        """The answer to a disco#info.

        Raises:
            PeerError: item-not-found, a node that we never had.
        """
        if not node:
            return build_info(self._told[self.ver])
        name, _, value = node.rpartition("#")
        if name != self.node or value not in self._told:
            raise PeerError("no such node", "item-not-found")
        return build_info(self._told[value], node)
