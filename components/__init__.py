"""The stages of the pipeline: one file, one typed function each; paths in, files out.

`python -m components <stage>`, DVC and Kubeflow all end in that one function.
"""

from pathlib import Path
from typing import Annotated

In = Annotated[Path, "in"]
MaybeIn = Annotated[Path | None, "in"]  # left out where the stage has no need of it
Ins = Annotated[list[Path], "in"]  # several folders of one kind, such as the shards of a data set
Out = Annotated[Path, "out"]

STAGES = (
    "make_sample",
    "fetch_data",
    "ingest",
    "extract_frames",
    "crop_faces",
    "generate_masks",
    "merge_shards",
    "validate_data",
    "train_fer",
    "train_emd",
    "evaluate",
    "gate",
    "promote",
    "report",
)
