"""The card that says whom an instance is shared with."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.models import Group
from django.http import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from accounts.domain.actors import Actor
from accounts.models import User
from accounts.pages import PageRequest, page_actor
from instances.cards import Card, make_cards
from instances.domain.access import find_managed, visible_instances
from instances.domain.sharing import (
    change_owner,
    find_person,
    find_team,
    list_shares,
    name_holder,
    read_level,
    share_instance,
    unshare_instance,
)
from instances.enums import ShareLevel
from instances.errors import InvalidShare
from instances.models import Instance
from instances.views.answers import go_to, instance_page, render_part


@instance_page
@require_POST
def share(request: PageRequest, name: str) -> HttpResponseBase:
    """Share an instance with somebody, change what they may do, or take it back (``action=remove``)."""
    actor = page_actor(request)
    instance = find_managed(actor, name)
    holder = read_holder(request.POST.get("with", ""))
    if request.POST.get("action") == "remove":
        unshare_instance(actor=actor, instance=instance, holder=holder)
        messages.success(request, f"{name} is no longer shared with {name_holder(holder)}.")
    else:
        level = read_level(request.POST.get("level"))
        share_instance(actor=actor, instance=instance, holder=holder, level=level)
        messages.success(request, f"{name_holder(holder)} may {level} {name}.")
    return show_sharing(request, actor, instance)


@instance_page
@require_POST
def give_away(request: PageRequest, name: str) -> HttpResponseBase:
    """Give an instance to somebody else."""
    actor = page_actor(request)
    owner = request.POST.get("owner", "")
    if not owner:
        raise InvalidShare("owner: choose a person.")
    instance = change_owner(actor=actor, instance=find_managed(actor, name), owner=find_person(owner))
    messages.success(request, f"{name} belongs to {owner} now.")
    if not visible_instances(actor).filter(pk=instance.pk).exists():
        return go_to(request, reverse("instance-list"))
    return go_to(request, reverse("instance-detail", kwargs={"name": name}))


def read_holder(text: str) -> User | Group:
    """Return whom ``user:name`` or ``team:name`` means; raise InvalidShare or UnknownHolder."""
    kind, _, name = text.partition(":")
    if kind not in ("user", "team") or not name:
        raise InvalidShare("with: choose a person or a team.")
    return find_person(name) if kind == "user" else find_team(name)


def show_sharing(request: PageRequest, actor: Actor, instance: Instance) -> HttpResponseBase:
    """Show the card anew, or what is left to see for who has just taken their own right away."""
    card = make_cards(actor, visible_instances(actor).filter(pk=instance.pk))
    if not card:
        return go_to(request, reverse("instance-list"))
    if not request.htmx or not card[0].can_manage:
        page = redirect("instance-detail", name=instance.name)
        return go_to(request, page.url)
    context = {"card": card[0], "instance": card[0].instance, **describe_sharing(actor, card[0])}
    return render_part(request, "instances/_sharing.html", context)


def describe_sharing(actor: Actor, card: Card) -> dict[str, Any]:
    """Return the shares, and with whom else it could be shared."""
    shares = list(list_shares(actor=actor, instance=card.instance))
    others = User.objects.filter(is_active=True).order_by("username").exclude(instances=card.instance)
    return {
        "shares": shares,
        "levels": ShareLevel.choices,
        "people": others.exclude(pk__in=[share.user_id for share in shares if share.user_id]),
        "teams": Group.objects.exclude(pk__in=[share.group_id for share in shares if share.group_id]).order_by("name"),
        "heirs": others,
    }
