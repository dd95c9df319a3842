"""Finding SOCKS5 proxies."""

from __future__ import annotations

from xml.etree.ElementTree import XML, Element

import pytest

from telepathy_e2e.errors import Disconnected
from telepathy_e2e.xmpp.iq import IqTimeout, StanzaError
from telepathy_e2e.xmpp.proxies import MAX_ITEMS, MAX_PROXIES, Proxy, activation, discover

INFO = (
    "<query xmlns='http://jabber.org/protocol/disco#info'>"
    "<identity category='proxy' type='{}'/></query>"
)


class Server:
    """Answers by (JID, namespace); an exception is raised."""

    def __init__(self, *services: str, address: str = "", kind: str = "bytestreams") -> None:
        self.asked: list[tuple[str, str]] = []
        self.special: dict[tuple[str, str], Exception] = {}
        self.services = services
        self.address = address
        self.kind = kind

    async def ask(self, to: str, payload: Element) -> Element | None:
        namespace = payload.tag.rpartition("/")[2].removesuffix("}query")
        self.asked.append((to, namespace))
        if (error := self.special.get((to, namespace))) is not None:
            raise error
        match namespace:
            case "disco#items":
                items = "".join(f"<item jid='{each}'/>" for each in self.services)
                return XML(f"<query xmlns='http://jabber.org/protocol/disco#items'>{items}</query>")
            case "disco#info":
                return XML(INFO.format(self.kind))
            case _:
                host = self.address or f"<streamhost jid='{to}' host='192.0.2.1' port='7777'/>"
                return XML(f"<query xmlns='http://jabber.org/protocol/bytestreams'>{host}</query>")


async def test_a_proxy_is_found() -> None:
    server = Server("proxy.x")
    assert await discover(server.ask, "x") == [Proxy("proxy.x", "192.0.2.1", 7777)]


async def test_services_that_are_no_proxy_are_not_asked_for_addresses() -> None:
    server = Server("muc.x", kind="text")
    assert await discover(server.ask, "x") == []
    assert ("muc.x", "bytestreams") not in server.asked


@pytest.mark.parametrize(
    "address",
    [
        "<streamhost jid='p' host='' port='1'/>",
        "<streamhost jid='p' host='h' port='0'/>",
        "<streamhost jid='p' host='h' port='65536'/>",
        "<streamhost jid='p' host='h' port='-1'/>",
        "<streamhost jid='p' host='h' port='\u0661'/>",
        "<streamhost jid='p' host='h'/>",
        "<streamhost jid='@' host='h' port='1'/>",
        "<streamhost jid='p' host='" + "h" * 256 + "' port='1'/>",
        "<other/>",
    ],
)
async def test_addresses_that_are_none_are_left_out(address: str) -> None:
    assert await discover(Server("proxy.x", address=address).ask, "x") == []


@pytest.mark.parametrize("error", [StanzaError("forbidden"), IqTimeout()])
@pytest.mark.parametrize("namespace", ["disco#info", "bytestreams"])
async def test_a_proxy_that_does_not_answer_hides_no_other(
    error: Exception, namespace: str
) -> None:
    server = Server("a.x", "b.x")
    server.special["a.x", namespace] = error
    assert [each.jid for each in await discover(server.ask, "x")] == ["b.x"]


async def test_a_lost_connection_ends_the_search() -> None:
    server = Server("a.x")
    server.special["a.x", "disco#info"] = Disconnected("x")
    with pytest.raises(Disconnected):
        await discover(server.ask, "x")


async def test_proxies_and_items_have_a_bound() -> None:
    many = [f"p{n}.x" for n in range(MAX_ITEMS + 5)]
    assert len(await discover(Server(*many).ask, "x")) == MAX_PROXIES
    server = Server(*many, kind="text")
    assert await discover(server.ask, "x") == []
    assert len(server.asked) == 1 + MAX_ITEMS


async def test_names_that_are_no_address_are_skipped() -> None:
    server = Server("@", "proxy.x")
    assert [each.jid for each in await discover(server.ask, "x")] == ["proxy.x"]


def test_activation_names_stream_and_target() -> None:
    query = activation("s", "you@x/y")
    assert (query.get("sid"), query[0].text) == ("s", "you@x/y")
