"""Filters of the instance list: additions that leave llamactl's plain list as it is."""

from __future__ import annotations

from django.db.models import Q, QuerySet
from rest_framework.request import Request

from accounts.api.lists import read_words, require_known
from instances.backends.registry import BACKENDS
from instances.enums import LLAMACTL_STATUS, State
from instances.models import Instance


def filter_instances(instances: QuerySet[Instance], request: Request) -> QuerySet[Instance]:
    """Apply ``status``, ``state``, ``backend``, ``node``, ``owner`` and ``group``; each takes several with commas.

    Raises InvalidParameter for a state or engine that doesn't exist, which is a typing error; a node, owner or group
    that doesn't exist is an empty list.
    """
    if words := read_words(request, "status"):
        require_known("status", words, LLAMACTL_STATUS.values())
        instances = instances.filter(state__in=[state for state, word in LLAMACTL_STATUS.items() if word in words])
    if words := read_words(request, "state"):
        require_known("state", words, State.values)
        instances = instances.filter(state__in=words)
    if words := read_words(request, "backend"):
        types = {name: backend.type for backend in BACKENDS.values() for name in (backend.type, backend.config_key)}
        require_known("backend", words, types)
        instances = instances.filter(backend_type__in=[types[word] for word in words])
    for name, column in (("node", "node__name__in"), ("owner", "owner__username__in"), ("group", "group__in")):
        if words := read_words(request, name):
            instances = instances.filter(Q(**{column: words}))
    return instances
