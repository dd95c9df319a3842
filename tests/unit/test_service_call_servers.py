"""Which STUN and TURN servers a call asks: the user's, the XMPP server's, those in DNS."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from xml.etree.ElementTree import Element

import pytest

from telepathy_e2e.errors import Disconnected
from telepathy_e2e.media.servers import IceServer
from telepathy_e2e.service import call_servers
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.call_servers import MAX_SERVERS, SERVICES, find_servers, parse
from telepathy_e2e.xmpp import targets
from telepathy_e2e.xmpp.targets import Target
from tests.unit.jingle_support import xml

TOLD = (
    f"<services xmlns='{SERVICES}'>"
    "<service type='stun' host='s.example' port='3479' transport='udp'/>"
    "<service type='turn' host='t.example' transport='tcp' username='u' password='p'/>"
    "<service type='turns' host='t.example' username='u' password='p'/>"
    "<service type='stun' host='over-tcp.example' transport='tcp'/>"
    "<service type='ftp' host='f.example'/><service type='turn' port='1'/>"
    "<service type='turn' host='x' port='70000'/><service type='turn' host='x' port='x'/>"
    "</services>"
)
IN_IT = [
    IceServer("stun", "s.example", 3479),
    IceServer("turn", "t.example", 3478, "tcp", "u", "p"),
    IceServer("turns", "t.example", 5349, "tcp", "u", "p"),
]


class Client:
    def __init__(self, answer: str = "", *, gone: bool = False) -> None:
        self._answer, self._gone = answer, gone

    async def server_features(self) -> frozenset[str]:
        if self._gone:
            raise Disconnected("gone")
        return frozenset({SERVICES} if self._answer else ())

    async def send_iq(self, to: object, *_: object) -> Element:
        assert to == "example.test"  # without, it would be for the account
        return xml(self._answer)


def account(client: Client, **parameters: object) -> Account:
    given = {each.replace("_", "-"): value for each, value in parameters.items()}
    given.setdefault("account", "alice@example.test")
    return cast(Account, SimpleNamespace(client=client, parameters=given))


@pytest.fixture(autouse=True)
def dns(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Target]]:
    known: dict[str, list[Target]] = {}

    async def services(domain: str, names: list[str]) -> dict[str, list[Target]]:
        assert domain == "example.test"
        return {name: known.get(name, []) for name in names}

    monkeypatch.setattr(targets, "services", services)
    return known


def test_what_a_server_tells_and_makes_sense() -> None:
    assert parse(xml(TOLD)) == IN_IT
    assert parse(None) == []


def test_there_is_a_bound() -> None:
    for count in (MAX_SERVERS, MAX_SERVERS + 1, 1000):
        text = "".join(f"<service type='stun' host='h{n}'/>" for n in range(count))
        told = xml(f"<services>{text}</services>")
        assert len(parse(told)) == MAX_SERVERS


async def test_the_users_own_come_first_then_those_of_the_server_each_once() -> None:
    found = await find_servers(
        account(
            Client(TOLD),
            stun_server="s.example",
            stun_port=3479,
            turn_server="mine.example",
            turn_transport="tls",
            turn_port=443,
            turn_username="me",
            turn_password="secret",
            fallback_stun_server="never.example",
        )
    )
    own = IceServer("turns", "mine.example", 443, "tcp", "me", "secret")
    assert found == [IN_IT[0], own, *IN_IT[1:]]
    assert "secret" not in repr(found)


@pytest.mark.parametrize("client", [Client(), Client(gone=True)])
async def test_where_nobody_tells_of_any_there_is_the_fallback(client: Client) -> None:
    found = await find_servers(account(client, fallback_stun_server="last.example"))
    assert found == [IceServer("stun", "last.example", 3478)]


async def test_dns_is_asked_where_the_server_says_nothing(dns: dict[str, list[Target]]) -> None:
    dns["_stun._udp"] = [Target("a", 1, False), Target("b", 2, False)]
    dns["_turn._udp"] = [Target("c", 3, False)]
    dns["_turns._tcp"] = [Target("c", 4, False)]
    stun = [IceServer("stun", "a", 1), IceServer("stun", "b", 2)]
    # Without credentials, those of TURN are of no use.
    assert await find_servers(account(Client())) == stun
    both = await find_servers(account(Client(), turn_username="u", turn_password="p"))
    turn = IceServer("turn", "c", 3, "udp", "u", "p"), IceServer("turns", "c", 4, "tcp", "u", "p")
    assert both == [*stun, *turn]
    assert await find_servers(account(Client(TOLD))) == IN_IT
    # Who names his server may have a domain that is not in DNS.
    assert await find_servers(account(Client(), server="127.0.0.1")) == []


async def test_a_name_server_that_is_slow_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def services(*_: Any) -> dict[str, list[Target]]:
        raise TimeoutError

    monkeypatch.setattr(targets, "services", services)
    monkeypatch.setattr(call_servers, "PATIENCE", 0.01)
    assert await find_servers(account(Client())) == []
