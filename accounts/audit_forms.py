"""The filters of the audit page."""

from __future__ import annotations

from datetime import datetime, time, timedelta

from django import forms
from django.utils import timezone

from accounts.domain.audit_search import AuditFilter
from accounts.enums import AuditSource


def text_input(label: str, placeholder: str = "", **attrs: object) -> forms.CharField:
    """Return a field for a short text that may be empty; NUL, which PostgreSQL can't take, is refused by Django."""
    widget = forms.TextInput(
        attrs={"class": "form-control", "placeholder": placeholder, "autocomplete": "off", "aria-label": label, **attrs}
    )
    return forms.CharField(label=label, required=False, max_length=200, widget=widget)


def day_input(label: str) -> forms.DateField:
    """Return a field for a day that may be empty."""
    widget = forms.DateInput(format="%Y-%m-%d", attrs={"type": "date", "class": "form-control"})
    return forms.DateField(label=label, required=False, input_formats=["%Y-%m-%d"], widget=widget)


class AuditFilterForm(forms.Form):
    """What the query of the page asks for; days are whole ones, in the installation's time zone."""

    q = text_input("Search", "Search", type="search")
    person = text_input("Person", "Name")
    action = text_input("Action", "instance.create, key, …", list="audit-actions")
    object = text_input("Object", "Name")
    object_type = forms.CharField(required=False, max_length=50, widget=forms.HiddenInput)
    object_id = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)
    source = forms.ChoiceField(
        label="From",
        required=False,
        choices=[("", "Everywhere"), *AuditSource.choices],
        widget=forms.Select(attrs={"class": "form-select"}),
    )
    since = day_input("Since")
    until = day_input("Until")

    def clean(self) -> None:
        """Refuse an end before the beginning."""
        since, until = self.cleaned_data.get("since"), self.cleaned_data.get("until")
        if since and until and until < since:
            self.add_error("until", "This day is before the first one.")
        for name in ("since", "until"):
            day = self.cleaned_data.get(name)
            if day and not 1970 <= day.year <= 9998:
                self.add_error(name, "Choose a year from 1970 to 9998.")

    def to_filter(self) -> AuditFilter:
        """Return what is wanted; call it on a valid form."""
        given = self.cleaned_data
        return AuditFilter(
            people=split(given["person"]),
            actions=split(given["action"]),
            object_types=split(given["object_type"]),
            objects=split(given["object"]),
            object_ids=split(given["object_id"]),
            sources=split(given["source"]),
            since=begin(given["since"]) if given["since"] else None,
            until=begin(given["until"] + timedelta(days=1)) if given["until"] else None,
            text=given["q"],
        )


def split(text: str) -> list[str]:
    """Return the comma-separated words of a text."""
    return [word for word in (word.strip() for word in text.split(",")) if word]


def begin(day: datetime) -> datetime:
    """Return the moment a day begins."""
    return timezone.make_aware(datetime.combine(day, time()))
