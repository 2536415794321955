"""Reading the definition of an instance from a file that a page or llamactl's dashboard exported."""

from __future__ import annotations

import json
from typing import Any

from django.core.files.uploadedfile import UploadedFile

from instances.backends.base import OptionError
from instances.backends.registry import BACKENDS
from instances.domain.options import replace_legacy_key
from instances.errors import InstanceError

LARGEST_BYTES = 2**20


class InvalidImport(InstanceError):
    """The file holds no definition of an instance."""


def read_definition(file: UploadedFile[bytes] | None) -> tuple[str, dict[str, Any]]:
    """Return name and options of the instance in a file, engine options under their canonical names.

    Port and node are left out. Raises InvalidImport with a sentence for the person who chose the file.
    """
    if file is None:
        raise InvalidImport("Choose a JSON file first.")
    if (file.size or 0) > LARGEST_BYTES:
        raise InvalidImport("The file is larger than 1 MB, so it holds no instance.")
    try:
        content = json.loads(file.read())
    except (ValueError, RecursionError):
        raise InvalidImport("The file is not JSON.") from None
    options = content.get("options") if isinstance(content, dict) else None
    if not isinstance(options, dict):
        raise InvalidImport("The file holds no instance: an object with name and options is expected.")
    try:
        options = replace_legacy_key(options)
    except InstanceError as error:
        raise InvalidImport(str(error)) from None
    options.pop("nodes", None)
    backend = BACKENDS.get(str(options.get("backend_type")))
    if backend is None:
        raise InvalidImport(f"backend_type must be one of {', '.join(sorted(BACKENDS))}.")
    engine = options.get("backend_options")
    if isinstance(engine, dict):
        engine.pop("port", None)
    try:
        options["backend_options"] = backend.normalize_options(engine).options
    except OptionError as error:
        raise InvalidImport(f"{error}.") from None
    return str(content.get("name") or ""), options
