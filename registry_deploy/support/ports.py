# Copied by `make vendor` from support/ports.py of the collection: edit that, or this in your own copy.
"""A port for a server of this machine."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
