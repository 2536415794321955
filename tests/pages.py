"""Reading Corral's pages in tests without a browser."""

from __future__ import annotations

import re


def read_token(page: str) -> str:
    """Return the CSRF token of the first form of a page."""
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found is not None
    return found[1]
