"""How interfaces are declared."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from telepathy_e2e.bus.members import Interface, Property, Signal, method, signature_of, snake
from telepathy_e2e.bus.wire import DBusSignature, DBusStr, DBusUInt32

Pair = Annotated[tuple[str, int], DBusSignature("su")]


class Base(Interface):
    name = "org.example.Base"

    TargetID = Property(DBusStr)
    Count = Property(DBusUInt32, setter="set_count")
    Happened = Signal(What=DBusStr, Often=DBusUInt32)
    count = 3

    @method("GetTwo")
    def get_two(self, Text: DBusStr) -> Pair:
        return Text, 2

    @method("Nothing")
    def nothing(self) -> None:
        return None


class Shown:
    target_id = "bob"
    count = 99


class Sink:
    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []

    def emit(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        self.sent.append((path, interface, member, signature, body))


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("State", "state"),
        ("TargetID", "target_id"),
        ("URI", "uri"),
        ("VCardField", "v_card_field"),
        ("TargetHandleType", "target_handle_type"),
        ("CertificateChainData", "certificate_chain_data"),
        ("SelfID", "self_id"),
    ],
)
def test_properties_are_named_as_the_service_layer_names_them(name: str, attribute: str) -> None:
    assert snake(name) == attribute


def test_types_are_read_from_annotations_only() -> None:
    assert signature_of(DBusStr) == "s"
    assert signature_of(Pair) == "su"
    assert signature_of(None) == ""
    for wrong in (str, "s", Annotated[str, "s"]):
        with pytest.raises(TypeError):
            signature_of(wrong)


def test_a_method_has_the_types_of_its_annotations() -> None:
    two = Base.members().methods["GetTwo"]
    assert (two.arguments, two.signature) == ((("Text", "s"),), "s")
    assert (two.results, two.result_signature) == (("s", "u"), "su")
    assert two.body(two.function(Base(), "a")) == ["a", 2]
    assert Base.members().methods["Nothing"].body(None) == []


def test_a_property_is_the_interfaces_own_or_its_subjects() -> None:
    properties = Base.members().properties
    shown = Base(Shown())
    assert properties["TargetID"].read(shown) == "bob"
    assert properties["Count"].read(shown) == 3
    assert [properties[name].access for name in ("TargetID", "Count")] == ["read", "readwrite"]


def test_a_signal_is_sent_from_where_the_interface_is_and_nowhere_else() -> None:
    shown, sink = Base(), Sink()
    shown.Happened("early", 1)
    shown.exported("/here", sink)
    shown.Happened("now", 2)
    shown.exported("/here", None)
    shown.Happened("late", 3)
    assert sink.sent == [("/here", "org.example.Base", "Happened", "su", ["now", 2])]
    with pytest.raises(TypeError):
        Base.Happened("of nobody", 4)


def test_members_are_inherited_and_others_left_alone() -> None:
    class Derived(Base):
        name = "org.example.Derived"

        Extra = Property(DBusStr)

    assert set(Derived.members().properties) == {"TargetID", "Count", "Extra"}
    assert set(Base.members().properties) == {"TargetID", "Count"}
    assert set(Derived.members().methods) == {"GetTwo", "Nothing"}
