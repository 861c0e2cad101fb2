"""Tables that keep the data contract, and a way to break them."""

from pathlib import Path

import numpy as np
import pandas as pd

from components.validate_data import ValidateData
from emd_core.storage.manifest import FACES, MASKS, VIDEOS, read_manifest, write_manifest

CFG = ValidateData(
    min_videos=2,
    max_bad_share=0.1,
    masks="required",
    max_mask_share=0.9,
    max_empty_share=0.05,
    min_crops_share=0.6,
    min_label_share=0.4,
    near_bits=4,
    max_near_share=0.5,
    profile=None,
    max_drift=0.2,
)


def crops() -> pd.DataFrame:
    """Two originals and two fakes per split, two crops each."""
    rows: list[dict[str, object]] = []
    rng = np.random.default_rng(0)
    for index, split in enumerate(("train", "val", "test")):
        a, b = f"{2 * index:03}", f"{2 * index + 1:03}"
        for target, source in ((a, ""), (b, ""), (a, b), (b, a)):
            method = "Face2Face" if source else "original"
            video = f"{method}/c23/{target}" + (f"_{source}" if source else "")
            about = {"video": video, "method": method, "quality": "c23", "label": int(bool(source)), "split": split}
            ids = {"target": target, "source": source, "path": "", "mask_path": "", "status": "ok", "reason": ""}
            box = {"x": 10, "y": 10, "side": 90, "score": 0.99, "width": 100, "height": 100}
            share = 0.3 if source else 0.0
            for frame in (0, 5):
                place = {"frame": frame, "file": f"{split}.bin", "row": len(rows), "box_from": video}
                half = rng.permutation(64) < 32
                picture = {"crc32": len(rows), "phash": int("".join("01"[bit] for bit in half * 1), 2)}
                picture |= {"sharpness": float(rng.uniform(50, 500)), "mask_share": share}
                rows.append({**about, **ids, **box, **place, **picture})
    types = {field.name: field.type.to_pandas_dtype() for field in MASKS if field.name in ("phash", "sharpness")}
    return pd.DataFrame(rows).astype(types)


def write(folder: Path, masks: pd.DataFrame, videos: pd.DataFrame | None = None) -> dict[str, Path]:
    """The three folders the stage reads, made from one another."""
    ports = {name: folder / name for name in ("videos", "faces", "masks")}
    for path in ports.values():
        path.mkdir(parents=True)
    videos = masks.drop_duplicates("video") if videos is None else videos
    write_manifest(ports["videos"], videos, VIDEOS, {})
    write_manifest(ports["faces"], masks, FACES, {})
    write_manifest(ports["masks"], masks, MASKS, {"faces": read_manifest(ports["faces"], FACES)})
    return ports


def put(table: pd.DataFrame, **values: dict[int, object]) -> pd.DataFrame:
    """Break single values: column -> {row: value}. Rows 0 to 3 are originals, 4 to 7 fakes of the train split."""
    for column, by_row in values.items():
        table[column] = pd.Series(by_row).combine_first(table[column]).astype(table[column].dtype)
    return table
