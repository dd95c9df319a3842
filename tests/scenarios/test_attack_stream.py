"""A server on the path of the bytes listens, alters, cuts, and ends TLS on both sides."""

from __future__ import annotations

import secrets

import pytest

from tests.hostile.path import (
    CutStream,
    FlipBit,
    HalfCutStream,
    OnThePath,
    Tap,
    WithoutCloseNotify,
)
from tests.hostile.relay import RelayWithoutIdentity, SwappedCertificate
from tests.hostile.stage import (
    CANCELLED,
    ENCRYPTION_ERROR,
    NETWORK_ERROR,
    REMOTE_ERROR,
    Outcome,
    Stage,
    assert_completed,
    assert_found_out,
)
from tests.support.prosody import available

pytest_plugins = ["tests.hostile.fixtures"]
pytestmark = [
    pytest.mark.skipif(not available(), reason="prosody is not installed"),
    pytest.mark.asyncio(loop_scope="module"),
]

DATA = secrets.token_bytes(1_000_000)
UNKNOWN = 2**64 - 1


def assert_broken(outcome: Outcome, *errors: str) -> None:
    """It failed on both sides, and what came is at most a true beginning."""
    for end in outcome.ends:
        assert (end.state, end.reason) == (CANCELLED, REMOTE_ERROR)
        assert end.error in errors
    assert DATA.startswith(outcome.got)


async def test_who_listens_hears_neither_the_file_nor_its_name(stage: Stage) -> None:
    tap = Tap()
    await stage.server.use(tap)
    outcome = await stage.transfer(DATA, name="a-name-to-look-for.bin")
    assert_completed(outcome, DATA, encrypted=True)
    heard = tap.heard
    assert len(heard) > len(DATA)
    assert b"a-name-to-look-for" not in heard
    assert not [at for at in range(0, len(DATA), 997) if DATA[at : at + 8] in heard]
    # Leaves say nothing about who, and travel encrypted.
    assert b"alice" not in heard
    assert b"e2e session" not in heard


@pytest.mark.parametrize("size", [len(DATA), UNKNOWN], ids=["known size", "unknown size"])
@pytest.mark.parametrize("kind", [CutStream, HalfCutStream])
async def test_a_stream_that_is_cut_is_a_failed_transfer(
    stage: Stage, kind: type[CutStream], size: int
) -> None:
    await stage.server.use(kind(500_000))
    outcome = await stage.transfer(DATA, size=size)
    assert_broken(outcome, NETWORK_ERROR)
    assert len(outcome.got) < 500_000


@pytest.mark.parametrize("kind", [CutStream, HalfCutStream])
@pytest.mark.parametrize("after", [1, 300])
async def test_a_stream_that_is_cut_before_it_is_protected_carries_nothing(
    stage: Stage, kind: type[CutStream], after: int
) -> None:
    await stage.server.use(kind(after))
    outcome = await stage.transfer(DATA)
    assert_broken(outcome, NETWORK_ERROR, ENCRYPTION_ERROR)
    assert outcome.got == b""
    assert not outcome.bob.opened


@pytest.mark.parametrize("size", [len(DATA), UNKNOWN], ids=["known size", "unknown size"])
async def test_a_stream_without_its_last_word_is_a_failed_transfer(stage: Stage, size: int) -> None:
    attack = WithoutCloseNotify()
    await stage.server.use(attack)
    outcome = await stage.transfer(DATA, size=size)
    assert attack.dropped == 1
    assert_broken(outcome, NETWORK_ERROR)


async def test_one_altered_bit_of_the_handshake_is_found_out(stage: Stage) -> None:
    await stage.server.use(FlipBit(100))
    assert_found_out(await stage.transfer(DATA))


async def test_one_altered_bit_of_the_payload_is_found_out(stage: Stage) -> None:
    attack = FlipBit(500_000)
    await stage.server.use(attack)
    outcome = await stage.transfer(DATA)
    assert attack.flipped
    assert_broken(outcome, ENCRYPTION_ERROR)
    assert len(outcome.got) < 500_000


@pytest.mark.parametrize("kind", [SwappedCertificate, RelayWithoutIdentity])
async def test_a_relay_that_ends_tls_is_found_out_and_reads_nothing(
    stage: Stage, kind: type[SwappedCertificate | RelayWithoutIdentity]
) -> None:
    relay: OnThePath = kind()
    await stage.server.use(relay)
    assert_found_out(await stage.transfer(DATA))
    assert isinstance(relay, SwappedCertificate | RelayWithoutIdentity)
    assert relay.plaintext == {"initiator": b"", "responder": b""}
