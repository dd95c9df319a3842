from __future__ import annotations

import socket

import pytest

from telepathy_e2e.net.addresses import MAX_ADDRESSES, normal, ordered, usable_addresses


def test_global_ipv6_comes_first_then_ipv4_then_site_local_and_loopback_last() -> None:
    found = ["::1", "127.0.0.1", "fd00::2", "192.168.1.2", "2001:db8::1"]
    assert ordered(found) == ["2001:db8::1", "192.168.1.2", "fd00::2", "127.0.0.1", "::1"]


def test_the_order_of_interfaces_is_kept_within_a_kind() -> None:
    assert ordered(["10.0.0.2", "10.0.0.1"]) == ["10.0.0.2", "10.0.0.1"]


def test_link_local_is_left_out_where_there_is_better() -> None:
    assert ordered(["169.254.1.1", "10.0.0.1", "fe80::1"]) == ["10.0.0.1"]


def test_ipv4_link_local_is_taken_when_there_is_nothing_else_beside_loopback() -> None:
    assert ordered(["127.0.0.1", "169.254.1.1"]) == ["169.254.1.1", "127.0.0.1"]


def test_ipv6_link_local_is_never_offered_since_its_scope_means_nothing_to_the_peer() -> None:
    assert ordered(["fe80::1", "fe80::1%eth0", "::1"]) == ["::1"]


def test_unusable_and_repeated_addresses_are_dropped() -> None:
    found = ["0.0.0.0", "::", "224.0.0.1", "10.0.0.1", "10.0.0.1"]  # noqa: S104
    assert ordered(found) == ["10.0.0.1"]


def test_the_list_is_bounded_and_keeps_loopback() -> None:
    many = [f"10.0.0.{last}" for last in range(1, MAX_ADDRESSES + 5)]
    chosen = ordered([*many, "127.0.0.1", "::1"])
    assert chosen == [*many[: MAX_ADDRESSES - 2], "127.0.0.1", "::1"]
    assert len(ordered(many[:MAX_ADDRESSES])) == MAX_ADDRESSES
    assert len(ordered(f"127.0.0.{last}" for last in range(1, 30))) == MAX_ADDRESSES


def test_one_can_bind_to_every_address_of_this_machine_that_is_called_usable() -> None:
    found = usable_addresses()
    assert "127.0.0.1" in found
    for host in found:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, 0), family=family):
            pass


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0:0::1", "::1"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("10.0.0.1", "10.0.0.1"),
        ("example.org", "example.org"),
    ],
)
def test_each_address_has_one_spelling(given: str, expected: str) -> None:
    assert normal(given) == expected
