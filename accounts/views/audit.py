"""The pages of the audit: the list, one entry, and the export."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.audit_forms import AuditFilterForm
from accounts.domain.audit_export import export_entries, write_csv, write_head, write_json_lines
from accounts.domain.audit_search import find_entries, list_actions, list_changes
from accounts.domain.rights import require_admin
from accounts.errors import NotAllowed
from accounts.models import AuditEntry
from accounts.pages import UNUSABLE, PageRequest, page_actor, require_person

P = ParamSpec("P")
PAGE = 50


def audit_page(view: Callable[Concatenate[PageRequest, P], HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Let administrators in."""

    @wraps(view)
    def guarded(request: PageRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        try:
            require_admin(page_actor(request))
        except NotAllowed as error:
            raise PermissionDenied(str(error)) from error
        return view(request, *args, **kwargs)

    return never_cache(require_person(guarded))


@audit_page
@require_safe
def show_audit(request: PageRequest) -> HttpResponseBase:
    """Show the entries that the query asks for, a page at a time."""
    form = AuditFilterForm(request.GET)
    rows = find_entries(form.to_filter()) if form.is_valid() else AuditEntry.objects.none()
    query = request.GET.copy()
    query.pop("page", None)
    context = {
        "form": form,
        "page": Paginator(rows, PAGE).get_page(request.GET.get("page")),
        "query": query.urlencode(),
        "is_filtered": any(form.cleaned_data.values()),
        "actions": list_actions(),
    }
    return render(request, "accounts/audit.html", context, status=200 if form.is_valid() else UNUSABLE)


@audit_page
@require_safe
def show_entry(request: PageRequest, pk: int) -> HttpResponseBase:
    """Show one entry, what changed side by side."""
    entry = get_object_or_404(AuditEntry, pk=pk)
    return render(request, "accounts/audit_entry.html", {"entry": entry, "changes": list_changes(entry)})


@audit_page
@require_safe
def export_audit(request: PageRequest) -> HttpResponseBase:
    """Send all entries that the query asks for as a file: ``format=csv`` or ``jsonl``."""
    form = AuditFilterForm(request.GET)
    if not form.is_valid():
        return show_audit(request)
    rows = find_entries(form.to_filter())
    name = f"corral-audit-{timezone.localtime():%Y-%m-%d}"
    if request.GET.get("format") == "jsonl":
        pieces, kind, name = export_entries(rows, write_json_lines), "application/jsonl", f"{name}.jsonl"
    else:
        pieces, kind, name = export_entries(rows, write_csv, write_head()), "text/csv; charset=utf-8", f"{name}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingHttpResponse(pieces, content_type=kind, headers=headers)
