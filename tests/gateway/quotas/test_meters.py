from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from accounts.domain.windows import find_window
from gateway.quotas.meters import Meters
from gateway.structs import Quota

NOON = 1_780_315_200.0
"""2026-06-01 12:00:00 UTC."""


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def make_quota(unit: str = "requests", window: str = "minute", limit: int = 3, subject: str = "user:1") -> Quota:
    counter = f"{subject}:{unit}:{window}"
    return Quota(counter=counter, unit=unit, window=window, limit=limit, whose="your account")  # type: ignore[arg-type]


def make_meters(clock: Clock, *quotas: Quota) -> Meters:
    """Meters of which everything is known to be unused."""
    meters = Meters(find_window, clock)
    for quota in quotas:
        meters.find(quota, clock.now).settle(0)
    return meters


def test_what_is_not_known_yet_is_neither_let_in_nor_refused() -> None:
    clock, quota = Clock(), make_quota()
    meters = Meters(find_window, clock)
    assert meters.charge([quota]) is False
    meters.find(quota, clock.now)
    assert meters.charge([quota]) is False
    meters.by_counter[quota.counter].settle(0)
    assert meters.charge([quota]) is True


def test_the_tightest_of_several_limits_refuses_and_then_nothing_is_counted() -> None:
    clock, wide, tight = Clock(), make_quota(limit=10), make_quota(window="day", limit=2)
    meters = make_meters(clock, wide, tight)
    assert [meters.charge([wide, tight]) for _ in range(3)] == [True, True, tight]
    assert meters.by_counter[wide.counter].used == 2


def test_tokens_are_counted_afterwards_and_let_in_until_the_limit_is_reached() -> None:
    clock, quota = Clock(), make_quota("tokens", limit=100)
    meters = make_meters(clock, quota)
    assert meters.charge([quota]) is True
    meters.charge_tokens([quota], 99)
    assert meters.charge([quota]) is True
    meters.charge_tokens([quota], 500)
    assert meters.charge([quota]) is quota


def test_a_window_that_was_watched_to_its_end_is_followed_by_an_empty_one() -> None:
    for window, seconds in (("minute", 60), ("day", 43_200), ("month", 29.5 * 86_400)):
        clock, quota = Clock(), make_quota(window=window, limit=1)
        meters = make_meters(clock, quota)
        assert [meters.charge([quota]) for _ in range(2)] == [True, quota]
        clock.now += seconds - 0.001
        assert meters.charge([quota]) is quota
        clock.now += 0.001
        assert meters.charge([quota]) is False  # the next round, or the request itself, begins the window
        meters.tidy()
        assert [meters.charge([quota]) for _ in range(2)] == [True, quota], window
        assert [meter.pending for meter in meters.left] == [1]  # the old window's is still to be sent


def test_a_window_after_a_gap_must_be_read_first() -> None:
    clock, quota = Clock(), make_quota()
    meters = make_meters(clock, quota)
    clock.now += 121
    meters.find(quota, clock.now)
    assert meters.charge([quota]) is False


def test_what_nobody_uses_is_forgotten_but_not_what_is_still_to_be_sent() -> None:
    clock, used, unused = Clock(), make_quota(), make_quota(subject="user:2")
    meters = make_meters(clock, used, unused)
    meters.charge([used])
    clock.now += 11
    meters.tidy()
    assert list(meters.by_counter) == [used.counter]


def test_a_refused_request_is_given_back_in_its_own_window_only() -> None:
    clock, quota = Clock(), make_quota()
    meters = make_meters(clock, quota)
    clock.now += 5
    meters.charge([quota])
    meters.give_back([quota], 0.5)
    assert meters.by_counter[quota.counter].used == 0
    meters.charge([quota])
    clock.now += 60
    meters.tidy()
    meters.charge([quota])
    meters.give_back([quota], 60)
    assert meters.by_counter[quota.counter].used == 1


def test_what_comes_between_a_batch_and_its_answer_is_counted_once() -> None:
    clock, quota = Clock(), make_quota(limit=100)
    meters = make_meters(clock, quota)
    meter = meters.by_counter[quota.counter]
    meters.charge([quota])
    assert meter.take() == 1
    meters.charge([quota])
    meter.settle(7)
    assert (meter.used, meter.take()) == (8, 1)
    meter.put_back()
    assert (meter.used, meter.take()) == (8, 1)


def test_while_only_the_database_answers_the_larger_count_is_believed() -> None:
    clock, quota = Clock(), make_quota(limit=100)
    meters = make_meters(clock, quota)
    meter = meters.by_counter[quota.counter]
    meter.settle(10)
    meters.charge([quota])
    meter.recognize(8)
    assert meter.used == 11
    meter.recognize(15)
    assert meter.used == 15


@given(
    st.sampled_from(["minute", "day", "month"]),
    st.floats(min_value=0, max_value=2**34, allow_nan=False),
)
def test_windows_hold_their_moment_and_follow_each_other_without_a_gap(window: str, moment: float) -> None:
    begins, ends = find_window(window, moment)
    assert begins <= moment < ends
    assert find_window(window, begins) == (begins, ends)
    assert find_window(window, ends)[0] == ends
    assert begins == 0 or find_window(window, begins - 1)[1] == begins
    shortest, longest = {"minute": (60, 60), "day": (86_400, 86_400), "month": (28 * 86_400, 31 * 86_400)}[window]
    assert shortest <= ends - begins <= longest


@given(
    st.lists(
        st.tuples(st.sampled_from(["charge", "send", "answer", "lose", "other", "refund"]), st.integers(1, 5)),
        max_size=60,
    )
)
def test_whatever_the_order_of_batches_the_process_and_the_total_agree(steps: list[tuple[str, int]]) -> None:
    clock, quota = Clock(), make_quota(limit=20)
    meters = make_meters(clock, quota)
    meter = meters.by_counter[quota.counter]
    total = own = 0  # in Redis; let in here
    is_out = False
    for step, amount in steps:
        if step == "charge":
            own += meters.charge([quota]) is True
        elif step == "other":
            total += amount
        elif step == "refund" and own and meter.used:
            meters.give_back([quota], 0)
            own -= 1
        elif step == "send" and not is_out:
            meter.take()
            is_out = True
        elif step == "answer" and is_out:
            total, is_out = max(0, total + meter.sent), False
            meter.settle(total)
        elif step == "lose" and is_out:
            meter.put_back()
            is_out = False
    if not is_out:
        meter.take()
    total += meter.sent
    meter.settle(total)
    assert meter.used == total + meter.pending
    assert meter.used >= own
