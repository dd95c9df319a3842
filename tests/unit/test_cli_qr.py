import fcntl
import io
import os
import pty
import struct
import termios

import pytest

from telepathy_e2e.cli.qr import draw, for_terminal

URI = "xmpp:alice@example.org?x-e2e-verify;spki-sha-256=" + "0123456789abcdef" * 4


def test_a_code_is_a_square_of_half_blocks() -> None:
    lines = draw(URI).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == (len(lines[0]) + 1) // 2
    assert set("".join(lines)) <= set("█▀▄ ")


def test_the_quiet_zone_is_light_on_all_sides() -> None:
    lines = draw(URI).splitlines()
    assert set(lines[0]) == {"█"}
    assert all(line.startswith("██") and line.endswith("██") for line in lines[:-1])


def test_what_is_no_terminal_gets_no_code() -> None:
    assert for_terminal(URI, io.StringIO()) == ""


@pytest.mark.parametrize(("columns", "drawn"), [(120, True), (20, False)])
def test_a_terminal_gets_a_code_if_it_is_wide_enough(columns: int, drawn: bool) -> None:
    keyboard, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    with open(terminal, "w", encoding="utf-8") as stream:
        assert bool(for_terminal(URI, stream)) is drawn
    os.close(keyboard)


def test_a_terminal_without_unicode_gets_none() -> None:
    keyboard, terminal = pty.openpty()
    with open(terminal, "w", encoding="ascii") as stream:
        assert for_terminal(URI, stream) == ""
    os.close(keyboard)
