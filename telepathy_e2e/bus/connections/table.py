"""Every interface of a connection beside Connection, Requests and Contacts."""

from __future__ import annotations

from typing import Final

from telepathy_e2e.bus.connections.addressing import AddressingInterface
from telepathy_e2e.bus.connections.aliasing import AliasingInterface
from telepathy_e2e.bus.connections.avatars import AvatarsInterface
from telepathy_e2e.bus.connections.base import ConnectionPart
from telepathy_e2e.bus.connections.capabilities import CapabilitiesInterface
from telepathy_e2e.bus.connections.client_types import ClientTypesInterface
from telepathy_e2e.bus.connections.contact_blocking import ContactBlockingInterface
from telepathy_e2e.bus.connections.contact_groups import ContactGroupsInterface
from telepathy_e2e.bus.connections.contact_info import ContactInfoInterface
from telepathy_e2e.bus.connections.contact_list import ContactListInterface
from telepathy_e2e.bus.connections.identities import IdentitiesInterface
from telepathy_e2e.bus.connections.power_saving import PowerSavingInterface
from telepathy_e2e.bus.connections.presence import PresenceInterface

PARTS: Final[tuple[type[ConnectionPart], ...]] = (
    PresenceInterface,
    ContactListInterface,
    ContactGroupsInterface,
    ContactBlockingInterface,
    AliasingInterface,
    AvatarsInterface,
    ContactInfoInterface,
    ClientTypesInterface,
    AddressingInterface,
    IdentitiesInterface,
    CapabilitiesInterface,
    PowerSavingInterface,
)
