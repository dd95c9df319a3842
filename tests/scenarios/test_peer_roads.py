"""A peer that breaks the rules of transports: SOCKS5 candidates, connections, in-band streams."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from telepathy_e2e.jingle import data_channel
from telepathy_e2e.jingle.data_channel import DataTransport
from telepathy_e2e.jingle.ice import DtlsFingerprint
from telepathy_e2e.jingle.ice import Transport as IceTransport
from tests.peer import roads, stanzas
from tests.peer.bench import CANCELLED, OPEN, REMOTE_ERROR, REMOTE_STOPPED, Bench, Case
from tests.peer.client import PROTECTED, Peer
from tests.peer.roads import InBand, TcpPipe
from tests.peer.stanzas import IBB
from tests.peer.transfer import Transfer, Way
from tests.support.waiting import PATIENCE, until

pytest_plugins = ["tests.peer.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

BAD_REQUEST = ("bad-request", "")
NOT_FOUND = ("item-not-found", "")
UNEXPECTED = ("unexpected-request", "")
DATA = secrets.token_bytes(40_000)
MEGABYTE = 2**20

# As in net/listener.py, jingle/ibb.py, jingle/candidates.py.
MAX_HALF_OPEN = 64
MAX_ARRIVED = 16
WINDOW = 16
MAX_CANDIDATES = 32


async def goes_on(case: Case, stream: Any = None) -> None:
    """The road is up; the rest is honest.

    Args:
        stream: what ``protect`` has returned, if that was done.
    """
    stream = stream or await case.transfer.protect()
    await stream.write(DATA)
    await stream.write_eof()
    assert await case.client == DATA
    assert await case.transfer.session.ended() == "success"


async def accepted(bench: Bench, **how: Any) -> Case:
    """Offer and answer are exchanged, and nothing of the road."""
    case = await bench.offered(DATA, **how)
    bench.accept(case)
    await case.transfer.answered()
    return case


def listener(case: Case) -> tuple[str, int]:
    """Where the daemon waits for SOCKS5 connections."""
    candidate = case.transfer.candidates()[0]
    return candidate.get("host", ""), int(candidate.get("port", "0"))


# -- the daemon's own candidates ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["0" * 40, "not a digest", "x" * 255])
async def test_a_connection_for_no_transfer_is_refused(bench: Bench, name: str) -> None:
    case = await accepted(bench)
    with pytest.raises(ConnectionError, match="refused with 2"):
        await roads.connect(*listener(case), name)
    case.transfer.pipe = await case.transfer.to_them()
    await goes_on(case)


@pytest.mark.parametrize(
    "said",
    [
        b"\4\1\0",
        b"\5\0",
        b"\5\1\2",
        b"\5\1\0\5\2\0\3\x28" + b"0" * 40 + b"\0\0",
        b"\5\1\0\5\1\0\1\x7f\0\0\1\0\x50",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["SOCKS4", "no methods", "passwords", "BIND", "an address", "HTTP", "TLS at once"],
)
async def test_what_is_not_the_handshake_is_hung_up_on(bench: Bench, said: bytes) -> None:
    """Above all, nobody gets to use the listener as a relay."""
    case = await accepted(bench)
    reader, writer = await asyncio.open_connection(*listener(case))
    writer.write(said)
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE):
            while answer := await reader.read(100):
                assert answer[:2] not in (b"\5\0\0",)
    writer.close()
    case.transfer.pipe = await case.transfer.to_them()
    await goes_on(case)


async def test_connections_that_say_nothing_do_not_keep_others_out(bench: Bench) -> None:
    case = await accepted(bench)
    before = bench.descriptors()
    loris = [await asyncio.open_connection(*listener(case)) for _ in range(MAX_HALF_OPEN + 40)]
    for _, writer in loris:
        writer.write(b"\5")
    await bench.tick()
    assert bench.descriptors() - before <= MAX_HALF_OPEN + 4
    case.transfer.pipe = await case.transfer.to_them()
    await goes_on(case)
    for _, writer in loris:
        writer.close()


async def test_a_peer_that_connects_again_and_again_gets_no_further(bench: Bench) -> None:
    case = await accepted(bench)
    transfer = case.transfer
    pipes: list[TcpPipe] = []
    for _ in range(MAX_ARRIVED):
        pipes.append(await roads.connect(*listener(case), transfer.name_for_theirs()))
    with pytest.raises(ConnectionError, match="refused with 2"):
        await roads.connect(*listener(case), transfer.name_for_theirs())
    chosen = transfer.candidates()[0].get("cid", "")
    await transfer.session.send("transport-info", transfer.note("candidate-used", chosen))
    transfer.pipe = pipes[0]
    await goes_on(case)
    for pipe in pipes:
        await pipe.close()


async def test_candidate_used_without_a_connection_falls_back(bench: Bench) -> None:
    case = await accepted(bench)
    transfer = case.transfer
    chosen = transfer.candidates()[0].get("cid", "")
    await transfer.session.send("transport-info", transfer.note("candidate-used", chosen))
    await transfer.heard("candidate-error")
    transfer.pipe = await transfer.replace()
    await goes_on(case)


# -- candidates of the peer --------------------------------------------------------------------


async def test_candidate_used_that_names_nobodys_candidate_is_refused(bench: Bench) -> None:
    case = await accepted(bench)
    transfer = case.transfer
    note = transfer.note("candidate-used", "nobody's")
    assert await transfer.session.send("transport-info", note) == NOT_FOUND
    transfer.pipe = await transfer.to_them()
    await goes_on(case)


async def test_a_choice_cannot_be_changed(bench: Bench) -> None:
    case = await accepted(bench)
    transfer = case.transfer
    transfer.pipe = await transfer.to_them()
    for name in ("candidate-error", "candidate-used"):
        chosen = transfer.candidates()[-1].get("cid", "") if name == "candidate-used" else ""
        answer = await transfer.session.send("transport-info", transfer.note(name, chosen))
        assert answer == UNEXPECTED
    await goes_on(case)


@pytest.mark.parametrize("name", ["activated", "proxy-error"])
async def test_words_about_a_proxy_where_there_is_none_are_refused(bench: Bench, name: str) -> None:
    case = await accepted(bench)
    transfer = case.transfer
    cid = transfer.candidates()[0].get("cid", "")
    answer = await transfer.session.send("transport-info", transfer.note(name, cid))
    assert answer == UNEXPECTED
    transfer.pipe = await transfer.to_them()
    await goes_on(case)


async def test_a_hundred_candidates_are_too_many(bench: Bench) -> None:
    """Each is a place that the daemon connects to because a peer says so."""
    transfer = Transfer(bench.bob.session(bench.jid))
    host = roads.Streamhost(code=1)
    port = await host.start()
    many = [stanzas.candidate(f"c{n}", f"127.0.0.{n + 1}", port, bench.bob.jid) for n in range(100)]
    content = transfer.content(
        stanzas.description(size=5), stanzas.s5b(transfer.stream_id, *many), transfer.security()
    )
    answer = await transfer.offer(stanzas.description(), content=content)
    if answer == ("", ""):
        case = bench.adopt(transfer, await bench.channel())
        bench.accept(case)
        await bench.failed(case, REMOTE_ERROR)
    assert len(host.names) <= MAX_CANDIDATES
    await host.stop()


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("nobody.invalid", 1),
        ("127.0.0.1", 1),
        ("0.0.0.0", 80),  # noqa: S104 - nobody listens there
        ("not a host", 80),
        ("127.1", 80),
        ("::1", 0),
        ("-", 99999),
        ("a" * 250, 80),
    ],
)
async def test_candidates_that_lead_nowhere_are_left_out_or_fail(
    bench: Bench, host: str, port: int
) -> None:
    transfer = Transfer(bench.bob.session(bench.jid), way=Way.FALL_BACK)
    transport = stanzas.s5b(transfer.stream_id, stanzas.candidate("c", host, port, bench.bob.jid))
    content = transfer.content(stanzas.description(size=len(DATA)), transport, transfer.security())
    assert await transfer.offer(stanzas.description(), content=content) == ("", "")
    case = bench.adopt(transfer, await bench.channel())
    bench.accept(case)
    await transfer.answered()
    await transfer.connect()
    await goes_on(case)


@pytest.mark.parametrize("port", ["-1", "http", "", "9" * 5000])
async def test_a_malformed_candidate_does_no_harm(bench: Bench, port: str) -> None:
    transfer = Transfer(bench.bob.session(bench.jid))
    transport = stanzas.s5b(
        transfer.stream_id, stanzas.candidate("c", "127.0.0.1", port, bench.bob.jid)
    )
    content = transfer.content(stanzas.description(size=5), transport, transfer.security())
    answer = await transfer.offer(stanzas.description(), content=content)
    if answer == ("", ""):
        case = bench.adopt(transfer, await bench.channel())
        bench.accept(case)
        assert (await bench.side.state(case.path, CANCELLED))[0] == CANCELLED


@pytest.mark.parametrize("code", [1, 2, 255])
async def test_a_streamhost_that_refuses_leads_to_in_band(bench: Bench, code: int) -> None:
    case = await bench.offered(DATA, way=Way.LISTEN)
    transfer = case.transfer
    assert transfer.streamhost is not None
    transfer.streamhost.code = code
    bench.accept(case)
    await transfer.answered()
    await transfer.session.send("transport-info", transfer.note("candidate-error"))
    await transfer.heard("candidate-error")
    transfer.pipe = await transfer.replace()
    await goes_on(case)
    assert len(transfer.streamhost.names) == 1


async def test_a_streamhost_that_never_answers_is_given_up(bench: Bench) -> None:
    case = await bench.offered(DATA, way=Way.LISTEN)
    transfer = case.transfer
    assert transfer.streamhost is not None
    transfer.streamhost.go.clear()
    bench.accept(case)
    await transfer.answered()
    await transfer.session.send("transport-info", transfer.note("candidate-error"))
    await transfer.heard("candidate-error")
    transfer.pipe = await transfer.replace()
    await goes_on(case)
    transfer.streamhost.go.set()


async def test_a_candidate_that_is_the_daemons_own_is_not_taken(bench: Bench) -> None:
    """Else a peer could have it talk to itself."""
    first = await accepted(bench)
    host, port = listener(first)
    second = Transfer(bench.bob.session(bench.jid), way=Way.FALL_BACK)
    transport = stanzas.s5b(
        second.stream_id, stanzas.candidate("mirror", host, port, bench.bob.jid)
    )
    content = second.content(stanzas.description(size=len(DATA)), transport, second.security())
    assert await second.offer(stanzas.description(), content=content) == ("", "")
    case = bench.adopt(second, await bench.channel(skip=1))
    bench.accept(case)
    await second.answered()
    await second.connect()
    await goes_on(case)
    await first.transfer.session.terminate("cancel")
    await bench.failed(first, REMOTE_STOPPED)


async def test_the_daemons_proxy_without_us_leads_to_in_band(bench: Bench) -> None:
    """We say that we use its proxy, and are not there when it is to be activated."""
    data = secrets.token_bytes(20_000)
    case = await bench.offers(data)
    transfer = case.transfer
    proxies = [each for each in transfer.offered.iter() if each.get("type") == "proxy"]
    assert proxies, "the server has a proxy"
    transfer.way = Way.FALL_BACK
    assert await transfer.accept() == ("", "")
    note = transfer.note("candidate-used", proxies[0].get("cid", ""))
    assert await transfer.session.send("transport-info", note) == ("", "")
    await transfer.heard("proxy-error")
    replace = await transfer.session.wait("transport-replace")
    transfer.pipe = await transfer.take_replacement(replace)
    stream = await transfer.protect()
    got = b""
    while len(got) < len(data):
        got += await stream.read()
    assert got == data
    await transfer.session.terminate("success")
    await bench.completed(case)


async def test_our_proxy_error_about_its_proxy_leads_to_in_band(bench: Bench) -> None:
    data = secrets.token_bytes(20_000)
    case = await bench.offers(data)
    transfer = case.transfer
    proxies = [each for each in transfer.offered.iter() if each.get("type") == "proxy"]
    transfer.way = Way.FALL_BACK
    assert await transfer.accept() == ("", "")
    note = transfer.note("candidate-used", proxies[0].get("cid", ""))
    transfer.session.post("transport-info", note)
    await transfer.session.send("transport-info", transfer.note("proxy-error"))
    replace = await transfer.session.wait("transport-replace")
    transfer.pipe = await transfer.take_replacement(replace)
    stream = await transfer.protect()
    got = b""
    while len(got) < len(data):
        got += await stream.read()
    assert got == data
    await transfer.session.terminate("success")
    await bench.completed(case)


# -- replacing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["transport-reject", "error"])
async def test_without_any_road_there_is_no_transfer(bench: Bench, how: str) -> None:
    case = await bench.offers(DATA)
    transfer = case.transfer
    assert await transfer.accept() == ("", "")
    if how == "error":
        bench.bob.answers = lambda iq: BAD_REQUEST if _is_replace(iq) else None
    await transfer.session.send("transport-info", transfer.note("candidate-error"))
    if how == "transport-reject":
        replace = await transfer.session.wait("transport-replace")
        content = stanzas.only_content(replace)
        assert await transfer.session.send("transport-reject", content) == ("", "")
    await bench.failed(case, REMOTE_ERROR, "connectivity-error", "NetworkError")


def _is_replace(iq: Element) -> bool:
    jingle = stanzas.find_jingle(iq)
    return jingle is not None and jingle.get("action") == "transport-replace"


async def test_an_unknown_transport_instead_is_rejected(bench: Bench) -> None:
    case = await accepted(bench)
    transfer = case.transfer
    pigeon = transfer.content(Element("{urn:xmpp:jingle:transports:pigeon:0}transport"))
    assert await transfer.session.send("transport-replace", pigeon) == ("", "")
    await transfer.session.wait("transport-reject")
    transfer.pipe = await transfer.to_them()
    await goes_on(case)


async def test_a_road_that_is_up_is_not_replaced(bench: Bench) -> None:
    case = await bench.receives(DATA)
    transfer = case.transfer
    stream = await transfer.protect()  # on our side it may be up before the daemon has it
    other = transfer.content(stanzas.ibb("other"))
    assert await transfer.session.send("transport-replace", other) == ("", "")
    await transfer.session.wait("transport-reject")
    await goes_on(case, stream)


async def test_another_transport_before_the_answer_is_what_is_answered(bench: Bench) -> None:
    case = await bench.offered(DATA)
    transfer = case.transfer
    transfer.stream_id = secrets.token_hex(8)
    stream = transfer.new_stream()
    replaced = transfer.content(stanzas.ibb(transfer.stream_id, 4096))
    assert await transfer.session.send("transport-replace", replaced) == ("", "")
    await transfer.session.wait("transport-accept")
    bench.accept(case)
    await transfer.answered()
    assert transfer.theirs().tag == stanzas.ibb("").tag
    await stream.open()
    transfer.pipe = stream
    await goes_on(case)


async def test_another_transport_before_our_answer_is_taken(bench: Bench) -> None:
    case = await bench.offers(DATA)
    transfer = case.transfer
    transfer.stream_id = secrets.token_hex(8)
    stream = transfer.new_stream()
    transport = stanzas.ibb(transfer.stream_id, 4096)
    replaced = transfer.content(transport)
    assert await transfer.session.send("transport-replace", replaced) == ("", "")
    await transfer.session.wait("transport-accept")
    description = stanzas.part(transfer.offered, "description")
    content = transfer.content(description, transport, transfer.security())
    assert await transfer.accept(content=content) == ("", "")
    async with asyncio.timeout(PATIENCE):
        await stream.opened.wait()
    transfer.pipe = stream
    secured = await transfer.protect()
    got = b""
    while len(got) < len(DATA):
        got += await secured.read()
    assert got == DATA
    await transfer.session.terminate("success")
    await bench.completed(case)


async def test_a_connection_that_comes_after_the_replacement_is_let_go(bench: Bench) -> None:
    case = await bench.offered(DATA, way=Way.LISTEN)
    transfer = case.transfer
    host = transfer.streamhost
    assert host is not None
    host.go.clear()
    bench.accept(case)
    await transfer.answered()
    await until(lambda: host.names)  # it is connecting
    await transfer.session.send("transport-info", transfer.note("candidate-error"))
    transfer.pipe = await transfer.replace()
    host.go.set()
    late = await host.pipe()
    await goes_on(case)
    assert await late.read() == b""


# -- in-band -----------------------------------------------------------------------------------


async def in_band(bench: Bench, *, xtls: bool = False) -> tuple[Case, InBand]:
    """An in-band stream to the daemon is open."""
    case = await bench.receives(DATA, way=Way.IN_BAND, xtls=xtls)
    stream = case.transfer.pipe
    assert isinstance(stream, InBand)
    return case, stream


async def _answer(future: asyncio.Future[Element]) -> tuple[str, str]:
    async with asyncio.timeout(PATIENCE):
        return stanzas.error_of(await future)


@pytest.mark.parametrize("seq", [1, 5, 40_000])
async def test_a_lost_block_breaks_the_stream(bench: Bench, seq: int) -> None:
    case, stream = await in_band(bench)
    answer = await _answer(stream.block(DATA[:100], seq=seq))
    assert answer[0] in ("unexpected-request", "item-not-found")
    if seq < 32_768:
        await bench.failed(case, REMOTE_ERROR, "failed-transport", "NetworkError")
        await bench.got_nothing(case)


async def test_a_block_that_comes_twice_is_refused(bench: Bench) -> None:
    case, stream = await in_band(bench)
    assert await _answer(stream.block(DATA[:4096])) == ("", "")
    assert await _answer(stream.block(DATA[:4096], seq=0)) == UNEXPECTED
    await stream.write(DATA[4096:])
    await stream.close()
    assert await case.client == DATA
    await bench.completed(case)


@pytest.mark.parametrize("size", [4097, 100_000])
async def test_a_block_larger_than_agreed_is_refused(bench: Bench, size: int) -> None:
    case, stream = await in_band(bench)
    assert await _answer(stream.block(bytes(size), seq=0)) == BAD_REQUEST
    await stream.close()
    await bench.failed(case, REMOTE_ERROR, "failed-transport", "NetworkError")
    await bench.got_nothing(case)


@pytest.mark.parametrize("text", ["?", "A", "AAA", "AAAA AAAA", "AAB="])
async def test_a_block_that_is_not_base64_is_refused(bench: Bench, text: str) -> None:
    case, stream = await in_band(bench)
    element = Element(f"{{{IBB}}}data", {"sid": stream.sid, "seq": "0"})
    element.text = text
    assert stanzas.error_of(await bench.bob.ask(bench.jid, element)) == BAD_REQUEST
    await case.transfer.session.terminate()
    await bench.failed(case, REMOTE_STOPPED)


async def test_a_block_of_an_unknown_stream_is_refused(bench: Bench) -> None:
    case, stream = await in_band(bench)
    assert await _answer(stream.block(b"x", sid="nobody's")) == NOT_FOUND
    carol = await bench.peer("carol")
    stolen = InBand(carol, bench.jid, stream.sid)
    assert await _answer(stolen.block(b"x")) == NOT_FOUND
    await stream.write(DATA)
    await stream.close()
    assert await case.client == DATA


async def test_a_stream_that_no_session_agreed_on_is_not_opened(bench: Bench) -> None:
    element = Element(f"{{{IBB}}}open", {"sid": "x", "block-size": "4096", "stanza": "iq"})
    answer = stanzas.error_of(await bench.bob.ask(bench.jid, element))
    assert answer == ("not-acceptable", "")


async def test_nothing_is_taken_before_the_user_accepts(bench: Bench) -> None:
    case = await bench.offered(DATA, way=Way.IN_BAND)
    stream = case.transfer.in_band
    assert stream is not None
    element = Element(f"{{{IBB}}}open", {"sid": stream.sid, "block-size": "4096"})
    opened = stanzas.error_of(await bench.bob.ask(bench.jid, element))
    assert opened[0] in ("not-acceptable", "item-not-found")
    assert await _answer(stream.block(bytes(4096), seq=0)) == NOT_FOUND
    bench.accept(case)
    await case.transfer.answered()
    await case.transfer.connect()
    await goes_on(case)


async def test_a_block_before_the_stream_is_open_is_refused(bench: Bench) -> None:
    case = await bench.offered(DATA, way=Way.IN_BAND)
    bench.accept(case)
    await case.transfer.answered()
    stream = case.transfer.in_band
    assert stream is not None
    assert await _answer(stream.block(bytes(4096), seq=0)) == NOT_FOUND
    await case.transfer.connect()
    await goes_on(case)


@pytest.mark.parametrize(
    ("block_size", "expected"),
    [("65535", "resource-constraint"), ("0", "bad-request"), ("many", "bad-request")],
)
async def test_other_blocks_than_agreed_are_refused(
    bench: Bench, block_size: str, expected: str
) -> None:
    case = await bench.offered(DATA, way=Way.IN_BAND)
    bench.accept(case)
    await case.transfer.answered()
    attributes = {"sid": case.transfer.stream_id, "block-size": block_size}
    element = Element(f"{{{IBB}}}open", attributes)
    assert stanzas.error_of(await bench.bob.ask(bench.jid, element)) == (expected, "")
    await case.transfer.connect()
    await goes_on(case)


async def test_a_stream_is_opened_once(bench: Bench) -> None:
    case, stream = await in_band(bench, xtls=True)
    attributes = {"sid": stream.sid, "block-size": "4096"}
    element = Element(f"{{{IBB}}}open", attributes)
    assert stanzas.error_of(await bench.bob.ask(bench.jid, element)) == UNEXPECTED
    await goes_on(case)


@pytest.mark.parametrize("xtls", [True, False], ids=["protected", "in the clear"])
async def test_a_close_too_early_is_a_cut(bench: Bench, xtls: bool) -> None:
    case, stream = await in_band(bench, xtls=xtls)
    payload = await case.transfer.protect()
    await payload.write(DATA[:10_000])
    await stream.close()
    await bench.failed(case, REMOTE_ERROR, "failed-transport", "NetworkError")
    assert DATA.startswith(await case.client)


async def test_after_the_end_nothing_is_taken(bench: Bench) -> None:
    case, stream = await in_band(bench)
    await stream.write(DATA)
    await stream.close()
    assert await case.client == DATA
    await bench.completed(case)
    assert await _answer(stream.block(b"more")) == NOT_FOUND


async def test_a_peer_that_does_not_take_blocks_ends_it(bench: Bench) -> None:
    case = await bench.offers(DATA, way=Way.FALL_BACK)
    assert await case.transfer.accept() == ("", "")
    bench.bob.answers = lambda iq: NOT_FOUND if _is_block(iq) else None
    await case.transfer.connect()
    await bench.failed(case, REMOTE_ERROR)
    assert not bench.opened(case)


def _is_block(iq: Element) -> bool:
    return len(iq) > 0 and iq[0].tag == f"{{{IBB}}}data"


async def test_a_peer_that_acknowledges_nothing_costs_a_window_and_no_more(bench: Bench) -> None:
    data = secrets.token_bytes(12 * MEGABYTE)
    case = await bench.offers(data, way=Way.FALL_BACK, xtls=False)
    assert await case.transfer.accept() == ("", "")
    case.transfer.own = None
    before = bench.memory()
    bench.bob.answers = lambda iq: False if _is_block(iq) else None
    await case.transfer.connect()
    stream = case.transfer.pipe
    assert isinstance(stream, InBand)
    await bench.side.state(case.path, OPEN)
    await bench.bob.until(lambda: stream.blocks >= WINDOW)
    await asyncio.sleep(0.3)
    assert stream.blocks == WINDOW
    assert bench.memory() - before < 4 * MEGABYTE
    assert not case.client.done()
    await case.transfer.session.terminate("cancel")
    await bench.failed(case, REMOTE_STOPPED)


async def test_a_peer_that_ignores_back_pressure_in_band_is_cut_off(bench: Bench) -> None:
    """The user's program does not read, so blocks stay unacknowledged; who goes on is stopped."""
    transfer = Transfer(bench.bob.session(bench.jid), way=Way.IN_BAND, xtls=False)
    transfer.block_size = 65_535
    case = await bench.offered(description=stanzas.description(size=10**12), transfer_=transfer)
    reader, writer = await bench.accept_by_hand(case)
    await transfer.answered()
    await transfer.connect()
    stream = transfer.pipe
    assert isinstance(stream, InBand)
    before = bench.memory()
    answers = [stream.block(bytes(60_000)) for _ in range(60)]
    assert (await _answer(answers[-1]))[0] in ("resource-constraint", "item-not-found")
    assert bench.memory() - before < 8 * MEGABYTE
    while await reader.read(65_536):
        pass
    await bench.failed(case, REMOTE_ERROR, "failed-transport", "NetworkError")
    writer.close()


async def test_a_program_that_does_not_read_holds_up_the_peer(bench: Bench) -> None:
    case = await bench.offered(description=stanzas.description(size=10**12))
    _, writer = await bench.accept_by_hand(case)
    await case.transfer.answered()
    await case.transfer.connect()
    stream = await case.transfer.protect()
    before = bench.memory()
    sent = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.5):
            while True:
                await stream.write(bytes(60_000))
                sent += 60_000
    assert sent < 64 * MEGABYTE
    assert bench.memory() - before < 8 * MEGABYTE
    await case.transfer.session.terminate("cancel")
    await bench.failed(case, REMOTE_STOPPED)
    writer.close()


# -- data channels -----------------------------------------------------------------------------

DATA_CHANNELS = (
    "urn:xmpp:jingle:transports:ice-udp:1",
    "urn:xmpp:jingle:transports:dtls-sctp:1",
)


async def _carol(bench: Bench) -> Peer:
    """One who says that she has data channels."""
    peer = await bench.peer("carol", features=(*PROTECTED, *DATA_CHANNELS))
    await bench.knows(peer)
    return peer


async def _offered_a_data_channel(bench: Bench) -> tuple[Case, Element]:
    """SOCKS5 has failed, and the daemon offers one in its place."""
    case = await bench.offers(DATA, peer=await _carol(bench))
    transfer = case.transfer
    transfer.way = Way.FALL_BACK
    assert await transfer.accept() == ("", "")
    await transfer.session.send("transport-info", transfer.note("candidate-error"))
    await transfer.heard("candidate-error")
    return case, await transfer.session.wait("transport-replace")


@pytest.mark.parametrize("how", ["transport-reject", "error", "nonsense"])
async def test_a_refused_data_channel_leads_to_in_band(bench: Bench, how: str) -> None:
    refused: list[Element] = []

    def refuse(iq: Element) -> tuple[str, str] | None:
        if how != "error" or refused or not _is_replace(iq):
            return None
        refused.append(iq)
        return BAD_REQUEST

    carol = await bench.peer("carol", features=(*PROTECTED, *DATA_CHANNELS))
    await bench.knows(carol)
    carol.answers = refuse
    case = await bench.offers(DATA, peer=carol)
    transfer = case.transfer
    transfer.way = Way.FALL_BACK
    assert await transfer.accept() == ("", "")
    await transfer.session.send("transport-info", transfer.note("candidate-error"))
    replace = await transfer.session.wait("transport-replace")
    if how != "error":
        offered = stanzas.part(stanzas.only_content(replace), "transport")
        assert offered is not None
        assert offered.tag == f"{{{DATA_CHANNELS[0]}}}transport"
        # Without what it takes, the answer is refused.
        action = "transport-reject" if how == "transport-reject" else "transport-accept"
        answer = await transfer.session.send(action, transfer.content(Element(offered.tag)))
        assert answer == (("", "") if how == "transport-reject" else BAD_REQUEST)
        replace = await transfer.session.wait("transport-replace")
    transfer.pipe = await transfer.take_replacement(replace)
    stream = await transfer.protect()
    got = b""
    while len(got) < len(DATA):
        got += await stream.read()
    assert got == DATA
    await transfer.session.terminate("success")
    await bench.completed(case)


@pytest.mark.parametrize("wrong", ["no fingerprint", "another fingerprint", "no map", "nothing"])
async def test_a_wrong_data_channel_of_a_peer_is_not_taken(bench: Bench, wrong: str) -> None:
    case = await accepted(bench)
    transfer = case.transfer
    assert transfer.own is not None
    digest = hashlib.sha256(transfer.own.leaf).digest()
    if wrong == "another fingerprint":
        digest = bytes(32)
    prints = (DtlsFingerprint("sha-256", digest, "actpass"),) if wrong != "no fingerprint" else ()
    offer = data_channel.build(
        DataTransport(
            IceTransport("8hhyXa01", "asd88fgpdd777uzjYhagZg00", fingerprints=prints),
            None if wrong == "no map" else 5000,
        )
    )
    if wrong == "nothing":
        offer.clear()
    answer = await transfer.session.send("transport-replace", transfer.content(offer))
    if wrong == "another fingerprint":  # that is no mistake
        assert answer == ("", "")
        assert await transfer.session.ended() == "security-error"
        await bench.failed(case, REMOTE_ERROR, error="EncryptionError")
        return
    if answer == ("", ""):
        await transfer.session.wait("transport-reject")
    transfer.pipe = await transfer.to_them()
    await goes_on(case)
