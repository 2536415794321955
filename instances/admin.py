"""Instances, runs and nodes in Django's admin site: to look at. What changes them goes through the domain functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest

from accounts.domain.actors import Actor, actor_for
from accounts.events import announce_keys_changed
from accounts.models import User
from instances.domain.descriptions import describe_options
from instances.domain.lifecycle import start_instance, stop_instance
from instances.errors import InstanceError
from instances.models import Instance, InstanceAlias, InstanceEvent, InstanceShare, KeyPermission, Node, Run


class InspectionAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Django's class takes no type argument at run time
    """Base for rows that only Corral itself writes: nothing can be added, changed or deleted."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody."""
        return False


@admin.register(Node)
class NodeAdmin(InspectionAdmin):
    """Hosts."""

    list_display = ("name", "hostname", "version", "answers", "last_seen_at")
    search_fields = ("name", "hostname")

    @admin.display(boolean=True)
    def answers(self, node: Node) -> bool:
        """Whether the node's worker was heard of lately."""
        return node.is_alive


@admin.register(Instance)
class InstanceAdmin(InspectionAdmin):
    """Instances, with the actions start and stop."""

    list_display = ("name", "backend_type", "state", "desired_state", "node", "port", "owner", "group", "pinned")
    list_filter = ("state", "backend_type", "node", "group")
    list_select_related = ("node", "owner")
    search_fields = ("name", "group", "owner__username")
    exclude = ("options",)
    readonly_fields = ("shown_options",)
    actions = ("start", "stop")

    @admin.display(description="options")
    def shown_options(self, instance: Instance) -> dict[str, Any]:
        """Show the options without secrets."""
        return describe_options(instance, with_secrets=False)

    @admin.action(description="Start selected instances", permissions=["view"])
    def start(self, request: HttpRequest, queryset: QuerySet[Instance]) -> None:
        """Start each; what can't be started is named with the reason."""
        self.apply(request, queryset, start_instance, "started")

    @admin.action(description="Stop selected instances", permissions=["view"])
    def stop(self, request: HttpRequest, queryset: QuerySet[Instance]) -> None:
        """Stop each."""
        self.apply(request, queryset, stop_instance, "stopped")

    def apply(
        self, request: HttpRequest, queryset: QuerySet[Instance], action: Callable[..., Instance], done: str
    ) -> None:
        """Call a domain function for each instance and say what came of it; the domain checks rights."""
        actor: Actor = actor_for(cast("User", request.user))
        for instance in queryset.select_related("node", "owner"):
            try:
                action(actor=actor, instance=instance)
            except InstanceError as error:
                self.message_user(request, f"{instance.name}: {error}", messages.ERROR)
            else:
                self.message_user(request, f"{instance.name} was {done}.")


@admin.register(Run)
class RunAdmin(InspectionAdmin):
    """Processes. The token, from which the run's API key is derived, is not shown."""

    list_display = ("id", "instance", "node", "port", "child_pid", "started_at", "ready_at", "exited_at", "exit_code")
    list_filter = ("node",)
    list_select_related = ("instance", "node")
    search_fields = ("instance__name",)
    exclude = ("token",)


@admin.register(InstanceEvent)
class InstanceEventAdmin(InspectionAdmin):
    """What happened."""

    list_display = ("created_at", "instance_name", "kind", "from_state", "to_state", "actor")
    list_filter = ("kind",)
    search_fields = ("instance_name", "actor")


class RightsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Django's class takes no type argument at run time
    """Base for rows that say who may use what: gateways forget what they know of keys when one changes."""

    def save_model(self, request: HttpRequest, obj: Model, form: ModelForm[Model], change: bool) -> None:
        """Save and tell."""
        super().save_model(request, obj, form, change)
        announce_keys_changed()

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        """Delete and tell."""
        super().delete_model(request, obj)
        announce_keys_changed()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        """Delete several and tell."""
        super().delete_queryset(request, queryset)
        announce_keys_changed()


@admin.register(InstanceAlias)
class InstanceAliasAdmin(InspectionAdmin):
    """Other names of instances; they are changed with the instance's options."""

    list_display = ("alias", "instance")
    list_select_related = ("instance",)
    search_fields = ("alias", "instance__name")


@admin.register(InstanceShare)
class InstanceShareAdmin(RightsAdmin):
    """Who may use which instance."""

    list_display = ("instance", "user", "group", "level")
    list_filter = ("level",)
    list_select_related = ("instance", "user", "group")
    autocomplete_fields = ("instance", "user")


@admin.register(KeyPermission)
class KeyPermissionAdmin(RightsAdmin):
    """Which instances a key of mode ``per_instance`` opens."""

    list_display = ("api_key", "instance")
    list_select_related = ("api_key", "instance")
    autocomplete_fields = ("api_key", "instance")
