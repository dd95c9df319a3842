"""Which of a contact's programs a session is offered to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from telepathy_e2e.errors import NotCapable, Offline
from telepathy_e2e.service.capabilities import XTLS_FEATURE
from telepathy_e2e.xmpp.client import Client, Resource
from telepathy_e2e.xmpp.jid import bare

# Whether a program of a contact takes what is to be offered; its features are known.
Takes = Callable[[Resource], bool]


def is_online(client: Client, full_jid: str) -> bool:
    """Whether this program of a contact shows itself to us."""
    return any(each.jid == full_jid for each in client.resources(bare(full_jid)))


def check_reachable(client: Client, bare_jid: str, takes: Takes, what: str) -> None:
    """Whether there is any point in asking; programs of which nothing is known yet may take it.

    Args:
        what: is offered, for the error.
    Raises: Offline, NotCapable.
    """
    resources = _others(client, bare_jid)
    if not resources:
        raise _nobody(client, bare_jid)
    if not any(each.features is None or takes(each) for each in resources):
        raise NotCapable(f"No program of the contact takes {what}")


async def find_peer(client: Client, bare_jid: str, takes: Takes, what: str) -> Resource:
    """The program that takes it, one that protects it first. Arguments, errors: as above."""
    known = []
    for resource in _others(client, bare_jid):
        if resource.features is None:
            features = await client.features_of(resource.jid)
            resource = replace(resource, features=features)
        known.append(resource)
    able = [resource for resource in known if takes(resource)]
    if not able:
        if not known:
            raise _nobody(client, bare_jid)
        raise NotCapable(f"No program of the contact takes {what}")
    return max(able, key=lambda each: (XTLS_FEATURE in (each.features or ()), each.priority))


def _others(client: Client, bare_jid: str) -> list[Resource]:
    """All but this one: one's own other programs may be meant, and are a contact's like any."""
    return [each for each in client.resources(bare_jid) if each.jid != client.jid]


def _nobody(client: Client, bare_jid: str) -> Offline:
    if bare_jid == bare(client.jid):
        return Offline("This is your own account, and no other program of it is online")
    return Offline("The contact is not online, or does not show it to you")
