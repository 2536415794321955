from __future__ import annotations

import asyncio
from functools import partial

import pytest

from gateway.turns import LATER_S, TURN_LIMIT, TurnQueue

pytestmark = pytest.mark.any_database


async def test_work_is_done_together_and_in_order_when_the_turn_ends() -> None:
    done: list[str] = []
    queue = TurnQueue()
    for name in "ab":
        queue.add(partial(done.append, name))
    assert done == []
    await asyncio.sleep(0)
    assert done == ["a", "b"]


async def test_what_can_wait_is_done_together_a_moment_later() -> None:
    done: list[str] = []
    queue = TurnQueue()
    for name in "ab":
        queue.add_later(partial(done.append, name))
        queue.add(partial(done.append, "work"))
    await asyncio.sleep(0)
    assert done == ["work", "work"]
    await asyncio.sleep(3 * LATER_S)
    assert done == ["work", "work", "a", "b"]
    queue.add_later(partial(done.append, "c"))
    await asyncio.sleep(3 * LATER_S)
    assert done[-1] == "c"


async def test_what_can_wait_is_done_at_once_for_who_needs_it() -> None:
    done: list[str] = []
    queue = TurnQueue()
    queue.add_later(lambda: done.append("account"))
    queue.catch_up()
    assert done == ["account"]
    await asyncio.sleep(3 * LATER_S)
    assert done == ["account"]


async def test_what_waits_does_not_wait_for_ever_more_to_come() -> None:
    done: list[int] = []
    queue = TurnQueue()
    for number in range(TURN_LIMIT + 1):
        queue.add(partial(done.append, number))
    assert done == list(range(TURN_LIMIT))
    await asyncio.sleep(0)
    assert done == list(range(TURN_LIMIT + 1))


async def test_work_that_brings_more_work_is_followed_by_it() -> None:
    done: list[str] = []
    queue = TurnQueue()

    def bring() -> None:
        queue.add(lambda: done.append("next"))

    queue.add(bring)
    await asyncio.sleep(0)
    assert done == ["next"]


async def test_what_is_added_by_what_is_done_waits_for_its_turn() -> None:
    depth = deepest = 0
    queue = TurnQueue()

    def bring(more: int) -> None:
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)
        for _ in range(more):
            queue.add(lambda: bring(0))
        depth -= 1

    queue.add(lambda: bring(2 * TURN_LIMIT))
    queue.run()
    assert deepest == 1


async def test_an_error_in_one_keeps_none_of_the_others_from_being_done() -> None:
    done: list[str] = []
    errors: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
    queue = TurnQueue()

    def fail() -> None:
        raise ArithmeticError

    queue.add(fail)
    queue.add(lambda: done.append("other"))
    queue.add_later(fail)
    queue.add_later(lambda: done.append("account"))
    queue.run()
    queue.catch_up()
    assert done == ["other", "account"]
    assert [type(error) for error in errors] == [ArithmeticError] * 2


async def test_what_waits_can_be_done_before_the_loop_ends() -> None:
    done: list[str] = []
    queue = TurnQueue()
    queue.add(lambda: done.append("work"))
    queue.run()
    await asyncio.sleep(0)
    assert done == ["work"]


async def test_nothing_waits_any_more_once_the_queue_is_closed() -> None:
    done: list[str] = []
    queue = TurnQueue()
    queue.add(lambda: done.append("work"))
    queue.add_later(lambda: done.append("account"))
    queue.close()
    assert done == ["work", "account"]
    queue.add_later(lambda: done.append("late account"))
    assert done[-1] == "late account"
