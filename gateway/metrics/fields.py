"""How totals are named in the Redis hash `corral:metrics`, and the bounds of the histograms.

A field is its parts with `|` between them; the value is a whole number. `<id>` is the id of an instance, 0 for requests
that came to none (a wrong key, an unknown model, the list of models):

    requests|<id>|<backend>|<status>|<outcome>
    tokens|<id>|<backend>|<status>|<kind>           prompt, completion, cached
    duration|<id>|<bound>                           requests that fell into this bucket alone; the last bound is +Inf
    duration|<id>|sum                               microseconds; likewise first_byte and queue
    starts|<id>, start_failures|<id>, crashes|<id>, swaps|<id>, refusals|<id>      from the supervisor
    dropped                                         accounting rows

Fields that begin with `@` are notes and not totals. Ids instead of names make a renamed instance keep its totals.
"""

from __future__ import annotations

TOTALS_KEY = "corral:metrics"
SHARES_KEY = "corral:metrics:shares"

DURATION = "duration"
FIRST_BYTE = "first_byte"
QUEUE = "queue"

BOUNDS_S: dict[str, tuple[float, ...]] = {
    DURATION: (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
    FIRST_BYTE: (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
    QUEUE: (0.05, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600),
}
"""Upper bounds of the buckets in seconds. Old bounds stay readable after a change: a field carries its own."""

TOKEN_KINDS = ("prompt", "completion", "cached")


def name_bound(bound: float) -> str:
    """The bound as it stands in a field and in the label `le`: `5.0`, the canonical form of OpenMetrics."""
    return repr(float(bound))


BOUND_NAMES = {name: (*map(name_bound, bounds), "+Inf") for name, bounds in BOUNDS_S.items()}


def find_instance(field: str) -> int | None:
    """The instance a field belongs to; None when it belongs to none."""
    parts = field.split("|", 2)
    return int(parts[1]) if len(parts) > 1 and parts[1].isdecimal() and parts[1] != "0" else None
