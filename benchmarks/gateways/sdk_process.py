"""
A process with OpenAI's own client, for a caller that hands it one call a line, as `NUMBER TAG`, and gets the tag back
when the call has been answered.
"""

import asyncio
import os
import sys

from openai import AsyncOpenAI

from benchmarks.messages import ENDPOINTS, KEY, MODEL, conversation


async def run() -> None:
    """Serve until the input ends."""
    urls = os.environ[ENDPOINTS].split(",")
    client = AsyncOpenAI(base_url=urls[0], api_key=KEY)
    accounts = [client.with_options(base_url=url) for url in urls]

    async def call(number: int, tag: str) -> None:
        await accounts[number].chat.completions.create(model=MODEL, messages=conversation(tag))
        print(tag, flush=True)

    print("ready", flush=True)
    async with asyncio.TaskGroup() as group:
        while line := await asyncio.to_thread(sys.stdin.readline):
            number, tag = line.split()
            group.create_task(call(int(number), tag))


if __name__ == "__main__":
    asyncio.run(run())
