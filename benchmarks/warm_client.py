"""
The peer in `warm_job`: nothing but `chat.completions.create` of OpenAI's own client. No queue, no ledger,
no log line. One client; for an account of each customer a copy of it, which shares its sockets.
"""

import asyncio
import os

from openai import AsyncOpenAI

from benchmarks.blocks import serve
from benchmarks.messages import ENDPOINTS, KEY, MODEL, conversation


async def run() -> None:
    """Makes the client and serves blocks."""
    urls = os.environ[ENDPOINTS].split(",")
    client = AsyncOpenAI(base_url=urls[0], api_key=KEY)
    accounts = [client, *(client.with_options(base_url=url) for url in urls[1:])]

    async def work(number: int) -> None:
        answer = await accounts[number].chat.completions.create(model=MODEL, messages=conversation())
        if not answer.choices[0].message.content:
            raise RuntimeError("A call did not succeed.")

    await serve(work)


if __name__ == "__main__":
    asyncio.run(run())
