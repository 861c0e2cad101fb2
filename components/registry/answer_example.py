"""Load a model's folder and answer the picture stored with it: `python -P answer_example.py <folder> <answer.json>`.

Run by `serving_check` in a process that does not find this repository: what neither the folder nor the installed
packages hold fails here as it would in service. So it must import nothing of the repository itself.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

PASSES = 9  # single pictures that are timed


def main(folder: str, out: str) -> None:
    """out: the rows that the model answers, and the median milliseconds per picture."""
    import mlflow
    from mlflow.models import Model

    example: Any = Model.load(folder).load_input_example(folder)
    model = mlflow.pyfunc.load_model(folder)
    rows = json.loads(model.predict(example).to_json(orient="records"))  # the first answer is slower than the others
    times = []
    for _ in range(PASSES):
        begin = time.perf_counter()
        model.predict(example.head(1))
        times.append((time.perf_counter() - begin) * 1000)
    Path(out).write_text(json.dumps({"rows": rows, "latency_ms": statistics.median(times)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
