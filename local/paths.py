"""Where the project and this folder are on disk."""

from pathlib import Path

LOCAL = Path(__file__).parent
PROJECT = LOCAL.parent
