"""Files that go on over another road (spec/resume.md), and peers that do their part, or do not."""

from __future__ import annotations

import copy
import secrets
import struct
from collections.abc import Iterable
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import pytest

from telepathy_e2e.jingle.files import RESUME_NS
from tests.peer import stanzas
from tests.peer.bench import REMOTE_ERROR, Bench, Case
from tests.peer.transfer import Transfer

pytest_plugins = ["tests.peer.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

# More than sockets hold, so that half way is half way.
DATA = secrets.token_bytes(24_000_000)


def count(number: int) -> bytes:
    return struct.pack(">Q", number)


async def sends(bench: Bench, data: bytes, *, xtls: bool = True) -> Case:
    """The daemon sends, and the peer has agreed to resume."""
    case = await bench.offers(data, xtls=xtls)
    description = copy.deepcopy(stanzas.part(case.transfer.offered, "description"))
    assert description is not None
    assert description.find(f"{{{RESUME_NS}}}resume") is not None
    SubElement(description, f"{{{RESUME_NS}}}resuming")
    transfer = case.transfer
    content = transfer.content(description, await transfer.transport(), transfer.security())
    assert await transfer.accept(content=content) == ("", "")
    await transfer.connect()
    return case


async def another_road(transfer: Transfer, epoch: int) -> Any:
    """Take the in-band one that the daemon comes to at last."""
    while True:
        offer = await transfer.session.wait("transport-replace")
        offered = stanzas.part(stanzas.only_content(offer), "transport")
        assert offered is not None
        if offered.tag == stanzas.ibb("").tag:
            break
        refused = transfer.content(Element(offered.tag))
        assert await transfer.session.send("transport-reject", refused) == ("", "")
    transfer.block_size = 65535
    transfer.pipe = await transfer.take_replacement(offer)
    return await transfer.protect(epoch)


async def read(stream: Any, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (chunk := await stream.read()):
        data += chunk
    return bytes(data)


async def test_the_daemon_sends_on_from_where_the_receiver_is(bench: Bench) -> None:
    data = DATA[:3_000_000]
    case = await sends(bench, data)
    stream = await case.transfer.protect()
    got = await read(stream, 1_500_000)
    await stream.write(count(1_000_000))
    await stream.abort()
    stream = await another_road(case.transfer, epoch=1)
    await stream.write(count(len(got)))
    got += await read(stream, len(data) - len(got) + 1)
    assert got == data
    await stream.write(count(len(got)))
    await stream.write_eof()
    await case.transfer.session.send("session-info", stanzas.received())
    await case.transfer.session.terminate("success")
    await bench.completed(case)


async def test_a_receiver_that_says_nothing_of_it_is_not_waited_for(bench: Bench) -> None:
    """It has repeated what it was offered, as there are clients that do."""
    case = await bench.sends(DATA)
    stream = await case.transfer.protect()
    await stream.read()
    await stream.abort()
    await bench.failed(case, REMOTE_ERROR, "failed-transport", "NetworkError")


async def test_in_the_clear_nothing_is_resumed(bench: Bench) -> None:
    """Whoever is on the road could say how much has arrived."""
    case = await sends(bench, DATA, xtls=False)
    stream = await case.transfer.protect()
    await stream.read()
    await stream.abort()
    await bench.failed(case, REMOTE_ERROR, "failed-transport", "NetworkError")


@pytest.mark.parametrize("number", [2**64 - 1, len(DATA) + 1])
async def test_a_receiver_that_has_more_than_there_is_ends_it(bench: Bench, number: int) -> None:
    case = await sends(bench, DATA)
    stream = await case.transfer.protect()
    await stream.read()
    await stream.write(count(number))
    await bench.failed(case, REMOTE_ERROR)


async def test_a_receiver_that_wants_again_what_it_had_ends_it(bench: Bench) -> None:
    case = await sends(bench, DATA)
    stream = await case.transfer.protect()
    await read(stream, 1_500_000)
    await stream.write(count(1_500_000))
    # What comes now, the daemon has sent after it had read that: it keeps no more than 8 MiB.
    await read(stream, 8_000_000)
    await stream.abort()
    stream = await another_road(case.transfer, epoch=1)
    await stream.write(count(1_000_000))
    await bench.failed(case, REMOTE_ERROR)


async def test_a_receiver_that_never_says_what_it_has_is_sent_no_more_than_is_kept(
    bench: Bench,
) -> None:
    case = await sends(bench, DATA)
    stream = await case.transfer.protect()
    got = await read(stream, 8 * 1024 * 1024)
    assert len(got) < len(DATA) // 2
    await stream.abort()
    stream = await another_road(case.transfer, epoch=1)
    await stream.write(count(len(got)))
    assert (got + await read(stream, 100_000))[:8_400_000] == DATA[:8_400_000]
    await case.transfer.session.terminate("media-error")
    await bench.failed(case, REMOTE_ERROR)


async def offered(bench: Bench, data: bytes) -> Case:
    """The peer sends, and the daemon has agreed to resume."""
    more: Iterable[Element] = [Element(f"{{{RESUME_NS}}}resume")]
    description = stanzas.description(size=len(data))
    description.extend(more)
    case = await bench.offered(data, description=description)
    bench.accept(case)
    accepted = stanzas.part(await case.transfer.answered(), "description")
    assert accepted is not None
    assert accepted.find(f"{{{RESUME_NS}}}resuming") is not None
    await case.transfer.connect()
    return case


async def test_the_daemon_says_what_it_has_and_goes_on_from_there(bench: Bench) -> None:
    data = DATA[:3_000_000]
    case = await offered(bench, data)
    stream = await case.transfer.protect()
    await stream.write(data[:1_700_000])
    await stream.abort()
    case.transfer.pipe = await case.transfer.replace()
    stream = await case.transfer.protect(1)
    (has,) = struct.unpack(">Q", await read(stream, 8))
    assert has <= 1_700_000
    await stream.write(data[has:])
    await stream.write_eof()
    assert await case.client == data
    await bench.completed(case)


async def test_a_sender_with_another_certificate_does_not_go_on(bench: Bench) -> None:
    case = await offered(bench, DATA)
    stream = await case.transfer.protect()
    await stream.write(DATA[:1_000_000])
    await stream.abort()
    case.transfer.pipe = await case.transfer.replace()
    secured = case.transfer.secured(case.transfer.new_credentials(), 1)
    await secured.try_handshake()
    await bench.failed(case, REMOTE_ERROR, "security-error", "EncryptionError")
