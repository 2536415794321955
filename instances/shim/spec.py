"""What a shim is told: the spec file.

A JSON object (the file should have mode 0600, the environment holds secrets):

``argv``            list of str, required: the backend's command; a name without a slash is looked up in PATH of
                    ``environment``
``environment``     object of str, required: the complete environment of the backend and of the two commands below.
                    Nothing is inherited from the shim; ``CORRAL_RUN_TOKEN`` is added from ``token``
``cwd``             str, absolute working directory; "/" when absent
``token``           str, required: the run token
``state_path``      str, required, absolute: where the state is written (see state.py)
``log_path``        str, required, absolute: the log file of the run; its folder is created
``log_max_bytes``   int, size at which the log is rotated; 0 (the default) never rotates
``log_max_files``   int, rotated parts that are kept, oldest deleted first; 0 (the default) keeps all
``log_compress``    bool, gzip rotated parts (default false)
``grace_s``         number, seconds between the request to stop and SIGKILL (default 30)
``stop_argv``       list of str or null: a command that asks the backend to stop, run instead of SIGTERM (``docker
                    stop``). ``${PID}`` in it becomes the pid of the backend. When it fails, SIGTERM is sent after all
``cleanup_argv``    list of str or null: a command run after the whole tree is gone (``docker rm``), at most 8 s. Its
                    output is logged when it fails

Unknown fields are ignored, so that an older shim can be started by a newer portal.
"""

from __future__ import annotations

import json
import os


class SpecError(Exception):
    """The spec file can't be used; the text names the field."""


class Spec:
    """The spec file, read and checked."""

    def __init__(self, raw: object) -> None:
        if not isinstance(raw, dict):
            raise SpecError("the spec must be a JSON object")
        self.argv = _read_command(raw, "argv")
        if not self.argv:
            raise SpecError("argv must name a program")
        self.stop_argv = _read_command(raw, "stop_argv")
        self.cleanup_argv = _read_command(raw, "cleanup_argv")
        self.environment = _read_environment(raw)
        self.token = _read_text(raw, "token")
        self.environment["CORRAL_RUN_TOKEN"] = self.token
        self.cwd = _read_path(raw, "cwd", "/")
        self.state_path = _read_path(raw, "state_path")
        self.log_path = _read_path(raw, "log_path")
        self.log_max_bytes = int(_read_number(raw, "log_max_bytes", 0))
        self.log_max_files = int(_read_number(raw, "log_max_files", 0))
        self.log_compress = raw.get("log_compress", False) is True
        self.grace_s = _read_number(raw, "grace_s", 30)

    @classmethod
    def read(cls, path: str) -> Spec:
        """Read a spec file. Raises SpecError when it is missing, not JSON, or a field is wrong."""
        try:
            with open(path, encoding="utf-8") as file:
                return cls(json.load(file))
        except OSError as error:
            raise SpecError(f"can't be read: {error.strerror}") from error
        except ValueError as error:
            raise SpecError(f"not valid JSON: {error}") from error


def _read_command(raw: dict[str, object], field: str) -> list[str]:
    value = raw.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(part, str) and "\0" not in part for part in value):
        raise SpecError(f"{field} must be a list of strings without NUL")
    return value


def _read_environment(raw: dict[str, object]) -> dict[str, str]:
    value = raw.get("environment")
    if not isinstance(value, dict):
        raise SpecError("environment must be an object of strings")
    for name, text in value.items():
        if not name or "=" in name or "\0" in name:
            raise SpecError(f"environment: {name!r} can't be the name of a variable")
        if not isinstance(text, str) or "\0" in text:
            raise SpecError(f"environment: the value of {name} must be a string without NUL")
    return dict(value)


def _read_text(raw: dict[str, object], field: str, default: str | None = None) -> str:
    value = raw.get(field, default)
    if not isinstance(value, str) or not value or "\0" in value:
        raise SpecError(f"{field} must be a non-empty string")
    return value


def _read_path(raw: dict[str, object], field: str, default: str | None = None) -> str:
    value = _read_text(raw, field, default)
    if not os.path.isabs(value):
        raise SpecError(f"{field} must be an absolute path, not {value!r}")
    return value


def _read_number(raw: dict[str, object], field: str, default: float) -> float:
    value = raw.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise SpecError(f"{field} must be a number that is not negative")
    return value
