"""Instances, runs and nodes in Django's admin site: to look at. What changes them goes through the domain functions."""

from __future__ import annotations

import json

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from accounts.domain.actors import Actor
from accounts.domain_admin import DomainAdmin
from accounts.errors import AccountError
from instances.domain.descriptions import describe_options
from instances.domain.lifecycle import delete_instance, restart_instance, start_instance, stop_instance
from instances.domain.sharing import unshare_instance
from instances.errors import InstanceError
from instances.models import Instance, InstanceAlias, InstanceEvent, InstanceShare, KeyPermission, Node, Run


class InstanceDomainAdmin(DomainAdmin):
    """The base with this app's errors too."""

    refusals = (AccountError, InstanceError)


@admin.register(Node)
class NodeAdmin(DomainAdmin):
    """Hosts."""

    list_display = ("name", "hostname", "version", "answers", "last_seen_at")
    search_fields = ("name", "hostname")

    @admin.display(boolean=True)
    def answers(self, node: Node) -> bool:
        """Whether the node's worker was heard of lately."""
        return node.is_alive


@admin.register(Instance)
class InstanceAdmin(InstanceDomainAdmin):
    """Instances, with the actions start, stop and restart; a deletion stops gracefully first."""

    list_display = ("name", "backend_type", "state", "desired_state", "node", "port", "owner", "group", "pinned")
    list_filter = ("state", "backend_type", "pinned", "disabled", "node", "group")
    list_select_related = ("node", "owner")
    search_fields = ("name", "group", "owner__username")
    exclude = ("options",)
    readonly_fields = ("shown_options", "created_at", "updated_at")
    actions = ("start", "stop", "restart")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Instance]:
        """Return instances with what their actions look at."""
        return super().get_queryset(request).select_related("node", "owner")

    def delete_row(self, actor: Actor, row: Instance) -> None:
        """Stop the instance and delete it with its logs."""
        delete_instance(actor=actor, instance=row)

    @admin.display(description="options")
    def shown_options(self, instance: Instance) -> str:
        """Show the options without secrets."""
        shown = json.dumps(describe_options(instance, with_secrets=False), indent=2, ensure_ascii=False)
        return format_html("<pre>{}</pre>", shown)

    @admin.action(description="Start selected instances", permissions=["view"])
    def start(self, request: HttpRequest, queryset: QuerySet[Instance]) -> None:
        """Start each; what can't be started is named with the reason."""
        self.do_each(request, queryset, lambda actor, row: start_instance(actor=actor, instance=row), "started")

    @admin.action(description="Stop selected instances", permissions=["view"])
    def stop(self, request: HttpRequest, queryset: QuerySet[Instance]) -> None:
        """Stop each."""
        self.do_each(request, queryset, lambda actor, row: stop_instance(actor=actor, instance=row), "stopped")

    @admin.action(description="Restart selected instances", permissions=["view"])
    def restart(self, request: HttpRequest, queryset: QuerySet[Instance]) -> None:
        """Replace the process of each."""
        self.do_each(request, queryset, lambda actor, row: restart_instance(actor=actor, instance=row), "restarted")


@admin.register(Run)
class RunAdmin(DomainAdmin):
    """Processes. The token, from which the run's API key is derived, is not shown."""

    list_display = ("id", "instance", "node", "port", "child_pid", "started_at", "ready_at", "exited_at", "exit_code")
    list_filter = ("node", ("exited_at", admin.EmptyFieldListFilter))
    list_select_related = ("instance", "node")
    search_fields = ("instance__name",)
    exclude = ("token",)


@admin.register(InstanceEvent)
class InstanceEventAdmin(DomainAdmin):
    """What happened."""

    list_display = ("created_at", "instance_name", "kind", "from_state", "to_state", "actor")
    list_filter = ("kind",)
    search_fields = ("instance_name", "actor")


@admin.register(InstanceAlias)
class InstanceAliasAdmin(DomainAdmin):
    """Other names of instances; they are changed with the instance's options."""

    list_display = ("alias", "instance")
    list_select_related = ("instance",)
    search_fields = ("alias", "instance__name")


@admin.register(InstanceShare)
class InstanceShareAdmin(InstanceDomainAdmin):
    """Who may use which instance; shares are made on the instance's page and can be taken back here."""

    list_display = ("instance", "user", "group", "level")
    list_filter = ("level",)
    list_select_related = ("instance", "user", "group")
    search_fields = ("instance__name", "user__username", "group__name")

    def delete_row(self, actor: Actor, row: InstanceShare) -> None:
        """Take the share back, which ends what was open by it."""
        if (holder := row.user or row.group) is not None:
            unshare_instance(actor=actor, instance=row.instance, holder=holder)


@admin.register(KeyPermission)
class KeyPermissionAdmin(DomainAdmin):
    """Which instances a key of mode ``per_instance`` opens; they are chosen where the key is changed."""

    list_display = ("api_key", "instance")
    list_select_related = ("api_key", "instance")
    search_fields = ("api_key__name", "instance__name")
