import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from telepathy_e2e.cli import names
from telepathy_e2e.cli.exits import UsageError
from telepathy_e2e.cli.places import MAX_PATH, Place, listening_at, service_at


def taken(host: str) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as sock:
        yield int(sock.getsockname()[1])


@pytest.fixture
def only_in_six() -> Iterator[int]:
    yield from taken("::1")


@pytest.mark.parametrize(
    ("text", "kind", "name", "port"),
    [
        ("127.0.0.1:5900", names.IPV4, "127.0.0.1", 5900),
        ("127.9.9.9:1", names.IPV4, "127.9.9.9", 1),
        ("[::1]:22", names.IPV6, "::1", 22),
        ("65535", names.IPV4, "127.0.0.1", 65535),
        ("unix:@name", names.ABSTRACT_UNIX, b"\0name", 0),
    ],
)
async def test_addresses_as_people_type_them(
    text: str, kind: int, name: str | bytes, port: int
) -> None:
    for read in (service_at, listening_at):
        assert await read(text, other_machines=False) == Place(kind, name, port)


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "5900x", "127.0.0.1", "127.0.0.1:", ":5900", "127.0.0.1:65536", "::1:22"),
        *("[::1]", "-1", "127.0.0.1:٣", "unix:", "unix:@", "nobody.invalid:80", "[fe80::1%lo]:22"),
        *("unix:/" + "x" * MAX_PATH, "unix:/a\0b", f"{'a' * 64}.example:80"),
    ],
)
async def test_what_is_no_address_is_refused_with_a_sentence(text: str) -> None:
    for read in (service_at, listening_at):
        with pytest.raises(UsageError, match=r"\.$|unix:/path"):
            await read(text, other_machines=True)


async def test_a_service_is_not_at_port_0_and_not_at_all_addresses() -> None:
    for text in ("127.0.0.1:0", "0.0.0.0:80", "[::]:80", "224.0.0.1:80"):
        with pytest.raises(UsageError):
            await service_at(text, other_machines=True)


async def test_a_path_is_that_of_whoever_types_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("here")
        place = await service_at("unix:here", other_machines=False)
        assert place == await service_at(f"{tmp_path}/here", other_machines=False)
    assert place == Place(names.UNIX, f"{tmp_path}/here".encode())
    assert str(place) == f"unix:{tmp_path}/here"


async def test_the_path_of_a_service_is_a_socket(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "missing"):
        with pytest.raises(UsageError, match=r"no service|not a socket"):
            await service_at(f"{tmp_path}/{name}", other_machines=False)


async def test_the_longest_path_fits_and_one_byte_more_does_not() -> None:
    longest = "/" + "x" * (MAX_PATH - 1)
    assert (await listening_at(longest, other_machines=False)).name == longest.encode()
    with pytest.raises(UsageError):
        await listening_at(longest + "x", other_machines=False)


async def test_another_machine_is_meant_only_if_somebody_says_so() -> None:
    for text in ("192.0.2.7:80", "[2001:db8::7]:80"):
        with pytest.raises(UsageError, match="--other-machines"):
            await service_at(text, other_machines=False)
        assert str(await service_at(text, other_machines=True)) == text


async def test_other_machines_are_let_in_only_if_somebody_says_so() -> None:
    for text in ("0.0.0.0:80", "[::]:80", "192.0.2.7:80"):
        with pytest.raises(UsageError, match="--other-machines"):
            await listening_at(text, other_machines=False)
        assert str(await listening_at(text, other_machines=True)) == text


async def test_localhost_is_where_somebody_listens(only_in_six: int) -> None:
    assert str(await service_at(f"localhost:{only_in_six}", other_machines=False)) == (
        f"[::1]:{only_in_six}"
    )
    for port in taken("127.0.0.1"):
        place = await service_at(f"LocalHost:{port}", other_machines=False)
        assert str(place) == f"127.0.0.1:{port}"
    assert str(await service_at("localhost:1", other_machines=False)) == "127.0.0.1:1"


def test_addresses_go_to_the_bus_and_come_from_there() -> None:
    for place in (
        Place(names.UNIX, b"/run/x"),
        Place(names.ABSTRACT_UNIX, b"\0x"),
        Place(names.IPV4, "127.0.0.1", 80),
        Place(names.IPV6, "::1", 80),
    ):
        assert Place.told(place.kind, place.variant.value) == place  # type: ignore[attr-defined]
    assert Place.told(names.UNIX, b"/run/x\0") == Place(names.UNIX, b"/run/x")
    assert str(Place(names.ABSTRACT_UNIX, b"\0x")) == "unix:@x"
