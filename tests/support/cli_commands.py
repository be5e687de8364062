"""The commands of the command line, from its parser."""

from __future__ import annotations

import argparse


def commands_of(parser: argparse.ArgumentParser, before: str = "") -> dict[str, argparse.ArgumentParser]:
    """The parsers of all commands by name, such as `customers add`. A group of commands is none."""
    commands: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                commands |= commands_of(inner, f"{before} {name}".strip())
    return commands or {before: parser}


def groups_of(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers that only have commands: the program's, and those of groups."""
    inner = [
        each
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for choice in action.choices.values()
        for each in groups_of(choice)
    ]
    is_group = any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)
    return [parser, *inner] if is_group else []
