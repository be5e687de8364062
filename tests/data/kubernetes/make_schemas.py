"""
Makes schemas.json, the schemas of the kinds in our manifests, from two packages. In the project's folder:

    uv run --no-project --with kubernetes-validate==1.37.0 --with cloudcoil-models-keda==2.16.1.0 \
        tests/data/kubernetes/make_schemas.py

Left out: descriptions, what only the cluster writes (`status`, `managedFields`), and, unlike there, an object that has
members may have no others: a misspelled one is an error, as `kubectl apply` has it.
"""

import importlib
import json
from pathlib import Path
from typing import Any

KUBERNETES = "v1.35.0"
KEDA = "2.16.1"
KINDS = (
    "namespace-v1",
    "serviceaccount-v1",
    "configmap-v1",
    "service-v1",
    "deployment-apps-v1",
    "networkpolicy-networking-v1",
)
BY_THE_CLUSTER = {"status", "managedFields"}


def main() -> None:
    """Write the file."""
    folder = Path(importlib.import_module("kubernetes_validate").__file__ or "").parent
    folder /= f"kubernetes-json-schema/{KUBERNETES}-local"
    definitions = json.loads((folder / "_definitions.json").read_text())["$defs"]
    schemas: dict[str, Any] = {}
    for file in KINDS:
        schema = json.loads((folder / f"{file}.json").read_text())
        schemas[_kind(schema["properties"])] = bundle(schema, definitions)
    keda = importlib.import_module("cloudcoil.models.keda.v1alpha1")
    for name in ("ScaledObject", "TriggerAuthentication"):
        schema = getattr(keda, name).model_json_schema(by_alias=True)
        schema["properties"] |= {"apiVersion": {"const": "keda.sh/v1alpha1"}, "kind": {"const": name}}
        schemas[f"keda.sh/v1alpha1 {name}"] = bundle(schema, schema.pop("$defs"))
    sources = {"Kubernetes": f"{KUBERNETES}, of kubernetes-validate 1.37.0 (Apache 2.0)"}
    sources |= {"KEDA": f"{KEDA}, of cloudcoil-models-keda 2.16.1.0 (Apache 2.0)"}
    text = json.dumps({"sources": sources, "schemas": schemas}, separators=(",", ":"), sort_keys=True)
    Path(__file__).with_name("schemas.json").write_text(text.replace('},"', '},\n"') + "\n")


def _kind(properties: Any) -> str:
    return f"{properties['apiVersion']['enum'][0]} {properties['kind']['enum'][0]}"


def bundle(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return a schema with the definitions that it needs, all without what nobody checks."""
    used: dict[str, Any] = {}

    def pruned(node: Any) -> Any:
        if isinstance(node, list):
            return [pruned(each) for each in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            if name not in used:
                used[name] = None  # a definition may contain itself
                used[name] = pruned(definitions[name])
            return {"$ref": f"#/$defs/{name}"}
        small = {key: pruned(value) for key, value in node.items() if key in KEYWORDS}
        if isinstance(node.get("properties"), dict):
            members = {key: pruned(value) for key, value in node["properties"].items() if key not in BY_THE_CLUSTER}
            small |= {"properties": members, "additionalProperties": False}
        return small

    return {**pruned(schema), "$defs": used}


KEYWORDS = {
    *("type", "enum", "const", "required", "items", "format", "additionalProperties", "pattern"),
    *("anyOf", "oneOf", "allOf", "minimum", "maximum", "minLength", "maxLength"),
}


if __name__ == "__main__":
    main()
