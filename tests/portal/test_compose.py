"""docker-compose.yml and Dockerfile: valid, in step with each other, and clean in Django's deployment check."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from portal.cli import COMMANDS, DJANGO_COMMANDS
from portal.env import unknown_variables
from tests.system.stack import ROOT

pytestmark = pytest.mark.any_database
SECRETS = {"CORRAL_SECRET_KEY": "0123456789abcdef" * 4, "POSTGRES_PASSWORD": "secret"}


def load_compose() -> dict[str, Any]:
    """Return the file with anchors resolved."""
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))


def substitute(text: str, values: dict[str, str]) -> str:
    """Replace ${NAME:-default} and ${NAME:?message} as compose does."""

    def replace(match: re.Match[str]) -> str:
        name, operator, rest = match[1], match[2], match[3]
        if values.get(name):
            return values[name]
        assert operator == ":-", f"{name} must be set: {rest}"
        return rest

    return re.sub(r"\$\{(\w+)(:-|:\?)([^}]*)\}", replace, text)


def test_every_part_and_store_is_a_service() -> None:
    assert set(load_compose()["services"]) == {"prepare", "network", "web", "worker", "beat", "postgres", "redis"}


def test_every_command_exists() -> None:
    for name, service in load_compose()["services"].items():
        words = service.get("command", [])
        if words[:1] == ["corral"]:
            assert words[1] in {*COMMANDS, *DJANGO_COMMANDS}, name


def test_every_dependency_and_volume_is_declared() -> None:
    compose = load_compose()
    services = compose["services"]
    for name, service in services.items():
        for other, condition in service.get("depends_on", {}).items():
            assert other in services, name
            if condition["condition"] == "service_healthy":
                assert "test" in services[other]["healthcheck"], other
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"], name


def test_every_part_may_end_in_peace() -> None:
    services = load_compose()["services"]
    for name in ("web", "worker", "beat"):
        assert services[name]["stop_signal"] == "SIGTERM"
        assert services[name]["stop_grace_period"].endswith("s")


def test_web_and_worker_share_a_network_that_neither_takes_along() -> None:
    """The worker shared the web server's: after a restart of that alone it found neither Redis nor the database."""
    services = load_compose()["services"]
    for name in ("web", "worker"):
        assert services[name]["network_mode"] == "service:network"
        assert "ports" not in services[name]
    network = services["network"]
    assert network["entrypoint"] == ["sleep", "infinity"]
    assert network["image"] != services["web"]["image"]  # it would be made anew with every upgrade
    assert network["networks"]["default"]["aliases"] == ["web"]
    assert not {"build", "environment", "volumes"} & set(network)


def test_every_variable_of_the_environment_is_a_setting() -> None:
    for service in load_compose()["services"].values():
        assert unknown_variables(service.get("environment", {})) == []


def test_a_missing_secret_stops_compose() -> None:
    environment = load_compose()["services"]["web"]["environment"]
    with pytest.raises(AssertionError, match="CORRAL_SECRET_KEY must be set"):
        substitute(environment["CORRAL_SECRET_KEY"], {})


def test_docker_accepts_the_file() -> None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(command[0])
            and subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0
        ):
            break
    else:
        pytest.skip("docker compose is not installed; the tests above check the structure")
    checked = subprocess.run(
        [*command, "-f", str(ROOT / "docker-compose.yml"), "config", "--quiet"],
        env={**os.environ, **SECRETS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_the_deployment_check_is_clean_with_the_settings_of_compose(tmp_path: Path) -> None:
    environment = {
        name: substitute(value, SECRETS) for name, value in load_compose()["services"]["web"]["environment"].items()
    }
    checked = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "check", "--deploy", "--fail-level", "INFO"],
        env={**os.environ, **environment, "CORRAL_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "no issues" in checked.stdout


def test_the_image_runs_as_its_own_user_and_copies_only_what_exists() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert any(line.startswith("USER corral") for line in lines)
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source


def test_the_image_holds_no_tests_no_history_and_no_data() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "tests", "data", "corral.yaml"} <= set(ignored)
    assert "README.md" not in ignored  # the package's description is read when it is installed
