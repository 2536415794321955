"""People, teams and keys in Django's admin site, for inspection. Secrets and their hashes are never shown."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.domain.actors import Actor
from accounts.domain.invitations import withdraw_invitation
from accounts.domain.keys import delete_key, revoke_key
from accounts.domain.leaving import activate_user, deactivate_user, delete_user
from accounts.domain.quotas import delete_quota
from accounts.domain.teams import delete_team
from accounts.domain_admin import DomainAdmin
from accounts.models import ApiKey, AuditEntry, HourlyUsage, Invitation, Quota, RequestRecord, Team, User, UserSession

admin.site.unregister(Group)  # a group is a team: see TeamAdmin
for model in list(admin.site._registry):  # noqa: SLF001  Django has no public list of them
    if model._meta.app_label in ("account", "socialaccount", "mfa"):  # noqa: SLF001  as above
        admin.site.unregister(model)  # allauth's rows hold secrets; its pages change them


@admin.register(User)
class PersonAdmin(DomainAdmin):
    """People. What they own passes to who deletes them."""

    list_display = ("username", "email", "role", "is_active", "awaits_approval", "last_login", "date_joined")
    list_filter = ("role", "is_active", "awaits_approval", "groups")
    search_fields = ("username", "email", "first_name", "last_name")
    fieldsets = (
        (None, {"fields": ("username", "first_name", "last_name", "email")}),
        ("Rights", {"fields": ("role", "groups", "is_active", "awaits_approval")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    actions = ("activate", "deactivate")

    def delete_row(self, actor: Actor, row: User) -> None:
        """Delete the person, with their keys and sessions."""
        delete_user(actor=actor, user=row)

    @admin.action(description="Let selected people in", permissions=["view"])
    def activate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Activate, or approve, each."""
        self.do_each(request, queryset, lambda actor, user: activate_user(actor=actor, user=user), "let in")

    @admin.action(description="Deactivate selected people", permissions=["view"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Shut each out; the last administrator stays."""
        self.do_each(request, queryset, lambda actor, user: deactivate_user(actor=actor, user=user), "deactivated")


@admin.register(Team)
class TeamAdmin(DomainAdmin):
    """Teams; members and managers are changed on their own pages."""

    list_display = ("name", "created_at")
    list_select_related = ("group",)
    search_fields = ("group__name", "managers__username")

    def delete_row(self, actor: Actor, row: Team) -> None:
        """Delete the team with the shares it has."""
        delete_team(actor=actor, team=row)


@admin.register(Invitation)
class InvitationAdmin(DomainAdmin):
    """Invitations. The token is stored nowhere, its hash is not shown."""

    list_display = ("__str__", "role", "team", "created_by", "created_at", "expires_at", "used_at", "withdrawn_at")
    list_filter = ("role",)
    list_select_related = ("team__group", "created_by")
    search_fields = ("note", "created_by__username", "used_by__username")
    exclude = ("token_hash",)
    actions = ("withdraw",)

    @admin.action(description="Withdraw selected invitations", permissions=["view"])
    def withdraw(self, request: HttpRequest, queryset: QuerySet[Invitation]) -> None:
        """End each that nobody has accepted."""
        self.do_each(
            request, queryset, lambda actor, row: withdraw_invitation(actor=actor, invitation_id=row.pk), "withdrawn"
        )


@admin.register(UserSession)
class UserSessionAdmin(DomainAdmin):
    """Where people are signed in. The session's key, which is a secret, is not shown."""

    list_display = ("user", "client_address", "user_agent", "created_at", "last_seen_at")
    list_select_related = ("user",)
    search_fields = ("user__username", "=client_address")
    exclude = ("session_key",)


@admin.register(ApiKey)
class ApiKeyAdmin(DomainAdmin):
    """Keys. They are made elsewhere, where the secret can be shown once; here they are looked at and revoked."""

    list_display = ("name", "key_hint", "kind", "user", "permission_mode", "last_used_at", "expires_at", "revoked_at")
    list_filter = ("kind", "permission_mode", ("revoked_at", admin.EmptyFieldListFilter))
    list_select_related = ("user",)
    search_fields = ("name", "key_hint", "user__username", "note")
    exclude = ("key_hash", "former_hash")
    readonly_fields = ("key_hint", "last_used_at", "created_at", "updated_at")
    actions = ("revoke",)

    def delete_row(self, actor: Actor, row: ApiKey) -> None:
        """Delete the key and its limits."""
        delete_key(actor=actor, key=row)

    @admin.action(description="Revoke selected keys", permissions=["view"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """End the selected keys for good."""
        self.do_each(request, queryset, lambda actor, key: revoke_key(actor=actor, key=key), "revoked")


@admin.register(Quota)
class QuotaAdmin(DomainAdmin):
    """Limits. They are set on the page Limits, where it can be seen what is used of them."""

    list_display = ("subject", "unit", "window", "limit", "updated_at")
    list_filter = ("unit", "window")
    list_select_related = ("user", "group", "key")
    search_fields = ("user__username", "group__name", "key__name")
    readonly_fields = ("updated_at",)

    def delete_row(self, actor: Actor, row: Quota) -> None:
        """End the limit."""
        delete_quota(actor=actor, quota=row)


@admin.register(RequestRecord)
class RequestRecordAdmin(DomainAdmin):
    """Requests."""

    list_display = (
        "finished_at", "user_name", "key_name", "instance_name", "method", "path", "status", "outcome",
        "prompt_tokens", "completion_tokens", "duration_ms",
    )  # fmt: skip
    list_filter = ("outcome", "streamed", "tokens_are_floor", "backend_type")
    search_fields = ("=request_id", "=user_name", "=instance_name", "=requested_model")
    date_hierarchy = "finished_at"


@admin.register(HourlyUsage)
class HourlyUsageAdmin(DomainAdmin):
    """Sums by the hour."""

    list_display = (
        "hour", "user_name", "key_name", "instance_name", "requests", "errors", "prompt_tokens", "completion_tokens",
        "cached_tokens",
    )  # fmt: skip
    search_fields = ("=user_name", "=instance_name")
    date_hierarchy = "hour"


@admin.register(AuditEntry)
class AuditEntryAdmin(DomainAdmin):
    """Who changed what; the page Audit shows more."""

    list_display = ("created_at", "actor", "source", "action", "target_type", "target_label", "client_address")
    list_filter = ("source", "target_type")
    search_fields = ("=user_name", "=action", "=target_label", "=request_id")
    date_hierarchy = "created_at"
