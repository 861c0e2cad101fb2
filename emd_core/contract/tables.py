"""The tables that the data contract is about. The first column of each names its rows."""

import pandas as pd
import pyarrow as pa

from emd_core.contract.duplicates import near_in_other_split, same_in_other_split
from emd_core.storage.manifest import OK, ORIGINAL

SPLITS = ["train", "val", "test"]
GROUP = ["method", "quality", "split"]


def per_column(tables: dict[str, tuple[pd.DataFrame, pa.Schema]]) -> pd.DataFrame:
    """One row per column: name ("masks.side"), type, declared (the type it should have), gaps (missing values).

    A whole number that is missing turns its column into another type. mask_share may be missing: the mask is unknown.
    """
    rows = []
    for name, (table, schema) in tables.items():
        declared = schema.empty_table().to_pandas().dtypes
        gaps = table.isna().sum().where(table.columns != "mask_share", 0)
        rows += [
            {"name": f"{name}.{c}", "type": str(table[c].dtype), "declared": str(declared[c]), "gaps": int(gaps[c])}
            for c in schema.names
        ]
    return pd.DataFrame(rows)


def per_crop(masks: pd.DataFrame, distance: int) -> pd.DataFrame:
    """The table of masks with the far edges of each box, in pixels of the source frame, and `same` and `near`.

    same, near: whether another split holds the same crop, or one whose hash differs in at most `distance` bits.
    """
    crops = masks.assign(right=masks["x"] + masks["side"], bottom=masks["y"] + masks["side"], same=0, near=0)
    ok = (masks["status"] == OK).to_numpy()
    pictures = masks.loc[ok, ["split", "crc32", "phash"]]
    crops.loc[ok, "same"] = same_in_other_split(pictures).astype(int)
    crops.loc[ok, "near"] = near_in_other_split(pictures, distance).astype(int)
    return crops


def per_video(videos: pd.DataFrame, crops: pd.DataFrame) -> pd.DataFrame:
    """One row per video: its final status, and what became of it.

    status: ok if one of its crops is; else that of its first row downstream.
    rows, crops: in the table of masks, and how many of them are ok.
    crops_share: crops over their median in the videos of the split; near_share: share of its crops that are `near`.
    splits: in which its ids occur.
    """
    ids = pd.concat([videos[["target", "split"]], videos[["source", "split"]].set_axis(["target", "split"], axis=1)])
    splits = ids[ids["target"] != ""].groupby("target")["split"].nunique()
    downstream = crops.groupby("video")["status"]
    ok = crops[crops["status"] == OK].groupby("video")["near"]
    status = downstream.first()
    status[ok.size().index] = OK
    table = videos.assign(
        rows=videos["video"].map(downstream.size()).fillna(0).astype(int),
        crops=videos["video"].map(ok.size()).fillna(0).astype(int),
        near_share=videos["video"].map(ok.mean()).fillna(0.0),
        splits=videos[["target", "source"]].apply(lambda column: column.map(splits)).max(axis=1).astype(int),
        status=videos["status"].where(videos["status"] != OK, videos["video"].map(status).fillna("missing")),
    )
    usual = table[table["status"] == OK].groupby("split")["crops"].median()
    return table.assign(crops_share=table["crops"] / table["split"].map(usual))


def per_group(videos: pd.DataFrame) -> pd.DataFrame:
    """One row per method, quality and split that there should be: name ("Face2Face/c23/train"), its counts and balance.

    videos, bad: usable and others; crops, fewest, median, most: in all and per usable video;
    fake_share: of the crops of its videos and of the originals of the same quality and split; 0.5 for originals,
    NaN where there is no crop.
    `videos` is the table that per_video makes.
    """
    pairs = set(videos[["method", "quality"]].itertuples(index=False, name=None))
    pairs |= {(ORIGINAL, quality) for quality in videos["quality"].unique()}
    keys = [(method, quality, split) for method, quality in sorted(pairs) for split in SPLITS]
    index = pd.MultiIndex.from_tuples(keys, names=GROUP)
    crops = videos[videos["status"] == OK].groupby(GROUP)["crops"]
    bad = videos[videos["status"] != OK].groupby(GROUP).size()
    figures = {"videos": "count", "crops": "sum", "fewest": "min", "median": "median", "most": "max"}
    table = crops.agg(**figures).reindex(index).fillna(0).astype(int)  # type: ignore[call-overload]
    table = table.assign(bad=bad.reindex(index).fillna(0).astype(int)).reset_index()
    originals = table[table["method"] == ORIGINAL].set_index(["quality", "split"])["crops"]
    real = pd.MultiIndex.from_frame(table[["quality", "split"]]).map(originals).to_numpy()
    fakes = table["crops"].where(table["method"] != ORIGINAL, real)
    table.insert(0, "name", table[GROUP].agg("/".join, axis=1))
    return table.assign(fake_share=fakes / (fakes + real))
