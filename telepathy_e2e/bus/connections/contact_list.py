"""Connection.Interface.ContactList."""

from __future__ import annotations

from telepathy_e2e.bus.connections.base import ConnectionPart
from telepathy_e2e.bus.members import Property, Signal, method
from telepathy_e2e.bus.types import (
    ContactAttributes,
    ContactSubscriptions,
    HandleIdentifiers,
    Handles,
    Strings,
)
from telepathy_e2e.bus.values import variant
from telepathy_e2e.bus.wire import DBusBool, DBusStr, DBusUInt32, Variant
from telepathy_e2e.service import names

# Made once: thousands of contacts have the same.
_STATES = [variant("u", state) for state in range(5)]
_SUBSCRIBE = names.CONTACT_LIST + "/subscribe"
_PUBLISH = names.CONTACT_LIST + "/publish"
_REQUEST = names.CONTACT_LIST + "/publish-request"


class ContactListInterface(ConnectionPart):
    """``Connection.Interface.ContactList``."""

    name = names.CONTACT_LIST

    ContactListState = Property(DBusUInt32)
    ContactListPersists = Property(DBusBool)
    CanChangeContactList = Property(DBusBool)
    RequestUsesMessage = Property(DBusBool)
    DownloadAtConnection = Property(DBusBool)

    ContactListStateChanged = Signal(Contact_List_State=DBusUInt32)
    ContactsChangedWithID = Signal(
        Changes=ContactSubscriptions, Identifiers=HandleIdentifiers, Removals=HandleIdentifiers
    )
    ContactsChanged = Signal(Changes=ContactSubscriptions, Removals=Handles)

    has_attributes = True

    @property
    def contact_list_state(self) -> int:
        return self._connection.contact_list.contact_list_state

    @property
    def contact_list_persists(self) -> bool:
        return self._connection.contact_list.contact_list_persists

    @property
    def can_change_contact_list(self) -> bool:
        return self._connection.contact_list.can_change_contact_list

    @property
    def request_uses_message(self) -> bool:
        return self._connection.contact_list.request_uses_message

    @property
    def download_at_connection(self) -> bool:
        return self._connection.contact_list.download_at_connection

    def contact_attributes(self, handle: int) -> dict[str, Variant]:
        states = self._connection.contact_list.known_states(handle)
        if states is None:
            return {}
        subscribe, publish, request = states
        shown = {_SUBSCRIBE: _STATES[subscribe], _PUBLISH: _STATES[publish]}
        if request:
            shown[_REQUEST] = variant("s", request)
        return shown

    @method("GetContactListAttributes")
    async def get_contact_list_attributes(
        self, Interfaces: Strings, Hold: DBusBool
    ) -> ContactAttributes:
        handles = self._connection.contact_list.contacts()
        return await self.attributes.of_all(handles, {*Interfaces, self.name})

    @method("RequestSubscription")
    async def request_subscription(self, Contacts: Handles, Message: DBusStr) -> None:
        await self._connection.contact_list.request_subscription(Contacts, Message)

    @method("AuthorizePublication")
    async def authorize_publication(self, Contacts: Handles) -> None:
        await self._connection.contact_list.authorize_publication(Contacts)

    @method("RemoveContacts")
    async def remove_contacts(self, Contacts: Handles) -> None:
        await self._connection.contact_list.remove_contacts(Contacts)

    @method("Unsubscribe")
    async def unsubscribe(self, Contacts: Handles) -> None:
        await self._connection.contact_list.unsubscribe(Contacts)

    @method("Unpublish")
    async def unpublish(self, Contacts: Handles) -> None:
        await self._connection.contact_list.unpublish(Contacts)

    @method("Download")
    def download(self) -> None:
        self._connection.contact_list.download()
