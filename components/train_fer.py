"""Train the expression network on an AffectNet-shaped set of faces.

Writes model.safetensors (the best epoch), metrics.json and curves.csv. A killed run goes on from its last epoch.
"""

from components import In, Out
from components.tracking import stage_run
from components.training_output import best_metrics, input_key, write_training_output
from emd_core import train_fer as core
from emd_core.atomic import atomic_dir
from emd_core.config import digest
from emd_core.train_fer import TrainFer


def train_fer(cfg: TrainFer, *, expressions: In, fer: Out) -> None:
    """expressions: AffectNet-shaped folder; fer: the trained network."""
    import mlflow

    history: list[dict[str, float]] = []

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        history.append(metrics)
        mlflow.log_metrics(metrics, step=epoch)

    images = sorted((str(p.relative_to(expressions)), p.stat().st_size) for p in expressions.rglob("*.*"))
    with stage_run("train_fer", cfg, {}), atomic_dir(fer, resume_key=input_key(cfg, images)) as work:
        mlflow.set_tag("data.digest", digest(images))
        core.train_fer(cfg, expressions=expressions, work=work, on_epoch=on_epoch)
        write_training_output(work, history)
        mlflow.log_metrics(best_metrics(history))
