"""What a new form says and offers before anybody has typed."""

from __future__ import annotations

import re

from django.test import Client

from tests.factories import make_node

NEW = "/instances/new/"


def test_this_host_is_offered_first_whatever_the_others_are_called(client: Client) -> None:
    """llamactl 11.2-40: the node that was chosen beforehand was a random one."""
    for name in ("a-first", "main", "zz-last"):
        make_node(name)
    page = client.get(NEW).content.decode()
    select = re.search(r'<select[^>]*name="node".*?</select>', page, re.DOTALL)
    assert select is not None
    assert re.findall(r'<option value="([^"]*)"', select[0])[0] == "main"
    assert "selected" not in select[0]  # so a browser chooses the first


def test_no_restarts_are_not_called_unlimited(client: Client) -> None:
    """llamactl 11.2-40: the form said "0 = unlimited", and 0 restarted never."""
    page = client.get(NEW).content.decode()
    field = re.search(r'<input[^>]*name="max_restarts"[^>]*aria-describedby="([^"]+)"', page)
    assert field is not None
    described = re.search(rf'id="{field[1].split()[0]}"[^>]*>([^<]*)<', page)
    assert described is not None
    assert "0: none" in described[1]
    assert "unlimited" not in page
