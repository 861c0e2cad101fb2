"""`python -m components.cluster.notify`: tell a webhook how a pipeline run ended. Silent when none is configured.

The exit handler of the Kubeflow pipeline calls it. EMD_WEBHOOK is the URL; it gets {"text": …}, as chat services read
it. A webhook that cannot be reached is a warning: the run has ended as it has.
"""

import json
import os
import sys
import urllib.request
from typing import Annotated

import typer

TIMEOUT_S = 10
# What Kubeflow's metadata say when the exit handler runs. They still say RUNNING where no launcher had the last word,
# as all tasks came from the cache or a pod was killed.
ENDED = {"COMPLETE": "SUCCEEDED", "SUCCEEDED": "SUCCEEDED", "FAILED": "FAILED"}


def notify(
    status: Annotated[str, typer.Option(metavar="JSON", help="Kubeflow's final status of the run.")],
    run: Annotated[str, typer.Option(envvar="EMD_PIPELINE_RUN", help="Id of the run.")] = "",
) -> None:
    """Send one sentence about the end of a run."""
    sentence = as_sentence(json.loads(status), run)
    print(sentence)
    if url := os.environ.get("EMD_WEBHOOK", ""):
        body = json.dumps({"text": sentence}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            urllib.request.urlopen(request, timeout=TIMEOUT_S).close()
        except (OSError, ValueError) as error:  # the URL is a secret: it is not printed
            print(f"warning: the webhook was not reached ({type(error).__name__})", file=sys.stderr)


def as_sentence(status: dict[str, object], run: str) -> str:
    """Kubeflow's PipelineTaskFinalStatus in words."""
    names = [str(name) for name in (status.get("pipelineJobResourceName"), run) if name]
    error = status.get("error") or {}
    message = str(error.get("message", "")) if isinstance(error, dict) else str(error)
    ending = f" ({message})" if message else ""
    end = f": {ENDED[state]}" if (state := str(status.get("state"))) in ENDED else ", its page shows how"
    return f"EMD pipeline {', run '.join(names)} ended{end}{ending}"


if __name__ == "__main__":
    typer.run(notify)
