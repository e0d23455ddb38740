"""What the retrieval server offers, for programs (OpenAPI) and for people."""

import inspect
from functools import cache
from typing import Any

import msgspec

from exsearch import __version__
from exsearch.serving.dialects import REQUESTS

_TEXT = {"text/plain": {"schema": {"type": "string"}}}
_JSON: dict[str, Any] = {"application/json": {"schema": {}}}
_PLAIN_GETS = {
    "/health": ("Whether the server is up, as FlashRAG's clients ask; needs no API key", _JSON),
    "/healthz": ("Whether the server is up, as agent-lightning's clients ask; needs no API key", _JSON),
    "/metrics": ("Counters in Prometheus' text format", _TEXT),
    "/": ("What this server is", _TEXT),
}
_ERROR = {
    "description": "Refused: 400 wrong request, 401 no API key, 408 too slow, 413 body too large, 503 full or the "
    "index cannot answer (try again after Retry-After seconds), 504 search took too long",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error", "message", "detail"],
                "properties": {
                    "error": {"const": True},
                    "message": {"type": "string"},
                    "detail": {"type": "string", "description": "the message again"},
                },
            }
        }
    },
}


@cache
def openapi() -> dict[str, Any]:
    """Return the OpenAPI description of all paths."""
    _, schemas = msgspec.json.schema_components(REQUESTS, ref_template="#/components/schemas/{name}")
    paths: dict[str, Any] = {
        path: {"get": {"summary": summary, "responses": {"200": {"description": summary, "content": content}}}}
        for path, (summary, content) in _PLAIN_GETS.items()
    }
    for path in dict.fromkeys(request.path for request in REQUESTS):
        here = [request for request in REQUESTS if request.path == path]
        body = {"anyOf": [{"$ref": f"#/components/schemas/{request.__name__}"} for request in here]}
        summary = "; ".join(f"{request.dialect}: {_summary(request)}" for request in here)
        paths[path] = {
            "post": {
                "summary": summary,
                "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
                "responses": _responses(),
            }
        }
    paths["/api/search"]["get"] = {
        "summary": "C: as the POST, with the keys in the URL",
        "parameters": [
            {"name": "query", "in": "query", "required": True, "schema": {"type": "string"}},
            {"name": "k", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10}},
        ],
        "responses": _responses(),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "ExSearch retrieval server", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
        "security": [{}, {"bearer": []}, {"header": []}],
    }


def overview() -> str:
    """Return what the server speaks, one request a line."""
    lines = []
    for request in REQUESTS:
        keys = ", ".join(request.__struct_fields__)
        lines.append(f"{request.dialect:<3} POST {request.path:<14} {{{keys}}}".ljust(78) + _summary(request))
    lines.append("C   GET  /api/search    ?query=...&k=...")
    lines += ["", *(f"    GET  {path:<14} {summary}" for path, (summary, _) in _PLAIN_GETS.items())]
    return "\n".join([*lines, "    GET  /openapi.json  All of this for programs", ""])


def _summary(request: type[msgspec.Struct]) -> str:
    return (inspect.getdoc(request) or "").split("\n")[0].rstrip(".")


def _responses() -> dict[str, Any]:
    return {"200": {"description": "The passages, as the dialect has them", "content": _JSON}, "default": _ERROR}
