"""D-Bus interface names, once."""

from __future__ import annotations

TP = "org.freedesktop.Telepathy."
CONNECTION = TP + "Connection"
CHANNEL = TP + "Channel"
REQUESTS = CONNECTION + ".Interface.Requests"
CONTACTS = CONNECTION + ".Interface.Contacts"
SIMPLE_PRESENCE = CONNECTION + ".Interface.SimplePresence"
CONTACT_CAPABILITIES = CONNECTION + ".Interface.ContactCapabilities"
FILE_TRANSFER = CHANNEL + ".Type.FileTransfer"
PEER_VERIFICATION = CHANNEL + ".Type.PeerVerification1"
CERTIFICATE_REQUEST = CHANNEL + ".Type.CertificateRequest1"
SECURABLE = CHANNEL + ".Interface.Securable"
END_TO_END_SECURITY = CHANNEL + ".Interface.EndToEndSecurity1"
DESTROYABLE = CHANNEL + ".Interface.Destroyable"
TLS_CERTIFICATE = TP + "Authentication.TLSCertificate"
