"""Showing times, icons and inputs in templates."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.forms import BoundField, CheckboxInput
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from instances.draft import Draft, input_id

register = template.Library()

STEPS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


@register.filter
def span(seconds: float) -> str:
    """Return a length of time in its largest fitting unit: ``3 minutes``."""
    whole = max(0, int(seconds))
    for size, unit in STEPS:
        if whole >= size:
            count = whole // size
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "0 seconds"


@register.filter
def ago(moment: datetime | None) -> str | SafeString:
    """Return how long ago something was, the exact time as a title; ``never`` for nothing."""
    if moment is None:
        return "never"
    passed = (timezone.now() - moment).total_seconds()
    words = "just now" if passed < 5 else f"{span(passed)} ago"
    return stamp(moment, words, "ago")


@register.filter
def moment(when: datetime) -> SafeString:
    """Return a time as it is, to the second."""
    return stamp(when, timezone.localtime(when).strftime("%Y-%m-%d %H:%M:%S"))


@register.filter
def since(moment: datetime | None) -> str | SafeString:
    """Return for how long something has lasted, the beginning as a title; nothing for nothing."""
    return "" if moment is None else stamp(moment, span((timezone.now() - moment).total_seconds()), "since")


def stamp(moment: datetime, words: str, runs: str = "") -> SafeString:
    """Return a ``time`` element; with ``runs`` a script keeps its words up to date."""
    exact = timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S %Z")
    mark = format_html(' data-runs="{}"', runs) if runs else ""
    return format_html('<time datetime="{}" title="{}"{}>{}</time>', moment.isoformat(), exact, mark, words)


@register.simple_tag
def icon(name: str) -> SafeString:
    """Return an icon from ``static/icons.svg``'s list of symbols, hidden from screen readers."""
    return format_html('<svg class="icon" aria-hidden="true" focusable="false"><use href="#icon-{}"></use></svg>', name)


@register.simple_tag
def control(bound: BoundField, fault: str = "") -> SafeString:
    """Return a field's input, tied to its help text and, when something is wrong, to that sentence."""
    attrs = {"class": bound.field.widget.attrs.get("class", "") + (" is-invalid" if fault else "")}
    described = [f"{bound.auto_id}_help"] if bound.help_text else []
    if fault:
        attrs["aria-invalid"] = "true"
        described.insert(0, f"{bound.auto_id}_fault")
    if described:
        attrs["aria-describedby"] = " ".join(described)
    return bound.as_widget(attrs=attrs)


@register.filter
def fault_of(draft: Draft, name: str) -> str:
    """Return what is wrong with an input, or nothing."""
    return draft.faults.get(name, "")


@register.filter
def is_switch(bound: BoundField) -> bool:
    """Whether the field is a checkbox."""
    return isinstance(bound.field.widget, CheckboxInput)


@register.filter
def as_id(key: str) -> str:
    """Return the HTML id of an input."""
    return input_id(key)


@register.filter
def tone(level_tag: str) -> str:
    """Return the colour of a message."""
    return {"success": "green", "warning": "yellow", "error": "red"}.get(level_tag, "blue")
