"""A peer that does not keep to what it announced: too much, too little, something else."""

from __future__ import annotations

import hashlib
import secrets

import pytest

from tests.peer import stanzas
from tests.peer.bench import LOCAL_ERROR, OPEN, REMOTE_ERROR, Bench, Case
from tests.peer.transfer import Way
from tests.support.side import FILE_TRANSFER

pytest_plugins = ["tests.peer.fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

# More than the kernel's buffers hold, so that half way is half way.
LARGE = bytes(24_000_000)

BOTH = pytest.mark.parametrize("xtls", [True, False], ids=["protected", "in the clear"])
WAYS = pytest.mark.parametrize(
    "way", [Way.CONNECT, Way.LISTEN, Way.IN_BAND, Way.FALL_BACK], ids=lambda way: way.name
)


@BOTH
@WAYS
async def test_an_honest_peer_is_received_from(bench: Bench, way: Way, xtls: bool) -> None:
    """So that the failures below are about what they say."""
    data = secrets.token_bytes(60_001)
    case = await bench.receives(data, way=way, xtls=xtls)
    stream = await case.transfer.protect()
    await stream.write(data)
    await stream.write_eof()
    assert await case.client == data
    assert await case.transfer.session.ended() == "success"
    await bench.completed(case)
    assert (await bench.secure(case))["Encrypted"] is xtls


@BOTH
@pytest.mark.parametrize("way", [Way.CONNECT, Way.LISTEN, Way.FALL_BACK], ids=lambda way: way.name)
async def test_an_honest_peer_is_sent_to(bench: Bench, way: Way, xtls: bool) -> None:
    data = secrets.token_bytes(60_001)
    case = await bench.offers(data, way=way, xtls=xtls)
    assert await case.transfer.receive() == data
    await bench.completed(case)
    assert (await bench.secure(case))["Encrypted"] is xtls


@BOTH
@pytest.mark.parametrize("surplus", [1, 300_000])
async def test_more_than_announced_ends_it_and_the_surplus_goes_nowhere(
    bench: Bench, xtls: bool, surplus: int
) -> None:
    data = secrets.token_bytes(50_000)
    case = await bench.receives(data, xtls=xtls)
    stream = await case.transfer.protect()
    try:
        await stream.write(data + bytes(surplus))
        await stream.write_eof()
    except ConnectionError:
        pass  # it hung up in the middle of it
    await bench.failed(case, REMOTE_ERROR, "media-error", "NetworkError")
    got = await case.client
    assert data.startswith(got)


@BOTH
async def test_more_than_announced_in_a_record_of_its_own(bench: Bench, xtls: bool) -> None:
    data = secrets.token_bytes(50_000)
    case = await bench.receives(data, xtls=xtls)
    stream = await case.transfer.protect()
    await stream.write(data)
    while len(case.got) < len(data):  # it has all that was announced
        await bench.tick()
    await stream.write(b"!")
    await bench.failed(case, REMOTE_ERROR, "media-error", "NetworkError")
    assert await case.client == data


async def test_a_cut_without_close_notify_is_a_failed_transport(bench: Bench) -> None:
    data = secrets.token_bytes(50_000)
    case = await bench.receives(data)
    stream = await case.transfer.protect()
    await stream.write(data[:20_000])
    await stream.pipe.write_eof()
    await bench.failed(case, REMOTE_ERROR, "failed-transport", "NetworkError")
    assert data.startswith(await case.client)


async def test_all_bytes_and_then_no_close_notify_is_a_cut_too(bench: Bench) -> None:
    """Of a file whose size is known, a cut at its end changes nothing but the form."""
    data = secrets.token_bytes(50_000)
    case = await bench.receives(data)
    stream = await case.transfer.protect()
    await stream.write(data)
    await stream.pipe.write_eof()
    await bench.failed(case, REMOTE_ERROR, "failed-transport", "NetworkError")


async def test_a_reset_is_a_failed_transport(bench: Bench) -> None:
    data = secrets.token_bytes(50_000)
    case = await bench.receives(data)
    stream = await case.transfer.protect()
    await stream.write(data[:20_000])
    await stream.abort()
    await bench.failed(case, REMOTE_ERROR, "failed-transport", "NetworkError")


@BOTH
async def test_a_clean_end_before_the_announced_size_is_a_cut(bench: Bench, xtls: bool) -> None:
    data = secrets.token_bytes(50_000)
    case = await bench.receives(data, xtls=xtls)
    stream = await case.transfer.protect()
    await stream.write(data[:20_000])
    await stream.write_eof()
    await bench.failed(case, REMOTE_ERROR, "failed-transport", "NetworkError")
    assert data.startswith(await case.client)


async def test_a_file_of_unknown_size_ends_with_close_notify_alone(bench: Bench) -> None:
    """Nothing but close_notify says that this was all."""
    data = secrets.token_bytes(50_000)
    description = stanzas.description(size=None)
    case = await bench.receives(description=description)
    stream = await case.transfer.protect()
    await stream.write(data)
    await stream.pipe.write_eof()
    await bench.failed(case, REMOTE_ERROR, "failed-transport", "NetworkError")


async def test_a_file_of_unknown_size_is_taken_to_its_end(bench: Bench) -> None:
    data = secrets.token_bytes(50_000)
    case = await bench.receives(description=stanzas.description(size=None))
    stream = await case.transfer.protect()
    await stream.write(data)
    await stream.write_eof()
    assert await case.client == data
    await bench.completed(case)


@BOTH
async def test_an_empty_file_is_taken(bench: Bench, xtls: bool) -> None:
    case = await bench.receives(b"", xtls=xtls)
    stream = await case.transfer.protect()
    # A road that ends before the daemon has settled on it is looked for anew, and rightly so.
    await bench.side.state(case.path, OPEN)
    await stream.write_eof()
    assert await case.client == b""
    await bench.completed(case)


@BOTH
async def test_a_wrong_hash_is_a_media_error(bench: Bench, xtls: bool) -> None:
    data = secrets.token_bytes(50_000)
    wrong = hashlib.sha256(data + b"!").digest()
    description = stanzas.description(size=len(data), sha256=wrong)
    case = await bench.receives(data, description=description, xtls=xtls)
    stream = await case.transfer.protect()
    await stream.write(data)
    await stream.write_eof()
    await bench.failed(case, REMOTE_ERROR, "media-error", "NetworkError")


async def test_a_checksum_that_comes_later_and_is_wrong_is_a_media_error(bench: Bench) -> None:
    data = secrets.token_bytes(50_000)
    description = stanzas.description(size=len(data), hash_used="sha-256")
    case = await bench.receives(data, description=description, xtls=False)
    await case.transfer.pipe.write(data)
    await case.transfer.session.send("session-info", stanzas.checksum(bytes(32)))
    await case.transfer.pipe.write_eof()
    await bench.failed(case, REMOTE_ERROR, "media-error", "NetworkError")


async def test_a_malformed_checksum_is_refused(bench: Bench) -> None:
    data = secrets.token_bytes(5000)
    description = stanzas.description(size=len(data), hash_used="sha-256")
    case = await bench.receives(data, description=description, xtls=False)
    session = case.transfer.session
    for text in ("?", "A" * 100_000):
        answer = await session.send("session-info", stanzas.checksum(text))
        assert answer[0] == "bad-request"
    digest = hashlib.sha256(data).digest()
    assert await session.send("session-info", stanzas.checksum(digest)) == ("", "")
    assert await session.send("session-info", stanzas.checksum(digest)) == ("", "")
    await case.transfer.pipe.write(data)
    await case.transfer.pipe.write_eof()
    assert await case.client == data
    await bench.completed(case)


@BOTH
async def test_a_receiver_that_sends_payload_ends_it(bench: Bench, xtls: bool) -> None:
    """Its direction carries nothing; whatever comes there was asked for by nobody."""
    case = await bench.sends(LARGE, xtls=xtls)
    stream = await case.transfer.protect()
    await stream.read()
    await stream.write(b"unasked" * 1000)
    await bench.failed(case, REMOTE_ERROR, "media-error", "NetworkError")


async def test_a_receiver_that_hangs_up_half_way_ends_it(bench: Bench) -> None:
    case = await bench.sends(LARGE)
    stream = await case.transfer.protect()
    await stream.read()
    await stream.abort()
    await bench.failed(case, REMOTE_ERROR, "failed-transport", "NetworkError")


async def test_a_receiver_that_ends_the_session_half_way_ends_it(bench: Bench) -> None:
    case = await bench.sends(LARGE)
    stream = await case.transfer.protect()
    await stream.read()
    await case.transfer.session.terminate("media-error")
    await bench.failed(case, REMOTE_ERROR, error="NetworkError")


async def test_a_success_half_way_is_no_success(bench: Bench) -> None:
    """Who confirms what was not sent yet has not got the file."""
    data = secrets.token_bytes(30_000_000)  # more than sockets hold
    case = await bench.sends(data)
    stream = await case.transfer.protect()
    await stream.read()
    await case.transfer.session.send("session-info", stanzas.received())
    await case.transfer.session.terminate("success")
    await stream.abort()
    await bench.failed(case, REMOTE_ERROR)


@BOTH
async def test_a_sender_that_ends_the_session_early_is_read_to_the_end(
    bench: Bench, xtls: bool
) -> None:
    """Some clients say success when they have written, not when we have read."""
    data = secrets.token_bytes(100_000)
    case = await bench.receives(data, xtls=xtls)
    stream = await case.transfer.protect()
    await stream.write(data[:50_000])
    assert await case.transfer.session.terminate("success") == ("", "")
    await stream.write(data[50_000:])
    await stream.write_eof()
    assert await case.client == data
    await bench.completed(case)


@BOTH
async def test_a_receiver_that_says_success_early_and_reads_on_has_the_file(
    bench: Bench, xtls: bool
) -> None:
    data = secrets.token_bytes(3_000_000)
    case = await bench.sends(data, xtls=xtls)
    stream = await case.transfer.protect()
    got = bytearray(await stream.read())
    await case.transfer.session.terminate("success")
    while len(got) < len(data):
        got += await stream.read()
    assert got == data
    state, _ = await bench.side.state(case.path, 4, 5)
    assert state in (4, 5)


async def test_a_range_beyond_the_end_is_refused(bench: Bench) -> None:
    case = await bench.offers(b"12345")
    description = stanzas.part(case.transfer.offered, "description")
    assert description is not None
    ranged = stanzas.description(size=5, ranged=False, more=[stanzas.range_of(6)])
    content = case.transfer.content(
        ranged, await case.transfer.transport(), case.transfer.security()
    )
    await case.transfer.accept(content=content)
    await bench.failed(case, REMOTE_ERROR)
    assert not bench.opened(case)


async def test_a_client_that_goes_away_is_our_own_fault(bench: Bench) -> None:
    data = secrets.token_bytes(2_000_000)
    case = await bench.offered(data)
    reader, writer = await bench.accept_by_hand(case)
    await case.transfer.answered()
    await case.transfer.connect()
    stream = await case.transfer.protect()
    writer.close()
    await writer.wait_closed()
    del reader
    await _write_until_it_fails(stream, data)
    await bench.failed(case, LOCAL_ERROR, error="NetworkError")


async def _write_until_it_fails(stream: object, data: bytes) -> None:
    try:
        await stream.write(data)  # type: ignore[attr-defined]
        await stream.write_eof()  # type: ignore[attr-defined]
    except (ConnectionError, OSError):
        return


async def test_progress_never_exceeds_the_size(bench: Bench) -> None:
    data = secrets.token_bytes(500_000)
    case = await bench.receives(data)
    stream = await case.transfer.protect()
    try:
        await stream.write(data + data)
    except ConnectionError:
        pass
    await bench.failed(case, REMOTE_ERROR)
    shown = await bench.side.get(case.path, FILE_TRANSFER, "TransferredBytes")
    assert shown <= len(data)
    assert _told(bench, case) <= len(data)


def _told(bench: Bench, case: Case) -> int:
    return max(
        (
            each.body[0]
            for each in bench.side.signals
            if each.path == case.path and each.member == "TransferredBytesChanged"
        ),
        default=0,
    )
