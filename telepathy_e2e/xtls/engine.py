"""TLS 1.3 over memory buffers (spec/xtls.md, "Handshake"); the one module that knows pyOpenSSL.

Bytes from the transport go into ``receive``; after every call ``data_to_send`` has what is for the
transport, alerts after a failure included. An ``Engine`` knows nothing of Jingle and of people.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeAlias

from cryptography import x509
from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL, crypto

from telepathy_e2e.errors import NotAvailable, SecurityError
from telepathy_e2e.role import Role
from telepathy_e2e.xtls.identity import PrivateKey

Buffer: TypeAlias = bytes | bytearray | memoryview

ALPN = b"x-telepathy-e2e/0"

# All of them AEAD; CCM is left out, its short tags are for small machines.
CIPHER_SUITES = b"TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"

# Hybrid first. A key share is sent for the first two (the stars), so that a peer without ML-KEM
# costs no further round trip.
GROUPS = b"?*X25519MLKEM768/?*X25519:?P-256"
GROUPS_BEFORE_OPENSSL_3_5 = b"X25519:P-256"
# What a peer may have brought about, by the names of the TLS registry.
GROUP_NAMES = {"x25519mlkem768": "X25519MLKEM768", "x25519": "x25519", "secp256r1": "secp256r1"}

# RFC 8446 section 5.1: a record holds at most 2^14 bytes of plaintext, and one read gives at most
# one record.
RECORD = 16 * 1024
# Records in one read: 240 KiB can hold ten thousand of a byte each, which take 60 ms.
MANY_RECORDS = 256
# Steps of OpenSSL's state machine in one session. A handshake has two dozen. A KeyUpdate (RFC 8446
# section 4.6.3) has five, costs 50 us, and may ask for one of ours, which waits here until there is
# something to write; it is due after 2^24 records, so that hundreds of them are no honest peer's.
MANY_STEPS = 1024
# What encryption adds to a record, rounded up (RFC 8446 section 5.2: 5 + 1 + 16).
_OVERHEAD = 32
# Room for handshake messages: the longest flight has about two kilobytes.
_FLIGHT = 16 * 1024

# RFC 8446 section 5.1: change_cipher_spec to application_data.
_RECORD_TYPES = range(20, 24)

# socket.MSG_PEEK, the same number everywhere; pure code has no business with sockets.
_PEEK = 2


class Engine:
    """One TLS session.

    Args:
        role: the Jingle initiator is the TLS client, whoever opened the connection.
        key, leaf: of this session; the leaf is DER.
        check_peer: is given the DER of the peer's leaf while the handshake runs, and raises
            ``SecurityError`` if it is not good; then the handshake fails.

    Every method raises ``SecurityError`` when TLS fails, and the same error from then on: the
    first one is final. ``established`` means that this side is done; a client is done before the
    server has judged its certificate, so that nothing may be concluded from it alone.
    """

    def __init__(
        self, role: Role, key: PrivateKey, leaf: bytes, check_peer: Callable[[bytes], None]
    ) -> None:
        context = _context(role, key, leaf, check_peer)
        self._steps = _Steps()
        context.set_info_callback(self._steps)
        self._connection = SSL.Connection(context, None)
        self._client = role is Role.INITIATOR
        if self._client:
            self._connection.set_connect_state()
        else:
            self._connection.set_accept_state()
        _set_groups(self._connection)
        self._error: SecurityError | None = None
        self._started = False
        self._first = True
        self._unread = 0
        self._unsent = 0
        self._eof = False
        self._sent_close = False
        self.established = False
        """The handshake is done on this side."""
        self.peer_leaf = b""
        """DER of what the peer showed, once established."""
        self.protocol = b""
        """What ALPN negotiated: ``ALPN``, or empty for a peer without it."""
        self.cipher_suite = ""
        """As in the TLS registry."""
        self.key_exchange = ""
        """As in the TLS registry."""
        self.peer_closed = False
        """Their close_notify was read: the clean end of their direction."""

    # -- the transport ------------------------------------------------------------------------

    def start(self) -> None:
        """The transport is up. The client has a message to send now."""
        self._started = True
        self._handshake()

    def receive(self, data: Buffer) -> None:
        """Bytes from the transport. Once established, ``read`` or ``waiting`` looks at them."""
        if not self._started:
            raise ValueError("the engine was not started")
        self._check()
        if not data:
            return
        if self._first and data[0] not in _RECORD_TYPES:
            # OpenSSL would wait for five bytes before it says so.
            self._fail("the first bytes are not TLS")
        self._first = False
        self._unread += len(data)
        self._connection.bio_write(data)
        if not self.established:
            self._handshake()

    def receive_eof(self) -> None:
        """The transport ended."""
        self._check()
        self._eof = True
        if not self.established:
            self._fail("the connection ended during the handshake")

    def data_to_send(self) -> bytes:
        """Everything that is pending for the transport."""
        chunks: list[bytes] = []
        size = self._unsent + self._unsent // RECORD * _OVERHEAD + _FLIGHT
        self._unsent = 0
        while True:
            try:
                chunk = self._connection.bio_read(size)
            except SSL.WantReadError:
                break
            chunks.append(chunk)
            if len(chunk) < size:
                break
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    # -- payload ------------------------------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Encrypt all of it; then call ``data_to_send``.

        Args:
            data: any length; contiguous.
        Raises:
            NotAvailable: not established, or our direction is closed.
        """
        self._check()
        if not self.established or self._sent_close:
            raise NotAvailable("Nothing can be written to this connection now")
        try:
            self._connection.sendall(data)
        except SSL.Error as error:
            self._fail_with(error)
        self._unsent += len(data)

    def read(self, limit: int) -> bytes:
        """Up to ``limit`` bytes of plaintext, ``b""`` if none is there now; of many small records
        not all at once, see ``held``.

        Authentic bytes that came before a failure are returned first; the next call raises.
        """
        self._check()
        chunks: list[bytes] = []
        wanted = limit if self.established else 0
        while wanted > 0 and len(chunks) < MANY_RECORDS:
            chunk = self._receive_record(min(wanted, RECORD))
            if not chunk:
                break
            chunks.append(chunk)
            wanted -= len(chunk)
        if not chunks:
            self._check()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def waiting(self) -> bool:
        """Whether plaintext waits to be read. Takes nothing out, but sees alerts and the end."""
        self._check()
        if not self.established:
            return False
        waits = bool(self._receive_record(1, _PEEK))
        self._check()
        return waits

    @property
    def held(self) -> int:
        """Bytes from the transport that may still be here; an upper bound. 0: ``read`` has found
        nothing more in them."""
        return self._unread

    @property
    def cut(self) -> bool:
        """The transport ended, all was read, and there was no close_notify."""
        return self._eof and not self.peer_closed and self._unread == 0

    def close(self) -> None:
        """Our close_notify; the other direction goes on (RFC 8446 section 6.1)."""
        self._check()
        if not self.established or self._sent_close:
            return
        self._sent_close = True
        try:
            self._connection.shutdown()
        except SSL.Error as error:
            self._fail_with(error)

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """Keying material (RFC 8446 section 7.5)."""
        self._check()
        if not self.established:
            raise NotAvailable("There are no keys before the handshake is done")
        return self._connection.export_keying_material(label, length, context)

    # -- inside -------------------------------------------------------------------------------

    def _handshake(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            self._fail_with(error)
        except SecurityError as error:
            self._error = error
            raise
        self._examine()
        self.established = True

    def _examine(self) -> None:
        """What OpenSSL has agreed to must be what we want, whatever its defaults are."""
        connection = self._connection
        certificate = connection.get_peer_certificate(as_cryptography=False)
        if certificate is None:
            self._fail("no certificate was shown")
        # The server's list of others is without the leaf. The verify callback has seen those
        # that OpenSSL took for the leaf's issuers, and there a client sees them all.
        others = len(connection.get_peer_cert_chain() or ()) - (1 if self._client else 0)
        if others > 0:
            self._fail("more than one certificate was shown")
        self.peer_leaf = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        self.protocol = connection.get_alpn_proto_negotiated()
        if self.protocol not in (b"", ALPN):
            self._fail("another protocol was negotiated")
        self.cipher_suite = connection.get_cipher_name() or ""
        group = GROUP_NAMES.get((connection.get_group_name() or "").lower())
        version = connection.get_protocol_version()
        if group is None or version != SSL.TLS1_3_VERSION:
            self._fail("another version or key exchange was negotiated")
        self.key_exchange = group

    def _receive_record(self, size: int, flags: int | None = None) -> bytes:
        """Plaintext of one record; ``b""`` if there is none or TLS failed."""
        try:
            data = self._connection.recv(size, flags)
        except SSL.WantReadError:
            self._unread = 0
            return b""
        except SSL.ZeroReturnError:
            self._unread = 0
            self.peer_closed = not self._steps.too_many
            return b""
        except SSL.Error as error:
            self._error = SecurityError(_describe(error))
            return b""
        finally:
            if self._steps.too_many and self._error is None:
                self._error = SecurityError("TLS failed: keys are changed all the time")
        if flags is None:
            self._unread = max(self._unread - size, 1)
        return data

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _fail(self, text: str) -> NoReturn:
        self._error = SecurityError(text)
        raise self._error

    def _fail_with(self, error: SSL.Error) -> NoReturn:
        self._error = SecurityError(_describe(error))
        raise self._error from None


class _Steps:
    """Counts those of OpenSSL's state machine: one or more for each message, none for payload."""

    def __init__(self) -> None:
        self._count = 0

    @property
    def too_many(self) -> bool:
        return self._count > MANY_STEPS

    def __call__(self, connection: SSL.Connection, where: int, code: int) -> None:
        if where & SSL.SSL_CB_LOOP:
            self._count += 1
            if self.too_many:
                # Makes OpenSSL come back as if the peer had closed; else it would first go through
                # all that was read, which are ten thousand changes of keys, and a second.
                connection.set_shutdown(SSL.RECEIVED_SHUTDOWN)


def _context(
    role: Role, key: PrivateKey, leaf: bytes, check_peer: Callable[[bytes], None]
) -> SSL.Context:
    """One context for one session: its ticket keys and its cache die with it, so that nothing can
    be resumed even by mistake."""
    client = role is Role.INITIATOR
    context = SSL.Context(SSL.TLS_CLIENT_METHOD if client else SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # pyOpenSSL's default is to come back after each record, which costs more than encrypting it.
    context.clear_mode(Binding().lib.SSL_MODE_ENABLE_PARTIAL_WRITE)
    context.set_tls13_ciphersuites(CIPHER_SUITES)
    try:
        context.use_certificate(x509.load_der_x509_certificate(leaf))
        context.use_privatekey(key.reveal())
    except SSL.Error:
        raise ValueError("the leaf is not for this key") from None

    def verify(
        connection: SSL.Connection, shown: crypto.X509, error: int, depth: int, ok: int
    ) -> bool:
        # OpenSSL's own opinion (nobody it knows has issued this) does not matter. Whatever is
        # raised here fails the handshake, and comes out of do_handshake.
        if depth > 0 or len(connection.get_peer_cert_chain() or ()) > 1:
            raise SecurityError("more than one certificate was shown")
        check_peer(crypto.dump_certificate(crypto.FILETYPE_ASN1, shown))
        return True

    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
    if client:
        context.set_alpn_protos([ALPN])
    else:
        context.set_alpn_select_callback(_select_protocol)
    return context


def _select_protocol(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    """Not called for a client without ALPN."""
    if ALPN not in offered:
        raise SecurityError("another protocol was offered")
    return ALPN


def _set_groups(connection: SSL.Connection) -> None:
    """Narrow the groups of the key exchange.

    pyOpenSSL 26 has no call for it, so this reaches for the library below it. Should that way
    close one day, OpenSSL's own list stays, which begins with the same groups; ``_examine``
    refuses what else might come of it.
    """
    lib, ssl = Binding().lib, getattr(connection, "_ssl", None)
    if ssl is None or not hasattr(lib, "SSL_set1_curves_list"):
        return
    for groups in (GROUPS, GROUPS_BEFORE_OPENSSL_3_5):
        if lib.SSL_set1_curves_list(ssl, groups) == 1:
            return
        lib.ERR_clear_error()


def _describe(error: SSL.Error) -> str:
    """OpenSSL's words, which are constants of its own and nothing that the peer wrote."""
    if error.args and isinstance(error.args[0], list) and error.args[0]:
        return f"TLS failed: {error.args[0][0][2]}"
    return "TLS failed"
