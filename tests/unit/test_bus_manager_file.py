"""The .manager file says what the program says."""

from __future__ import annotations

from pathlib import Path

from telepathy_e2e.bus.manager_file import render
from telepathy_e2e.service.capabilities import channel_classes
from tests.unit.bus_support import CLASSES

DATA = Path(__file__).parents[2] / "data" / "dbus-services"


def test_the_installed_file_is_the_generated_one() -> None:
    """If not: python -m telepathy_e2e.bus.manager_file > data/dbus-services/e2e.manager"""
    assert (DATA / "e2e.manager").read_text() == render(channel_classes())


def test_parameters_classes_and_statuses_are_written_as_telepathy_reads_them() -> None:
    lines = render(CLASSES).splitlines()
    for line in (
        "param-account=s required register",
        "param-password=s register secret",
        "default-require-encryption=true",
        "default-fallback-socks5-proxies=",
        "status-available=2 settable message",
        "status-offline=1 message",
        "RequestableChannelClasses=class1;",
        "[class1]",
        "org.freedesktop.Telepathy.Channel.TargetHandleType u=1",
    ):
        assert line in lines
    assert not [line for line in lines if line.startswith("default-account")]


def test_the_activation_file_names_the_manager() -> None:
    text = (DATA / "org.freedesktop.Telepathy.ConnectionManager.e2e.service.in").read_text()
    assert text.splitlines() == [
        "[D-BUS Service]",
        "Name=org.freedesktop.Telepathy.ConnectionManager.e2e",
        "Exec=/usr/bin/env MALLOC_ARENA_MAX=1 @EXEC@",
    ]
