"""``ssh -L`` on loopback: an sshd with a configuration and keys of its own, run as this user."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.relay import listens
from tests.support.prosody import free_ports

_START_SECONDS = 15.0


def missing() -> str:
    """Why it cannot be measured here; empty: it can."""
    if shutil.which("ssh") is None or _sshd() is None:
        return "OpenSSH's client and server are not installed"
    return ""


def version() -> str:
    """Of the client."""
    done = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True)
    return done.stderr.split(",")[0]


@contextmanager
def forwarded(port: int, cipher: str = "") -> Iterator[int]:
    """The port of 127.0.0.1 that ``ssh -L`` carries to this one.

    Args:
        cipher: instead of what the two agree on.
    """
    with tempfile.TemporaryDirectory(prefix="tpe2e-ssh-") as name:
        directory = Path(name)
        for each in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / each], check=True
            )
        server_port, here = free_ports(2)
        config = directory / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1\nPort {server_port}\nHostKey {directory / 'host'}\n"
            f"PidFile {directory / 'pid'}\nAuthorizedKeysFile {directory / 'user.pub'}\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            "PermitRootLogin prohibit-password\nAllowTcpForwarding yes\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it insists
        log = (directory / "log").open("wb")
        processes = []
        try:
            processes.append(
                subprocess.Popen([str(_sshd()), "-D", "-e", "-f", config], stdout=log, stderr=log)
            )
            _wait(server_port, processes, directory)
            options = [
                f"UserKnownHostsFile={directory / 'known'}",
                "StrictHostKeyChecking=no",
                "IdentitiesOnly=yes",
                "BatchMode=yes",
                "ExitOnForwardFailure=yes",
            ]
            options += [f"Ciphers={cipher}"] if cipher else []
            given = [word for each in options for word in ("-o", each)]
            processes.append(
                subprocess.Popen(
                    ["ssh", "-F", "none", "-N", *given, "-i", directory / "user",
                     "-p", str(server_port), "-L", f"127.0.0.1:{here}:127.0.0.1:{port}",
                     f"{getpass.getuser()}@127.0.0.1"],
                    stdout=log,
                    stderr=log,
                )
            )  # fmt: skip
            _wait(here, processes, directory)
            yield here
        finally:
            log.close()
            for process in reversed(processes):
                process.terminate()
                process.wait()


def _sshd() -> str | None:
    # It re-executes itself and wants its whole path; /usr/sbin is not in everybody's.
    return shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


def _wait(port: int, processes: list[subprocess.Popen[bytes]], directory: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not listens(port):
        if time.monotonic() > deadline or any(each.poll() is not None for each in processes):
            said = (directory / "log").read_text(errors="replace")
            raise RuntimeError(f"ssh does not forward:\n{said}")
        time.sleep(0.02)
