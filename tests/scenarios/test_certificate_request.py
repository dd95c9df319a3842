"""Which certificate shall I use? The question that the daemon asks where it is told to."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dbus_fast import Variant

from telepathy_e2e.xtls.identity import (
    identity_fingerprint,
    make_identity,
    make_leaf,
    new_session_key,
)
from telepathy_e2e.xtls.offer import shown
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import CERTIFICATE_REQUEST, CHANNEL, E2E, SECURABLE, DBusFailure

DATA = secrets.token_bytes(50_000)


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    pair = await Pair.start(prosody, alice={"e2e_ask_certificate": Variant("b", True)})
    yield pair
    await pair.stop()


def _public_key(request: bytes) -> bytes:
    asked = x509.load_der_x509_csr(request)
    assert asked.is_signature_valid
    return asked.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


async def _asked(pair: Pair) -> tuple[str, str, bytes]:
    """Her channel, the question, and what it wants certified; Bob has seen nothing yet."""
    mine = await pair.alice.offer_file(pair.server.jid("bob"), "file", len(DATA))
    question, properties = await pair.alice.new_channel(CERTIFICATE_REQUEST)
    assert properties[CERTIFICATE_REQUEST + ".PayloadChannel"] == mine
    assert not [s for s in pair.bob.signals if s.member == "NewChannels"]
    return mine, question, bytes(properties[CERTIFICATE_REQUEST + ".SigningRequest"])


async def _finish(pair: Pair, mine: str) -> None:
    theirs, _ = await pair.bob.new_channel("org.freedesktop.Telepathy.Channel.Type.FileTransfer")
    sending = asyncio.ensure_future(pair.alice.provide(mine, DATA))
    assert await pair.bob.accept(theirs) == DATA
    await sending
    assert await pair.alice.state(mine, 4, 5) == (4, 0)
    assert await pair.alice.get(mine, SECURABLE, "Encrypted") is True


async def test_the_stanza_waits_for_the_certificate_that_is_provided(pair: Pair) -> None:
    mine, question, request = await _asked(pair)
    now = datetime.now(UTC)
    key, identity = make_identity(pair.server.jid("alice"), now)
    leaf = make_leaf(_public_key(request), key, identity, now)
    await pair.alice.cm(question, CERTIFICATE_REQUEST, "Provide", "aay", [leaf, identity])
    await pair.alice.signal(lambda s: s.path == question and s.member == "Closed")
    await _finish(pair, mine)
    own = await pair.alice.get(mine, E2E, "OwnFingerprints")
    assert own == {"sha-256": shown(identity_fingerprint(identity))}


async def test_what_does_not_fit_is_refused_and_the_question_stays(pair: Pair) -> None:
    mine, question, request = await _asked(pair)
    now = datetime.now(UTC)
    key, identity = make_identity(pair.server.jid("alice"), now)
    other_key, other_identity = make_identity(pair.server.jid("mallory"), now)
    good = make_leaf(_public_key(request), key, identity, now)
    wrong: list[list[bytes]] = [
        [],
        [good],
        [good, identity, identity],
        [make_leaf(new_session_key().public_key(), key, identity, now), identity],
        [make_leaf(_public_key(request), other_key, other_identity, now), other_identity],
        [make_leaf(_public_key(request), other_key, other_identity, now), identity],
        [b"not a certificate", identity],
        [identity, good],
    ]
    for certificates in wrong:
        with pytest.raises(DBusFailure, match="InvalidArgument"):
            await pair.alice.cm(question, CERTIFICATE_REQUEST, "Provide", "aay", certificates)
    await pair.alice.cm(question, CERTIFICATE_REQUEST, "Provide", "aay", [good, identity])
    await _finish(pair, mine)


@pytest.mark.parametrize("answer", ["UseOwn", "Close"])
async def test_the_account_has_a_certificate_of_its_own(pair: Pair, answer: str) -> None:
    mine, question, _ = await _asked(pair)
    interface = CERTIFICATE_REQUEST if answer == "UseOwn" else CHANNEL
    await pair.alice.cm(question, interface, answer)
    await _finish(pair, mine)


async def test_the_question_goes_with_the_transfer(pair: Pair) -> None:
    mine, question, _ = await _asked(pair)
    await pair.alice.cm(mine, CHANNEL, "Close")
    await pair.alice.signal(lambda s: s.path == question and s.member == "Closed")
    assert await pair.alice.state(mine, 5) == (5, 2)
    assert not [s for s in pair.bob.signals if s.member == "NewChannels"]
