"""What the gateway remembers about a request that could not be forwarded at once, or only with a place of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.loading import LoadingStream


class Admission:
    """One request's way in. Most requests never have one: they find their instance ready and unlimited."""

    __slots__ = ("deadline_s", "loading", "number", "place")

    def __init__(self) -> None:
        self.place = 0
        """Id of the instance in which it holds one of a limited number of places; 0 for none."""
        self.number = 0
        """Its place in the order of arrival among those who had to wait; 0 as long as it hasn't."""
        self.deadline_s = 0.0
        """Until when it may wait in all, monotonic seconds; 0 as long as it hasn't waited."""
        self.loading: LoadingStream | None = None
        """Tells the client what it waits for; None when it didn't want to know."""
