"""From an instance row to the files of one run: the shim's spec, the preset file, the engine's command."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from instances.backends.base import Backend, BackendSettings, Launch, Readiness
from instances.backends.registry import get_backend
from instances.domain.runs import derive_upstream_key
from instances.models import Instance, Run

ENGINE_HOST = "127.0.0.1"
"""Where engines listen: only Corral talks to them."""
PRIVATE_PREFIXES = ("CORRAL_", "DJANGO_", "LLAMACTL_")
"""Variables of Corral itself, which hold secrets and are no engine's business."""


@dataclass(frozen=True)
class Prepared:
    """A run that can be spawned. ``host`` is where it answers."""

    spec_path: Path
    log_path: Path
    host: str
    readiness: Readiness


def read_backend_settings(backend: Backend) -> BackendSettings:
    """Return what the administrator configured for this engine; engines without settings have an empty command."""
    prefix = f"backends_{backend.config_key.replace('-', '_')}_"

    def value(name: str, default: object) -> object:
        return getattr(settings.CORRAL, prefix + name, default)

    return BackendSettings(
        command=str(value("command", "")),
        args=tuple(value("args", ())),  # type: ignore[arg-type]  # the settings' own types were checked when read
        environment=dict(value("environment", {})),  # type: ignore[call-overload]
        docker_enabled=bool(value("docker_enabled", False)),
        docker_image=str(value("docker_image", "")),
        docker_args=tuple(value("docker_args", ())),  # type: ignore[arg-type]
        docker_environment=dict(value("docker_environment", {})),  # type: ignore[call-overload]
    )


def run_folder(token: str) -> Path:
    """Return the folder of a run. Its name is the token, by which the shim's command line is recognised."""
    return Path(settings.CORRAL.data_dir) / "runs" / token


def log_file(instance_name: str, run_id: int) -> Path:
    """Return the log file of a run."""
    return Path(settings.CORRAL.data_dir) / "logs" / instance_name / f"{run_id}.log"


def container_name(instance: Instance, run: Run) -> str:
    """Return the name of the run's container in Docker mode; unique to the run."""
    return f"corral-{instance.name}-{run.token[:12]}"


def describe_endpoint(instance: Instance) -> tuple[str, Readiness]:
    """Return the host where the instance answers and how to ask whether it does."""
    backend = get_backend(instance.backend_type)
    options = instance.options.get("backend_options") or {}
    return backend.upstream_host(options), backend.readiness(options)


def prepare_run(*, instance: Instance, run: Run, grace_s: float) -> Prepared:
    """Write the files of a run and return where they are.

    Raises OptionError when the options can't be turned into a command and OSError when the data folder can't be
    written; nothing is started in either case.
    """
    backend = get_backend(instance.backend_type)
    options = instance.options
    backend_options = options.get("backend_options") or {}
    backend_settings = read_backend_settings(backend)
    docker = options.get("docker_enabled")
    in_container = backend.supports_docker and (backend_settings.docker_enabled if docker is None else docker)
    container = container_name(instance, run)
    folder = run_folder(run.token)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = backend.build_command(
        Launch(
            instance_name=instance.name,
            backend_options=backend_options,
            host=ENGINE_HOST,
            port=run.port,
            settings=backend_settings,
            api_key=derive_upstream_key(run.token),
            environment=options.get("environment") or {},
            command_override=options.get("command_override") or "",
            docker_enabled=in_container,
            container_name=container,
            preset_path=write_preset(instance, folder),
            stop_grace_s=grace_s,
        )
    )
    log_path = log_file(instance.name, run.pk)
    log_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    corral = settings.CORRAL
    spec = {
        "argv": command.argv,
        "environment": {**inherited_environment(os.environ), **command.environment},
        "cwd": str(folder),
        "token": run.token,
        "state_path": str(folder / "state.json"),
        "log_path": str(log_path),
        "log_max_bytes": corral.log_rotation_max_size * 2**20 if corral.log_rotation_enabled else 0,
        "log_max_files": corral.log_rotation_max_files,
        "log_compress": corral.log_rotation_compress,
        "grace_s": grace_s,
        "stop_argv": command.stop_argv,
        "cleanup_argv": command.cleanup_argv,
        "container": container if in_container else None,  # not the shim's business but supervisor/containers.py's
    }
    spec_path = folder / "spec.json"
    with os.fdopen(os.open(spec_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(spec, file)
    host, readiness = describe_endpoint(instance)
    return Prepared(spec_path, log_path, host, readiness)


def write_preset(instance: Instance, folder: Path) -> Path | None:
    """Write the instance's model presets into the run's folder; None when it has none.

    Written anew for every run, so that an edit counts from the next start and a cleared preset leaves no file behind.
    """
    text = instance.options.get("preset_ini")
    if not text:
        return None
    path = folder / "preset.ini"
    path.write_text(text)
    return path


def inherited_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the worker's environment without Corral's own settings."""
    return {name: value for name, value in environ.items() if not name.startswith(PRIVATE_PREFIXES)}


def remove_run_files(token: str) -> None:
    """Delete a run's folder once it is over: it holds the spec with the environment's secrets."""
    shutil.rmtree(run_folder(token), ignore_errors=True)
