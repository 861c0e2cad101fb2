"""What a stage logs to its run, in MLflow's words."""

import json
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from components.tracking.delivery import save_image
from components.tracking.outbox import BATCH, Outbox
from components.tracking.provenance import MODEL

if TYPE_CHECKING:
    import mlflow

SYSTEM = "system/"
CLOCK = "system/cpu_utilization_percentage"  # the one whose steps stand for those of all system metrics


class StageRun:
    """The MLflow run of a stage. Each method keeps what it is given in the outbox and returns at once."""

    def __init__(self, box: Outbox, active: "mlflow.ActiveRun", pipeline: str, resumed: bool) -> None:
        """
        Args:
            pipeline: id of the pipeline's run.
            resumed: the run was begun by a process that was killed; points that it logged are not logged again.
        """
        self.run_id: str = active.info.run_id
        self.tags: dict[str, str] = dict(active.data.tags)
        self._box, self._pipeline = box, pipeline
        self._logged = _logged(active, box) if resumed else {}
        self._tables: list[dict[str, str]] = []

    def log_metrics(
        self,
        values: Mapping[str, float],
        step: int | None = None,
        *,
        model: str = "",
        data: tuple[str, str] | None = None,
    ) -> None:
        """Points of curves.

        Args:
            values: by name; "a/b" puts b into the group a.
            step: e.g. the epoch, from 0.
            model: digest of the checkpoint that the figures are about; the LoggedModel gets them too.
            data: what log_input returned for the data that they were measured on.
        """
        new = [(k, float(v)) for k, v in values.items() if (step or 0) not in self._logged.get(k, ())]
        record = {"kind": "metrics", "step": step or 0, "time": _now(), "model": model, "data": data}
        for start in range(0, len(new), BATCH):
            self._box.append(record | {"values": dict(islice(new, start, start + BATCH))})

    def log_summary(self, values: Mapping[str, float]) -> None:
        """Figures of the whole pipeline, on its run: what one compares pipelines by."""
        self._box.append({"kind": "summary", "run": self._pipeline, "values": dict(values), "time": _now()})

    def log_image(self, image: np.ndarray, key: str, step: int = 0) -> None:
        """A picture (HW or HWC RGB, uint8) for the UI's image grid, with a slider over the steps of a key."""
        file = self._box.new_file("pixels.npy")
        np.save(file, image)
        record = {"kind": "image", "file": self._inside(file), "key": key, "step": step, "time": _now()}
        self._box.append(record | {"id": str(uuid.uuid4())})
        if "mlflow.loggedImages" not in self.tags:
            self.set_tags({"mlflow.loggedImages": "True"})

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """A file, as it is now, into a folder of the run's artifacts."""
        file = self._box.new_file(path.name)
        shutil.copyfile(path, file)
        self._box.append({"kind": "file", "file": self._inside(file), "folder": folder})

    def log_artifacts(self, folder: Path, to: str = "") -> None:
        """All files of a folder."""
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            self.log_artifact(path, "/".join([p for p in (to, *path.relative_to(folder).parts[:-1]) if p]))

    def log_table(self, table: pd.DataFrame, name: str) -> None:
        """A table that the UI shows, with thumbnails in columns whose cells are pictures (HWC RGB, uint8).

        As MLflow's log_table: a JSON file, its pictures beside it, and a tag that says that it is a table.
        """
        shown = table.apply(lambda column: column.map(lambda cell: self._cell(cell, name)))
        file = self._box.new_file(f"{name}.json")
        shown.to_json(file, orient="split", index=False)
        self._box.append({"kind": "file", "file": self._inside(file), "folder": ""})
        self._tables.append({"path": f"{name}.json", "type": "table"})
        self.set_tags({"mlflow.loggedArtifacts": json.dumps(self._tables)})

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags of the run."""
        self.tags |= tags
        self._box.append({"kind": "tags", "tags": dict(tags)})

    def log_input(self, folder: Path, digest: str, *, rows: int, context: str) -> tuple[str, str]:
        """Data that the run read (context: what for, "train" or "test"); returns what log_metrics takes as `data`."""
        place = os.path.relpath(folder)
        record = {"kind": "input", "name": place, "digest": digest, "rows": rows, "context": context}
        self._box.append(record | {"uri": f"dvc://{place}"})
        return place, digest

    def log_model(self, digest: str, name: str = "", params: Mapping[str, Any] | None = None) -> None:
        """Link the LoggedModel of the checkpoint with this digest: one that this run made, if it has a name."""
        self.set_tags({MODEL: digest})
        tags = {MODEL: digest} | {k: v for k, v in self.tags.items() if not k.startswith("mlflow.")}
        said = {key: str(value) for key, value in (params or {}).items()}
        self._box.append({"kind": "model", "digest": digest, "name": name, "params": said, "tags": tags})

    def start_monitor(self) -> None:
        """Log the machine's state until `stop_monitor`, unless MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING is false."""
        self._monitor = None
        if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() not in ("false", "0"):
            from components.tracking.system_metrics import SystemMetrics

            steps = [step for key, found in self._logged.items() if key.startswith(SYSTEM) for step in found]
            self._monitor = SystemMetrics(self.run_id, self.log_metrics, max(steps, default=-1) + 1)
            self._monitor.start()

    def stop_monitor(self) -> None:
        """Log the last sample."""
        if self._monitor is not None:
            self._monitor.finish()

    def _inside(self, file: Path) -> str:
        return str(file.relative_to(self._box.folder))

    def _cell(self, value: Any, table: str) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        cell, stem = {"type": "image"}, str(uuid.uuid4())
        for word, ending in (("filepath", ".png"), ("compressed_filepath", ".webp")):
            file = self._box.new_file(stem + ending)
            save_image(file, value)
            folder = f"table_images/{table}"
            self._box.append({"kind": "file", "file": self._inside(file), "folder": folder})
            cell[word] = f"{folder}/{file.name}"
        return cell


def _logged(active: "mlflow.ActiveRun", box: Outbox) -> dict[str, set[int]]:
    """The steps of each curve that the server has or the outbox still holds; of system metrics only the last one."""
    import mlflow

    client = mlflow.MlflowClient()
    known = {key for key in active.data.metrics if not key.startswith(SYSTEM)} | {CLOCK} & set(active.data.metrics)
    steps = {key: {point.step for point in client.get_metric_history(active.info.run_id, key)} for key in known}
    for record in box.unsent():
        for key in record["values"] if record["kind"] == "metrics" else ():
            steps.setdefault(key, set()).add(record["step"])
    return steps


def _now() -> int:
    return int(time.time() * 1000)
