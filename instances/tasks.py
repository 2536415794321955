"""Celery tasks that a node's worker runs on its own host; sent to the queue ``node.<name>``."""

from __future__ import annotations

from celery import shared_task

from instances.domain import backend_info, clean_up, node_tasks
from instances.logs import reader


@shared_task(name=node_tasks.DESCRIBE_BACKEND, ignore_result=False)
def describe_backend(*, backend_type: str, topic: backend_info.Topic) -> backend_info.Description:
    """Run an engine's program for its help, version or devices."""
    return backend_info.describe_backend(backend_type, topic)


@shared_task(name=node_tasks.REMOVE_FILES)
def remove_files(*, name: str, run_ids: list[int], tokens: list[str]) -> None:
    """Delete what runs of a deleted instance left on this host."""
    clean_up.remove_files(name=name, run_ids=run_ids, tokens=tokens)


@shared_task(name="instances.sweep")
def sweep() -> None:
    """Have every node sweep its files; sent by beat every hour."""
    node_tasks.sweep_nodes()


@shared_task(name=node_tasks.SWEEP_FILES)
def sweep_files(*, node: str) -> None:
    """Delete logs and run folders on this host that no longer belong to anything."""
    clean_up.sweep_files(node)


@shared_task(name=reader.READ_LOG_TASK, ignore_result=False)
def read_log(*, name: str, lines: int | None, stream: str | None, max_bytes: int) -> reader.EncodedTail:
    """Read the end of an instance's log for a web process on another host."""
    return reader.read_encoded_tail(name, lines, stream, max_bytes)
