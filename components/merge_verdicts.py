"""Join what detect wrote into several folders: `python -m components merge_verdicts verdicts/1/3 verdicts/2/3 …`."""

import os
import shutil
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from components.command_line.kubeflow import list_paths, write_views
from components.command_line.options import Kubeflow
from components.command_line.stages import parse_json
from components.judging.files import FOLDER, MADE_BY
from emd_core.errors import UserError
from emd_core.pages.verdicts import write_index
from emd_core.reading import read_json
from emd_core.storage.atomic import atomic_file, require_replaceable
from emd_core.verdicts.table import read_table, write_table

DONE = "let detect finish there"


def merge_verdicts(
    shards: Annotated[list[Path] | None, typer.Argument(help="Folders that detect wrote, or this.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the tables and the page of all.")] = Path("verdicts"),
    kubeflow: Kubeflow = "",
) -> None:
    """Join what detect wrote into several folders: one table, one page (not a stage of the pipeline).

    Writes verdicts.parquet, verdicts.csv and index.html. The reports stay where they are: links to them are relative,
    so that the folders can be moved together.
    """
    executor_input = parse_json(kubeflow, "--kubeflow") if kubeflow else None
    folders = list(shards or [])
    if executor_input:
        folders += [Path(read_json(file)[FOLDER]) for file in list_paths(executor_input, "shards")]
    if not folders:
        raise UserError("no shard is named; name the folders that detect wrote.")
    require_replaceable(out)
    if out.resolve() in [folder.resolve() for folder in folders]:
        raise UserError(f"{out} is a shard itself; name another folder with --out.")
    require_same_origin(folders)
    verdicts = joined(folders, out)
    with atomic_file(out / MADE_BY) as work:  # so that what was joined can be joined again
        shutil.copyfile(folders[0] / MADE_BY, work)
    write_table(out, verdicts)
    write_index(out, verdicts)
    print(f"{len(folders)} shards joined, {len(verdicts)} files: {out / 'index.html'}, {out / 'verdicts.csv'}")
    if executor_input:
        write_views(executor_input, {"table": out / "verdicts.parquet", "page": out / "index.html"})


def require_same_origin(folders: list[Path]) -> None:
    """Refuse verdicts of several models, or of several values of section detect: their rows would not compare."""
    first, *others = ((folder, read_json(folder / MADE_BY, remedy=DONE)) for folder in folders)
    for folder, made_by in others:
        if changed := sorted(name for name in first[1] | made_by if first[1].get(name) != made_by.get(name)):
            raise UserError(
                f"{folder} holds verdicts with another {', '.join(changed)} than {first[0]}; judge the files of one of "
                "them again, with the other's."
            )


def joined(folders: list[Path], out: Path) -> pd.DataFrame:
    """The rows of all, the folder of each relative to `out`; UserError where a file is in two of them."""
    holders: dict[str, Path] = {}  # of the folder's name, which detect makes of the file's path
    tables = []
    for shard in folders:
        table = read_table(shard, DONE)
        for path, folder in zip(table["path"], table["folder"], strict=True):
            if other := holders.get(name := os.path.basename(folder)):
                raise UserError(f"{path} is both in {other} and in {shard}; name each shard once, all of one run.")
            holders[name] = shard
        start, end = str(out.resolve()), str(shard.resolve())
        tables.append(table.assign(folder=[os.path.relpath(f"{end}/{name}", start) for name in table["folder"]]))
    return pd.concat(tables, ignore_index=True)
