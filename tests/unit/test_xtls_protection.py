"""The protection of a session, both roles, through a wire that a test controls."""

from __future__ import annotations

import pytest

from telepathy_e2e.role import Role
from tests.unit.xtls_support import BOTH, protected_pair


def test_both_sides_become_protected_and_agree_on_who_they_are() -> None:
    both = protected_pair()
    alice, bob = (both.protected(role) for role in BOTH)
    assert alice and bob
    assert alice.peer_fingerprint == bob.own_fingerprint
    assert bob.peer_fingerprint == alice.own_fingerprint


@pytest.mark.parametrize("role", BOTH)
def test_payload_flows_once_protected(role: Role) -> None:
    both = protected_pair()
    both.end[role].write(b"hello")
    both.carry_bytes()
    assert both.end[role.other].read() == b"hello"
