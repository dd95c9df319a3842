"""The .manager file: what the running program says of itself, for when it does not run.

``python -m telepathy_e2e.bus.manager_file`` prints it; a test holds the one in ``data`` to it.
Account managers take it as a promise, so nothing in it is written by hand.
"""

from __future__ import annotations

from collections.abc import Iterable

from telepathy_e2e.bus.channels.table import ChannelClass, signatures
from telepathy_e2e.bus.parameters import PARAMETERS, Flag, Parameter
from telepathy_e2e.bus.protocol import (
    NAME,
    STATUSES,
    ProtocolAddressing,
    ProtocolAvatars,
    ProtocolInterface,
)

_WORDS = {
    Flag.REQUIRED: "required",
    Flag.REGISTER: "register",
    Flag.SECRET: "secret",
    Flag.DBUS_PROPERTY: "dbus-property",
}


def render(classes: list[ChannelClass]) -> str:
    """The whole file (Connection_Manager, the format at its end).

    Args:
        classes: requestable channel classes.
    """
    groups = [f"class{number}" for number in range(1, len(classes) + 1)]
    shown = ProtocolInterface
    lines = ["[ConnectionManager]", "Interfaces=", "", f"[Protocol {NAME}]"]
    lines += [
        f"EnglishName={shown.english_name}",
        f"Icon={shown.icon}",
        f"VCardField={shown.v_card_field}",
        f"Interfaces={_list(shown.interfaces)}",
        f"ConnectionInterfaces={_list(shown.connection_interfaces)}",
        f"RequestableChannelClasses={_list(groups)}",
        f"AuthenticationTypes={_list(shown.authentication_types)}",
    ]
    for interface in (ProtocolAvatars(), ProtocolAddressing()):
        lines += [
            f"{name}={_value(declared.read(interface))}"
            for name, declared in interface.members().properties.items()
        ]
    for each in PARAMETERS:
        lines += _parameter(each)
    for status, (kind, settable, message) in STATUSES.items():
        words = [str(kind), *(["settable"] if settable else []), *(["message"] if message else [])]
        lines.append(f"status-{status}={' '.join(words)}")
    for group, (fixed, allowed) in zip(groups, classes, strict=True):
        lines += ["", f"[{group}]"]
        lines += [f"{name} {signatures()[name]}={_value(value)}" for name, value in fixed.items()]
        lines.append(f"allowed={_list(allowed)}")
    return "\n".join(lines) + "\n"


def _parameter(each: Parameter) -> list[str]:
    words = [word for flag, word in _WORDS.items() if flag in each.flags]
    lines = [f"param-{each.name}={' '.join([each.signature, *words])}"]
    if each.default is not None:
        lines.append(f"default-{each.name}={_value(each.default)}")
    return lines


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return _list(value)
    return str(value)


def _list(items: Iterable[str]) -> str:
    return "".join(item.replace(";", "\\;") + ";" for item in items)


if __name__ == "__main__":
    from telepathy_e2e.service.capabilities import channel_classes

    print(render(channel_classes()), end="")
