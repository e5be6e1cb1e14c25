"""The API against its own description: whatever is sent, an answer is one that OpenAPI describes, and none is a 500."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio import to_thread
from hypothesis import HealthCheck, Phase, given, settings

from shared.control.issuing import history
from tests.services.observatory.test_acting import WHY, running

pytestmark = pytest.mark.anyio
EXAMPLES = 6


async def test_no_request_of_the_description_is_answered_otherwise_than_it_describes(tmp_path: Path) -> None:
    async with running(tmp_path) as acted:
        token = acted.file.add_token("robot", "operator", WHY)
        headers = {"authorization": f"Bearer {token}"}
        seen = await to_thread.run_sync(fuzz, acted.url, headers)
        assert {path for path, _ in seen} >= {"/api/v1/now", "/api/v1/acts/issue", "/api/v1/acts/submit"}
        assert {200, 400, 409} <= {status for path, status in seen if path.startswith("/api/v1/acts")}
        entries = await history(acted.log)
        assert {entry.actor for entry in entries} <= {"ada", "robot"}


def fuzz(url: str, headers: dict[str, str]) -> set[tuple[str, int]]:
    """Send generated requests to every operation, and return which statuses each path answered."""
    import schemathesis
    from schemathesis import checks

    schema = schemathesis.openapi.from_dict(httpx.get(f"{url}/api/openapi.json", headers=headers).json())
    seen: set[tuple[str, int]] = set()
    checks.load_all_checks()
    names = ("response_schema_conformance", "content_type_conformance", "status_code_conformance")
    wanted = [checks.not_a_server_error, *(checks.CHECKS.get_one(name) for name in names)]
    for found in schema.get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]  # an operation that cannot be read raises here

        @settings(
            max_examples=EXAMPLES,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
            deadline=None,
            database=None,
            derandomize=True,
        )
        @given(case=operation.as_strategy())
        def send(case: Any) -> None:
            answer = case.call(base_url=url, headers=headers)
            seen.add((case.path, answer.status_code))
            case.validate_response(answer, checks=wanted)

        send()
    return seen
