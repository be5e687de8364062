"""
Queries in the Kusto Query Language: Microsoft's own language service analyzes them. What their `parse` extracts from a
message, which only a database could run, is matched with regular expressions.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Sequence
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
"""Some of the columns in https://learn.microsoft.com/azure/azure-monitor/reference/tables/, one page per table."""
_TYPES = {"int": r"-?\d+", "long": r"-?\d+", "real": r"-?\d+(?:\.\d+)?", "datetime": r".+?"}
_TOKEN = re.compile(r'"(?P<text>[^"]*)"|(?P<name>\w+)(?::(?P<type>\w+))?|(?P<rest>\*)')
_LITERAL = re.compile(r"""@?(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')""")
_QUOTED = r"""@?(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_COLUMN = r"\b(?:Message|event)\b\)*"
"""The line, or what `parse` makes of its first word."""
_OPERATOR = r"(?:!?[a-z_]+~?|[=!][=~])\s*(?:regex\s*)?\(?\s*"
_COMPARED = re.compile(rf"{_COLUMN}\s*{_OPERATOR}({_QUOTED}(?:\s*,\s*{_QUOTED})*)")
_COMPARED_BEFORE = re.compile(rf"({_QUOTED})\s*(?:[=!][=~]|!?in~?\s*\()\s*(?:\w+\()*(?:Message|event)\b")


@dataclass(frozen=True)
class Analysis:
    """What the language service reports about a query: its errors, and its columns with their types."""

    errors: list[str]
    columns: dict[str, str]


def analyze(queries: Sequence[str]) -> list[Analysis]:
    """Analyzes each query against the tables of a workspace."""
    package = script("@kusto/language-service-next/Kusto.Language.Bridge.min.js").parent
    request = json.dumps({"tables": TABLES, "queries": queries})
    command = [node(), str(Path(__file__).with_name("kusto.js")), str(package)]
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=True, timeout=60)
    return [Analysis(**each) for each in json.loads(done.stdout)]


def parse_patterns(query: str) -> list[re.Pattern[str]]:
    """The patterns of a query's `parse Message with`, in its simple mode, as regular expressions."""
    patterns = re.findall(r'parse Message with ((?:"[^"]*"|[^|;\n])*)', query)
    return [re.compile(_expression(pattern), re.DOTALL) for pattern in patterns]


def prefixes(query: str) -> list[str]:
    """The prefixes by which a query selects messages."""
    return re.findall(r'Message startswith "([^"]*)"', query)


def literals(query: str) -> list[str]:
    """The texts that a query has in quotes, of either kind."""
    return [double or single for double, single in _LITERAL.findall(query)]


def compared(query: str) -> list[str]:
    """The texts that a query compares messages with, by whichever operator, or takes apart by `parse`."""
    sides = [*_COMPARED.findall(query), *_COMPARED_BEFORE.findall(query)]
    return [text for side in sides for text in literals(side)]


def extract(query: str, lines: Iterable[str]) -> list[dict[str, str]]:
    """The columns that a query's `parse` extracts from those of the lines that it selects."""
    begins, patterns = tuple(prefixes(query)), parse_patterns(query)
    matches = (pattern.fullmatch(line) for line in lines if line.startswith(begins) for pattern in patterns)
    return [match.groupdict() for match in matches if match]


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
