"""What operators may set: files only from the model folders, however they are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accounts.domain.actors import ANONYMOUS, actor_for
from accounts.models import User
from instances.domain.access import (
    check_options_allowed,
    find_instance,
    has_level,
    is_in_model_roots,
    require_level,
)
from instances.enums import ShareLevel
from instances.errors import InstanceNotFound, PermissionDenied
from instances.models import InstanceShare
from tests.factories import make_instance


@pytest.fixture
def root(tmp_path: Path, change_settings: Any) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "a.gguf").touch()
    (tmp_path / "secret").touch()
    (folder / "link.gguf").symlink_to(tmp_path / "secret")
    (folder / "inside.gguf").symlink_to(folder / "a.gguf")
    change_settings(models_dirs=[folder])
    return folder


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("{root}/a.gguf", True),
        ("{root}/inside.gguf", True),
        ("{root}/not/yet/there.gguf", True),
        ("{root}/link.gguf", False),
        ("{root}/../secret", False),
        ("{root}x/a.gguf", False),
        ("a.gguf", False),
        ("/etc/passwd", False),
        ("{root}/a\0b", False),
        ("{root}/" + "x" * 5000, True),
    ],
)
def test_paths_are_resolved_before_they_are_compared(root: Path, path: str, inside: bool) -> None:
    assert is_in_model_roots(path.replace("{root}", str(root))) is inside


@pytest.mark.parametrize(
    ("backend_type", "options", "named"),
    [
        ("llama_cpp", {"backend_options": {"model": "/etc/passwd"}}, "backend_options.model"),
        ("llama_cpp", {"backend_options": {"lora": ["{root}/a.gguf", "/x"]}}, "backend_options.lora"),
        ("llama_cpp", {"backend_options": {"extra_args": {"new-file": "/x"}}}, "backend_options.extra_args"),
        ("llama_cpp", {"preset_ini": "[m]\nmodel = {root}/a.gguf\n"}, "preset_ini"),
        ("llama_cpp", {"environment": {"A": "1"}}, "environment"),
        ("llama_cpp", {"command_override": "/bin/sh"}, "command_override"),
        ("command", {"backend_options": {"command": "sh"}}, "backend_type"),
    ],
)
def test_an_operator_is_refused_by_the_options_name(
    operator: User, root: Path, backend_type: str, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(PermissionDenied) as caught:
        check_options_allowed(actor=actor_for(operator), backend_type=backend_type, options=options)

    assert next(iter(caught.value.fields)).startswith(named)
    check_options_allowed(actor=ANONYMOUS, backend_type=backend_type, options=options)


@pytest.mark.parametrize(
    ("backend_type", "options"),
    [
        ("llama_cpp", {"backend_options": {"model": "{root}/a.gguf", "ctx_size": 1}}),
        ("llama_cpp", {"backend_options": {"hf_repo": "org/name", "models_dir": "{root}"}}),
        ("vllm", {"backend_options": {"model": "org/name", "tokenizer": "org/other"}}),
        ("mlx_lm", {"backend_options": {"model": "{root}", "draft_model": "{root}/draft"}}),
    ],
)
def test_an_operator_may_run_models_of_the_folders_and_of_the_hub(
    operator: User, root: Path, backend_type: str, options: dict[str, Any]
) -> None:
    there = json.loads(json.dumps(options).replace("{root}", str(root)))

    check_options_allowed(actor=actor_for(operator), backend_type=backend_type, options=there)


@pytest.mark.parametrize("level", list(ShareLevel))
def test_each_level_of_a_share_includes_the_ones_before(member: User, level: ShareLevel) -> None:
    instance = make_instance()
    InstanceShare.objects.create(instance=instance, user=member, level=level)
    order = list(ShareLevel)

    held = [has_level(actor_for(member), instance, wanted) for wanted in order]

    assert held == [order.index(wanted) <= order.index(level) for wanted in order]


def test_who_lost_an_instance_after_it_was_found_is_told_what_a_stranger_is(member: User) -> None:
    instance = make_instance()
    share = InstanceShare.objects.create(instance=instance, user=member, level=ShareLevel.USE)
    found = find_instance(actor_for(member), instance.name)

    with pytest.raises(PermissionDenied, match=f"operate .* {instance.name}"):
        require_level(actor_for(member), found, ShareLevel.OPERATE)
    share.delete()

    with pytest.raises(InstanceNotFound, match=instance.name):
        require_level(actor_for(member), found, ShareLevel.OPERATE)


def test_an_inactive_administrator_is_none(admin: User) -> None:
    admin.is_active = False

    assert not actor_for(admin).is_admin
    assert not actor_for(admin).is_operator
