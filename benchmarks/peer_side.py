"""
The peer's side in `warm_job`: only `chat.completions.create` of OpenAI's own client. No queue, no ledger, no log. One
client, and a copy of it for each customer's account, which shares its sockets.
"""

import asyncio
import os

from openai import AsyncOpenAI

from benchmarks.blocks import serve
from benchmarks.messages import ENDPOINTS, KEY, MODEL, conversation


async def run() -> None:
    """Create the client and serve blocks."""
    urls = os.environ[ENDPOINTS].split(",")
    client = AsyncOpenAI(base_url=urls[0], api_key=KEY)
    accounts = [client, *(client.with_options(base_url=url) for url in urls[1:])]

    async def work(number: int) -> None:
        completion = await accounts[number].chat.completions.create(model=MODEL, messages=conversation())
        if not completion.choices[0].message.content:
            raise RuntimeError("A call failed.")

    await serve(work)


if __name__ == "__main__":
    asyncio.run(run())
