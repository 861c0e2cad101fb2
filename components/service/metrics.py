"""Figures of a service, for Prometheus."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    def __init__(self, counts: Callable[[], Mapping[str, int]], model: Callable[[], Mapping[str, str]]) -> None:
        """counts: files by where they are; model: what is known of the one in use. Both are asked when it is read."""
        self._registry = CollectorRegistry()
        self.requests = self._counter("emd_requests", "Requests that were answered.", "method", "route", "status")
        self.verdicts = self._counter("emd_verdicts", "Files by their answer; failed: none.", "kind", "answer")
        self.uploaded = self._counter("emd_upload_bytes", "Bytes that were uploaded.")
        self.died = self._counter("emd_workers_died", "Processes that died over a file.")
        self.seconds = Histogram(
            "emd_verdict_seconds", "Seconds of work per file.", ["kind"], buckets=SECONDS, registry=self._registry
        )
        self.stopping = Gauge("emd_stopping", "1 while the service ends.", registry=self._registry)
        self._registry.register(_Asked(counts, model))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, registry=self._registry)


class _Asked(Collector):
    def __init__(self, counts: Callable[[], Mapping[str, int]], model: Callable[[], Mapping[str, str]]) -> None:
        self._counts, self._model = counts, model

    def collect(self) -> list[Metric]:
        files = GaugeMetricFamily("emd_files", "Files by where they are.", labels=["state"])
        for state, number in self._counts().items():
            files.add_metric([state], number)
        model = InfoMetricFamily("emd_model", "The model in use.")
        model.add_metric([], dict(self._model()))
        return [files, model]
