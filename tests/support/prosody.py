"""A real Prosody on loopback: free ports, a test authority, accounts that know one another.

Server-to-server is off, nothing leaves 127.0.0.1. ``Prosody.start()`` returns when the server
accepts connections; ``stop()`` ends it and removes its files, ``kill()`` is ``kill -9``.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.waiting import PATIENCE

PASSWORD = "open sesame"
ACCOUNTS = ("alice", "bob", "carol")
START_SECONDS = PATIENCE
STOP_SECONDS = PATIENCE


class Certificate(StrEnum):
    """What the server shows."""

    GOOD = "good"
    EXPIRED = "expired"
    NOT_YET = "not yet valid"
    WRONG_NAME = "wrong name"
    UNKNOWN_AUTHORITY = "unknown authority"
    SELF_SIGNED = "self-signed"


def available() -> bool:
    """Whether Debian's prosody is installed here."""
    return shutil.which("prosody") is not None


# Below those that the kernel gives to whoever asks for any: while a server starts, somebody's
# connection would take the port. Each worker of pytest has some of its own.
_PORTS = range(10_000, 32_000)
_SHARES = 8


def _numbers() -> Iterator[int]:
    share = len(_PORTS) // _SHARES
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % _SHARES
    first = secrets.randbelow(share)  # other runs on this machine begin elsewhere
    for number in itertools.count(first):
        yield _PORTS[worker * share + number % share]


_next_ports = _numbers()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment, and nobody else here takes soon."""
    found: list[int] = []
    while len(found) < count:
        port = next(_next_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found


@dataclass
class Prosody:
    """One running server.

    Attributes:
        host, port: where clients connect (STARTTLS); ``tls_port`` takes direct TLS.
        ca_file: the authority that signed the server's certificate, PEM.
        domain: the part of JIDs after the @.
        proxy: JID of the SOCKS5 proxy (XEP-0065), on 127.0.0.1 at ``proxy_port``.
    """

    directory: Path
    port: int
    tls_port: int
    proxy_port: int
    domain: str = "example.test"
    host: str = "127.0.0.1"
    password: str = PASSWORD
    accounts: Sequence[str] = ACCOUNTS
    certificate: Certificate = Certificate.GOOD
    encryption: bool = True
    modules: Sequence[str] = ()
    module_directory: Path | None = None
    hibernation: int = 3
    settings: str = ""
    rooms: bool = False
    web_port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @classmethod
    def start(
        cls,
        *,
        domain: str = "example.test",
        accounts: Iterable[str] = ACCOUNTS,
        certificate: Certificate = Certificate.GOOD,
        encryption: bool = True,
        modules: Iterable[str] = (),
        module_directory: Path | None = None,
        hibernation: int = 3,
        settings: str = "",
        rooms: bool = False,
        websocket: bool = False,
    ) -> Prosody:
        """Start a server and wait until it accepts connections.

        Args:
            accounts: local parts; all have ``PASSWORD`` and see each other's presence.
            certificate: what is right or wrong with the server's certificate.
            encryption: False for a server that offers no TLS at all.
            modules: further modules to load.
            module_directory: where Prosody looks for ``mod_*.lua`` files of our own.
            hibernation: seconds for which a session is kept whose connection broke. Short, as
                others hear only then that a program was killed.
            settings: Lua, appended to the settings of the virtual host.
            rooms: with a conference service (``conference``).
            websocket: for clients in browsers, which come without TLS (``websocket``).
        """
        port, tls_port, proxy_port = free_ports(3)
        server = cls(
            Path(tempfile.mkdtemp(prefix="tpe2e-prosody-")),
            port,
            tls_port,
            proxy_port,
            domain=domain,
            accounts=tuple(accounts),
            certificate=certificate,
            encryption=encryption,
            modules=tuple(modules),
            module_directory=module_directory,
            hibernation=hibernation,
            settings=settings,
            rooms=rooms,
            web_port=free_ports(1)[0] if websocket else 0,
        )
        try:
            server._write()
            server.restart()
        except BaseException:
            server.stop()
            raise
        return server

    @property
    def ca_file(self) -> Path:
        return self.directory / "ca.pem"

    @property
    def proxy(self) -> str:
        return f"proxy.{self.domain}"

    @property
    def conference(self) -> str:
        """Domain of the rooms."""
        return f"conference.{self.domain}"

    @property
    def websocket(self) -> str:
        """Where clients in browsers connect."""
        return f"ws://{self.host}:{self.web_port}/xmpp-websocket"

    @property
    def log(self) -> str:
        return (self.directory / "prosody.log").read_text(errors="replace")

    def jid(self, name: str) -> str:
        """The bare JID of an account."""
        return f"{name}@{self.domain}"

    def add_account(self, name: str, password: str = PASSWORD) -> None:
        """One more account, while the server runs too; nobody's roster has it."""
        accounts = self.directory / "data" / _encoded(self.domain) / "accounts"
        accounts.mkdir(parents=True, exist_ok=True)
        file = accounts / f"{_encoded(name)}.dat"
        file.write_text(f"return {{ password = {_lua(password)} }};\n")

    def set_roster(self, name: str, contacts: Mapping[str, str]) -> None:
        """Give an account a contact list, before it is first used.

        Args:
            contacts: bare JID to name; all are friends in both directions, in the group "Friends".
        """
        roster = (
            self.directory / "data" / _encoded(self.domain) / "roster" / f"{_encoded(name)}.dat"
        )
        roster.parent.mkdir(parents=True, exist_ok=True)
        items = [
            f"[{_lua(jid)}] = {{ subscription = 'both'; name = {_lua(shown)};"
            " groups = { ['Friends'] = true } };"
            for jid, shown in contacts.items()
        ]
        head = "[false] = { version = 1; pending = {} };"
        roster.write_text("\n".join(["return {", head, *items, "};"]))

    def restart(self) -> None:
        """Start again after ``kill()``, same ports, same accounts."""
        with (self.directory / "output").open("ab") as output:
            self.process = subprocess.Popen(
                ["prosody", "-F", "--config", str(self.directory / "prosody.cfg.lua")],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        ports = [self.port, self.proxy_port] + [self.tls_port] * self.encryption
        ports += [self.web_port] * bool(self.web_port)
        deadline = time.monotonic() + START_SECONDS
        for port in ports:
            while not _accepts(port):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    said = (self.directory / "output").read_text(errors="replace")
                    raise AssertionError(f"prosody did not come up:\n{said}")
                time.sleep(0.02)

    def kill(self) -> None:
        """kill -9, and gone when this returns."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def pause(self) -> None:
        """Let the server stop answering while its sockets stay open."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo ``pause()``."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """An orderly end: clients are told. The files stay, for ``restart()``."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def stop(self) -> None:
        """End the server and remove all that it left."""
        self.end()
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- its files --------------------------------------------------------------------------

    def _write(self) -> None:
        self.directory.chmod(0o700)
        _certificates(self.directory, self.domain, self.certificate)
        for account in self.accounts:
            self.add_account(account, self.password)
        (self.directory / "groups.txt").write_text(
            "[Friends]\n"
            + "".join(f"{self.jid(each)}={each.capitalize()}\n" for each in self.accounts)
        )
        (self.directory / "prosody.cfg.lua").write_text(self._config())

    def _config(self) -> str:
        here = self.directory
        modules = ["disco", "groups", "pep", "ping", "presence", "roster", "saslauth", "smacks"]
        modules += ["csi_simple", "register"]
        # One of the two that Debian has: it keeps vCards as they are, or as personal events.
        modules += ["vcard"] * ("vcard_legacy" not in self.modules)
        modules += ["tls"] * self.encryption + list(self.modules)
        modules += ["websocket"] * bool(self.web_port)
        disabled = ["s2s", "offline"] + ["http"] * (not self.web_port)
        lines = [
            f"run_as_root = {'true' if os.getuid() == 0 else 'false'}",
            f"pidfile = {_lua(here / 'prosody.pid')}",
            f"data_path = {_lua(here / 'data')}",
            f"log = {{ {{ levels = {{ min = 'debug' }}, to = 'file', "
            f"filename = {_lua(here / 'prosody.log')} }} }}",
            "interfaces = { '127.0.0.1' }",
            "local_interfaces = { '127.0.0.1' }",
            f"c2s_ports = {{ {self.port} }}",
            f"c2s_direct_tls_ports = {{ {self.tls_port if self.encryption else ''} }}",
            f"c2s_require_encryption = {'true' if self.encryption else 'false'}",
            f"allow_unencrypted_plain_auth = {'false' if self.encryption else 'true'}",
            "s2s_ports = {}",
            "component_ports = {}",
            f"modules_disabled = {{ {', '.join(map(_lua, disabled))} }}",
            f"modules_enabled = {{ {', '.join(map(_lua, modules))} }}",
            "authentication = 'internal_plain'",
            f"groups_file = {_lua(here / 'groups.txt')}",
            f"smacks_hibernation_time = {self.hibernation}",
            f"proxy65_ports = {{ {self.proxy_port} }}",
            "proxy65_interfaces = { '127.0.0.1' }",
        ]
        if self.web_port:
            lines += [
                f"http_ports = {{ {self.web_port} }}",
                "http_interfaces = { '127.0.0.1' }",
                "https_ports = {}",
                f"http_default_host = {_lua(self.domain)}",
                "consider_websocket_secure = true",
                "cross_domain_websocket = true",
            ]
        if self.module_directory is not None:
            lines.append(f"plugin_paths = {{ {_lua(self.module_directory)} }}")
        tls = f"ssl = {{ key = {_lua(here / 'key.pem')}, certificate = {_lua(here / 'cert.pem')} }}"
        lines += [tls] * self.encryption
        lines.append(f"VirtualHost {_lua(self.domain)}")
        lines += [tls] * self.encryption
        lines.append(self.settings)
        lines.append(f"Component {_lua(self.proxy)} 'proxy65'")
        lines.append("proxy65_address = '127.0.0.1'")
        lines += [f"Component {_lua(self.conference)} 'muc'"] * self.rooms
        return "\n".join(lines) + "\n"


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _encoded(name: str) -> str:
    """As Prosody names files: everything but letters and digits as %xx."""
    return "".join(c if c.isalnum() else "".join(f"%{b:02x}" for b in c.encode()) for c in name)


def _lua(value: object) -> str:
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


# -- certificates ---------------------------------------------------------------------------


def _certificates(directory: Path, domain: str, kind: Certificate) -> None:
    """Write ca.pem, cert.pem and key.pem."""
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = _name("Authority of the tests")
    ca = _signed(ca_name, ca_key.public_key(), ca_name, ca_key, now - 30 * day, now + 30 * day)
    issuer, issuer_key = ca_name, ca_key
    before, after = now - day, now + day
    name = domain
    match kind:
        case Certificate.EXPIRED:
            before, after = now - 2 * day, now - day
        case Certificate.NOT_YET:
            before, after = now + day, now + 2 * day
        case Certificate.WRONG_NAME:
            name = "elsewhere.test"
        case Certificate.UNKNOWN_AUTHORITY:
            issuer, issuer_key = (
                _name("Nobody's authority"),
                ec.generate_private_key(ec.SECP256R1()),
            )
        case Certificate.SELF_SIGNED:
            issuer, issuer_key = _name(name), key
        case Certificate.GOOD:
            pass
    leaf = _signed(_name(name), key.public_key(), issuer, issuer_key, before, after, name)
    pem = serialization.Encoding.PEM
    (directory / "ca.pem").write_bytes(ca.public_bytes(pem))
    (directory / "cert.pem").write_bytes(leaf.public_bytes(pem))
    key_file = directory / "key.pem"
    key_file.touch(0o600)
    key_file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _signed(
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    before: datetime.datetime,
    after: datetime.datetime,
    host: str | None = None,
) -> x509.Certificate:
    """A certificate for a host, or an authority's own when ``host`` is None."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public_key)
        .issuer_name(issuer)
        .not_valid_before(before)
        .not_valid_after(after)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if host is None:
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(usage, critical=True)
    else:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False
        ).add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
