"""Describes what the retrieval server offers, for programs (OpenAPI) and for people."""

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec

from exsearch import __version__
from exsearch.serving.limits import Limits
from exsearch.serving.schemas import batch_schema, count_schema, flag_schema, query_schema
from exsearch.wire.colbert import ColBERT
from exsearch.wire.registry import ANY_PATH, REQUESTS, REQUESTS_BY_KEYS
from exsearch.wire.request import SearchRequest
from exsearch.wire.search_r1 import Access

Schema = dict[str, Any]

_TEXT = {"text/plain": {"schema": {"type": "string"}}}
_JSON: Schema = {"application/json": {"schema": {}}}
_OPEN_GETS = {
    "/health": ("Whether the server is up, as FlashRAG's clients ask; needs no API key", _JSON),
    "/healthz": ("Whether the server is up, as agent-lightning's clients ask; needs no API key", _JSON),
}
_PLAIN_GETS = {
    **_OPEN_GETS,
    "/metrics": ("Counters in Prometheus' text format", _TEXT),
    "/openapi.json": ("All of this for programs", _JSON),
    "/": ("What this server is; with `query` in the URL a search, as at every path", _TEXT),
}
_ERROR: Schema = {
    "description": "Refused: 400 wrong request, 401 no API key, 403 a page of another site, 404 nothing is there, 405 "
    "another method (Allow names those there are), 408 too slow, 413 body too large, 415 body compressed, 421 another "
    "server's name, 503 full or the index cannot answer (try again after Retry-After seconds), 504 search took too "
    "long",
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


def openapi(limits: Limits, needs_key: bool) -> Schema:
    """Return the OpenAPI description of all paths of a server with these limits, which may require an API key."""
    _, schemas = msgspec.json.schema_components(REQUESTS, ref_template="#/components/schemas/{name}")
    for request in REQUESTS:
        _bound(schemas[request.__name__], request, limits)
    paths: dict[str, Schema] = {path: {} for path in (*_PLAIN_GETS, *REQUESTS_BY_KEYS)}
    for path, (summary, content) in _PLAIN_GETS.items():
        paths[path]["get"] = {"summary": summary, "responses": _responses(summary, content)}
        if path in _OPEN_GETS:
            paths[path]["get"]["security"] = []
    for path in ("/", *REQUESTS_BY_KEYS):
        paths[path]["post"] = _post(REQUESTS_BY_KEYS.get(path, [ANY_PATH]))
    for path in REQUESTS_BY_KEYS:
        paths[path]["get"] = _get(limits)
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
        "security": [{"bearer": []}, {"header": []}] if needs_key else [],
    }


def overview() -> str:
    """Return the formats that the server accepts, one request per line."""
    lines = []
    for request in REQUESTS:
        keys = ", ".join(request.__struct_fields__)
        lines.append(f"{request.dialect:<16} POST {request.path:<14} {{{keys}}}".ljust(92) + _summary(request))
    lines.append(f"{ColBERT.dialect:<16} GET  {ColBERT.path:<14} ?query=...&k=...".ljust(92) + "Also at any other path")
    lines += ["", *(f"{'':<16} GET  {path:<14} {summary}" for path, (summary, _) in _PLAIN_GETS.items())]
    return "\n".join([*lines, ""])


def _get(limits: Limits) -> Schema:
    """Describe the search by GET, which every path accepts."""
    k = {"type": "integer", "minimum": 1, "maximum": min(ColBERT.max_passages, limits.k), "default": 10}
    return {
        "summary": f"{ColBERT.dialect}: {_summary(ColBERT)}, with the keys in the URL",
        "parameters": [
            {"name": "query", "in": "query", "required": True, "schema": query_schema(limits)},
            {"name": "k", "in": "query", "schema": k},
        ],
        "responses": _responses(),
    }


def _post(variants_by_keys: Sequence[tuple[frozenset[str], type[SearchRequest] | type[Access]]]) -> Schema:
    """Describe the POST of a path at which these keys distinguish the requests; the first that fits is used."""
    schemas: list[Schema] = []
    earlier: list[Schema] = []
    for needed, request in variants_by_keys:
        variant: Schema = {"$ref": f"#/components/schemas/{request.__name__}"}
        if needed:
            variant["required"] = sorted(needed)
        if earlier:
            variant["not"] = {"anyOf": list(earlier)}
        schemas.append(variant)
        earlier.append({"required": sorted(needed)})
    requests = dict.fromkeys(request for _, request in variants_by_keys)
    return {
        "summary": "; ".join(f"{request.dialect}: {_summary(request)}" for request in requests),
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"anyOf": schemas}}}},
        "responses": _responses(),
    }


def _bound(schema: Schema, request: type[SearchRequest] | type[Access], limits: Limits) -> None:
    """Add to the schema of a request the limits beyond which the server refuses it."""
    schema["description"] = inspect.getdoc(request)
    properties: dict[str, Schema] = schema["properties"]
    maximum = min(request.max_passages or limits.k, limits.k) if issubclass(request, SearchRequest) else 0
    counts: dict[str, Schema] = {}
    for name, before in properties.items():
        kinds = {each.get("type") for each in before.get("anyOf", [before])}
        default = {key: before[key] for key in ("default",) if key in before}
        if "integer" in kinds:
            properties[name] = count_schema(None, "null" in kinds) | default
            counts[name] = count_schema(maximum, "null" in kinds)
        elif "boolean" in kinds:
            properties[name] = flag_schema() | default
        elif "array" in kinds and request is Access:
            properties[name] = {**before, "maxItems": limits.queries}
        elif "array" in kinds:
            properties[name] = batch_schema(limits)
        else:
            properties[name] = query_schema(limits)
    if len(counts) == 1:
        properties.update({name: properties[name] | bounded for name, bounded in counts.items()})
    elif counts:  # the smallest of the counts applies
        schema["anyOf"] = [{"properties": {name: bounded}} for name, bounded in counts.items()]


def _summary(request: type[msgspec.Struct]) -> str:
    return (inspect.getdoc(request) or "").split("\n")[0].rstrip(".")


def _responses(summary: str = "The passages, as the dialect has them", content: Schema = _JSON) -> Schema:
    return {"200": {"description": summary, "content": content}, "default": _ERROR}
