"""The base of Corral's pages in Django's admin site: rows to look at, and what the domain can do with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, cast

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from accounts.domain.actors import Actor, actor_for
from accounts.errors import AccountError
from accounts.models import User

COMPARISONS = frozenset(("id", "exact", "isnull", "isempty", "gte", "lt", "year", "month", "day"))
"""What Django's filters and its hierarchy of dates ask of a field."""


class DomainAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Django's class takes no type argument at run time
    """Nothing is added or edited here, as a form would go round the rules; actions and deletion call the domain.

    A class that lets rows be deleted has the method ``delete_row(actor, row)``.
    """

    show_full_result_count = False  # there may be millions
    refusals: ClassVar[tuple[type[Exception], ...]] = (AccountError,)
    """What the domain raises with a sentence for the reader."""
    delete_row: Callable[[Actor, Any], None] | None = None

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Only what the page offers as a filter: by any other field, secrets could be guessed letter by letter.

        Neither by one that a filter's relation leads to (``groups__user__password``).
        """
        names = [entry[0] if isinstance(entry, (tuple, list)) else entry for entry in self.list_filter]
        name, *comparisons = lookup.split("__")
        return name in (*names, self.date_hierarchy) and COMPARISONS.issuperset(comparisons)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Administrators, where the domain can do it."""
        return self.delete_row is not None and super().has_delete_permission(request, obj)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the row of this number, None for what is none; Django asks the database for any."""
        return super().get_object(request, object_id, from_field) if is_row_number(object_id) else None

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """Show rows or act on the chosen ones; what is no number of any is not chosen."""
        if request.method == "POST":
            sent = request.POST.copy()
            chosen = [text for text in sent.getlist(ACTION_CHECKBOX_NAME) if is_row_number(str(text))]
            sent.setlist(ACTION_CHECKBOX_NAME, chosen)
            request.POST = sent  # type: ignore[assignment]  # Django's own type is of an immutable one
        return super().changelist_view(request, extra_context)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Leave out Django's own deletion of many, which asks no domain function."""
        return {name: action for name, action in super().get_actions(request).items() if name != "delete_selected"}

    def get_deleted_objects(
        self, objs: QuerySet[Any] | Iterable[Any], request: HttpRequest
    ) -> tuple[list[Any], dict[Any, Any], set[Any], list[Any]]:
        """Name what is deleted; what goes with it is the domain function's to say."""
        return [str(row) for row in objs], {}, set(), []

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Ask, then call the domain function, outside of a transaction: it may have to wait for others."""
        if request.method != "POST":
            return super().delete_view(request, object_id, extra_context)
        row = self.get_object(request, object_id)
        if row is None:
            return cast("HttpResponse", self._get_obj_does_not_exist_redirect(request, self.opts, object_id))  # type: ignore[attr-defined]
        if not self.has_delete_permission(request, row) or self.delete_row is None:
            raise PermissionDenied
        name, pages = str(row), f"admin:{self.opts.app_label}_{self.opts.model_name}"
        try:
            self.delete_row(admin_actor(request), row)
        except self.refusals as error:
            self.message_user(request, f"Not deleted: {name}. {error}", messages.ERROR)
            return HttpResponseRedirect(reverse(f"{pages}_change", args=[object_id]))
        self.message_user(request, f"Deleted: {name}.")
        return HttpResponseRedirect(reverse(f"{pages}_changelist"))

    def do_each(
        self, request: HttpRequest, rows: Iterable[Any], function: Callable[[Actor, Any], object], done: str
    ) -> None:
        """Call a domain function for each row and say what came of it; the domain checks rights."""
        actor = admin_actor(request)
        for row in rows:
            name = str(row)
            try:
                function(actor, row)
            except self.refusals as error:
                self.message_user(request, f"Not {done}: {name}. {error}", messages.ERROR)
            else:
                self.message_user(request, f"{done.capitalize()}: {name}.")


def is_row_number(text: str) -> bool:
    """Whether a text is a number that a row can have."""
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**63


def admin_actor(request: HttpRequest) -> Actor:
    """Return who acts; the admin site lets nobody in who isn't signed in."""
    return actor_for(cast("User", request.user))
