"""People and keys in Django's admin site, for inspection. Secrets and their hashes are never shown."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.domain.keys import revoke_key
from accounts.models import ApiKey, User


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


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Django's class takes no type argument at run time
    """Keys. They are made elsewhere, where the secret can be shown once; here they are looked at and revoked."""

    list_display = ("name", "key_hint", "kind", "user", "permission_mode", "last_used_at", "expires_at", "revoked_at")
    list_filter = ("kind", "permission_mode")
    list_select_related = ("user",)
    search_fields = ("name", "key_hint", "user__username")
    exclude = ("key_hash",)
    readonly_fields = (
        "key_hint", "kind", "user", "permission_mode", "last_used_at", "revoked_at", "created_at", "updated_at",
    )
    actions = ("revoke",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds keys here: the secret would be lost."""
        return False

    @admin.action(description="Revoke selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """End the selected keys for good."""
        for key in queryset:
            revoke_key(key=key)
        self.message_user(request, f"{len(queryset)} keys revoked.")
