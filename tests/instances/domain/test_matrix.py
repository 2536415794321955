"""Sets of instances that may run together: reading them, and choosing who leaves."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instances.domain.matrix import Matrix, MatrixError, MatrixOptions

EXAMPLE = MatrixOptions(
    vars={"g": "gemma", "q": "qwen", "m": "mistral", "v": "voxtral", "e": "rerank"},
    evict_costs={"voxtral": 50, "llama-70B": 30},
    sets={
        "standard": "(g | qwen | m) & v",
        "with_rerank": "(g | q) & v & e",
        "creative": "(g | q) & sd",
        "full": "llama-70B",
    },
)


def matrix(**sets: str) -> Matrix:
    return Matrix(MatrixOptions(sets=sets))


@pytest.mark.parametrize(
    ("target", "running", "evicted", "set_name", "cost"),
    [
        ("qwen", ["gemma", "voxtral"], ("gemma",), "standard", 1),
        ("rerank", ["mistral", "voxtral"], ("mistral",), "with_rerank", 1),
        ("sd", ["gemma", "voxtral"], ("voxtral",), "creative", 50),
        ("llama-70B", ["gemma", "rerank", "voxtral"], ("gemma", "rerank", "voxtral"), "full", 52),
        ("gemma", ["sd", "voxtral"], ("sd",), "standard", 1),
        ("gemma", ["gemma", "sd"], (), "creative", 0),
    ],
)
def test_the_worked_examples(
    target: str, running: list[str], evicted: tuple[str, ...], set_name: str, cost: int
) -> None:
    found = Matrix(EXAMPLE).solve(target, running)
    assert (found.evicted, found.set_name, found.cost) == (evicted, set_name, cost)


def test_an_instance_in_no_set_evicts_everything_at_no_cost() -> None:
    found = matrix(day="a & b").solve("stranger", ["a", "b"])
    assert (found.evicted, found.set_name, found.cost, found.kept) == (("a", "b"), "", 0, frozenset({"stranger"}))


def test_or_binds_less_than_and_and_blanks_mean_nothing() -> None:
    found = matrix(day=" a|b&\tc ")
    assert found.solve("b", ["a", "c"]).evicted == ("a",)
    assert found.solve("a", ["b", "c"]).evicted == ("b", "c")


def test_a_product_allows_every_combination_and_its_parts() -> None:
    found = matrix(day="(a | b) & (c | d)")
    assert found.solve("d", ["a", "c"]).evicted == ("c",)
    assert found.solve("a", []).evicted == ()


def test_a_set_stands_for_another_wherever_it_is_named() -> None:
    found = matrix(all="+talk & (sd | +talk)", talk="g | q")
    assert found.solve("sd", ["q"]).evicted == ()
    assert found.solve("g", ["q"]).evicted == ()


def test_ties_go_to_the_set_defined_first_and_to_the_left() -> None:
    assert matrix(one="t & a", two="t & b").solve("t", ["a", "b"]).set_name == "one"
    assert matrix(two="t & b", one="t & a").solve("t", ["a", "b"]).set_name == "two"
    assert matrix(one="t & (b | a)").solve("t", ["a", "b"]).evicted == ("a",)


def test_a_set_that_is_referred_to_comes_before_the_one_that_refers_to_it() -> None:
    assert matrix(a="+b | g", b="q").solve("q", []).set_name == "b"


def test_a_running_target_evicts_nobody_and_a_set_is_named_only_when_it_has_all() -> None:
    assert matrix(one="a & b").solve("a", ["a", "b"]).set_name == "one"
    found = matrix(one="a & b").solve("a", ["a", "b", "x"])
    assert (found.evicted, found.set_name) == ((), "")


def test_a_pinned_instance_leaves_only_when_there_is_no_other_way() -> None:
    found = Matrix(MatrixOptions(evict_costs={"a": 1000}, sets={"one": "t & a", "two": "t & b"}))
    assert found.solve("t", ["a", "b"]).evicted == ("b",)
    assert found.solve("t", ["a", "b"], pinned=["b"]).evicted == ("a",)


def test_a_million_combinations_are_never_written_out() -> None:
    parts = ["(" + " | ".join(f"m{row}-{column}" for column in range(10)) + ")" for row in range(6)]
    found = matrix(all=" & ".join(parts)).solve("m0-1", ["m0-0", *(f"m{row}-{row}" for row in range(1, 6))])
    assert (found.evicted, found.cost) == (("m0-0",), 1)
    assert found.looked_at <= 6 * 10 * 3


def test_ten_thousand_million_combinations_with_everything_running_are_bounded_too() -> None:
    rows = [[f"m{row}-{column}" for column in range(4)] for row in range(10)]
    found = matrix(all=" & ".join("(" + "|".join(row) + ")" for row in rows)).solve("x", [])
    assert found.set_name == ""
    everything = [name for row in rows for name in row][1:]
    found = matrix(all=" & ".join("(" + "|".join(row) + ")" for row in rows)).solve("m0-0", everything)
    assert len(found.kept) == 10
    assert "m0-0" in found.kept
    assert found.looked_at < 20_000


def test_a_long_chain_of_references_is_no_deeper_than_another() -> None:
    sets = {f"s{number}": f"+s{number + 1} & m{number}" for number in range(3000)} | {"s3000": "end"}
    assert Matrix(MatrixOptions(sets=sets)).solve("end", ["m0", "other"]).evicted == ("other",)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "set day: it is empty"),
        ("   ", "set day: it is empty"),
        ("a / b", "set day: unexpected character '/' at position 3"),
        ("(a | b", "set day: expected ) for the ( at position 1, not the end"),
        ("a b", "set day: expected | or & before 'b' at position 3"),
        ("a &", "set day: expected a name, + or ( and not the end"),
        ("a | )", "set day: expected a name, + or ( and not ')' at position 5"),
        ("a & + ", "set day: expected a set's name after + at position 5, not the end"),
        ("+night", "set day: +night refers to a set that is not defined"),
        ("a & +day", "set day refers to itself: day -> day"),
        ("é", "set day: 'é' is neither a var nor the name of an instance"),
        ("(" * 60 + "a" + ")" * 60, "set day: more than 50 parentheses"),
    ],
)
def test_every_fault_names_its_set(text: str, fault: str) -> None:
    with pytest.raises(MatrixError, match="set day") as caught:
        matrix(other="x | y", day=text)
    assert fault in str(caught.value)


def test_a_circle_is_shown() -> None:
    with pytest.raises(MatrixError, match="set a refers to itself: a -> b -> c -> a"):
        matrix(a="+b", b="x | +c", c="y & +a")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (MatrixOptions(vars={"a": "b"}), "there are no sets"),
        (MatrixOptions(vars={"a_b": "c"}, sets={"s": "x"}), "var 'a_b' must have"),
        (MatrixOptions(vars={"a": "org/model"}, sets={"s": "x"}), "var a stands for 'org/model'"),
        (MatrixOptions(evict_costs={"x": 0}, sets={"s": "x"}), "x must cost between 1 and"),
        (MatrixOptions(vars={"v": "x"}, evict_costs={"x": 1, "v": 2}, sets={"s": "x"}), "x is given two costs"),
        (MatrixOptions(evict_costs={"a/b": 2}, sets={"s": "x"}), "evict_costs: 'a/b' is neither"),
        (MatrixOptions(sets={"a b": "x"}), "set 'a b' must be named"),
    ],
)
def test_what_else_cannot_be_meant(options: MatrixOptions, fault: str) -> None:
    with pytest.raises(MatrixError) as caught:
        Matrix(options)
    assert fault in str(caught.value)


NAMES = "abcdef"
FAMILY = st.recursive(
    st.sampled_from(NAMES).map(lambda name: (name, [{name}])),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(
            lambda parts: (
                "(" + "|".join(text for text, _ in parts) + ")",
                [one for _, family in parts for one in family],
            )
        ),
        st.lists(inner, min_size=2, max_size=3).map(
            lambda parts: (
                "(" + "&".join(text for text, _ in parts) + ")",
                [set().union(*chosen) for chosen in itertools.product(*(family for _, family in parts))],
            )
        ),
    ),
    max_leaves=7,
)


@given(
    st.lists(FAMILY, min_size=1, max_size=3),
    st.sampled_from(NAMES),
    st.sets(st.sampled_from(NAMES)),
    st.dictionaries(st.sampled_from(NAMES), st.integers(1, 5)),
)
def test_the_choice_is_as_cheap_as_when_all_combinations_are_written_out(
    families: list[tuple[str, list[set[str]]]], target: str, others: set[str], costs: dict[str, int]
) -> None:
    running = sorted(others - {target})
    options = MatrixOptions(evict_costs=costs, sets={f"s{index}": text for index, (text, _) in enumerate(families)})
    found = Matrix(options).solve(target, running)
    prices = [
        sum(costs.get(name, 1) for name in running if name not in one)
        for _, family in families
        for one in family
        if target in one
    ]
    assert found.evicted == tuple(name for name in running if name not in found.kept)
    if prices:
        assert found.cost == min(prices)
        assert any(found.kept == one for _, family in families for one in family)
    else:
        assert (found.evicted, found.cost) == (tuple(running), 0)
