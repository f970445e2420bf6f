"""How Databricks answers: an error as a code and a message in JSON, and the fields of a request wherever they stand."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

STATUS = {
    "BAD_REQUEST": 400,
    "INVALID_PARAMETER_VALUE": 400,
    "MALFORMED_REQUEST": 400,
    "MAX_BLOCK_SIZE_EXCEEDED": 400,
    "MAX_NOTEBOOK_SIZE_EXCEEDED": 400,
    "DIRECTORY_NOT_EMPTY": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "ENDPOINT_NOT_FOUND": 404,
    "NOT_FOUND": 404,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ALREADY_EXISTS": 409,
    "RESOURCE_CONFLICT": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL_ERROR": 500,
    "TEMPORARILY_UNAVAILABLE": 503,
}


class Refusal(Exception):  # noqa: N818 - it is an answer
    """A request that is refused.

    code: Databricks's error code; the HTTP status follows from it unless `status` gives another.
    """

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or STATUS[code]


def refuse(code: str, message: str, status: int | None = None) -> JSONResponse:
    """The answer to a refused request."""
    refusal = Refusal(code, message, status)
    return JSONResponse({"error_code": refusal.code, "message": refusal.message}, refusal.status)


async def fields(request: Request) -> dict[str, Any]:
    """The fields of a request: those of the address, then those of the JSON body, which MLflow sends even with GET.

    Raises Refusal (MALFORMED_REQUEST) for a body that is no JSON object.
    """
    found: dict[str, Any] = dict(request.query_params)
    body = await request.body()
    if body:
        try:
            given = json.loads(body)
        except ValueError as error:
            raise Refusal("MALFORMED_REQUEST", f"Invalid JSON given in the body of the request: {error}") from None
        if not isinstance(given, dict):
            raise Refusal("MALFORMED_REQUEST", "Invalid JSON given in the body of the request - expected a map")
        found |= given
    return found


def required(given: dict[str, Any], name: str) -> Any:
    """A field that must be there; raises Refusal (INVALID_PARAMETER_VALUE) where it is not."""
    value = given.get(name)
    if value is None or value == "":
        raise Refusal("INVALID_PARAMETER_VALUE", f"Missing required field: {name}")
    return value


def flag(value: Any) -> bool:
    """Whether a field is true; forms and addresses send it as text."""
    return str(value).lower() == "true"
