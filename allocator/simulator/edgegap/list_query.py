"""The `query` of `GET /v1/deployments`: filters and order, as the vendor documents them.

In: the text of the parameter, `{"filters": [{"field", "operator", "value"}], "order_by": [{"field", "order"}]}`. Out: a
function from deployments to those wanted, in order; or what is wrong with the query. At most one filter a field; `in`
and `nin` take a list. Without an order the newest come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from allocator.simulator.edgegap.deploy_body import Body, Text, wrong
from allocator.simulator.edgegap.deployment import Deployment, State
from allocator.simulator.edgegap.refused import Refused

Wanted = Callable[[Iterable[Deployment]], list[Deployment]]

_OPERATORS = {
    "status": {"eq", "neq"},
    "request_id": {"eq", "neq", "in", "nin"},
    "tags": {"eq", "neq", "in", "nin"},
    "application": {"eq", "neq", "in", "nin"},
    "version": {"eq", "neq", "in", "nin"},
    "created_at": {"eq", "gte", "lte"},
}


class _Filter(Body):
    field: Text
    operator: Text
    value: Text | list[Text]

    @model_validator(mode="after")
    def _known(self) -> _Filter:
        operators = _OPERATORS.get(self.field)
        if operators is None:
            raise ValueError(f"field must be one of {', '.join(_OPERATORS)}")
        if self.operator not in operators:
            raise ValueError(f"{self.field} takes the operators {', '.join(sorted(operators))}")
        if (self.operator in {"in", "nin"}) != isinstance(self.value, list):
            raise ValueError("value must be a list for in and nin, and a text for the others")
        if self.field == "status" and self.value not in {state.lower() for state in State}:
            raise ValueError(f"status is one of {', '.join(state.lower() for state in State)}")
        if self.field == "created_at":
            self.at_ms()
        return self

    def at_ms(self) -> int:
        """Unix milliseconds of a `created_at`."""
        at = datetime.fromisoformat(str(self.value))
        if at.tzinfo is None:
            raise ValueError("created_at must name its time zone, such as 2026-09-30T00:00:00Z")
        return int(at.timestamp() * 1000)


class _Order(Body):
    field: Literal["created_at", "available_session_sockets"]
    order: Literal["asc", "desc"] = "asc"


class _Query(Body):
    filters: list[_Filter] = Field(default_factory=list)
    order_by: Annotated[list[_Order], Field(max_length=1)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_filter_a_field(self) -> _Query:
        fields = [each.field for each in self.filters]
        if len(set(fields)) < len(fields):
            raise ValueError("only one filter per field is allowed")
        return self


def read_query(text: str | None) -> Wanted | Refused:
    """What a query wants; without one, all."""
    try:
        query = _Query() if text is None else _Query.model_validate_json(text)
    except ValidationError as error:
        return Refused(400, "Invalid query", wrong(error).details)
    passes = [_passing(each) for each in query.filters]
    oldest_first = bool(query.order_by) and query.order_by[0].order == "asc"

    def wanted(deployments: Iterable[Deployment]) -> list[Deployment]:
        found = [each for each in deployments if all(good(each) for good in passes)]
        return found if oldest_first else found[::-1]

    return wanted


def _passing(filter_: _Filter) -> Callable[[Deployment], bool]:
    if filter_.field == "created_at":
        return _created(filter_.operator, filter_.at_ms())
    values = frozenset([filter_.value] if isinstance(filter_.value, str) else filter_.value)
    wanted = filter_.operator in {"eq", "in"}
    read = _FIELDS[filter_.field]
    return lambda deployment: (not values.isdisjoint(read(deployment))) is wanted


def _created(operator: str, at_ms: int) -> Callable[[Deployment], bool]:
    if operator == "gte":
        return lambda deployment: deployment.created_at_ms >= at_ms
    if operator == "lte":
        return lambda deployment: deployment.created_at_ms <= at_ms
    return lambda deployment: deployment.created_at_ms == at_ms


_FIELDS: dict[str, Callable[[Deployment], tuple[str, ...]]] = {
    "status": lambda deployment: (deployment.state.lower(),),
    "request_id": lambda deployment: (deployment.request_id,),
    "tags": lambda deployment: deployment.tags,
    "application": lambda deployment: (deployment.application,),
    "version": lambda deployment: (deployment.version,),
}
