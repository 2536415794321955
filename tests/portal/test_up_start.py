"""``corral up`` when something is in the way: one sentence, exit code 1, nothing left running."""

from __future__ import annotations

import socket
import stat

import pytest

from tests.portal.corral import Corral, CorralFactory
from tests.system.stack import free_port

pytestmark = pytest.mark.any_database


def assert_refused(corral: Corral, *texts: str) -> None:
    """Run ``corral up``, which must fail with one sentence that holds the texts and leave nothing behind."""
    result = corral.run("up")
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stderr.startswith("corral: ")
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for text in texts:
        assert text in result.stderr
    assert corral.left_over() == []


def test_a_port_in_use_is_named_with_its_setting(make_corral: CorralFactory) -> None:
    """llamactl 11.2-31: a server without its port lived on and started instances."""
    corral = make_corral()
    with socket.create_server(("127.0.0.1", corral.port)):
        assert_refused(corral, f"Port {corral.port} ", "CORRAL_PORT")


def test_an_address_of_another_machine_is_refused(make_corral: CorralFactory) -> None:
    assert_refused(make_corral(host="192.0.2.1"), "CORRAL_HOST", "192.0.2.1")


def test_an_unknown_host_name_is_refused(make_corral: CorralFactory) -> None:
    assert_refused(make_corral(host="no such host"), "CORRAL_HOST")


def test_a_data_folder_that_is_a_file_is_refused(make_corral: CorralFactory) -> None:
    corral = make_corral()
    corral.data_dir.touch()
    assert_refused(corral, str(corral.data_dir), "CORRAL_DATA_DIR")


def test_a_data_folder_below_a_file_is_refused(make_corral: CorralFactory) -> None:
    corral = make_corral()
    (corral.folder / "file").touch()
    corral.environment["CORRAL_DATA_DIR"] = str(corral.folder / "file" / "data")
    assert_refused(corral, "CORRAL_DATA_DIR")


def test_a_new_data_folder_is_closed_to_others(make_corral: CorralFactory) -> None:
    """The database, the logs and the signing key lie in it."""
    corral = make_corral()
    corral.data_dir = corral.folder / "above" / "data"
    corral.environment["CORRAL_DATA_DIR"] = str(corral.data_dir)
    with socket.create_server(("127.0.0.1", corral.port)):  # ends the start early
        corral.run("up")
    assert stat.S_IMODE(corral.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((corral.data_dir / "run").stat().st_mode) == 0o700


def test_an_unreachable_database_is_named_without_its_password(make_corral: CorralFactory) -> None:
    port = free_port()
    corral = make_corral(database_url=f"postgres://anna:geheim@127.0.0.1:{port}/corral")
    assert_refused(corral, f"postgres://anna:***@127.0.0.1:{port}/corral", "CORRAL_DATABASE_URL")


def test_an_unreachable_redis_is_named_without_its_password(make_corral: CorralFactory) -> None:
    port = free_port()
    assert_refused(make_corral(redis_url=f"redis://:geheim@127.0.0.1:{port}/0"), "redis://:***@", "CORRAL_REDIS_URL")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "http"),
        ("port", "70000"),
        ("web_workers", "0"),
        ("port_range", "9000-8000"),
        ("database_url", "nonsense"),
        ("database_url", "mysql://anna@localhost/corral"),
        ("redis_url", "localhost:6379"),
        ("time_zone", "Europe/Nowhere"),
        ("log_level", "LOUD"),
        ("node", "a node"),
        ("host", ""),
        ("https", "perhaps"),
    ],
)
def test_a_bad_setting_is_named(make_corral: CorralFactory, name: str, value: str) -> None:
    assert_refused(make_corral(**{name: value}), f"CORRAL_{name.upper()}")


def test_a_bad_settings_file_is_named(make_corral: CorralFactory) -> None:
    corral = make_corral()
    path = corral.folder / "corral.yaml"
    path.write_text("prot: 8080\n")
    corral.environment["CORRAL_CONFIG"] = str(path)
    assert_refused(corral, str(path), "Did you mean port?")


def test_a_weak_first_password_stops_the_start(make_corral: CorralFactory) -> None:
    result = make_corral(prepared=True, admin_user="anna", admin_password="short").run("up")
    assert result.returncode == 1
    assert "first administrator can't be made" in result.stderr


def test_a_web_server_that_ends_during_the_start_fails_the_start(make_corral: CorralFactory) -> None:
    corral = make_corral(prepared=True)
    # The middle of the start: the database is ready, then the web server dies at its first import.
    broken = corral.folder / "broken"
    (broken / "uvicorn").mkdir(parents=True)
    (broken / "uvicorn" / "__init__.py").write_text("raise SystemExit(3)\n")
    corral.environment["PYTHONPATH"] = str(broken)
    result = corral.run("up")
    assert result.returncode == 1
    assert "The web server ended with exit code 3 during the start" in result.stderr
    assert corral.left_over() == []


def test_a_variable_that_is_no_setting_is_mentioned(make_corral: CorralFactory) -> None:
    corral = make_corral(prot="8080")
    with socket.create_server(("127.0.0.1", corral.port)):  # ends the start early
        result = corral.run("up")
    assert "CORRAL_PROT is no setting" in result.stdout
