"""The form of an API key. What a value may be is the domain's to say; the form only gathers it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from typing import Any

from django import forms
from django.utils import timezone

from accounts.domain.quotas import ORDER
from accounts.enums import KeyKind, PermissionMode
from accounts.models import ApiKey
from instances.models import Instance

CHECK = {"class": "form-check-input"}
SWITCH = {"class": "form-check-input", "role": "switch"}
TEXT = {"class": "form-control", "autocomplete": "off"}


class KeyForm(forms.Form):
    """Everything that may be chosen of a key; ``kind`` only while it is made."""

    name = forms.CharField(label="Name", required=False, widget=forms.TextInput(attrs={**TEXT, "maxlength": 100}))
    kind = forms.ChoiceField(
        label="Kind",
        choices=[
            (KeyKind.INFERENCE, "Inference: requests to models"),
            (KeyKind.MANAGEMENT, "Management: everything that you may do"),
        ],
        initial=KeyKind.INFERENCE,
        widget=forms.Select(attrs={"class": "form-select"}),
    )
    permission_mode = forms.ChoiceField(
        label="Instances",
        choices=[
            (PermissionMode.ALLOW_ALL, "All that you may use, also future ones"),
            (PermissionMode.PER_INSTANCE, "Only these:"),
        ],
        initial=PermissionMode.ALLOW_ALL,
        widget=forms.RadioSelect(attrs=CHECK),
    )
    instance_ids = forms.TypedMultipleChoiceField(
        label="Chosen instances", required=False, coerce=int, widget=forms.CheckboxSelectMultiple(attrs=CHECK)
    )
    expires_at = forms.DateField(
        label="Expires",
        required=False,
        help_text="At the beginning of this day (UTC). Empty: never.",
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date", "class": "form-control"}),
    )
    note = forms.CharField(label="Note", required=False, widget=forms.TextInput(attrs={**TEXT, "maxlength": 500}))
    can_start = forms.BooleanField(
        label="May start a stopped instance", required=False, initial=True, widget=forms.CheckboxInput(attrs=SWITCH)
    )
    can_evict = forms.BooleanField(
        label="May push out another instance to make room",
        required=False,
        initial=True,
        widget=forms.CheckboxInput(attrs=SWITCH),
    )

    def __init__(self, *args: Any, instances: Iterable[Instance], key: ApiKey | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.key = key
        self.fields["instance_ids"].choices = [(one.pk, one.name) for one in instances]  # type: ignore[attr-defined]
        if key is not None:
            del self.fields["kind"]
        for unit, window in ORDER:
            self.fields[limit_field(unit, window)] = forms.IntegerField(
                label=f"{unit.capitalize()} per {window}",
                required=False,
                min_value=0,
                widget=forms.NumberInput(attrs={**TEXT, "placeholder": "no limit"}),
            )

    def clean_expires_at(self) -> date | None:
        """Refuse a day that has begun, in this page's words."""
        day: date | None = self.cleaned_data["expires_at"]
        if day is not None and "expires_at" in self.changed_data and day <= timezone.now().date():
            raise forms.ValidationError("The key would have ended already. Choose tomorrow or a later day.")
        return day

    def clean(self) -> dict[str, Any]:
        """Refuse a key for chosen instances that opens none, in this page's words."""
        data = super().clean() or {}
        is_choosing = data.get("permission_mode") == PermissionMode.PER_INSTANCE
        if is_choosing and not data.get("instance_ids") and "instance_ids" not in self.errors:
            self.add_error("instance_ids", "Tick at least one instance, or choose all that you may use.")
        return data

    @property
    def limit_fields(self) -> list[forms.BoundField]:
        """The inputs of limits."""
        return [self[limit_field(unit, window)] for unit, window in ORDER]

    def to_body(self) -> dict[str, Any]:
        """Return what the API would be sent for this. An expiry that was not touched stays to the second."""
        data = self.cleaned_data
        body = {name: data[name] for name in ("name", "permission_mode", "note", "can_start", "can_evict")}
        if "kind" in self.fields:
            body["kind"] = data["kind"]
        body["instance_ids"] = data["instance_ids"]
        if self.key is None or "expires_at" in self.changed_data:
            body["expires_at"] = to_seconds(data["expires_at"])
        limits = [(unit, window, data[limit_field(unit, window)]) for unit, window in ORDER]
        body["limits"] = [
            {"unit": unit, "window": window, "limit": limit} for unit, window, limit in limits if limit is not None
        ]
        return body


def limit_field(unit: str, window: str) -> str:
    """Return the name of a limit's input."""
    return f"limit_{unit}_{window}"


def to_seconds(day: Any) -> int | None:
    """Return the beginning of a day in UTC as Unix seconds."""
    return None if day is None else int(datetime.combine(day, time(), UTC).timestamp())


def read_initial(key: ApiKey, ids: list[int], limits: dict[tuple[str, str], int]) -> dict[str, Any]:
    """Return what the form of an existing key shows."""
    return {
        "name": key.name,
        "note": key.note,
        "permission_mode": key.permission_mode,
        "instance_ids": ids,
        "expires_at": key.expires_at and timezone.localdate(key.expires_at, UTC),
        "can_start": key.can_start,
        "can_evict": key.can_evict,
        **{limit_field(unit, window): limit for (unit, window), limit in limits.items()},
    }
