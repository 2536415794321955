"""People and keys in Django's admin site, for inspection. Secrets and their hashes are never shown."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from accounts.domain.keys import revoke_key
from accounts.events import announce_keys_changed
from accounts.models import ApiKey, AuditEntry, HourlyUsage, Invitation, Quota, RequestRecord, Team, User, UserSession

admin.site.unregister(Group)  # a group is a team: see TeamAdmin


@admin.register(User)
class PersonAdmin(UserAdmin):  # type: ignore[type-arg]  # Django's class takes no type argument at run time
    """People. The role decides; Django's own flags follow from it and are not shown as something to set."""

    list_display = ("username", "email", "role", "is_active", "last_login")
    list_filter = ("role", "is_active", "groups")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Rights", {"fields": ("role", "groups", "is_active")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("username", "role", "password1", "password2")}),)
    filter_horizontal = ("groups",)
    readonly_fields = ("last_login", "date_joined")

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Save the teams too, then have everybody's rights looked up again: a demotion counts at once."""
        super().save_related(request, form, formsets, change)
        announce_keys_changed()

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        """Delete the person and with them their keys."""
        super().delete_model(request, obj)
        announce_keys_changed()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Delete several people and their keys."""
        super().delete_queryset(request, queryset)
        announce_keys_changed()


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Django's class takes no type argument at run time
    """Keys. They are made elsewhere, where the secret can be shown once; here they are looked at and revoked."""

    list_display = ("name", "key_hint", "kind", "user", "permission_mode", "last_used_at", "expires_at", "revoked_at")
    list_filter = ("kind", "permission_mode")
    list_select_related = ("user",)
    search_fields = ("name", "key_hint", "user__username")
    exclude = ("key_hash",)
    readonly_fields = (
        "key_hint",
        "kind",
        "user",
        "permission_mode",
        "last_used_at",
        "revoked_at",
        "created_at",
        "updated_at",
    )
    actions = ("revoke",)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """Save what may be edited (name, limits, expiry) and have the key looked up again."""
        super().save_model(request, obj, form, change)
        announce_keys_changed()

    def delete_model(self, request: HttpRequest, obj: ApiKey) -> None:
        """Delete a key and its record."""
        super().delete_model(request, obj)
        announce_keys_changed()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """Delete several keys."""
        super().delete_queryset(request, queryset)
        announce_keys_changed()

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds keys here: the secret would be lost."""
        return False

    @admin.action(description="Revoke selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """End the selected keys for good."""
        for key in queryset:
            revoke_key(key=key)
        self.message_user(request, f"{len(queryset)} keys revoked.")


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Django's class takes no type argument at run time
    """Base for rows that only Corral itself writes: nothing can be added, changed or deleted."""

    show_full_result_count = False  # there may be millions

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody."""
        return False


@admin.register(RequestRecord)
class RequestRecordAdmin(ReadOnlyAdmin):
    """Requests."""

    list_display = (
        "finished_at",
        "user_name",
        "key_name",
        "instance_name",
        "method",
        "path",
        "status",
        "outcome",
        "prompt_tokens",
        "completion_tokens",
        "duration_ms",
    )
    list_filter = ("outcome", "streamed", "backend_type")
    search_fields = ("=request_id", "=user_name", "=instance_name", "=requested_model")
    date_hierarchy = "finished_at"


@admin.register(HourlyUsage)
class HourlyUsageAdmin(ReadOnlyAdmin):
    """Sums by the hour."""

    list_display = (
        "hour",
        "user_name",
        "key_name",
        "instance_name",
        "requests",
        "errors",
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
    )
    search_fields = ("=user_name", "=instance_name")
    date_hierarchy = "hour"


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    """Who changed what."""

    list_display = ("created_at", "actor", "source", "action", "target_type", "target_label", "client_address")
    list_filter = ("source", "target_type")
    search_fields = ("=user_name", "=action", "=target_label", "=request_id")
    date_hierarchy = "created_at"


@admin.register(Team)
class TeamAdmin(ReadOnlyAdmin):
    """Teams; they are changed on their own pages, where the rules are kept."""

    list_display = ("name", "created_at")
    list_select_related = ("group",)
    search_fields = ("group__name",)


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    """Invitations. The token is stored nowhere, its hash is not shown."""

    list_display = ("note", "role", "team", "created_by", "created_at", "expires_at", "used_at", "withdrawn_at")
    list_filter = ("role",)
    exclude = ("token_hash",)


@admin.register(UserSession)
class UserSessionAdmin(ReadOnlyAdmin):
    """Where people are signed in. The session's key, which is a secret, is not shown."""

    list_display = ("user", "client_address", "user_agent", "created_at", "last_seen_at")
    list_select_related = ("user",)
    search_fields = ("user__username", "=client_address")
    exclude = ("session_key",)


@admin.register(Quota)
class QuotaAdmin(ReadOnlyAdmin):
    """Limits, to look at. They are set on the page Limits, where it can be seen what is used of them."""

    list_display = ("subject", "unit", "window", "limit", "updated_at")
    list_filter = ("unit", "window")
    list_select_related = ("user", "group", "key")
    search_fields = ("user__username", "group__name", "key__name")
