"""What the buttons do: start, stop, restart, delete."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from accounts.pages import PageRequest, page_actor
from instances.cards import make_cards
from instances.domain import lifecycle
from instances.domain.access import find_instance, require_level
from instances.enums import DesiredState, ShareLevel, State
from instances.models import Instance
from instances.views.answers import go_to, instance_page, render_part


@instance_page
@require_POST
def start(request: PageRequest, name: str) -> HttpResponseBase:
    """Start an instance."""
    actor = page_actor(request)
    return report(request, lifecycle.start_instance(actor=actor, instance=find_instance(actor, name)))


@instance_page
@require_POST
def stop(request: PageRequest, name: str) -> HttpResponseBase:
    """Stop an instance."""
    actor = page_actor(request)
    return report(request, lifecycle.stop_instance(actor=actor, instance=find_instance(actor, name)))


@instance_page
@require_POST
def restart(request: PageRequest, name: str) -> HttpResponseBase:
    """Restart an instance."""
    actor = page_actor(request)
    return report(request, lifecycle.restart_instance(actor=actor, instance=find_instance(actor, name)))


@instance_page
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: PageRequest, name: str) -> HttpResponseBase:
    """Ask whether an instance shall be deleted, and delete it."""
    actor = page_actor(request)
    instance = find_instance(actor, name)
    require_level(actor, instance, ShareLevel.MANAGE)
    if request.method != "POST":
        return render(request, "instances/delete.html", {"card": make_cards(actor, [instance])[0]})
    lifecycle.delete_instance(actor=actor, instance=instance)
    messages.success(request, f"{name} was deleted.")
    return go_to(request, reverse("instance-list"))


def report(request: PageRequest, instance: Instance) -> HttpResponseBase:
    """Say what became of an action."""
    add_message(request, instance)
    if not request.htmx:
        return redirect("instance-detail", name=instance.name)
    response = render_part(request, "_nothing.html", {})
    response["HX-Trigger"] = "corral:refresh"
    return response


def add_message(request: PageRequest, instance: Instance) -> None:
    """Put the state an action led to into a sentence."""
    name, state = instance.name, State(instance.state)
    if state == State.STOPPED and instance.desired_state == DesiredState.RUNNING:
        messages.info(request, f"{name} waits to start. {instance.reason}".strip())
    elif state == State.STARTING:
        messages.success(request, f"{name} is starting.")
    else:
        messages.success(request, f"{name} is {state.label.lower()}.")
