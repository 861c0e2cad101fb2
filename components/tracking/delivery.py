"""Sends what outboxes hold to MLflow, in a thread: in batches, in order, again until the server has taken it.

Sending twice does not show: points carry the time at which they were logged, and files their name.
"""

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image

from components.tracking.address import hide
from components.tracking.outbox import Outbox, Record
from components.tracking.provenance import MODEL
from components.tracking.refusal import explain

if TYPE_CHECKING:
    from mlflow import MlflowClient

PERIOD = 5.0  # seconds between two looks into the outbox: enough points for a request to be worth its while
RETRY = 1.0  # seconds until the first repetition; each further one waits twice as long
SLOWEST = 30.0  # seconds between two tries while the server is away
LAST_TRIES = 2  # after the stage's end
FLUSH_SECONDS = 120.0  # at most, for all that is left at the stage's end
THUMBNAIL = 256  # px, the longer side of MLflow's small copy of a picture
# The server's own words for a request that it will never take; whatever else it says is tried again.
REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")
TOO_LARGE = 413  # so says a proxy, in place of the server


class Sender(threading.Thread):
    """Empties outboxes, one after another; the last one is that of the run at hand, which is still being filled."""

    def __init__(self, client: "MlflowClient", boxes: Sequence[Outbox], tell: Callable[[str], None]) -> None:
        """tell: is given one sentence when the server goes away."""
        super().__init__(name="outbox", daemon=True)
        self._client = client
        self._left, self._own, self._tell = list(boxes[:-1]), boxes[-1], tell
        self._closing, self._abandoned = threading.Event(), threading.Event()

    def run(self) -> None:
        failures = 0
        while True:
            closing = self._closing.is_set()
            error = self._send_all()
            failures = failures + 1 if error else 0
            if error is not None and failures == 1 and not closing:
                reason, _, said = explain(error, self._client.tracking_uri)
                place = f"what is logged is kept in {self._own.folder} ({said})"
                self._tell(f"MLflow at {self._own.header['server']} {reason}; {place}.")
            if closing and (error is None or failures >= LAST_TRIES or self._abandoned.is_set()):
                return
            if closing:
                time.sleep(RETRY)
            elif self._closing.wait(min(RETRY * 2**failures, SLOWEST) if failures else PERIOD):
                failures = 0  # so that it has its last tries

    def finish(self) -> bool:
        """Send what is left, within FLUSH_SECONDS; whether all of the run at hand was taken."""
        self._closing.set()
        self.join(FLUSH_SECONDS)
        self._abandoned.set()
        return not self.is_alive() and not self._own.contents()

    def _send_all(self) -> Exception | None:
        """One pass over all outboxes; what went wrong, if anything did."""
        failed = None
        for box in [*self._left, self._own]:
            try:
                empty(self._client, box, self._abandoned)
                if box is not self._own:
                    self._left.remove(box)
                    box.close()
            except Exception as error:  # whatever it is, the records stay where they are
                failed = error
        return failed


def empty(client: "MlflowClient", box: Outbox, abandoned: threading.Event | None = None) -> None:
    """Send all that an outbox holds, until `abandoned` is set. Raises what keeps the server from answering."""
    while (abandoned is None or not abandoned.is_set()) and (batch := box.next_batch()):
        deliver(client, box, batch.records)
        box.acknowledge(batch)


def deliver(client: "MlflowClient", box: Outbox, batch: list[Record]) -> None:
    """Send one batch; what the server refuses for good is put aside. Raises what kept the server from answering."""
    from mlflow import MlflowException
    from requests import HTTPError

    try:
        SEND[batch[0]["kind"]](client, box, batch)
    except (MlflowException, HTTPError) as error:
        if getattr(error, "error_code", "") not in REFUSALS and f"{TOO_LARGE} " not in str(error):
            raise
        parts = [part for record in batch for part in _parts(record)]
        if len(parts) == 1:
            box.refuse(batch[0], hide(str(error)))
            return
        for part in parts:
            deliver(client, box, [part])


def find_model(client: "MlflowClient", experiment: str, model: str) -> str | None:
    """Id of the LoggedModel of an experiment that holds the checkpoint with this digest."""
    found = client.search_logged_models([experiment], filter_string=f"tags.`{MODEL}` = '{model}'")
    return min(((m.creation_timestamp, str(m.model_id)) for m in found), default=(0, None))[1]


def _parts(record: Record) -> list[Record]:
    if record["kind"] != "metrics":
        return [record]
    return [record | {"values": {key: value}} for key, value in record["values"].items()]


def _metrics(client: "MlflowClient", box: Outbox, batch: list[Record]) -> None:
    from mlflow.entities import Metric

    run, points = box.header["run"], []
    for record in batch:
        model = find_model(client, box.header["experiment"], record["model"]) if record["model"] else None
        name, digest = record["data"] or (None, None)
        points += [
            Metric(key, value, record["time"], record["step"], model, name, digest, run)
            for key, value in record["values"].items()
        ]
    client.log_batch(run, points)


def _summary(client: "MlflowClient", box: Outbox, batch: list[Record]) -> None:
    from mlflow.entities import Metric

    record = batch[0]
    client.log_batch(record["run"], [Metric(key, value, record["time"], 0) for key, value in record["values"].items()])


def _tags(client: "MlflowClient", box: Outbox, batch: list[Record]) -> None:
    from mlflow.entities import RunTag

    client.log_batch(box.header["run"], tags=[RunTag(key, value) for key, value in batch[0]["tags"].items()])


def _file(client: "MlflowClient", box: Outbox, batch: list[Record]) -> None:
    client.log_artifact(box.header["run"], str(box.folder / batch[0]["file"]), batch[0]["folder"] or None)


def _image(client: "MlflowClient", box: Outbox, batch: list[Record]) -> None:
    """As MlflowClient.log_image: a picture and its small copy, whose names the UI reads."""
    record, pixels = batch[0], np.load(box.folder / batch[0]["file"])
    place = box.folder / record["file"]
    scale = THUMBNAIL / max(pixels.shape[:2])
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    stem = f"{record['key'].replace('/', '~')}+step+{record['step']}+timestamp+{record['time']}+{record['id']}"
    for name, image in ((f"{stem}.png", pixels), (f"{stem}+compressed.webp", small)):
        save_image(place.with_name(name), image)
        client.log_artifact(box.header["run"], str(place.with_name(name)), "images")


def save_image(path: Path, image: np.ndarray) -> None:
    """HW or HWC RGB uint8 as PNG, or as WebP where the path ends so; the fastest of each, a tenth of MLflow's time."""
    if path.suffix == ".webp":
        Image.fromarray(image).save(path, quality=75, method=0)
    else:
        path.write_bytes(cv2.imencode(".png", image if image.ndim == 2 else image[..., ::-1])[1].tobytes())


def _input(client: "MlflowClient", box: Outbox, batch: list[Record]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    record: dict[str, Any] = batch[0]
    profile = json.dumps({"num_rows": record["rows"]})
    data = Dataset(record["name"], record["digest"], "dvc", json.dumps({"uri": record["uri"]}), profile=profile)
    tags = [InputTag("mlflow.data.context", record["context"])]
    client.log_inputs(box.header["run"], datasets=[DatasetInput(data, tags)])


def _model(client: "MlflowClient", box: Outbox, batch: list[Record]) -> None:
    """A model that this run made (it has a name), or one that it judged."""
    from mlflow.entities import LoggedModelInput, LoggedModelOutput

    record, run = batch[0], box.header["run"]
    found = find_model(client, box.header["experiment"], record["digest"])
    known = client.get_run(run)
    if not record["name"]:
        if found and found not in [m.model_id for m in (known.inputs.model_inputs if known.inputs else ())]:
            client.log_inputs(run, models=[LoggedModelInput(found)])
        return
    if found is None:
        made = client.create_logged_model(
            box.header["experiment"], record["name"], run, record["tags"], record["params"], "detector"
        )
        found = made.model_id
    client.finalize_logged_model(found, "READY")
    if found not in [m.model_id for m in (known.outputs.model_outputs if known.outputs else ())]:
        client.log_outputs(run, [LoggedModelOutput(found, 0)])


def _end(client: "MlflowClient", box: Outbox, batch: list[Record]) -> None:
    for run in batch[0]["runs"]:
        client.set_terminated(run, batch[0]["status"], batch[0]["time"])


SEND: dict[str, Callable[["MlflowClient", Outbox, list[Record]], None]] = {
    "metrics": _metrics,
    "summary": _summary,
    "tags": _tags,
    "file": _file,
    "image": _image,
    "input": _input,
    "model": _model,
    "end": _end,
}
