"""Parts of the videos, worked on apart and joined, are the same data as the whole."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.crop_faces import crop_faces
from components.extract_frames import choose_shard, extract_frames
from components.generate_masks import GenerateMasks, generate_masks
from components.ingest import ingest
from components.merge_shards import MergeShards, merge_shards
from emd_core.detection.crops import FaceCrops
from emd_core.errors import UserError
from emd_core.storage.manifest import FACES, MASKS, read_manifest
from tests.fakes import tiny

MASKING = GenerateMasks(source="video", threshold=10, min_difference=10, max_bad_share=1, workers=1)
KEY = ["video", "frame"]


def prepare(dataset: Path, videos: Path, out: Path, shard: str) -> Path:
    cfg = tiny.EXTRACT.model_copy(update={"shard": shard})
    extract_frames(cfg, dataset=dataset, videos=videos, frames=out / "frames")
    crop_faces(tiny.CROP, dataset=dataset, frames=out / "frames", faces=out / "faces")
    generate_masks(MASKING, dataset=dataset, faces=out / "faces", masks=out / "masks")
    return out


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("shards")
    dataset = tiny.write_tree(root / "ffpp")
    ingest(tiny.INGEST, dataset=dataset, videos=root / "videos")
    return {n: prepare(dataset, root / "videos", root / n.replace("/", "of"), n) for n in ("1/1", "1/2", "2/2")}


def merge(parts: list[Path], out: Path) -> Path:
    folders = {f"{kind}_shards": [part / kind for part in parts] for kind in ("faces", "masks")}
    merge_shards(MergeShards(), **folders, faces=out / "faces", masks=out / "masks")
    return out


def test_the_joined_shards_hold_the_crops_and_masks_of_the_whole(prepared: dict[str, Path], tmp_path: Path) -> None:
    joined = merge([prepared["1/2"], prepared["2/2"]], tmp_path)
    whole = prepared["1/1"]
    for kind, schema in (("faces", FACES), ("masks", MASKS)):
        tables = [read_manifest(p / kind, schema).table.sort_values(KEY, ignore_index=True) for p in (whole, joined)]
        columns = [c for c in schema.names if c not in ("file", "row")]
        pd.testing.assert_frame_equal(tables[0][columns], tables[1][columns])
    pictures = []
    for data in (whole, joined):
        crops = FaceCrops(data / "faces", data / "masks", "train")
        order = crops.table.sort_values(KEY).index.to_numpy()
        batch = crops.read(order)
        pictures.append((batch.image.numpy(), batch.mask.numpy()))
    assert pictures[0][1].any()
    np.testing.assert_array_equal(pictures[0][0], pictures[1][0])
    np.testing.assert_array_equal(pictures[0][1], pictures[1][1])


def test_an_original_is_never_parted_from_its_fakes_and_none_is_lost() -> None:
    groups = [pd.DataFrame({"video": [f"{i}a", f"{i}b"]}) for i in range(7)]
    parts = [choose_shard(groups, f"{k}/3") for k in (1, 2, 3)]
    assert [len(part) for part in parts] == [3, 2, 2]
    assert sorted(g["video"].iat[0] for part in parts for g in part) == [f"{i}a" for i in range(7)]


@pytest.mark.parametrize("shard", ["3/2", "1/8"])
def test_a_shard_that_cannot_be_is_refused(shard: str) -> None:
    with pytest.raises(UserError, match=rf"extract_frames.shard is {shard}, but there are 7 groups"):
        choose_shard([pd.DataFrame()] * 7, shard)


def test_shards_that_do_not_belong_together_are_refused(prepared: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="more than once; give each shard once"):
        merge([prepared["1/2"], prepared["1/2"]], tmp_path)
    with pytest.raises(UserError, match="1 folders of --faces_shards but 2"):
        one, other = prepared["1/2"], prepared["2/2"]
        merge_shards(
            MergeShards(),
            faces_shards=[one / "faces"],
            masks_shards=[one / "masks", other / "masks"],
            faces=tmp_path / "faces",
            masks=tmp_path / "masks",
        )
    with pytest.raises(UserError, match="was made from another run's"):
        merge_shards(
            MergeShards(),
            faces_shards=[prepared["1/2"] / "faces"],
            masks_shards=[prepared["2/2"] / "masks"],
            faces=tmp_path / "faces",
            masks=tmp_path / "masks",
        )
    assert list(tmp_path.iterdir()) == []
