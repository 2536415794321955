"""Asking the worker of a node to do something on its host. Tasks are named by text, as they live above the domain."""

from __future__ import annotations

import logging
from typing import Any

from celery import current_app
from celery.exceptions import TimeoutError as CeleryTimeout
from django.db import transaction
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from instances.domain.waiting import require_node
from instances.errors import NodeUnavailable
from instances.models import Node
from instances.redis import redis_client

logger = logging.getLogger(__name__)

DESCRIBE_BACKEND = "instances.describe_backend"
REMOVE_FILES = "instances.remove_files"
SWEEP_FILES = "instances.sweep_files"


def ask_node(node: Node, task: str, *, timeout_s: float, **arguments: object) -> Any:
    """Run a task on the node and return its result; raise NodeUnavailable when there is no answer in time."""
    require_node(node)
    try:
        with redis_client() as client:
            client.ping()  # Celery itself would try for seconds before it says that Redis is away
        result = current_app.send_task(
            task, kwargs=arguments, queue=f"node.{node.name}", expires=timeout_s, ignore_result=False
        )
        return result.get(timeout=timeout_s)
    except CeleryTimeout:
        raise NodeUnavailable(f"The node {node.name} did not answer within {timeout_s:g} s.") from None
    except (KombuError, RedisError, OSError, RuntimeError) as error:  # RuntimeError: Celery's result store lost Redis
        logger.warning("node %s can't be asked to run %s: %s", node.name, task, error)
        raise NodeUnavailable(f"The node {node.name} can't be reached: the message broker does not answer.") from None


def sweep_nodes() -> None:
    """Have every node that answers sweep its files; one that is away is not sent messages that would pile up."""
    for node in Node.objects.all():
        if node.is_alive:
            current_app.send_task(SWEEP_FILES, kwargs={"node": node.name}, queue=f"node.{node.name}", expires=3600)


def remove_files_on_commit(*, node: Node, name: str, run_ids: list[int], tokens: list[str]) -> None:
    """Have the node remove the logs and folders of a deleted instance's runs, once the deletion is committed.

    The message waits for a node that is away. A broken broker is logged: the instance is gone all the same.
    """
    if not run_ids:
        return

    def send() -> None:
        try:
            current_app.send_task(
                REMOVE_FILES,
                kwargs={"name": name, "run_ids": run_ids, "tokens": tokens},
                queue=f"node.{node.name}",
                retry=False,
            )
        except (KombuError, RedisError, OSError) as error:
            logger.warning("files of the deleted instance %s stay on node %s: %s", name, node.name, error)

    transaction.on_commit(send, robust=True)
