"""MLflow's system metrics, kept in the outbox like all others, so that they outlive a server that is away."""

import logging
import os
import time
from collections.abc import Callable

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

LogMetrics = Callable[[dict[str, float], int], None]
# Seconds between two samples: a hundredth of the run's age within these, so that a short stage has a curve and a
# week's training not too many points.
SHORTEST, LONGEST = 1.0, 60.0


class SystemMetrics(SystemMetricsMonitor):
    """Processor, memory, disk, network and GPU of this machine, as system/<name>, until `finish`."""

    def __init__(self, run_id: str, log: LogMetrics, first_step: int) -> None:
        logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)  # it tells that it starts and stops
        super().__init__(run_id)
        self._log, self._logging_step = log, first_step

    def monitor(self) -> None:
        """The thread's loop; MLflow's own asks the server each time, and ends when that is away."""
        started = time.monotonic()
        asked_for = os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL")
        while not self._shutdown_event.is_set():
            age = time.monotonic() - started
            pause = float(asked_for) if asked_for else min(max(age / 100, SHORTEST), LONGEST)
            if self._shutdown_event.wait(pause) and age < SHORTEST:
                return  # a stage of no length has no curve
            self.collect_metrics()
            self.publish_metrics(self.aggregate_metrics())

    def publish_metrics(self, metrics: dict[str, float]) -> None:
        """Log one sample."""
        prefix = f"system/{self.node_id}/" if self.node_id else "system/"
        self._log({prefix + name: value for name, value in metrics.items()}, self._logging_step)
        self._logging_step += 1
        for monitor in self.monitors:
            monitor.clear_metrics()
