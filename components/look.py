"""Contact sheets of crops with their masks: `python -m components look data/masks`."""

from pathlib import Path
from typing import Annotated

import cv2
import pandas as pd
import typer

from emd_core.errors import UserError
from emd_core.pages.contact_sheet import Tile, contact_sheet
from emd_core.pages.render import render
from emd_core.storage.arrays import open_rows
from emd_core.storage.atomic import atomic_dir
from emd_core.storage.growing import Row
from emd_core.storage.manifest import FACES, MASKS, OK, read_manifest
from emd_core.storage.masks import unpack

COLUMNS = 8
Folder = Annotated[Path, typer.Argument(help="Folder that crop_faces or generate_masks wrote.")]
Faces = Annotated[Path | None, typer.Option(help="The crops of a folder of masks; by default `faces` beside it.")]


def look(
    folder: Folder,
    faces: Faces = None,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("look"),
    crops: Annotated[int, typer.Option(min=1, help="Crops per method and quality.")] = 48,
) -> None:
    """Write contact sheets of crops, by method and quality, worst detections first, and a page of them.

    Of each video the crop with the least sure face comes first, then each video's second, and so on. Masks are outlined
    in yellow. What has no crop is listed with its reason.
    """
    masks = folder if _has_masks(folder) else None
    faces = (faces or folder.with_name("faces")) if masks else folder
    table = read_manifest(folder, MASKS if masks else FACES).table
    groups = []
    with atomic_dir(out) as work:
        for (method, quality), rows in table.groupby(["method", "quality"], sort=False):
            usable = rows[rows["row"] >= 0]
            name = f"{method}-{quality}.jpg"
            if len(usable):
                tiles = [_tile(row, faces, masks) for row in worst_first(usable).head(crops).to_dict("records")]
                sheet = cv2.cvtColor(contact_sheet(tiles, COLUMNS), cv2.COLOR_RGB2BGR)
                cv2.imwrite(str(work / name), sheet, [cv2.IMWRITE_JPEG_QUALITY, 92])
            bad = rows[rows["status"] != OK].groupby(["video", "status", "reason"], sort=False).size().reset_index()
            groups.append(
                {
                    "title": f"{method} {quality}",
                    "sheet": name if len(usable) else "",
                    "shown": min(crops, len(usable)),
                    "crops": len(usable),
                    "videos": usable["video"].nunique(),
                    "bad": bad.values.tolist(),
                }
            )
        (work / "index.html").write_text(render("look", groups=groups))
    print(f"open {out / 'index.html'}")


def worst_first(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows by their place within the video (least score first), then by score."""
    by_score = rows.sort_values("score", kind="stable")
    place = by_score.groupby("video").cumcount()
    return by_score.assign(place=place).sort_values(["place", "score"], kind="stable").drop(columns="place")


def _has_masks(folder: Path) -> bool:
    try:
        read_manifest(folder, MASKS)
    except UserError:
        return False
    return True


def _tile(row: Row, faces: Path, masks: Path | None) -> Tile:
    file, number = str(row["file"]), int(str(row["row"]))
    crop = open_rows(faces / file)[number]
    mask = unpack(open_rows(masks / file)[number], crop.shape[1]) if masks else None
    about = f"frame {row['frame']}, {row['side']} px, {row['score']:.2f}"
    name = str(row["video"]).split("/", 2)[2]
    return Tile(crop, mask, [name, about if row["status"] == OK else f"{about}, {row['status']}"])
