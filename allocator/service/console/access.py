"""Who may see the console: on loopback whoever is on this machine, elsewhere who has the token.

In: where the admin address listens, the token if one is set, and of a request its Host and Authorization. Out: None
where it may, else why not. Promises: on loopback a page of another site, whose name was made to lead here, is refused
by its Host; elsewhere nothing is shown without a token, neither where none is set; no message repeats one. What is on
the way to this machine is left to the network: over plain HTTP a token can be read.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from allocator.providers.credential import Credential
from allocator.service.authorization import bears

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not; `status` is HTTP's."""

    status: int
    says: str


OFF = Refusal(403, "the console is off: it needs a token here; set admin.token or admin.token_file")
FOREIGN = Refusal(403, "the console is asked by its IP address or as localhost; write that in place of this name")
ASKS = Refusal(401, "the console needs the token that admin.token or admin.token_file gives the workers")


class Access:
    """The rule of one admin address."""

    def __init__(self, credential: Credential | None) -> None:
        """Without a credential it is loopback's alone."""
        self._credential = credential
        self._is_loopback = False

    def listen_on(self, addresses: Sequence[str]) -> None:
        """Learn where it is served; until then it counts as open to all."""
        self._is_loopback = bool(addresses) and all(_leads_here(each) for each in addresses)

    def refusal(self, hosts: Sequence[str], authorization: str | None) -> Refusal | None:
        """Why a request with these headers may not see it; None where it may."""
        if self._is_loopback:
            return None if len(hosts) == 1 and _is_literal(hosts[0]) else FOREIGN
        if self._credential is None:
            return OFF
        return None if bears(authorization, self._credential, as_password=True) else ASKS


def _leads_here(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _is_literal(host: str) -> bool:
    """Whether it is an IP address or localhost, with or without a port: what no DNS server can turn elsewhere."""
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    six, name = found.groups()
    if name is not None and name.lower() == "localhost":
        return True
    try:
        ipaddress.IPv6Address(six) if name is None else ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True
