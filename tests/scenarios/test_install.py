"""``make install`` puts everything where the session bus and Telepathy's clients look for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICE = "org.freedesktop.Telepathy.ConnectionManager.e2e.service"
AGENT = "org.freedesktop.Telepathy.E2E.KeyAgent"

# Each installs a virtual environment or two.
pytestmark = pytest.mark.timeout(1200)


def make(target: str, *, env: Mapping[str, str] | None = None, **variables: object) -> None:
    given = [f"{name}={value}" for name, value in variables.items()]
    subprocess.run(
        ["make", "--no-print-directory", target, f"PYTHON={sys.executable}", *given],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    for program in ("make", "dbus-run-session"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    prefix = tmp_path_factory.mktemp("prefix")
    make("install", PREFIX=prefix)
    yield prefix
    make("uninstall", PREFIX=prefix)
    assert not [path for path in prefix.rglob("*") if not path.is_dir()]


def run(prefix: Path, *words: str) -> tuple[int, dict[str, object]]:
    """An installed tpe2e on a session bus that knows this prefix alone."""
    done = subprocess.run(
        ["dbus-run-session", "--", str(prefix / "bin" / "tpe2e"), *words, "--json"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(prefix),
            "XDG_DATA_HOME": str(prefix / "share"),
            "XDG_DATA_DIRS": str(prefix / "nothing"),
            "TPE2E_PASSWORD": "secret",
        },
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def test_the_bus_starts_the_installed_daemon(prefix: Path) -> None:
    code, said = run(prefix, "connect", "alice@localhost", "--server", "127.0.0.1", "--port", "1")
    assert code == 5
    # It was the daemon that said so, not the bus that found none.
    assert str(said["error"]).startswith("org.freedesktop.Telepathy.Error."), said


def test_the_bus_starts_the_installed_key_agent(prefix: Path) -> None:
    code, said = run(prefix, "identity", "show")
    assert code == 0
    assert said["identities"] == []


def test_clients_find_the_manager_file(prefix: Path) -> None:
    installed = prefix / "share" / "telepathy" / "managers" / "e2e.manager"
    assert installed.read_text() == (ROOT / "data/dbus-services/e2e.manager").read_text()


@pytest.mark.parametrize("name", [SERVICE, f"{AGENT}.service"])
def test_the_service_file_names_the_installed_program(prefix: Path, name: str) -> None:
    service = (prefix / "share" / "dbus-1" / "services" / name).read_text()
    (command,) = [line[5:] for line in service.splitlines() if line.startswith("Exec=")]
    # With one malloc arena: threads would keep 1.3 MB in arenas of their own.
    *_, program = command.split()
    assert command == f"/usr/bin/env MALLOC_ARENA_MAX=1 {program}"
    assert Path(program).is_relative_to(prefix)
    assert os.access(program, os.X_OK)


def test_destdir_is_in_front_of_everything_and_inside_nothing(tmp_path: Path) -> None:
    """Packagers install to a directory that is moved to / later."""
    # It is about paths: our own package has them all, and the others take a minute.
    make("install", env={"PIP_NO_DEPS": "1"}, PREFIX="/opt/e2e", DESTDIR=tmp_path)
    assert (tmp_path / "opt/e2e/share/telepathy/managers/e2e.manager").exists()
    assert os.readlink(tmp_path / "opt/e2e/bin/tpe2e").startswith("/opt/e2e/")
    programs = tmp_path / "opt/e2e/share/telepathy-e2e/venv/bin"
    services = tmp_path / "opt/e2e/share/dbus-1/services"
    for path in (*programs.iterdir(), services / SERVICE, services / f"{AGENT}.service"):
        if path.is_file() and not path.is_symlink():
            assert str(tmp_path).encode() not in path.read_bytes(), path
    make("uninstall", PREFIX="/opt/e2e", DESTDIR=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]
