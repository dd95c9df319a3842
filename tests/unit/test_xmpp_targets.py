"""Where the server of a domain is (RFC 6120 section 3.2, RFC 2782, XEP-0368)."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, ClassVar

import aiodns
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import ConnectionFailed
from telepathy_e2e.xmpp.settings import Settings
from telepathy_e2e.xmpp.targets import MAX_TARGETS, Record, Target, find, order, services

ALICE = "alice@example.test"


class Names:
    """In place of the name servers: (priority, weight, host, port) by service."""

    answers: ClassVar[dict[str, list[tuple[int, int, str, int]]]] = {}

    def __init__(self, **_: object) -> None: ...

    async def query_dns(self, name: str, kind: str) -> SimpleNamespace:
        assert kind == "SRV"
        service = name.removesuffix("._tcp.example.test")
        if service not in self.answers:
            raise aiodns.error.DNSError(4, "not found")
        alias = SimpleNamespace(data=SimpleNamespace(cname="elsewhere."))
        records = [
            SimpleNamespace(data=SimpleNamespace(priority=p, weight=w, target=t, port=n))
            for p, w, t, n in self.answers[service]
        ]
        return SimpleNamespace(answer=[alias, *records])

    async def close(self) -> None: ...


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> type[Names]:
    monkeypatch.setattr(Names, "answers", {})
    monkeypatch.setattr(aiodns, "DNSResolver", Names)
    return Names


def record(priority: int, weight: int, host: str) -> Record:
    return Record(priority, weight, Target(host, 5222, direct_tls=False))


def hosts(targets: list[Target]) -> list[str]:
    return [each.host for each in targets]


def test_lower_priorities_come_first_whatever_their_weight() -> None:
    records = [record(20, 100, "c"), record(10, 0, "a"), record(15, 5, "b")]
    assert hosts(order(records)) == ["a", "b", "c"]


def test_the_weights_decide_as_the_standard_says() -> None:
    records = [record(1, 3, "heavy"), record(1, 1, "light"), record(1, 0, "none")]
    first = Counter(order(records, lambda _, n=n: n)[0].host for n in range(5))  # type: ignore[misc]
    assert first == {"none": 1, "heavy": 3, "light": 1}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 65535)), max_size=20))
def test_every_record_is_tried_once(given: list[tuple[int, int]]) -> None:
    records = [record(p, w, str(number)) for number, (p, w) in enumerate(given)]
    ordered = order(records)
    assert sorted(hosts(ordered)) == sorted(hosts([each.target for each in records]))
    priorities = [given[int(each.host)][0] for each in ordered]
    assert priorities == sorted(priorities)


async def test_both_services_are_one_list(names: type[Names]) -> None:
    names.answers["_xmpp-client"] = [(10, 1, "b.example.test.", 5222)]
    names.answers["_xmpps-client"] = [(5, 1, "a.example.test.", 443), (20, 1, "c.", 5223)]
    assert await find(Settings(ALICE), "example.test") == [
        Target("a.example.test", 443, direct_tls=True),
        Target("b.example.test", 5222, direct_tls=False),
        Target("c", 5223, direct_tls=True),
    ]


async def test_without_records_it_is_the_domain_itself(names: type[Names]) -> None:
    assert await find(Settings(ALICE), "example.test") == [Target("example.test", 5222, False)]
    settings = Settings(ALICE, port=443, old_ssl=True)
    assert await find(settings, "example.test") == [Target("example.test", 443, True)]


async def test_a_domain_that_has_no_service_is_believed(names: type[Names]) -> None:
    names.answers["_xmpp-client"] = [(0, 0, ".", 0)]
    with pytest.raises(ConnectionFailed):
        await find(Settings(ALICE), "example.test")


async def test_a_service_may_be_missing_while_the_other_is_there(names: type[Names]) -> None:
    names.answers["_xmpps-client"] = [(0, 0, ".", 0)]
    names.answers["_xmpp-client"] = [(5, 1, "a.", 5222)]
    assert await find(Settings(ALICE), "example.test") == [Target("a", 5222, False)]


async def test_the_number_of_places_has_a_bound(names: type[Names]) -> None:
    for count in (MAX_TARGETS, MAX_TARGETS + 1, 1000):
        names.answers["_xmpp-client"] = [(n, 1, f"h{n}.", 5222) for n in range(count)]
        found = await find(Settings(ALICE), "example.test")
        assert hosts(found) == [f"h{n}" for n in range(MAX_TARGETS)]


async def test_other_services_of_a_domain_are_found_the_same_way(names: type[Names]) -> None:
    names.answers["_stun._udp.example.test"] = [(9, 1, "b.", 3478), (1, 1, "a.", 3479)]
    names.answers["_turn._udp.example.test"] = [(0, 0, ".", 0)]
    asked = ("_stun._udp", "_turn._udp", "_turns._tcp")
    assert await services("example.test", asked) == {
        "_stun._udp": [Target("a", 3479, False), Target("b", 3478, False)],
        "_turn._udp": [],
        "_turns._tcp": [],
    }


async def test_a_server_that_the_user_names_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(**_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(aiodns, "DNSResolver", never)
    for settings, target in (
        (Settings(ALICE, server="h"), Target("h", 5222, False)),
        (Settings(ALICE, server="h", old_ssl=True), Target("h", 5223, True)),
        (Settings(ALICE, server="h", port=1), Target("h", 1, False)),
    ):
        assert await find(settings, "example.test") == [target]
