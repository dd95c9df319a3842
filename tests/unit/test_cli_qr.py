import io

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
