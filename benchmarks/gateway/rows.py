"""Rows that no person would make by hand, written into the database of a Corral that runs.

``python -m benchmarks.gateway.rows --instance NAME --keys N --instances N --file PATH``: keys of mode ``per_instance``
for the instance, their secrets one per line in the file; and further instances like it that never run.
"""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path

BATCH = 1000
FIRST_PORT = 30_000


def make_keys(instance_name: str, count: int) -> list[str]:
    """Make keys that may use this instance alone, and return them."""
    from accounts.domain.keys import generate_key, hash_key  # noqa: PLC0415  needs the settings
    from accounts.enums import KeyKind, PermissionMode  # noqa: PLC0415  likewise
    from accounts.models import ApiKey, User  # noqa: PLC0415  likewise
    from instances.models import Instance, KeyPermission  # noqa: PLC0415  likewise

    owner = User.objects.order_by("id").first()
    instance = Instance.objects.get(name=instance_name)
    plain = [generate_key(KeyKind.INFERENCE) for _ in range(count)]
    mark = secrets.token_hex(4)
    rows = [
        ApiKey(
            name=f"benchmark {mark}",
            key_hash=hash_key(key),
            key_hint=key[:11],
            user=owner,
            permission_mode=PermissionMode.PER_INSTANCE,
        )
        for key in plain
    ]
    ApiKey.objects.bulk_create(rows, batch_size=BATCH)
    made = ApiKey.objects.filter(name=f"benchmark {mark}").values_list("id", flat=True)
    permissions = [KeyPermission(api_key_id=key_id, instance=instance) for key_id in made]
    KeyPermission.objects.bulk_create(permissions, batch_size=BATCH)
    return plain


def make_instances(instance_name: str, count: int) -> None:
    """Make further instances with the options of this one; nobody starts them."""
    from instances.models import Instance  # noqa: PLC0415  needs the settings

    model = Instance.objects.get(name=instance_name)
    rows = [
        Instance(
            name=f"further-{number}",
            backend_type=model.backend_type,
            options=model.options,
            owner=model.owner,
            node=model.node,
            port=FIRST_PORT + number,
        )
        for number in range(count)
    ]
    Instance.objects.bulk_create(rows, batch_size=BATCH)


def main() -> None:
    """Make the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway.rows")
    parser.add_argument("--instance", required=True)
    parser.add_argument("--keys", type=int, default=0)
    parser.add_argument("--instances", type=int, default=0)
    parser.add_argument("--file", type=Path, required=True)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    import django  # noqa: PLC0415  after the environment above

    django.setup()
    make_instances(options.instance, options.instances)
    options.file.write_text("\n".join(make_keys(options.instance, options.keys)))
    options.file.chmod(0o600)


if __name__ == "__main__":
    main()
