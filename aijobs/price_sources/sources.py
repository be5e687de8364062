"""The sources of prices by name: where each one is, and how its documents are read."""

from __future__ import annotations

from datetime import date
from urllib.parse import quote

from aijobs.price_sources import azure, genai_prices, litellm
from aijobs.price_sources.base import SourcePrices
from aijobs.price_sources.download import download

_GITHUB = "https://raw.githubusercontent.com"
URLS = {
    azure.SOURCE: "https://prices.azure.com/api/retail/prices",
    genai_prices.SOURCE: f"{_GITHUB}/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json",
    litellm.SOURCE: f"{_GITHUB}/BerriAI/litellm/refs/heads/main/model_prices_and_context_window.json",
}
_FILTER = "serviceName eq 'Foundry Models' and priceType eq 'Consumption'"


async def read_source(name: str, since: date, region: str = "") -> SourcePrices:
    """Return the prices of a source as they hold from a day on; `region`: for Azure's. Raises SourceError."""
    if name == azure.SOURCE:
        condition = f"{_FILTER} and armRegionName eq '{region}'" if region else _FILTER
        pages = await download(f"{URLS[name]}?$filter={quote(condition)}", azure.next_page)
        return azure.convert(pages, since, region)
    (document,) = await download(URLS[name])
    return genai_prices.convert(document) if name == genai_prices.SOURCE else litellm.convert(document)
