"""
Queries in the Kusto Query Language: what Microsoft's own language service says of them, and what their `parse` takes
out of a message, which only a database could run.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local.stack.node import node, script

TABLES = {
    "AppTraces": (
        "(TimeGenerated:datetime, Message:string, SeverityLevel:int, Properties:dynamic, Measurements:dynamic, "
        "OperationName:string, OperationId:string, ParentId:string, AppRoleName:string, AppRoleInstance:string, "
        "AppVersion:string, ItemCount:int, _ResourceId:string)"
    ),
    "AppRequests": (
        "(TimeGenerated:datetime, Id:string, Name:string, Url:string, Success:bool, ResultCode:string, "
        "DurationMs:real, PerformanceBucket:string, Properties:dynamic, Measurements:dynamic, OperationName:string, "
        "OperationId:string, ParentId:string, AppRoleName:string, AppRoleInstance:string, AppVersion:string, "
        "ItemCount:int, _ResourceId:string)"
    ),
    "AppDependencies": (
        "(TimeGenerated:datetime, Id:string, Name:string, DependencyType:string, Target:string, Data:string, "
        "Success:bool, ResultCode:string, DurationMs:real, PerformanceBucket:string, Properties:dynamic, "
        "Measurements:dynamic, OperationName:string, OperationId:string, ParentId:string, AppRoleName:string, "
        "AppRoleInstance:string, AppVersion:string, ItemCount:int, _ResourceId:string)"
    ),
    "AZKVAuditLogs": (
        "(TimeGenerated:datetime, OperationName:string, CallerIpAddress:string, ClientInfo:string, Identity:dynamic, "
        "Id:string, HttpStatusCode:int, DurationMs:int, CorrelationId:string, _ResourceId:string)"
    ),
}
"""Of the columns in https://learn.microsoft.com/azure/azure-monitor/reference/tables/, a page a table."""
_TYPES = {"int": r"-?\d+", "long": r"-?\d+", "real": r"-?\d+(?:\.\d+)?", "datetime": r".+?"}
_TOKEN = re.compile(r'"(?P<text>[^"]*)"|(?P<name>\w+)(?::(?P<type>\w+))?|(?P<rest>\*)')


@dataclass(frozen=True)
class Said:
    """What the language service says of a query: what is wrong with it, and its columns with their types."""

    faults: list[str]
    columns: dict[str, str]


def said_of(queries: Sequence[str]) -> list[Said]:
    """What the Kusto language service says of each query, with the tables that a workspace has."""
    package = script("@kusto/language-service-next/Kusto.Language.Bridge.min.js").parent
    asked = json.dumps({"tables": TABLES, "queries": queries})
    command = [node(), str(Path(__file__).with_name("kusto.js")), str(package)]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True, timeout=60)
    return [Said(**each) for each in json.loads(done.stdout)]


def parses(query: str) -> list[re.Pattern[str]]:
    """The patterns of a query's `parse Message with`, in its simple mode, as regular expressions."""
    patterns = re.findall(r'parse Message with ((?:"[^"]*"|[^|;\n])*)', query)
    return [re.compile(_expression(pattern), re.DOTALL) for pattern in patterns]


def begins(query: str) -> list[str]:
    """What the messages that a query looks at begin with."""
    return re.findall(r'Message startswith "([^"]*)"', query)


def _expression(pattern: str) -> str:
    tokens = list(_TOKEN.finditer(pattern))
    parts = []
    for number, token in enumerate(tokens):
        if token["text"] is not None:
            parts.append(re.escape(token["text"]))
        elif token["rest"]:
            parts.append(".*")
        else:
            last = number == len(tokens) - 1
            parts.append(f"(?P<{token['name']}>{_TYPES.get(token['type'], '.*' if last else '.*?')})")
    return "".join(parts)
