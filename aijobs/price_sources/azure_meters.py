"""
The names of Azure's meters, such as `5.4 mini cd Inp Batch Dz 1M Tokens`: which model, and what is counted. Pure.

Every word of a name has to be known; a name with another word is not read at all, since it may change what is counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONG_CONTEXT = 272_001
"""Input tokens from which the long context's price holds (GPT-5.4 and later)."""
_SCOPES = {
    **dict.fromkeys(("global", "glbl", "gl"), "global"),
    **dict.fromkeys(("datazone", "dzone", "dz"), "data_zone"),
    **dict.fromkeys(("regional", "regnl", "rgnl", "rg"), "regional"),
}
_INPUT = frozenset({"input", "inpt", "inp", "in"})
_OUTPUT = frozenset({"output", "outpt", "outp", "out", "opt"})
_CACHED = frozenset({"cached", "cach", "cchd", "cched", "ccchd", "cd"})
_WRITTEN = frozenset({"write", "wr"})
_VARIANTS = {"batch": "batch", "pp": "priority", "flex": "flex", "fl": "flex"}
_LENGTHS = {"shortco": 0, "shco": 0, "longco": LONG_CONTEXT, "loco": LONG_CONTEXT}
_NO_MEANING = frozenset({"tokens", "token", "unit", "units", "1m", "1k", "std"})
_MODALITIES = {"aud": "audio", "audio": "audio", "img": "image", "image": "image", "txt": "", "text": ""}
_YEARS = {
    **dict.fromkeys(("0513", "0718", "0806", "0912", "1120", "1217"), "2024"),
    **dict.fromkeys(("0131", "0414", "0416", "0603", "0610", "0626", "0807", "0828", "1006", "1215"), "2025"),
    **dict.fromkeys(("0210", "0305", "0317"), "2026"),
}
"""The years of models' versions, of which a meter has the month and day."""
_GPT = re.compile(
    r"(?:gpt )?(?P<number>\d\.\d|[4-9]o?)(?P<words>(?: (?:mini|nano|pro|chat|codex|max|luna|sol|terra))*)"
    r"(?: (?P<version>\d{4}))?"
)
_O_SERIES = re.compile(r"(?P<name>o\d(?: (?:mini|pro|preview|deep research))?)(?: (?P<version>\d{4}))?")
_OTHERS = {
    "codex mini": "codex-mini",
    "computer use": "computer-use-preview",
    "embedding ada": "text-embedding-ada-002",
    "gpt oss 120b": "gpt-oss-120b",
    "text embedding 3 large": "text-embedding-3-large",
    "text embedding 3 small": "text-embedding-3-small",
}
_MEDIA = {
    "gpt aud 1.5": ("gpt-audio-1.5", "audio"),
    "gpt aud mini": ("gpt-audio-mini", "audio"),
    "gpt 4o aud 1217": ("gpt-4o-audio-preview-2024-12-17", "audio"),
    "gpt 4o transcribe": ("gpt-4o-transcribe", ""),
    "gpt 4o mini transcribe": ("gpt-4o-mini-transcribe", ""),
    "gpt 4o mini tts": ("gpt-4o-mini-tts", ""),
    "gpt image 1": ("gpt-image-1", ""),
    "gpt img 1 mini": ("gpt-image-1-mini", ""),
    "gpt img 1.5": ("gpt-image-1.5", ""),
    "image 2": ("gpt-image-2", ""),
}
"""Models whose meters say what they count, and what that is if they don't."""
_WORDS = re.compile(r"[\s\-_/]+")


@dataclass(frozen=True, slots=True)
class Meter:
    """What a meter counts."""

    model: str
    rate: str
    deployment_scope: str
    variant: str | None = None
    """`batch`, or the service tier."""
    min_input_tokens: int = 0

    @property
    def models(self) -> tuple[str, ...]:
        """The names by which the model answers: its own, and with the date of a version if it has none."""
        return (self.model,) if re.search(r"\d{4}-\d\d-\d\d$", self.model) else (self.model, f"{self.model}-20*")


def read_meter(name: str) -> Meter | None:
    """Return what a meter counts, or None if its name has a word that is unknown or lacks one that is needed."""
    scopes, counted, variants, lengths, modalities, model = set(), set(), set(), set(), set(), []
    for word in _words(name):
        if word in _SCOPES:
            scopes.add(_SCOPES[word])
        elif word in _VARIANTS:
            variants.add(_VARIANTS[word])
        elif word in _LENGTHS:
            lengths.add(_LENGTHS[word])
        elif (kind := _counted(word)) is not None:
            counted.add(kind)
        elif word not in _NO_MEANING:
            model.append(word)
    if len(model) > 1 and model[-1] in _MODALITIES:
        modalities.add(_MODALITIES[model.pop()])
    if len(scopes) != 1 or len(variants) > 1 or len(lengths) > 1:
        return None
    identity = _model(" ".join(model), modalities)
    rate = identity and _rate(identity[0], counted, identity[1])
    if not identity or not rate:
        return None
    return Meter(identity[0], rate, scopes.pop(), next(iter(variants), None), next(iter(lengths), 0))


def _words(name: str) -> list[str]:
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    for apart, together in (("data zone", "datazone"), ("short co", "shortco"), ("long co", "longco")):
        text = text.replace(apart, together)
    return [word for word in _WORDS.split(text.replace("sh co", "shco").replace("lo co", "loco")) if word]


def _counted(word: str) -> str | None:
    kinds = {"input": _INPUT, "output": _OUTPUT, "cached": _CACHED, "written": _WRITTEN}
    return next((kind for kind, words in kinds.items() if word in words), None)


def _model(words: str, modalities: set[str]) -> tuple[str, str] | None:
    """Return the API's name of a model, and the modality of what is counted."""
    if words in _MEDIA:
        model, usual = _MEDIA[words]
        return model, next(iter(modalities), usual)
    if modalities:
        return None
    if words in _OTHERS:
        return _OTHERS[words], ""
    # Flex meters leave the point out: `54 mini`, `56sol`.
    words = re.sub(r"^([4-9])(\d)(?=[a-z ]|$)", r"\1.\2 ", words).replace("  ", " ").strip()
    if match := _GPT.fullmatch(words):
        name = f"gpt-{match['number']}{match['words'].replace(' ', '-')}"
    elif match := _O_SERIES.fullmatch(words):
        name = match["name"].replace(" ", "-")
    else:
        return None
    if not match["version"]:
        return name, ""
    year = _YEARS.get(match["version"])
    return (f"{name}-{year}-{match['version'][:2]}-{match['version'][2:]}", "") if year else None


def _rate(model: str, counted: set[str], modality: str) -> str | None:
    """Return the price's member that a meter is for."""
    if not counted and model.startswith("text-embedding"):
        return "input"
    if counted in ({"input"}, {"output"}):
        (kind,) = counted
        return f"{modality}_{kind}" if modality else kind
    if modality:
        return None
    if counted in ({"cached"}, {"cached", "input"}):
        return "cached"
    return "cache_write" if counted - {"input"} == {"cached", "written"} else None
