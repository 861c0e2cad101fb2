"""The tags of a run name the code, parameters and data it was made from."""

from pathlib import Path

import pandas as pd

from components.provenance import tags
from emd_core.config import Config
from emd_core.manifest import MASKS, read_manifest, write_manifest


class Train(Config):
    epochs: int


CFG = Train(epochs=3)


def test_tags_name_the_tables_it_read(tmp_path: Path) -> None:
    empty = pd.DataFrame({name: [] for name in MASKS.names}).astype({"frame": "int32"})
    (tmp_path / "masks").mkdir()
    write_manifest(tmp_path / "masks", empty, MASKS, {})
    made = tags("train_emd", CFG, {"masks": tmp_path / "masks", "fer": tmp_path, "champion": None})
    assert made["input.masks"] == read_manifest(tmp_path / "masks", MASKS).id
    assert not {"input.fer", "input.champion"} & set(made)
    other = tags("train_emd", Train(epochs=4), {"masks": tmp_path / "masks"})
    assert other["data.digest"] == made["data.digest"]
    assert other["params.digest"] != made["params.digest"]
