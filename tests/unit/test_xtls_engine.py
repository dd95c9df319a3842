"""TLS alone: what is negotiated, what is refused, and how each direction ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.bindings.openssl.binding import Binding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from telepathy_e2e.errors import NotAvailable, PeerError, SecurityError
from telepathy_e2e.role import Role
from telepathy_e2e.xtls import engine as engine_module
from telepathy_e2e.xtls import identity
from telepathy_e2e.xtls.engine import ALPN, MANY_RECORDS, RECORD, Engine
from tests.unit.xtls_support import BOTH, PEOPLE, WALL, Person, RawPeer, bad_leaf

LIB = Binding().lib
CREDENTIALS = {role: PEOPLE[role].credentials() for role in BOTH}


def fine(leaf: bytes) -> None:
    """Takes any leaf."""


def make(role: Role, check: Callable[[bytes], None] = fine) -> Engine:
    return Engine(role, CREDENTIALS[role].key, CREDENTIALS[role].leaf, check)


def wire(one: Engine, other: Engine) -> None:
    """Carry bytes until there are none."""
    moved = True
    while moved:
        moved = False
        for sender, receiver in ((one, other), (other, one)):
            if data := sender.data_to_send():
                receiver.receive(data)
                moved = True


def connected() -> dict[Role, Engine]:
    ends = {role: make(role) for role in BOTH}
    for role in BOTH:
        ends[role].start()
    wire(*ends.values())
    return ends


def against(ours: Engine, raw: RawPeer) -> None:
    """Run a handshake with a peer that follows none of our rules."""
    ours.start()
    for _ in range(6):
        raw.give(ours.data_to_send())
        ours.receive(raw.step())
    raw.give(ours.data_to_send())


def raw_for(role: Role, **arguments: object) -> RawPeer:
    """The peer of our ``role``."""
    credentials = arguments.pop("credentials", CREDENTIALS[role.other])
    return RawPeer(role.other, credentials, alpn=[ALPN], **arguments)  # type: ignore[arg-type]


def test_the_initiator_is_the_client() -> None:
    client, server = make(Role.INITIATOR), make(Role.RESPONDER)
    client.start()
    server.start()
    assert client.data_to_send()[:1] == b"\x16"
    assert server.data_to_send() == b""


@pytest.mark.parametrize("role", BOTH)
def test_each_side_knows_what_was_negotiated(role: Role) -> None:
    ours = connected()[role]
    assert ours.established
    assert ours.peer_leaf == CREDENTIALS[role.other].leaf
    assert ours.protocol == ALPN
    assert ours.cipher_suite == "TLS_AES_256_GCM_SHA384"
    assert ours.key_exchange in ("X25519MLKEM768", "x25519")


def test_the_hybrid_key_exchange_is_preferred_where_openssl_has_it() -> None:
    if SSL.OPENSSL_VERSION_NUMBER < 0x30500000:
        pytest.skip("OpenSSL before 3.5")
    assert connected()[Role.INITIATOR].key_exchange == "X25519MLKEM768"


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize(("groups", "expected"), [(b"X25519", "x25519"), (b"P-256", "secp256r1")])
def test_peers_without_it_get_another(role: Role, groups: bytes, expected: str) -> None:
    raw = raw_for(role)
    assert LIB.SSL_set1_curves_list(raw.connection._ssl, groups) == 1
    ours = make(role)
    against(ours, raw)
    assert ours.key_exchange == expected


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize("groups", [b"P-384", b"X448", b"ffdhe2048"])
def test_other_groups_are_not_negotiated(role: Role, groups: bytes) -> None:
    raw = raw_for(role)
    assert LIB.SSL_set1_curves_list(raw.connection._ssl, groups) == 1
    ours = make(role)
    with pytest.raises(SecurityError):
        against(ours, raw)


@pytest.mark.parametrize("role", BOTH)
def test_other_groups_are_refused_even_if_the_library_takes_them(
    role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_set_groups", fine)
    raw = raw_for(role)
    assert LIB.SSL_set1_curves_list(raw.connection._ssl, b"P-384") == 1
    with pytest.raises(SecurityError, match="key exchange"):
        against(make(role), raw)


def test_an_older_library_gets_the_groups_that_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "GROUPS", b"nonsense::")
    assert connected()[Role.RESPONDER].key_exchange == "x25519"


def test_a_library_that_hides_its_groups_keeps_its_own() -> None:
    class Hidden:
        """Has nothing below it."""

    engine_module._set_groups(Hidden())  # type: ignore[arg-type]


def test_a_key_share_is_sent_for_peers_without_the_hybrid_one() -> None:
    """So that they cost no further round trip: the server answers with its certificate at once."""
    raw = raw_for(Role.INITIATOR)
    assert LIB.SSL_set1_curves_list(raw.connection._ssl, b"X25519") == 1
    ours = make(Role.INITIATOR)
    ours.start()
    raw.give(ours.data_to_send())
    assert len(raw.step()) > 500


@pytest.mark.parametrize("role", BOTH)
def test_tls_1_2_is_refused(role: Role) -> None:
    raw = raw_for(role, version=SSL.TLS1_2_VERSION)
    with pytest.raises(SecurityError, match=r"TLS failed: .*(version|protocol)"):
        against(make(role), raw)


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n", b"h", b"\x80\x2e\x01", b"\x18\x03\x03", b"\0", b"\x05\x01\x00"],
)
def test_what_is_not_tls_is_refused_at_its_first_byte(role: Role, data: bytes) -> None:
    ours = make(role)
    ours.start()
    with pytest.raises(SecurityError, match="not TLS"):
        ours.receive(data)


@pytest.mark.parametrize("role", BOTH)
def test_application_data_is_not_a_handshake(role: Role) -> None:
    ours = make(role)
    ours.start()
    with pytest.raises(SecurityError):
        ours.receive(b"\x17\x03\x03\x00\x05hello")


def test_the_server_demands_a_certificate() -> None:
    ours, raw = make(Role.RESPONDER), raw_for(Role.RESPONDER, credentials=None)
    with pytest.raises(SecurityError):
        against(ours, raw)
    raw.give(ours.data_to_send())
    assert isinstance(raw.received(), SSL.Error)


@pytest.mark.parametrize("role", BOTH)
def test_the_peers_leaf_is_judged_while_the_handshake_runs(role: Role) -> None:
    seen = []

    def check(leaf: bytes) -> None:
        seen.append(leaf)
        raise SecurityError("not this one")

    ours, raw = make(role, check), raw_for(role)
    with pytest.raises(SecurityError, match="not this one"):
        against(ours, raw)
    assert seen == [CREDENTIALS[role.other].leaf]
    assert not ours.established
    with pytest.raises(SecurityError, match="not this one"):
        ours.receive(b"\x16")
    # The peer is told.
    raw.give(ours.data_to_send())
    raw.step()
    assert isinstance(raw.error or raw.received(), SSL.Error)


def chains(role: Role) -> dict[str, list[bytes]]:
    stranger = Person("mallory@example.org")
    return {
        "its identity": [PEOPLE[role].certificate],
        "a stranger's": [stranger.certificate],
        "the leaf again": [CREDENTIALS[role].leaf],
        "two more": [PEOPLE[role].certificate, stranger.certificate],
    }


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize("which", chains(Role.INITIATOR))
def test_one_certificate_is_enough(role: Role, which: str) -> None:
    ours, raw = make(role), raw_for(role, extra=chains(role.other)[which])
    with pytest.raises(SecurityError, match="more than one certificate"):
        against(ours, raw)
    assert not ours.established


def test_the_servers_other_certificates_are_seen_inside_the_handshake() -> None:
    for extra in chains(Role.RESPONDER).values():
        ours, raw = make(Role.INITIATOR), raw_for(Role.INITIATOR, extra=extra)
        with pytest.raises(SecurityError):
            against(ours, raw)
        raw.give(ours.data_to_send())
        raw.step()
        assert raw.error is not None


def test_a_client_that_shows_its_identity_too_gets_an_alert() -> None:
    ours = make(Role.RESPONDER)
    raw = raw_for(Role.RESPONDER, extra=[PEOPLE[Role.INITIATOR].certificate])
    with pytest.raises(SecurityError, match="more than one certificate"):
        against(ours, raw)
    raw.give(ours.data_to_send())
    assert isinstance(raw.received(), SSL.Error)


def test_we_show_one_certificate() -> None:
    for role in BOTH:
        ours, raw = make(role), raw_for(role)
        against(ours, raw)
        chain = raw.connection.get_peer_cert_chain() or []
        assert len(chain) == (1 if role is Role.RESPONDER else 0)


# -- ALPN -------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", BOTH)
def test_a_peer_without_alpn_is_known_as_such(role: Role) -> None:
    ours = make(role)
    against(ours, RawPeer(role.other, CREDENTIALS[role.other]))
    assert ours.established
    assert ours.protocol == b""


def test_another_protocol_of_a_client_is_refused_and_he_is_told() -> None:
    ours = make(Role.RESPONDER)
    raw = RawPeer(Role.INITIATOR, CREDENTIALS[Role.INITIATOR], alpn=[b"h2"])
    with pytest.raises(SecurityError, match="another protocol"):
        against(ours, raw)
    raw.give(ours.data_to_send())
    raw.step()
    assert raw.error is not None


def test_ours_is_chosen_among_others() -> None:
    ours = make(Role.RESPONDER)
    against(ours, RawPeer(Role.INITIATOR, CREDENTIALS[Role.INITIATOR], alpn=[b"h2", ALPN]))
    assert ours.protocol == ALPN


def test_another_protocol_of_a_server_is_refused() -> None:
    raw = RawPeer(Role.RESPONDER, CREDENTIALS[Role.RESPONDER], alpn=[b"h2"])
    with pytest.raises(SecurityError):
        against(make(Role.INITIATOR), raw)


def test_another_protocol_is_refused_even_if_the_library_takes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = make(Role.INITIATOR)
    raw = raw_for(Role.INITIATOR)
    monkeypatch.setattr(SSL.Connection, "get_alpn_proto_negotiated", lambda _: b"h2")
    with pytest.raises(SecurityError, match="another protocol"):
        against(ours, raw)


# -- no second session ------------------------------------------------------------------------


def test_nothing_is_resumed() -> None:
    ours, first = make(Role.RESPONDER), raw_for(Role.RESPONDER)
    against(ours, first)
    first.received()  # takes in what the server sends after the handshake
    session = first.connection.get_session()
    assert session is not None
    second = first.again()
    second.connection.set_session(session)
    judged: set[bytes] = set()
    again = make(Role.RESPONDER, judged.add)
    against(again, second)
    assert again.established
    # A resumed session shows no certificate.
    assert judged == {CREDENTIALS[Role.INITIATOR].leaf}


def test_neither_tickets_nor_a_cache_are_kept() -> None:
    for role in BOTH:
        context = make(role)._connection.get_context()
        assert context.get_session_cache_mode() == SSL.SESS_CACHE_OFF
        assert LIB.SSL_CTX_get_options(context._context) & SSL.OP_NO_TICKET


def test_a_ticket_of_the_server_is_ignored() -> None:
    """OpenSSL sends tickets after every handshake; our client must stay able to read."""
    ours, raw = make(Role.INITIATOR), raw_for(Role.INITIATOR)
    against(ours, raw)
    ours.receive(raw.take() or raw.step())
    assert not ours.waiting()
    raw.connection.send(b"after the ticket")
    ours.receive(raw.take())
    assert ours.read(100) == b"after the ticket"


# -- payload ----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize("size", [0, 1, RECORD - 1, RECORD, RECORD + 1, 300_000, 1 << 20])
def test_what_is_written_is_read(role: Role, size: int) -> None:
    ends = connected()
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    ends[role].write(data)
    ends[role.other].receive(ends[role].data_to_send())
    received = b""
    while piece := ends[role.other].read(100_000):
        assert len(piece) <= 100_000
        received += piece
    assert received == data
    assert ends[role].data_to_send() == b""


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_can_be_written(kind: Callable[[bytes], bytes]) -> None:
    ends = connected()
    ends[Role.INITIATOR].write(kind(b"abc"))
    ends[Role.RESPONDER].receive(memoryview(ends[Role.INITIATOR].data_to_send()))
    assert ends[Role.RESPONDER].read(10) == b"abc"


def test_a_read_gives_no_more_than_asked_for() -> None:
    ends = connected()
    ends[Role.INITIATOR].write(b"abcdef")
    wire(*ends.values())
    assert [ends[Role.RESPONDER].read(n) for n in (1, 2, 0, 10)] == [b"a", b"bc", b"", b"def"]


def test_everything_pending_comes_out_at_once() -> None:
    ends = connected()
    for _ in range(5):
        ends[Role.INITIATOR].write(bytes(50_000))
    assert len(ends[Role.INITIATOR].data_to_send()) > 250_000
    for _ in range(100):
        ends[Role.INITIATOR].write(b"x")
    assert len(ends[Role.INITIATOR].data_to_send()) > 100 * 22


class KeyUpdates:
    """What an engine's client sends that changes its keys again and again, asking for the same."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def _expand(self, label: bytes, length: int) -> bytes:  # RFC 8446 section 7.1
        label = b"tls13 " + label
        info = length.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
        return HKDFExpand(SHA384(), length, info).derive(self._secret)

    def records(self, count: int) -> bytes:
        out = bytearray()
        for _ in range(count):
            key, iv = self._expand(b"key", 32), self._expand(b"iv", 12)
            message = bytes([24, 0, 0, 1, 1, 22])  # key_update, update_requested, handshake
            head = b"\x17\x03\x03" + (len(message) + 16).to_bytes(2, "big")
            out += head + AESGCM(key).encrypt(iv, message, head)
            self._secret = self._expand(b"traffic upd", 48)
        return bytes(out)


def test_keys_may_be_changed_and_not_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change takes time, and asks for an answer that is kept until something is written."""
    secrets: dict[str, bytes] = {}

    def note(connection: SSL.Connection, line: bytes) -> None:
        del connection
        what, _, secret = line.decode().split()
        secrets[what] = bytes.fromhex(secret)

    create = engine_module._context

    def noted(*args: Any) -> SSL.Context:
        context = create(*args)
        context.set_keylog_callback(note)
        return context

    monkeypatch.setattr(engine_module, "_context", noted)
    monkeypatch.setattr(engine_module, "CIPHER_SUITES", b"TLS_AES_256_GCM_SHA384")
    reader = connected()[Role.RESPONDER]
    updates = KeyUpdates(secrets["CLIENT_TRAFFIC_SECRET_0"])
    reader.receive(updates.records(100))
    assert reader.read(10_000) == b""
    assert 0 < len(reader.data_to_send()) < 100 * 30
    reader.receive(updates.records(1000))
    with pytest.raises(SecurityError):
        reader.read(10_000)
    assert not reader.peer_closed
    # Nor does it go through all that has come before it says so: each leaves an answer of 27 bytes.
    reader = connected()[Role.RESPONDER]
    reader.receive(KeyUpdates(secrets["CLIENT_TRAFFIC_SECRET_0"]).records(2000))
    with pytest.raises(SecurityError):
        reader.read(10_000)
    assert len(reader.data_to_send()) < 300 * 27
    assert not reader.peer_closed


def test_many_small_writes_come_out_whole() -> None:
    ends = connected()
    for _ in range(2000):
        ends[Role.INITIATOR].write(b"x")
    ends[Role.RESPONDER].receive(ends[Role.INITIATOR].data_to_send())
    reader, got = ends[Role.RESPONDER], []
    while reader.held:
        got.append(reader.read(10_000))
    assert b"".join(got) == b"x" * 2000
    # So many records take several turns of whoever reads them.
    assert max(map(len, got)) == MANY_RECORDS
    assert ends[Role.INITIATOR].data_to_send() == b""


def test_waiting_takes_nothing() -> None:
    ends = connected()
    assert not ends[Role.RESPONDER].waiting()
    ends[Role.INITIATOR].write(b"abc")
    wire(*ends.values())
    assert ends[Role.RESPONDER].waiting()
    assert ends[Role.RESPONDER].waiting()
    assert ends[Role.RESPONDER].read(10) == b"abc"
    assert not ends[Role.RESPONDER].waiting()


def test_what_is_held_is_counted_until_it_is_read() -> None:
    ends = connected()
    assert not ends[Role.RESPONDER].waiting()
    assert ends[Role.RESPONDER].held == 0
    ends[Role.INITIATOR].write(bytes(100_000))
    data = ends[Role.INITIATOR].data_to_send()
    ends[Role.RESPONDER].receive(data)
    assert ends[Role.RESPONDER].held == len(data)
    ends[Role.RESPONDER].read(50_000)
    assert 0 < ends[Role.RESPONDER].held < len(data) - 40_000
    ends[Role.RESPONDER].read(100_000)
    assert ends[Role.RESPONDER].held == 0


def test_before_the_handshake_there_is_no_payload_and_no_key() -> None:
    for role in BOTH:
        ours = make(role)
        ours.start()
        with pytest.raises(NotAvailable):
            ours.write(b"x")
        with pytest.raises(NotAvailable):
            ours.export(b"EXPORTER-x", b"", 32)
        assert ours.read(10) == b""
        assert not ours.waiting()
        assert not ours.established
        assert (ours.peer_leaf, ours.protocol) == (b"", b"")
        assert (ours.cipher_suite, ours.key_exchange) == ("", "")
        sent = ours.data_to_send()
        ours.close()
        assert ours.data_to_send() == b""
        assert len(sent) == 0 or sent[0] == 0x16


def test_bytes_before_the_start_are_our_mistake() -> None:
    with pytest.raises(ValueError, match="not started"):
        make(Role.RESPONDER).receive(b"\x16")


def test_a_leaf_of_another_key_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="leaf"):
        Engine(
            Role.INITIATOR,
            CREDENTIALS[Role.INITIATOR].key,
            CREDENTIALS[Role.RESPONDER].leaf,
            fine,
        )


def test_both_sides_export_the_same_and_the_context_counts() -> None:
    ends = connected()
    one, other = (
        [end.export(b"EXPORTER-x", context, 96) for context in (b"", b"a", b"b")]
        for end in ends.values()
    )
    assert one == other
    assert len(set(one)) == 3
    assert {len(key) for key in one} == {96}


# -- the end of each direction ----------------------------------------------------------------


@pytest.mark.parametrize("role", BOTH)
def test_each_direction_is_closed_by_itself(role: Role) -> None:
    ends = connected()
    ours, theirs = ends[role], ends[role.other]
    ours.write(b"last")
    ours.close()
    wire(ours, theirs)
    assert not theirs.peer_closed
    assert theirs.read(10) == b"last"
    assert theirs.read(10) == b""
    assert theirs.peer_closed
    with pytest.raises(NotAvailable):
        ours.write(b"x")
    # The other direction still flows.
    theirs.write(b"answer")
    wire(ours, theirs)
    assert ours.read(10) == b"answer"
    assert not ours.peer_closed
    theirs.close()
    wire(ours, theirs)
    assert ours.read(10) == b""
    assert ours.peer_closed
    ours.receive_eof()
    theirs.receive_eof()
    assert not ours.cut
    assert not theirs.cut


def test_closing_twice_says_it_once() -> None:
    ours = connected()[Role.INITIATOR]
    ours.close()
    assert ours.data_to_send()
    ours.close()
    assert ours.data_to_send() == b""


@pytest.mark.parametrize("role", BOTH)
def test_an_end_without_close_notify_is_a_cut(role: Role) -> None:
    ends = connected()
    ends[role].write(b"abc")
    wire(*ends.values())
    theirs = ends[role.other]
    theirs.receive_eof()
    assert not theirs.cut  # not all was read
    assert theirs.read(10) == b"abc"
    assert theirs.read(10) == b""
    assert theirs.cut
    assert not theirs.peer_closed
    # Our own direction does not depend on it.
    theirs.write(b"still")
    assert theirs.data_to_send()


def test_an_end_in_the_middle_of_a_record_is_a_cut() -> None:
    ends = connected()
    ends[Role.INITIATOR].write(bytes(1000))
    ends[Role.RESPONDER].receive(ends[Role.INITIATOR].data_to_send()[:500])
    ends[Role.RESPONDER].receive_eof()
    assert ends[Role.RESPONDER].read(10) == b""
    assert ends[Role.RESPONDER].cut


@pytest.mark.parametrize("role", BOTH)
def test_an_end_during_the_handshake_is_a_failure(role: Role) -> None:
    ours = make(role)
    ours.start()
    with pytest.raises(SecurityError, match="during the handshake"):
        ours.receive_eof()


# -- failures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("role", BOTH)
def test_a_changed_byte_is_a_failure_and_the_first_error_is_final(role: Role) -> None:
    ends = connected()
    ends[role].write(b"good")
    good = ends[role].data_to_send()
    ends[role].write(b"bad")
    bad = bytearray(ends[role].data_to_send())
    bad[-1] ^= 1
    theirs = ends[role.other]
    theirs.receive(good + bad)
    assert theirs.read(100) == b"good"
    errors = []
    for call in (
        lambda: theirs.read(100),
        lambda: theirs.receive(good),
        lambda: theirs.write(b"x"),
        theirs.waiting,
        theirs.close,
        theirs.receive_eof,
        lambda: theirs.export(b"EXPORTER-x", b"", 32),
    ):
        with pytest.raises(SecurityError) as caught:
            call()
        errors.append(caught.value)
    assert len(set(errors)) == 1
    # The alert is there, and the sender understands it.
    ends[role].receive(theirs.data_to_send())
    with pytest.raises(SecurityError):
        ends[role].read(100)


@pytest.mark.parametrize("call", ["sendall", "shutdown"])
def test_a_failure_of_writing_or_closing_is_final(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise SSL.Error([("lib", "", "broken")])

    ours = connected()[Role.INITIATOR]
    monkeypatch.setattr(SSL.Connection, call, broken)
    with pytest.raises(SecurityError, match="broken"):
        ours.write(b"x") if call == "sendall" else ours.close()
    monkeypatch.undo()
    with pytest.raises(SecurityError, match="broken"):
        ours.write(b"x")


def test_errors_hold_openssls_words_and_not_the_peers() -> None:
    ours = make(Role.RESPONDER)
    ours.start()
    with pytest.raises(SecurityError, match="TLS failed: ") as caught:
        ours.receive(b"\x16\x03\x01\x00\x06secret")
    assert "secret" not in str(caught.value)


def test_an_error_without_words_is_an_error_too() -> None:
    assert engine_module._describe(SSL.Error()) == "TLS failed"
    assert engine_module._describe(SSL.Error([])) == "TLS failed"
    assert engine_module._describe(SSL.SysCallError(-1, "Unexpected EOF")) == "TLS failed"


@pytest.mark.parametrize("role", BOTH)
@pytest.mark.parametrize("piece", [1, 2, 7])
def test_the_handshake_does_not_care_where_bytes_are_split(role: Role, piece: int) -> None:
    ends = {r: make(r) for r in BOTH}
    for r in BOTH:
        ends[r].start()
    moved = True
    while moved:
        moved = False
        for r in BOTH:
            data = ends[r].data_to_send()
            for at in range(0, len(data), piece):
                ends[r.other].receive(data[at : at + piece])
                moved = True
    assert ends[role].established


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(BOTH), st.integers(0, 4000), st.integers(1, 255), st.binary(max_size=50))
def test_no_bytes_raise_anything_but_a_peer_error(
    role: Role, at: int, by: int, junk: bytes
) -> None:
    ends = {r: make(r) for r in BOTH}
    try:
        for r in BOTH:
            ends[r].start()
        for _ in range(4):
            for r in BOTH:
                data = bytearray(ends[r].data_to_send())
                if r is role and data:
                    data[at % len(data)] ^= by
                    data += junk
                ends[r.other].receive(data)
                ends[r.other].read(1000)
    except PeerError:
        pass


def test_a_stranger_s_leaf_can_be_checked_against_the_real_rules() -> None:
    """The verify callback gets exactly the bytes of the certificate."""
    credentials = bad_leaf(PEOPLE[Role.INITIATOR])
    seen: list[bytes] = []
    against(make(Role.RESPONDER, seen.append), raw_for(Role.RESPONDER, credentials=credentials))
    assert seen[0] == credentials.leaf
    identity.check_identity(credentials.identity, seen[0], PEOPLE[Role.INITIATOR].jid, WALL)
