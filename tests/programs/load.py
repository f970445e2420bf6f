"""A process that sends requests to an endpoint until SIGTERM, then prints as JSON what became of them.

It is `ready` when some are answered, and sends some more after the SIGTERM: it meets each state of the endpoint.
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
SOME = 20  # requests
PAUSE = 0.02 if AGAIN else 0.05  # s between the answer to one request and the next request of the same client


async def send(
    session: aiohttp.ClientSession, url: str, until: dict[str, float], counts: collections.Counter[str]
) -> None:
    """One client: request after request over a kept connection, until so many are sent."""
    while counts["sent"] < until["sent"]:
        counts["sent"] += 1
        if counts["sent"] == SOME:
            print("ready", flush=True)
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
    counts: collections.Counter[str] = collections.Counter()
    until = {"sent": float("inf")}

    def stop() -> None:
        until["sent"] = max(minimum, counts["sent"] + SOME)

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=900)) as session:
        await asyncio.gather(*(send(session, url, until, counts) for _ in range(CLIENTS)))
    print(json.dumps(counts))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
