"""As much of the Kusto Query Language as our queries use: pipes, and what `parse` takes out of a message."""

from __future__ import annotations

import re

OPERATORS = {"where", "parse", "extend", "summarize", "project", "order", "top", "take"}
_TYPES = {"int": r"-?\d+", "long": r"-?\d+", "real": r"-?\d+(?:\.\d+)?", "datetime": r".+?"}
_TOKEN = re.compile(r'"(?P<text>[^"]*)"|(?P<name>\w+)(?::(?P<type>\w+))?|(?P<rest>\*)')


def stages(query: str) -> list[list[str]]:
    """The statements of a query, each as its stages between pipes."""
    bare = re.sub(r'"[^"]*"', lambda text: text[0].replace("|", "\0").replace(";", "\1"), query)
    statements = [statement for statement in bare.split(";") if statement.strip()]
    return [[stage.strip().replace("\0", "|").replace("\1", ";") for stage in each.split("|")] for each in statements]


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
