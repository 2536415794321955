"""Wishes and rows, and what happens when several people want something at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts.domain.actors import ANONYMOUS
from instances.domain import lifecycle, waiting
from instances.domain.clean_up import remove_files
from instances.domain.launch import log_file, run_folder
from instances.domain.names import find_name_fault
from instances.enums import DesiredState, State
from instances.errors import InstanceError, InstanceNotFound, StartFailed, StartRefused
from instances.models import Instance, InstanceEvent, Run
from tests.factories import make_instance, make_node, make_ready, make_run

OPTIONS = {"backend_type": "llama_cpp"}


def in_threads(functions: list[Callable[[], Any]]) -> list[Any]:
    """Run the functions at the same time, each with a database connection of its own; errors are results."""
    barrier, results = threading.Barrier(len(functions)), [None] * len(functions)

    def call(position: int) -> None:
        barrier.wait()
        try:
            results[position] = functions[position]()
        except InstanceError as error:
            results[position] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=call, args=(position,)) for position in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def create(name: str, **options: object) -> Callable[[], Any]:
    return lambda: lifecycle.create_instance(actor=ANONYMOUS, name=name, options={**OPTIONS, **options}, start=False)


@pytest.mark.django_db(transaction=True)
def test_of_two_creations_of_one_name_one_wins() -> None:
    results = in_threads([create("alpha") for _ in range(4)])

    assert sorted(type(result).__name__ for result in results) == ["Created", "NameTaken", "NameTaken", "NameTaken"]
    assert Instance.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_creations_at_once_get_different_ports() -> None:
    results = in_threads([create(f"i{number}") for number in range(6)])

    assert len({result.instance.port for result in results}) == 6


@pytest.mark.django_db(transaction=True)
def test_of_two_creations_with_one_port_one_wins() -> None:
    results = in_threads([create(f"i{number}", backend_options={"port": 8400}) for number in range(3)])

    assert sorted(type(result).__name__ for result in results) == ["Created", "PortTaken", "PortTaken"]


@pytest.mark.django_db(transaction=True)
def test_creations_at_once_do_not_exceed_max_instances(change_settings: Any) -> None:
    change_settings(max_instances=2)

    in_threads([create(f"i{number}") for number in range(6)])

    assert Instance.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_changes_at_once_are_all_kept() -> None:
    instance = make_instance("alpha")

    def change(number: int) -> Callable[[], Any]:
        patch = {"environment": {f"V{number}": "x"}}
        return lambda: lifecycle.update_instance(actor=ANONYMOUS, instance=instance, options=patch, merge=True)

    in_threads([change(number) for number in range(5)])

    row = Instance.objects.get()
    assert set(row.options["environment"]) == {f"V{number}" for number in range(5)}
    assert row.generation == 6


@pytest.mark.django_db(transaction=True)
def test_deleting_twice_at_once_deletes_once() -> None:
    instance = make_instance("alpha")

    results = in_threads([lambda: lifecycle.delete_instance(actor=ANONYMOUS, instance=instance)] * 3)

    assert all(result is None or isinstance(result, InstanceNotFound) for result in results)
    assert InstanceEvent.objects.filter(kind="deleted").count() == 1


def test_a_start_clears_an_older_refusal_and_failure(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "REACTION_S", 0.0)
    make_node(alive=True)
    instance = make_instance(
        "alpha", state=State.FAILED, reason="It crashed.", refused_at=timezone.now(), restart_count=3
    )

    with pytest.raises(InstanceError):
        lifecycle.start_instance(actor=ANONYMOUS, instance=instance)

    row = Instance.objects.get()
    assert (row.state, row.reason, row.refused_at, row.restart_count) == (State.STOPPED, "", None, 0)


def test_a_start_during_a_back_off_ends_the_back_off(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "REACTION_S", 0.0)
    make_node(alive=True)
    later = timezone.now() + timedelta(hours=1)
    instance = make_instance("alpha", state=State.BACKOFF, desired_state="running", restart_at=later, restart_count=2)

    lifecycle.start_instance(actor=ANONYMOUS, instance=instance)

    row = Instance.objects.get()
    assert row.restart_at is not None
    assert row.restart_at <= timezone.now()
    assert (row.restart_count, row.desired_state) == (2, DesiredState.RUNNING)


def wait(instance: Instance, after_run: int = 0) -> Instance:
    return waiting.wait_for_start(
        instance,
        seconds=0.2,
        generation=instance.generation,
        after_run=after_run,
        failure_code="restart_failed",
    )


def test_a_refusal_is_told_with_its_reason(db: None) -> None:
    make_node(alive=True)
    instance = make_instance("alpha", refused_at=timezone.now(), reason="1 of 1 run.")

    with pytest.raises(StartRefused, match=r"1 of 1 run\."):
        wait(instance)


@pytest.mark.parametrize("state", [State.FAILED, State.BACKOFF])
def test_a_process_that_ended_at_once_is_told_with_its_last_words(db: None, state: State) -> None:
    make_node(alive=True)
    instance = make_instance("alpha", state=state, desired_state="running", reason="bad model")
    make_run(instance, exited_at=timezone.now())

    with pytest.raises(StartFailed, match="bad model") as caught:
        wait(instance)

    assert caught.value.code == "restart_failed"
    if state == State.BACKOFF:  # the end of an earlier process is not this start's failure
        assert wait(instance, after_run=Run.objects.get().pk).state == State.BACKOFF


def test_a_restart_waits_for_the_new_process_not_the_old_one(db: None) -> None:
    make_node(alive=True)
    instance = make_ready("alpha")
    assert wait(instance).state == State.READY

    instance.generation = 2

    assert not waiting.has_started(instance, 2)
    Run.objects.update(exited_at=timezone.now())
    make_run(instance, started_at=timezone.now())
    assert waiting.has_started(instance, 2)


def test_only_the_files_of_the_deleted_runs_are_removed(db: None) -> None:
    """Defect: deleting left logs and folders behind. A new instance of the same name keeps its own."""
    old, new = log_file("alpha", 1), log_file("alpha", 12)
    token = "0123456789abcdef" * 2
    old.parent.mkdir(parents=True, exist_ok=True)
    for path in (old, old.with_name("1.log.100"), old.with_name("1.log.200.gz"), new):
        path.write_text("x")
    run_folder(token).mkdir(parents=True)
    outside = Path(settings.CORRAL.data_dir) / "runs" / ".." / "outside"
    outside.mkdir(exist_ok=True)

    remove_files(name="alpha", run_ids=[1], tokens=[token, "../outside"])

    assert [path.name for path in old.parent.iterdir()] == ["12.log"]
    assert not run_folder(token).exists()
    assert outside.exists()
    remove_files(name="alpha", run_ids=[12], tokens=[])
    assert not old.parent.exists()
    remove_files(name="alpha", run_ids=[12], tokens=[])
    outside.rmdir()


@pytest.mark.parametrize("name", ["a", "A.b-c_9", "...", "x" * 50])
def test_good_names(name: str) -> None:
    assert find_name_fault(name) == ""


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ä", "a\n", "x" * 51])
def test_bad_names(name: str) -> None:
    assert find_name_fault(name)
