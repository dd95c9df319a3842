"""How programs log in to a private bus: only the right user, never with descriptors."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telepathy_e2e.errors import PeerError
from telepathy_e2e.net.dbus_server import MAX_LINE, MAX_LINES, DBusLogin

OWN = os.geteuid()


def login(uid: int = OWN, *, anonymous: bool = False) -> DBusLogin:
    return DBusLogin(uid, anonymous=anonymous)


def external(uid: int = OWN) -> bytes:
    return b"AUTH EXTERNAL " + str(uid).encode().hex().encode() + b"\r\n"


def ok(answer: bytes) -> bool:
    return answer.startswith(b"OK ") and answer.endswith(b"\r\n")


def test_libdbus_logs_in_line_by_line() -> None:
    server = login()
    assert ok(server.receive(b"\0" + external()))
    assert server.receive(b"NEGOTIATE_UNIX_FD\r\n") == b"ERROR\r\n"
    assert server.receive(b"BEGIN\r\nl\x01") == b""
    assert server.done
    assert server.rest == b"l\x01"


def test_gdbus_asks_first_what_there_is() -> None:
    server = login()
    assert server.receive(b"\0AUTH\r\n") == b"REJECTED EXTERNAL\r\n"
    assert ok(server.receive(external()))


def test_sd_bus_sends_all_at_once() -> None:
    server = login()
    answers = server.receive(b"\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\nrest")
    first, second, third, _ = answers.split(b"\r\n")
    assert (first, third) == (b"DATA", b"ERROR")
    assert second.startswith(b"OK ")
    assert (server.done, server.rest) == (True, b"rest")


def test_bytes_may_come_one_by_one() -> None:
    server = login()
    said = b"".join(server.receive(bytes([each])) for each in b"\0" + external() + b"BEGIN\r\n")
    assert ok(said)
    assert server.done


@pytest.mark.parametrize("claim", [OWN + 1, "", "x", "-1", "9" * 11])
def test_who_claims_to_be_somebody_else_is_rejected(claim: object) -> None:
    server = login(OWN)
    named = str(claim).encode().hex().encode()
    if not named:
        named = b"zz"
    assert server.receive(b"\0AUTH EXTERNAL " + named + b"\r\n") == b"REJECTED EXTERNAL\r\n"
    with pytest.raises(PeerError):
        server.receive(b"BEGIN\r\n")


def test_another_user_is_rejected_whatever_he_says() -> None:
    for said in (external(OWN + 1), external(OWN), b"AUTH EXTERNAL\r\nDATA\r\n"):
        answer = login(OWN + 1).receive(b"\0" + said)
        assert b"OK" not in answer
        assert answer.endswith(b"REJECTED EXTERNAL\r\n")


def test_anonymous_needs_the_access_control_localhost() -> None:
    assert login().receive(b"\0AUTH ANONYMOUS\r\n") == b"REJECTED EXTERNAL\r\n"
    assert ok(login(anonymous=True).receive(b"\0AUTH ANONYMOUS 6c6962\r\n"))
    assert ok(login(OWN + 1, anonymous=True).receive(b"\0" + external(OWN + 1)))
    # Who says who he is, still has to say it rightly.
    assert not ok(login(OWN + 1, anonymous=True).receive(b"\0" + external(OWN)))


def test_a_login_can_be_begun_anew() -> None:
    server = login()
    assert server.receive(b"\0AUTH DBUS_COOKIE_SHA1 30\r\n") == b"REJECTED EXTERNAL\r\n"
    assert server.receive(b"AUTH EXTERNAL\r\n") == b"DATA\r\n"
    assert server.receive(b"CANCEL\r\n") == b"REJECTED EXTERNAL\r\n"
    assert ok(server.receive(external()))
    assert server.receive(external()) == b"ERROR\r\n"
    assert server.receive(b"ERROR\r\n") == b"REJECTED EXTERNAL\r\n"
    with pytest.raises(PeerError):
        server.receive(b"BEGIN\r\n")


def test_what_is_no_dbus_program_is_sent_away() -> None:
    with pytest.raises(PeerError):
        login().receive(b"GET / HTTP/1.1\r\n")
    with pytest.raises(PeerError):
        login().receive(b"\0BEGIN\r\n")
    assert login().receive(b"\0DATA\r\n") == b"ERROR\r\n"


def test_lines_and_their_number_are_bounded() -> None:
    login().receive(b"\0" + b"A" * MAX_LINE)
    with pytest.raises(PeerError):
        login().receive(b"\0" + b"A" * (MAX_LINE + 1))
    server = login()
    server.receive(b"\0" + b"X\r\n" * MAX_LINES)
    with pytest.raises(PeerError):
        server.receive(b"X\r\n")


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"AUTH ", b"EXTERNAL", b"\r\n", b"\0"])))
def test_no_bytes_of_another_user_raise_anything_but_peer_error_or_let_him_in(
    pieces: list[bytes],
) -> None:
    server = login(OWN + 1)
    with contextlib.suppress(PeerError):
        server.receive(b"\0")
        for each in pieces:
            assert b"OK" not in server.receive(each)
    assert not server.done
