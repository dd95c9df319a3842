"""A stanza in one line of the log: what kind, from whom to whom, and never what is in it."""

from __future__ import annotations

from xml.etree.ElementTree import Element

# Children that are named; a stanza may have thousands.
MAX_CHILDREN = 6
# Characters of a name or an address: others choose them.
MAX_TEXT = 100


class Shown:
    """Formats itself when somebody looks."""

    __slots__ = ("_element",)

    def __init__(self, element: Element) -> None:
        self._element = element

    def __str__(self) -> str:
        element = self._element
        words = [_name(element.tag)]
        words += [
            f"{key}={element.get(key, '')[:MAX_TEXT]}"
            for key in ("type", "id", "from", "to", "h")
            if key in element.attrib
        ]
        children = [_name(child.tag) for child in element[:MAX_CHILDREN]]
        if len(element) > MAX_CHILDREN:
            children.append("...")
        # Texts are left out: that of a login's element is as good as the password.
        return " ".join([*words, *(f"<{each}/>" for each in children)])


def _name(tag: str) -> str:
    space, _, name = tag.rpartition("}")
    return (
        f"{name} {space[1:]}"[:MAX_TEXT] if space and space != "{jabber:client" else name[:MAX_TEXT]
    )
