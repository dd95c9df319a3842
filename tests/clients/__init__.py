"""Telepathy clients of other people's making, each a process of its own with the system's Python.

A test starts one with ``python3 -m tests.clients.NAME`` on the bus in DBUS_SESSION_BUS_ADDRESS, and
reads what it says: a line of JSON each. ``tests.support.programs`` is the test's end of that.
"""
