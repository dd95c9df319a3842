"""The mark on what came through a protected stream between two clients, and not through servers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProtectedPeer:
    """Who is at the other end of the stream that a stanza came through.

    What a handler gets without one of these came through servers: they can have written it.
    """

    jid: str
    """Full, normalised; the ``from`` of each stanza of the stream."""
    fingerprint: bytes
    """Of his identity, 32 bytes."""
    verified: bool
    """Whether people, or who remembers for them, say that this key is his. Without that whoever
    sits between the servers could be at the other end."""
    methods: tuple[str, ...] = ()
    """By which he was verified."""
