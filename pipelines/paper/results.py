"""The page of results: the paper's tables and figures, our numbers beside the paper's."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emd_core.pages.render import render
from emd_core.storage.atomic import atomic_file
from emd_core.storage.manifest import MASKS, OK, read_manifest
from pipelines.paper.figures import save_accuracy_by_size, save_roc_pair
from pipelines.paper.tables import (
    TWINS,
    Figures,
    Results,
    Table,
    across_tables,
    joint_tables,
    paper_tables,
    seeds_table,
    unseen_tables,
)


@dataclass(frozen=True)
class Picture:
    title: str
    files: Sequence[Path]
    notes: Sequence[str] = field(default=())


def pictures(results: Results) -> list[Picture]:
    """Figures 4a, 4b, 4c and 5, as far as their cells are done."""
    made: list[Picture] = []
    for letter, slice_name in (("a", "Face2Face/c23"), ("b", "NeuralTextures/c23")):
        cells = {label: results.find(network, slice_name) for network, label in TWINS.items()}
        curves = {label: results.folder(cell) / "roc.csv" for label, cell in cells.items() if cell}
        if curves:
            path = results.root / f"figure4{letter}.png"
            save_roc_pair(path, curves)
            title = f"Figure 4{letter}: ROC with and without FER, {results.paper['columns'][slice_name]}"
            made.append(Picture(title, [path]))
    by_size = {name: accuracy_by_size(results, name) for name in ("Face2Face/c23", "NeuralTextures/c23")}
    if any(len(sizes) > 1 for sizes in by_size.values()):
        path = results.root / "figure4c.png"
        save_accuracy_by_size(path, by_size)
        note = (
            "Training videos: originals, each with the fake made of it. Equal epochs, so fewer steps on fewer videos."
        )
        made.append(Picture("Figure 4c: accuracy against the number of training videos", [path], [note]))
    panels = [
        results.folder(cell) / "panels.png"
        for slice_name in ("Face2Face/c23", "NeuralTextures/c23")
        if (cell := results.find("emd", slice_name)) is not None
    ]
    if panels:
        note = "Class activation map: where the expression network looks for the expression that it recognises."
        made.append(Picture("Figure 5: examples of Face2Face and NeuralTextures, HQ", panels, [note]))
    return made


def accuracy_by_size(results: Results, slice_name: str) -> dict[int, Figures]:
    """EMD's figures by the number of videos that it was trained on."""
    found: dict[int, Figures] = {}
    for c in results.cells.values():
        cell = results.find("emd", slice_name, targets=c.get("targets"))
        if (c["network"], f"{c.get('method')}/{c['quality']}") == ("emd", slice_name) and cell is not None:
            table = read_manifest(Path(c["data"]) / "masks", MASKS).table
            everything = table.loc[(table["status"] == OK) & (table["split"] == "train"), "target"].nunique()
            found[c.get("targets") or everything] = results.figures(cell) or {}
    return found


def write_results(params: Mapping[str, Any], root: Path) -> Path:
    """Write results.html (alone in one file) and results.md into `root`; the page's path."""
    results = Results(params, root)
    done = sum((results.folder(name) / "metrics.json").is_file() for name in results.cells)
    tables = [*paper_tables(results), seeds_table(results), *unseen_tables(results), *joint_tables(root)]
    tables += across_tables(root)
    shown = pictures(results)
    sample = params["profile"] == "sample"
    page = root / "results.html"
    with atomic_file(page) as temporary:
        temporary.write_text(
            render(
                "results",
                Path(__file__).parent,
                tables=tables,
                pictures=[
                    (p.title, [base64.b64encode(f.read_bytes()).decode() for f in p.files], p.notes) for p in shown
                ],
                sample=sample,
                done=done,
                cells=len(results.cells),
            )
        )
    with atomic_file(root / "results.md") as temporary:
        temporary.write_text(as_markdown(tables, shown, sample, root))
    return page


def as_markdown(tables: Iterable[Table], shown: Iterable[Picture], sample: bool, root: Path) -> str:
    """The same tables for a README or a pull request; pictures by their path from `root`."""
    lines = ["# Results", ""]
    lines += ["**Generated sample data**: these numbers say nothing about real videos.", ""] if sample else []
    for table in tables:
        lines += [
            f"## {table.title}",
            "",
            f"| | {' | '.join(table.columns)} |",
            "|---" * (len(table.columns) + 1) + "|",
        ]
        for label, entries in table.rows:
            cells = ["–" if e is None else " ".join([f"**{e.value}**", *e.beside]) for e in entries]
            lines.append(f"| {label} | {' | '.join(cells)} |")
        lines += ["", *(f"{note}\n" for note in table.notes)]
    for picture in shown:
        lines += [f"## {picture.title}", "", *(f"![{picture.title}]({f.relative_to(root)})" for f in picture.files), ""]
        lines += [f"{note}\n" for note in picture.notes]
    return "\n".join(lines)
