"""One instance: its state, its log, what happened to it; and its definition as a file."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.pages import PageRequest, page_actor
from instances.cards import Card, make_cards
from instances.domain.access import find_instance, require_level
from instances.domain.descriptions import describe_options
from instances.domain.preview import describe_command
from instances.domain.sharing import visible_events
from instances.enums import ShareLevel
from instances.errors import InvalidOptions
from instances.views.answers import instance_page, render_part
from instances.views.sharing import describe_sharing

EVENTS = 50
RUNS = 20
PARTS = {"status": "instances/_status.html", "history": "instances/_history.html"}


@instance_page
@require_safe
def show_instance(request: PageRequest, name: str) -> HttpResponseBase:
    """Show one instance, or the part of its page that a script asks for."""
    actor = page_actor(request)
    card = make_cards(actor, [find_instance(actor, name)])[0]
    part = PARTS.get(request.htmx.target or "") if request.htmx else None
    context: dict[str, Any] = {"card": card, "instance": card.instance}
    if part != PARTS["history"]:
        context |= describe_endpoint(request, card)
    if part != PARTS["status"]:
        context |= {
            "events": list(visible_events(actor, card.instance).select_related("run")[:EVENTS]),
            "runs": list(card.instance.runs.all()[:RUNS]),
        }
    if part:
        return render_part(request, part, context)
    if card.can_manage:
        context |= {"command": show_command(card), **describe_sharing(actor, card)}
    return render(request, "instances/detail.html", context)


def describe_endpoint(request: PageRequest, card: Card) -> dict[str, Any]:
    """Return the running process and where clients find the instance."""
    return {
        "run": card.instance.runs.filter(exited_at__isnull=True).first(),
        "base_url": request.build_absolute_uri("/v1"),
        "needs_key": settings.CORRAL.require_inference_auth,
    }


def show_command(card: Card) -> str:
    """Return the command line of the next start, or why there is none."""
    try:
        return describe_command(card.instance)
    except (InvalidOptions, KeyError) as error:
        return str(error)


@instance_page
@require_safe
def export_instance(request: PageRequest, name: str) -> HttpResponseBase:
    """Download an instance's definition as JSON, secrets included; for those who manage it."""
    actor = page_actor(request)
    instance = find_instance(actor, name)
    require_level(actor, instance, ShareLevel.MANAGE)
    definition = {"name": instance.name, "options": describe_options(instance, with_secrets=True)}
    return HttpResponse(
        json.dumps(definition, indent=2, ensure_ascii=False) + "\n",
        content_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{instance.name}.json"'},
    )
