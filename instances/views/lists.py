"""The list of instances."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import F, Q, QuerySet
from django.http import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.pages import PageRequest, page_actor
from instances.cards import make_cards
from instances.domain.access import visible_instances
from instances.enums import State
from instances.models import Instance
from instances.views.answers import instance_page, render_part

ORDERS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "name": ("Name", ("name",)),
    "state": ("State", ("state", "name")),
    "used": ("Last used", (F("last_used_at").desc(nulls_last=True), "name")),
    "created": ("Newest", ("-created_at", "name")),
    "engine": ("Engine", ("backend_type", "name")),
    "group": ("Group", ("group", "name")),
}


@instance_page
@require_safe
def show_list(request: PageRequest) -> HttpResponseBase:
    """Show the instances the person may see, searched, filtered and sorted as the query says."""
    actor = page_actor(request)
    visible = visible_instances(actor)
    total = visible.count()
    query = {name: request.GET.get(name, "").replace("\0", "").strip()[:100] for name in ("q", "state", "sort")}
    found = order_instances(filter_instances(visible, query["q"], query["state"]), query["sort"])
    context = {
        "cards": make_cards(actor, found),
        "total": total,
        "query": query,
        "states": State.choices,
        "orders": [(key, label) for key, (label, _) in ORDERS.items()],
        "may_create": actor.is_operator,
        "several_nodes": total > 0 and visible.exclude(node__name=settings.CORRAL.node).exists(),
    }
    if request.htmx and request.htmx.target == "instance-list":
        return render_part(request, "instances/_list.html", context)
    return render(request, "instances/list.html", context)


def filter_instances(instances: QuerySet[Instance], text: str, state: str) -> QuerySet[Instance]:
    """Return the instances in a state (any, when it is none) whose name, group, node, owner or engine has the text."""
    if state in State.values:
        instances = instances.filter(state=state)
    for word in text.split()[:8]:
        instances = instances.filter(
            Q(name__icontains=word)
            | Q(group__icontains=word)
            | Q(node__name__icontains=word)
            | Q(owner__username__icontains=word)
            | Q(backend_type__icontains=word)
        )
    return instances


def order_instances(instances: QuerySet[Instance], order: str) -> QuerySet[Instance]:
    """Return the instances in one of ``ORDERS``, by name for anything else."""
    return instances.order_by(*ORDERS.get(order, ORDERS["name"])[1])
