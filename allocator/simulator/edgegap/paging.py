"""Pages of a list, in the vendor's envelope.

In: rows, and the `page` and `limit` of a query. Out: the rows of that page with `total_count` and `pagination`, or
what is wrong with the query. A page beyond the last is empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from allocator.simulator.edgegap.refused import Refused
from allocator.simulator.edgegap.settings import SimulatorSettings

_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Page:
    """Which page of how many rows."""

    number: int
    limit: int

    def of(self, rows: Sequence[Any]) -> Sequence[Any]:
        """The rows of this page."""
        first = (self.number - 1) * self.limit
        return rows[first : first + self.limit]

    def envelope(self, total: int) -> dict[str, Any]:
        """`PaginatedResponse`."""
        pages = max(1, -(-total // self.limit))
        return {
            "total_count": total,
            "pagination": {
                "number": self.number,
                "next_page_number": self.number + 1 if self.number < pages else None,
                "previous_page_number": self.number - 1 if self.number > 1 else None,
                "paginator": {"num_pages": pages},
                "has_next": self.number < pages,
                "has_previous": self.number > 1,
            },
        }


def read_page(query: Mapping[str, str], settings: SimulatorSettings) -> Page | Refused:
    """The page that a query asks for; a limit above the vendor's is taken as the vendor's."""
    wrong = {key: "must be a number from 1" for key in ("page", "limit") if not _is_number(query.get(key, "1"))}
    if wrong:
        return Refused(400, "Invalid query", wrong)
    limit = int(query.get("limit", settings.page_limit))
    return Page(int(query.get("page", 1)), min(limit, settings.page_limit_max))


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None
