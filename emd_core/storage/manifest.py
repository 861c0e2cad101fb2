"""The table that passes between stages. Its columns are the interface and are declared here, once.

A stage's output folder holds `manifest.parquet` and a few large files. Bad inputs are rows too: `status`
says what is wrong and `reason` tells why. The table knows its own id and the ids of the tables it was made
from, so that a stage can refuse inputs that do not belong together.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from emd_core.config import digest
from emd_core.errors import UserError
from emd_core.reading import reading

OK = "ok"
ORIGINAL = "original"  # the method of a video that was not manipulated
LEAVES = r"^/|(?:^|/)\.\.(?:/|$)"  # a path that leads out of its folder
# Statuses of rows that cannot be used.
MISSING = "missing"
UNREADABLE = "unreadable"
NO_FACE = "no_face"
NO_MASK = "no_mask"

VIDEOS = pa.schema(
    [
        ("video", pa.string()),  # key, e.g. Face2Face/c23/000_003
        ("method", pa.string()),  # original, Face2Face, NeuralTextures, Deepfakes, …
        ("quality", pa.string()),  # c0, c23, c40
        ("label", pa.int8()),  # 1 = manipulated
        ("split", pa.string()),  # train, val, test
        ("target", pa.string()),  # id of the video that was changed; an original's own id
        ("source", pa.string()),  # id of the video whose expression or identity was put in; "" for originals
        ("path", pa.string()),  # of the video, relative to the dataset root
        ("mask_path", pa.string()),  # of the mask video, relative to the dataset root; "" where there is none
        ("status", pa.string()),  # ok, missing, unreadable, no_face, no_mask
        ("reason", pa.string()),  # one sentence where status is not ok, or where crops are of one of several people
    ]
)
# One row per video: which of its frames are used. Their pixels are not stored but decoded where they are cropped.
FRAMES = pa.schema(
    [
        *VIDEOS,
        ("n_frames", pa.int32()),  # of the whole video; 0 where it cannot be used
        ("frames", pa.list_(pa.int32())),  # indices of the picked ones, ascending
    ]
)
# One row per picked frame; a broken video has a single row with frame -1.
FACES = pa.schema(
    [
        *VIDEOS,
        ("frame", pa.int32()),  # index in the source video
        ("width", pa.int32()),  # of the source frame, px
        ("height", pa.int32()),
        ("file", pa.string()),  # file in this folder that holds the crop
        ("row", pa.int32()),  # position in that file; -1 where status is not ok
        ("crc32", pa.int64()),  # of the crop's pixels
        ("x", pa.int32()),  # the square that was cut, in pixels of the source frame
        ("y", pa.int32()),
        ("side", pa.int32()),
        ("score", pa.float32()),  # the detector's confidence in [0, 1]
        ("box_from", pa.string()),  # the video on which the box was found
        ("sharpness", pa.float32()),  # variance of the crop's Laplacian, squared grey levels
        ("phash", pa.uint64()),  # perceptual hash of the crop
    ]
)
# Row for row the table of faces: a mask lies in the file and row of the same name and number as its crop.
MASKS = pa.schema([*FACES, ("mask_share", pa.float32())])  # manipulated share of the crop's pixels, in [0, 1]


@dataclass(frozen=True)
class Manifest:
    """A table with its id and the ids of the tables it was made from (by port name)."""

    table: pd.DataFrame
    id: str
    made_from: Mapping[str, str]


def write_manifest(folder: Path, table: pd.DataFrame, schema: pa.Schema, made_from: Mapping[str, Manifest]) -> None:
    """Write `manifest.parquet` into `folder`; the columns must be exactly those of `schema`."""
    parents = {port: parent.id for port, parent in made_from.items()}
    lists = [field.name for field in schema if pa.types.is_list(field.type)]
    hashable = table[schema.names].assign(**{name: table[name].map(tuple) for name in lists})
    rows = pd.util.hash_pandas_object(hashable, index=False).tolist()
    identity = {"id": digest([rows, parents]), "made_from": parents}
    data = pa.Table.from_pandas(table[schema.names], schema=schema, preserve_index=False)
    pq.write_table(data.replace_schema_metadata({"emd": json.dumps(identity)}), folder / "manifest.parquet")


def require_inside(table: pd.DataFrame, where: Path) -> None:
    """Refuse a table whose paths lead out of the folder that they are relative to.

    Symbolic links are followed wherever they lead: whoever may lay them may read what they point to, and a dataset that
    DVC links from its cache consists of them.
    """
    for column in ("path", "mask_path", "file"):
        paths = table.get(column, pd.Series(dtype=str))
        leaving = paths[paths.str.contains(LEAVES)]
        if len(leaving):
            raise UserError(
                f"{where}: {column} is '{leaving.iloc[0]}'; it must be relative and without '..', so that it stays in "
                "its folder: mend what names it."
            )


def read_manifest(folder: Path, schema: pa.Schema) -> Manifest:
    """Read a folder's table and check its columns."""
    path = folder / "manifest.parquet"
    if not path.exists():
        raise UserError(f"{path} does not exist; run the stage that makes {folder} first (`dvc repro`).")
    with reading(path, "a readable parquet file", f"make {folder} anew"):
        data = pq.read_table(path)
    if not data.schema.equals(schema) or b"emd" not in (data.schema.metadata or {}):
        wrong = sorted(set(data.schema.names) ^ set(schema.names)) or "their types"
        raise UserError(f"{path} has not the columns this stage reads (differs in {wrong}); make {folder} anew.")
    with reading(path, "a manifest", f"make {folder} anew"):
        identity = json.loads(data.schema.metadata[b"emd"])
        manifest = Manifest(data.to_pandas(), identity["id"], identity["made_from"])
    require_inside(manifest.table, path)
    return manifest


def require_made_from(child: Manifest, child_port: str, **parents: Manifest) -> None:
    """Refuse a table that was made from another run's inputs than the ones at hand."""
    for port, parent in parents.items():
        if child.made_from.get(port) != parent.id:
            raise UserError(
                f"--{child_port} was made from another run's --{port} (it names {child.made_from.get(port)}, "
                f"the one given is {parent.id}); inputs of one run belong together, so make --{child_port} anew."
            )
