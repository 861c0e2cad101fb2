"""The stages of the pipeline: one file, one typed function each; paths in, files out.

`python -m components <stage>`, DVC and Kubeflow all end in that one function.
"""

from pathlib import Path
from typing import Annotated

In = Annotated[Path, "in"]
Out = Annotated[Path, "out"]

STAGES = (
    "make_sample",
    "ingest",
    "extract_frames",
    "crop_faces",
    "generate_masks",
    "validate_data",
    "train_fer",
    "train_emd",
    "evaluate",
    "gate",
    "promote",
)
