"""Ports for the servers of tests: none is given twice, so two asked for apart are two."""

import random
import socket

from runner.services import port_taken

_UNTRIED = random.sample(range(20_000, 32_768), 12_768)
"""In an order of this process's own, as another's tests may run beside it. Below 32768, where Linux
takes the ports of outgoing connections from: one of those could come before the server."""


def free_port() -> int:
    """A port that nobody has now, in TCP or UDP, and that no other test is given."""
    while _taken(port := _UNTRIED.pop()):
        pass
    return port


def free_ports(count: int) -> list[int]:
    """So many of `free_port`."""
    return [free_port() for _ in range(count)]


def _taken(port: int) -> bool:
    """At any address of this machine: LiveKit's are open at all of them."""
    return any(port_taken("", port, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM))
