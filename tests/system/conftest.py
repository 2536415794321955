"""Stacks for the tests of the whole: one that many tests share, and fresh ones for those that break things."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.engines.fixtures import llama_server, mlx_server, tiny_gguf, tiny_hf
from tests.fakes.fixtures import fake_docker
from tests.system.databases import make_database
from tests.system.sdks import Sdks
from tests.system.stack import Stack

__all__ = ["fake_docker", "llama_server", "mlx_server", "tiny_gguf", "tiny_hf"]

StackFactory = Callable[..., Stack]


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A prepared installation that nobody has used: its data folder, and its database's name on PostgreSQL.

    Migrating and collecting takes seconds; every stack starts from a copy.
    """
    name = f"installation_{secrets.token_hex(4)}"
    url, drop = make_database(name)
    stack = Stack(tmp_path_factory.mktemp("installation"), **({"database_url": url} if url else {}))
    stack.prepare()
    yield stack.data_dir, name if url else ""
    drop()


def start_stack(
    folder: Path, request: pytest.FixtureRequest, environment: Mapping[str, str] | None = None, **settings: str
) -> Stack:
    """Start a stack on the database under test and end it, models included, when the test is over.

    ``environment`` holds variables beside Corral's own.
    """
    data_dir, template = request.getfixturevalue("installation")
    url, drop = make_database(f"stack_{secrets.token_hex(4)}", template)
    stack = Stack(folder, **({"database_url": url} if url else {}), **settings)
    stack.environment.update(environment or {})
    shutil.copytree(data_dir, stack.data_dir)

    def end() -> None:
        stack.down()
        stack.api.close()
        drop()

    request.addfinalizer(end)
    stack.up()
    return stack


@pytest.fixture(scope="session")
def shared_corral(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """One Corral for all tests that leave it as they found it."""
    return start_stack(tmp_path_factory.mktemp("corral"), request)


@pytest.fixture
def corral(shared_corral: Stack) -> Iterator[Stack]:
    """The shared Corral; instances that the test leaves behind are removed."""
    yield shared_corral
    for instance in shared_corral.api.get("/api/v1/instances").json():
        shared_corral.remove(instance["name"])


@pytest.fixture
def make_corral(request: pytest.FixtureRequest, tmp_path: Path) -> StackFactory:
    """Return a function that starts a Corral of the test's own, with settings of its own."""

    def make(environment: Mapping[str, str] | None = None, **settings: str) -> Stack:
        folder = tmp_path / secrets.token_hex(4)
        folder.mkdir()
        return start_stack(folder, request, environment, **settings)

    return make


@pytest.fixture(scope="session")
def sdks(request: pytest.FixtureRequest, llama_server: Path, mlx_server: Path, tiny_gguf: Path, tiny_hf: Path) -> Sdks:
    """One Corral before the real engines for all tests with client libraries."""
    folder: Path = request.getfixturevalue("tmp_path_factory").mktemp("sdks")
    stack = start_stack(
        folder,
        request,
        backends_llama_cpp_command=str(llama_server),
        backends_llama_cpp_args="",
        backends_mlx_command=str(mlx_server),
    )
    return Sdks(stack, folder, gguf=tiny_gguf, hf=tiny_hf)
