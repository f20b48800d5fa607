"""Which of Google's methods a request calls, and what is wrong with it, by Google's discovery documents."""

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema

from tests.fixtures.compute import json_schema

DOCUMENTS = {"compute": "compute.v1", "iam": "iam.v1", "cloudresourcemanager": "cloudresourcemanager.v1"}


@cache
def _methods(service: str) -> tuple[list[tuple[str, re.Pattern[str], dict[str, Any]]], dict[str, Any], set[str]]:
    folder = files("googleapiclient") / "discovery_cache" / "documents"
    document = json.loads((folder / f"{DOCUMENTS[service]}.json").read_text(encoding="utf-8"))

    def walk(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from part.get("methods", {}).values()
        for resource in part.get("resources", {}).values():
            yield from walk(resource)

    found = []
    for method in walk(document):
        path = re.escape("/" + document["servicePath"] + method.get("flatPath", method["path"]))
        pattern = re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/:]+)", path))
        found.append((method["httpMethod"], pattern, method))
    schemas = {name: json_schema(schema) for name, schema in document["schemas"].items()}
    return found, schemas, set(document["parameters"])


def called(service: str, verb: str, path: str, query: dict[str, str], body: Any) -> tuple[str, dict[str, str], str]:
    """(the method's id, what its path names, what is wrong or ""); the id is "" where Google has no such method."""
    methods, schemas, common = _methods(service)
    for its_verb, pattern, method in methods:
        match = pattern.fullmatch(path) if its_verb == verb else None
        if not match:
            continue
        for name in query:
            if name not in method.get("parameters", {}) and name not in common:
                return method["id"], match.groupdict(), f"unknown parameter {name}"
        if "request" in method:
            schema = {"$ref": f"#/definitions/{method['request']['$ref']}", "definitions": schemas}
            for error in jsonschema.Draft7Validator(schema).iter_errors(body):
                return method["id"], match.groupdict(), f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        return method["id"], match.groupdict(), ""
    return "", {}, f"no method {verb} {path}"
