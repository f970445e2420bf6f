"""A process that sends requests to an endpoint until SIGTERM, then prints as JSON what became of them.

`load.py URL MINIMUM again` sends a request again when its connection breaks, as HTTP clients do, and counts that.
"""

import asyncio
import collections
import json
import signal
import sys

import aiohttp

CLIENTS = 6
BODY = {"dataframe_split": {"columns": ["x"], "data": [[1.0]] * 3}}
AGAIN = sys.argv[3:] == ["again"]
PAUSE = 0.02 if AGAIN else 0.05  # s between the answer to one request and the next request of the same client


async def send(
    session: aiohttp.ClientSession, url: str, minimum: int, stop: asyncio.Event, counts: collections.Counter[str]
) -> None:
    """One client: request after request over a kept connection."""
    while not stop.is_set() or counts["sent"] < minimum:
        counts["sent"] += 1
        try:
            while True:
                try:
                    async with session.post(url, json=BODY) as reply:
                        answer = await reply.json()
                        version = reply.headers["x-mlflow-model-version"]
                    break
                except aiohttp.ClientConnectionError:
                    if not AGAIN:
                        raise
                    counts["sent again"] += 1
                    await asyncio.sleep(0.25)
        except (aiohttp.ClientError, KeyError, ValueError) as error:
            counts[f"lost: {error!r}"] += 1
        else:
            if reply.status != 200:
                counts[f"lost: {reply.status} {answer}"] += 1
            elif answer["predictions"] == [float(version)] * 3:  # each model answers its own version
                counts[f"version {version}"] += 1
            else:
                counts[f"mixed: {version} said {answer}"] += 1
        await asyncio.sleep(PAUSE)


async def main(url: str, minimum: int) -> None:
    """Run the clients until SIGTERM and until `minimum` requests are sent."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    counts: collections.Counter[str] = collections.Counter()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
        print("ready", flush=True)
        await asyncio.gather(*(send(session, url, minimum, stop, counts) for _ in range(CLIENTS)))
    print(json.dumps(counts))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
