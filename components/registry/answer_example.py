"""Load a registered model and answer the picture stored with it: `python -P answer_example.py <model> <folder> <out>`.

Run by `serving_check` in a process that does not find this repository: what neither the model nor the installed
packages hold fails here as it would in service. So it must import nothing of the repository itself.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

PASSES = 9  # single pictures that are timed


def main(address: str, folder: str, out: str) -> None:
    """address: as its users load it, models:/name/version; folder: its files; out: JSON of the rows that the model
    answers, and of the median milliseconds per picture."""
    import mlflow
    from mlflow.models import Model

    example: Any = Model.load(folder).load_input_example(folder)
    model = mlflow.pyfunc.load_model(address)
    rows = json.loads(model.predict(example).to_json(orient="records"))  # the first answer is slower than the others
    times = []
    for _ in range(PASSES):
        begin = time.perf_counter()
        model.predict(example.head(1))
        times.append((time.perf_counter() - begin) * 1000)
    Path(out).write_text(json.dumps({"rows": rows, "latency_ms": statistics.median(times)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
