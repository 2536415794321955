"""What the OpenAPI document says of every operation holds, for each role, whatever is sent: Schemathesis.

``CORRAL_TEST_EXAMPLES`` says how many requests are made of each operation for each role; a few in the suite, more by
hand now and then.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import cache
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.authorisation.conftest import answer_as_engine
from tests.authorisation.server import Server
from tests.authorisation.world import HOST

EXAMPLES = int(os.environ.get("CORRAL_TEST_EXAMPLES", "2"))
ROLES = ("anonymous", "use", "operator", "admin", "management key")
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]
INFERENCE_CHECKS = [*CHECKS, response_schema_conformance]
"""For the gateway's addresses under ``/v1``: the bodies of refusals are what client libraries read."""
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


@cache
def load_operations() -> list[APIOperation[Any, Any, Any, Any]]:
    """Return every operation of the document; who asks is for the test to say, so the schemes of keys are left out."""
    from drf_spectacular.generators import SchemaGenerator

    document = SchemaGenerator().get_schema(request=None, public=True)
    document.get("components", {}).pop("securitySchemes", None)
    document.pop("security", None)
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    return [result.ok() for result in schemathesis.openapi.from_dict(document).get_all_operations()]


@cache
def make_cases(label: str) -> list[Case]:
    """Return requests of an operation, right and wrong ones, the same ones in every run."""
    operation = next(operation for operation in load_operations() if operation.label == label)
    found: list[Case] = []
    is_choosy = bool(operation.query) or bool(operation.body)
    for mode in MODES if is_choosy else MODES[:1]:  # where only names are taken, nothing can be wrong in its form

        @hypothesis.settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(operation.as_strategy(generation_mode=mode))
        def collect(case: Case) -> None:
            found.append(case)

        with contextlib.suppress(hypothesis.errors.Unsatisfiable):
            collect()
    for number, case in enumerate(found):
        prepare(case, number)
    return found


def prepare(case: Case, number: int) -> None:
    """Name what there is in every other request, and ask for no endless answer."""
    values = {"name": "alpha", "model": "alpha", "user": "mia", "team": "research", "slot": "0"}
    if number % 2 == 0:
        for name in set(case.path_parameters or {}) & set(values):
            case.path_parameters[name] = values[name]
    if isinstance(case.query, dict):
        case.query.pop("follow", None)


@pytest.fixture
def server(transactional_db: None, prepared: None) -> Iterator[Server]:
    from portal.asgi import make_application

    with Server(make_application(), answer_as_engine) as running:
        yield running


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(2))
def test_every_operation_does_as_the_document_says(server: Server, part: int) -> None:
    faults = []
    for operation in load_operations()[part::2]:
        for role in ROLES:
            server.refresh_if_stale()
            faults += find_faults(server, operation.label, role)
    assert not faults, "\n".join(dict.fromkeys(faults))


def find_faults(server: Server, label: str, role: str) -> list[str]:
    """Send the requests of an operation; return what is not as the document has it."""
    found: list[str] = []
    checks = INFERENCE_CHECKS if " /v1/" in label else CHECKS
    headers = {name.decode(): value.decode() for name, value in server.world.headers_of(role)} | {"Host": HOST}
    for case in make_cases(label):
        response = case.call(base_url=server.base_url, headers=headers, timeout=60)
        server.is_stale = server.is_stale or (response.status_code < 400 and case.method != "GET")
        try:
            case.validate_response(response, checks=checks)
        except FailureGroup as group:
            said = response.content[:300].decode(errors="replace")
            sent = f"{response.request.method} {response.request.url[:200]} {(response.request.body or '')[:200]!r}"
            found += [
                f"{label} as {role}: {fault.title}: {response.status_code} {said}\n    sent: {sent}"
                for fault in group.exceptions
            ]
    return found
