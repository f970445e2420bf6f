"""MLflow's scoring server for those who have its token, the proxy before it: `uvicorn server:app`.

It runs in the environment of the model and lies in a folder of its own, so that the model finds none of our modules.
"""

import hmac
import os
from typing import Any

TOKEN = os.environ.pop("MODEL_SERVER_TOKEN").encode()  # before the model is loaded, which need not know it

from mlflow.pyfunc.scoring_server.app import app as scoring  # noqa: E402


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Pass on what carries the token, and refuse the rest."""
    if scope["type"] == "http":
        given = dict(scope["headers"]).get(b"x-model-server-token", b"")
        if not hmac.compare_digest(given, TOKEN):
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"Ask the endpoint, not this server behind it.\n"})
            return
    await scoring(scope, receive, send)
