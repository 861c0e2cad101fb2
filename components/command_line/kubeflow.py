"""What a stage gives to Kubeflow beside its folders: values, curves and pages that its UI shows, and parameters.

A container component gets Kubeflow's "executor input" as JSON: it names the place of every output. Metadata of an
artifact (a metric's value, the points of a curve) go into the "executor output" file.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emd_core.storage.atomic import atomic_file

# Where Kubeflow's launcher puts artifacts of an object store in a container.
MOUNTS = {"gs://": "/gcs/", "minio://": "/minio/", "s3://": "/s3/"}
CURVE_POINTS = 100
Paths = Mapping[str, Path]


def list_paths(executor_input: Mapping[str, Any], port: str) -> list[Path]:
    """The folders of an input that is a list of artifacts, for which Kubeflow has no placeholder."""
    artifacts = executor_input["inputs"]["artifacts"][port]["artifacts"]
    return [local_path(artifact["uri"]) for artifact in artifacts]


def local_path(uri: str) -> Path:
    """Where an artifact lies in the container; outside a cluster its URI is a path."""
    for scheme, mount in MOUNTS.items():
        if uri.startswith(scheme):
            return Path(mount + uri.removeprefix(scheme).split("?")[0])
    return Path(uri)


def write_outputs(stage: str, executor_input: Mapping[str, Any], paths: Paths) -> None:
    """Write the views of a stage that Kubeflow asked for."""
    write_views(executor_input, VIEWS[stage](paths) if stage in VIEWS else {})


def write_views(executor_input: Mapping[str, Any], views: Mapping[str, Any]) -> None:
    """Write what Kubeflow asked for: files (views that are paths), artifact metadata (mappings) and parameters."""
    outputs = executor_input["outputs"]
    for name, parameter in outputs.get("parameters", {}).items():
        with atomic_file(Path(parameter["outputFile"])) as file:
            file.write_text(str(views[name]))
    described = {}
    for name, artifact_list in outputs.get("artifacts", {}).items():
        (artifact,) = artifact_list["artifacts"]
        view = views.get(name)  # None: a folder, which the stage itself has written
        if isinstance(view, Path):
            with atomic_file(local_path(artifact["uri"])) as file:
                shutil.copyfile(view, file)
        elif view is not None:
            with atomic_file(local_path(artifact["uri"])) as file:  # an artifact without a file is taken for missing
                file.write_text(json.dumps(view, indent=2) + "\n")
            artifact = {**artifact, "metadata": view}
        described[name] = {"artifacts": [artifact]}
    with atomic_file(Path(outputs["outputFile"])) as file:
        file.write_text(json.dumps({"artifacts": described}))


def _train_fer(paths: Paths) -> dict[str, Any]:
    import pandas as pd

    table = pd.read_csv(paths["fer"] / "confusion.csv")
    names = sorted(set(table["actual"]) | set(table["predicted"]))
    counts = pd.crosstab(table["actual"], table["predicted"]).reindex(index=names, columns=names, fill_value=0)
    return {"metrics": _numbers(paths["fer"]), "confusion": confusion(names, counts.to_numpy().tolist())}


def _evaluate(paths: Paths) -> dict[str, Any]:
    import pandas as pd
    from sklearn.metrics import confusion_matrix

    slices = json.loads((paths["evaluation"] / "metrics.json").read_text())["slices"]
    frames = pd.read_parquet(paths["evaluation"] / "predictions.parquet", columns=["label", "score", "quality"])
    frames = frames[~frames["quality"].str.contains("/")]  # a perturbation is behind it
    counts = confusion_matrix(frames["label"], frames["score"] > 0.5, labels=[0, 1]).tolist()
    shown = ("frame_accuracy", "frame_auc", "miou")
    return {
        "metrics": {f"{s}/{f}": figures[f] for s, figures in slices.items() for f in shown if figures[f] is not None},
        "roc": roc(frames["label"], frames["score"]),
        "confusion": confusion(["real", "manipulated"], counts),
        "page": paths["evaluation"] / "report.html",
    }


def _gate(paths: Paths) -> dict[str, Any]:
    promote = json.loads((paths["decision"] / "decision.json").read_text())["promote"]
    return {"page": paths["decision"] / "decision.md", "promote": str(promote).lower()}


VIEWS: dict[str, Callable[[Paths], dict[str, Any]]] = {
    "validate_data": lambda paths: {"page": paths["report"] / "report.html"},
    "train_fer": _train_fer,
    "train_emd": lambda paths: {"metrics": _numbers(paths["model"])},
    "evaluate": _evaluate,
    "gate": _gate,
    "report": lambda paths: {"page": paths["refusal"] / "report.md"},
}


def _numbers(folder: Path) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((folder / "metrics.json").read_text())
    return metrics


def roc(label: Any, score: Any) -> dict[str, Any]:
    """A ROC curve of at most CURVE_POINTS points, as metadata of a ClassificationMetrics artifact."""
    import numpy as np
    from sklearn.metrics import roc_curve

    fpr, tpr, threshold = roc_curve(label, score)
    keep = np.unique(np.linspace(0, len(fpr) - 1, CURVE_POINTS).round().astype(int))
    finite = np.minimum(threshold, 1)  # the first threshold is infinite, which JSON cannot say
    return {
        "confidenceMetrics": [
            {"confidenceThreshold": float(finite[i]), "falsePositiveRate": float(fpr[i]), "recall": float(tpr[i])}
            for i in keep
        ]
    }


def confusion(names: list[str], counts: list[list[int]]) -> dict[str, Any]:
    """Counts per actual class (row) and predicted class, as metadata of a ClassificationMetrics artifact."""
    rows = [{"row": row} for row in counts]
    return {"confusionMatrix": {"annotationSpecs": [{"displayName": name} for name in names], "rows": rows}}
