"""The made-up addresses that sessions are reached by.

In: how many ports a session needs. Out: a host and the first of its ports. It promises that no two sessions of
made-up addresses share a host's port, for as long as their place is known.
"""

from __future__ import annotations


class Addresses:
    """The addresses of one place."""

    def __init__(self, number: int, port_min: int, port_max: int) -> None:
        self._number = number
        self._port_min = port_min
        self._ports_a_host = port_max - port_min + 1
        self._ports_given = 0

    def take(self, ports: int, host: str | None = None) -> tuple[str, int]:
        """The host, made up unless one is given, and the first of so many ports in a row."""
        if self._ports_given % self._ports_a_host + ports > self._ports_a_host:
            self._ports_given += -self._ports_given % self._ports_a_host  # all ports of a session are on one host
        host_number, first = divmod(self._ports_given, self._ports_a_host)
        self._ports_given += ports
        return self.host(host_number, host), self._port_min + first

    def host(self, number: int = 0, host: str | None = None) -> str:
        """The address of the place's host of this number."""
        if host is not None:
            return host
        return f"10.{self._number % 256}.{(number + 1) // 256 % 256}.{(number + 1) % 256}"
