"""Showing an instance's options in llamactl's shape and order."""

from __future__ import annotations

from typing import Any

from accounts.domain.masking import MASK, SECRET_NAME, mask_record
from instances.domain.serving import SERVING_OPTIONS
from instances.models import Instance

OPTION_ORDER = (
    "auto_restart", "max_restarts", "restart_delay", "on_demand_start", "idle_timeout", "environment", "preset_ini",
    "docker_enabled", "command_override", *SERVING_OPTIONS,
)  # fmt: skip


def describe_options(instance: Instance, *, with_secrets: bool) -> dict[str, Any]:
    """Return the full options, defaults filled in, the port among ``backend_options``; unset ones are left out.

    Without ``with_secrets`` the values of variables and engine options whose names speak of secrets are masked, and so
    is what stands inside texts as a secret does: in a command, a preset file, an address.
    """
    stored = instance.options
    backend_options = {**stored.get("backend_options", {}), "port": instance.port}
    extra = backend_options.pop("extra_args", None)
    if extra:
        backend_options["extra_args"] = extra
    shown: dict[str, Any] = {
        "nodes": [instance.node.name],
        "backend_type": instance.backend_type,
        "backend_options": backend_options,
    }
    shown |= {name: stored[name] for name in OPTION_ORDER if name in stored}
    if not with_secrets:
        shown = mask_record(shown, hides=SECRET_NAME)
        if "environment" in shown:
            shown["environment"] = dict.fromkeys(shown["environment"], MASK)
    if instance.group:
        shown["group"] = instance.group
    return {**shown, "pinned": instance.pinned, "disabled": instance.disabled}
