"""``make demo``: a protected file transfer between two desktops, over a server that spies."""
