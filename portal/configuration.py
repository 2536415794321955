"""The effective settings in the shape of llamactl's ``GET /api/v1/config``, without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import connection

from accounts.domain.masking import MASK, SECRET_NAME, mask_secrets, mask_text
from instances.backends.base import Backend
from instances.backends.registry import BACKENDS
from instances.domain.launch import read_backend_settings
from instances.models import Node

ASSIGNMENT = re.compile(r"([^=]+)=(.+)", re.DOTALL)


def build_information() -> dict[str, str]:
    """Return version, commit and build time; images set the last two in ``BUILD_COMMIT`` and ``BUILD_TIME``."""
    return {
        "version": settings.CORRAL_VERSION,
        "commit_hash": os.environ.get("BUILD_COMMIT", "unknown"),
        "build_time": os.environ.get("BUILD_TIME", "unknown"),
    }


def describe_configuration() -> dict[str, Any]:
    """Return the settings: llamactl's keys in its order and units, Corral's own among them; secrets masked."""
    config = settings.CORRAL
    return {
        "server": {
            "host": config.host,
            "port": config.port,
            "allowed_origins": config.allowed_origins,
            "allowed_headers": ["*"],
            "enable_swagger": True,
        },
        "backends": {
            backend.config_key: describe_backend_settings(backend)
            for backend in BACKENDS.values()
            if read_backend_settings(backend).command
        },
        "instances": describe_instance_settings(),
        "database": {
            "engine": connection.vendor,
            "path": str(connection.settings_dict["NAME"]) if connection.vendor == "sqlite" else "",
        },
        "auth": {
            "require_inference_auth": config.require_inference_auth,
            "require_management_auth": config.require_management_auth,
            "management_keys": [],
        },
        "local_node": config.node,
        "nodes": {name: {"address": ""} for name in Node.objects.values_list("name", flat=True)},
        "data_dir": str(config.data_dir),
        "models_dirs": [str(root) for root in config.model_roots],
        **build_information(),
    }


def describe_backend_settings(backend: Backend) -> dict[str, Any]:
    """Return an engine's settings; values of variables and arguments that look like secrets are masked."""
    found = read_backend_settings(backend)
    shown: dict[str, Any] = {"command": found.command, "args": mask_arguments(found.args)}
    if found.environment:
        shown["environment"] = mask_secrets(found.environment)
    if backend.supports_docker:
        shown["docker"] = {
            "enabled": found.docker_enabled,
            "image": found.docker_image,
            "args": mask_arguments(found.docker_args),
        }
        if found.docker_environment:
            shown["docker"]["environment"] = mask_secrets(found.docker_environment)
    return shown


def describe_instance_settings() -> dict[str, Any]:
    """Return limits and defaults; the log rotation in llamactl's odd spelling and in a plain one."""
    config = settings.CORRAL
    names = (
        "max_instances", "max_running_instances", "enable_lru_eviction", "start_on_create", "default_idle_timeout",
        "default_auto_restart", "default_max_restarts", "default_restart_delay", "default_on_demand_start",
        "on_demand_start_timeout",
    )  # fmt: skip
    shown = {
        "port_range": [config.ports[0], config.ports[-1]],
        "auto_create_dirs": True,
        **{name: getattr(config, name) for name in names},
        "logs_dir": str(config.data_dir / "logs"),
        "instances_dir": str(config.data_dir / "runs"),
        "LogRotationEnabled": config.log_rotation_enabled,
        "LogRotationMaxSize": config.log_rotation_max_size,
        "LogRotationCompress": config.log_rotation_compress,
        "log_rotation_enabled": config.log_rotation_enabled,
        "log_rotation_max_size": config.log_rotation_max_size,
        "log_rotation_compress": config.log_rotation_compress,
    }
    return shown | ({"group_limits": config.group_limits} if config.group_limits else {})


def mask_arguments(arguments: Sequence[str]) -> list[str]:
    """Mask the values of secret-looking arguments: ``--api-key X``, ``--api-key=X``, ``-e TOKEN=X``."""
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        assignment = ASSIGNMENT.fullmatch(argument)
        if assignment and SECRET_NAME.search(assignment[1]):
            shown.append(f"{assignment[1]}={MASK}")
        else:
            shown.append(MASK if hide_next and not argument.startswith("-") else mask_text(argument))
        hide_next = argument.startswith("-") and not assignment and bool(SECRET_NAME.search(argument))
    return shown
