"""Who may import whom: between the apps, and between the layers within one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.stack import ROOT

#: Each app may import itself and those before it.
APPS = ("accounts", "gallery", "instances", "gateway", "portal")
#: Layers of an app, by the first part of the module's name below it; a layer may import itself and lower ones.
LAYERS = (
    {"enums", "errors"},
    {"models"},
    {"events", "redis"},
    {"domain", "backends", "shim", "logs", "supervisor"},
    {"authentication", "permissions", "serializers", "forms"},
    {"api", "views", "consumers", "tasks", "urls", "admin", "apps", "management", "middleware"},
)
#: Folders without the ORM: these packages must not import Django's database or the models.
WITHOUT_DJANGO = {
    "accounts.credentials": ("django", "accounts"),
    "instances.shim": ("django", "instances.models", "accounts"),
    "portal.up": ("django",),
}


def list_modules() -> list[Path]:
    """Return every module of the apps except migrations."""
    return [path for app in APPS for path in sorted((ROOT / app).rglob("*.py")) if "migrations" not in path.parts]


def module_name(path: Path) -> str:
    """Return the dotted name of a file's module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def list_imports(path: Path) -> Iterator[str]:
    """Return the dotted names a file imports, inside functions too."""
    package = module_name(path).split(".") if path.name == "__init__.py" else module_name(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            target = ".".join([*base, node.module] if node.module else base)
            yield from (f"{target}.{name.name}" for name in node.names)


def layer_of(module: str) -> int | None:
    """Return the layer of a module, None outside of all (an app's __init__)."""
    parts = module.split(".")
    return next((number for number, names in enumerate(LAYERS) if len(parts) > 1 and parts[1] in names), None)


@pytest.mark.parametrize("path", list_modules(), ids=module_name)
def test_imports_go_one_way(path: Path) -> None:
    module = module_name(path)
    app = module.split(".")[0]
    for name in list_imports(path):
        target = name.split(".")[0]
        if target not in APPS:
            continue
        assert APPS.index(target) <= APPS.index(app), f"{module} imports {name}, an app above its own"
        own, other = layer_of(module), layer_of(name)
        # Between apps the order of the apps decides; portal and gateway have no layers.
        if target == app and own is not None and other is not None and app not in {"portal", "gateway"}:
            assert other <= own, f"{module} imports {name}, a layer above its own"


@pytest.mark.parametrize("package", WITHOUT_DJANGO)
def test_what_stays_in_memory_imports_no_django(package: str) -> None:
    for path in list_modules():
        module = module_name(path)
        if module == package or module.startswith(f"{package}."):
            for name in list_imports(path):
                assert not name.startswith(WITHOUT_DJANGO[package]), f"{module} imports {name}"


def test_tests_are_imported_by_nothing() -> None:
    for path in list_modules():
        assert not any(name.split(".")[0] == "tests" for name in list_imports(path)), path


def test_the_rule_notices_a_wrong_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "accounts" / "models.py"
    path.parent.mkdir()
    path.write_text("def load():\n    from instances.models import Instance\n    return Instance\n")
    monkeypatch.setattr("tests.portal.test_imports.ROOT", tmp_path)
    with pytest.raises(AssertionError, match=r"accounts\.models imports instances\.models\.Instance"):
        test_imports_go_one_way(path)
