import pytest

from telepathy_e2e.cli import exits
from telepathy_e2e.cli.exits import TP_ERROR, code_of


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (TP_ERROR + "InvalidHandle", 2),
        (TP_ERROR + "InvalidArgument", 2),
        (TP_ERROR + "EncryptionNotAvailable", 3),
        (TP_ERROR + "Cert.Untrusted", 4),
        (TP_ERROR + "Cert.FingerprintMismatch", 4),
        (TP_ERROR + "EncryptionError", 4),
        (TP_ERROR + "Disconnected", 5),
        ("org.freedesktop.DBus.Error.ServiceUnknown", 5),
        ("org.freedesktop.DBus.Error.Spawn.ExecFailed", 5),
        (TP_ERROR + "Cancelled", 1),
        (TP_ERROR + "Offline", 1),
        ("com.example.Anything", 1),
        ("", 1),
    ],
)
def test_every_error_has_its_exit_code(name: str, code: int) -> None:
    assert code_of(name) == code


def test_every_exit_code_is_documented() -> None:
    for name in ("OK", "FAILED", "USAGE", "UNPROTECTED", "UNVERIFIED", "NOT_CONNECTED"):
        assert f"\n  {getattr(exits, name)}  " in exits.MEANINGS
    assert f"\n  {exits.INTERRUPTED}  " in exits.MEANINGS
