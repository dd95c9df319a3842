"""What the README tells people to type works, word by word."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def needs() -> None:
    for program in ("prosody", "busctl", "bash"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def commands() -> str:
    """The blocks of "Every step by hand", one after the other."""
    text = (ROOT / "README.md").read_text()
    section = text.split("## Every step by hand")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert len(blocks) >= 6
    return "\n".join(blocks)


def in_playground(script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    file = directory / "typed.sh"
    file.write_text(f"set -eu\ncd {directory}\n{script}")
    return subprocess.run(
        [sys.executable, "-m", "demo.playground", "bash", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_step_by_hand_leads_to_a_verified_file(tmp_path: Path) -> None:
    played = in_playground(commands(), tmp_path)
    assert played.returncode == 0, played.stdout + played.stderr
    assert (tmp_path / "received.txt").read_text() == "The key is under the mat.\n"
    assert 's "sas"' in played.stdout
    assert played.stdout.index("b false") < played.stdout.index('s "sas"')


def test_the_welcome_of_the_playground_can_be_typed(tmp_path: Path) -> None:
    login = (
        'TPE2E_PASSWORD="$PASSWORD" tpe2e connect "$ALICE" '
        '--server "$SERVER" --port "$PORT" --ca-file "$CA"\n'
        "tpe2e status\n"
        'tpe2e disconnect "$ALICE"\n'
    )
    played = in_playground(login, tmp_path)
    assert played.returncode == 0, played.stdout + played.stderr
    assert "is logged in" in played.stdout
    assert "is logged out" in played.stdout
