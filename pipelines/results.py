"""The page of results: the paper's tables and figures, our numbers beside the paper's."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from components.pages import render
from emd_core.atomic import atomic_file
from emd_core.manifest import MASKS, OK, read_manifest
from pipelines.figures import save_accuracy_by_size, save_roc_pair

Figures = Mapping[str, Any]  # the metrics of one slice, as emd_core.metrics.summarise names them
EXPRESSION_SLICES = ("Face2Face/c23", "NeuralTextures/c23", "Face2Face/c40", "NeuralTextures/c40")
TWINS = {"emd": "with FER (EMD)", "xception": "without FER"}


@dataclass(frozen=True)
class Entry:
    """One figure of a table, percent, with what stands beside it: interval, floor, the paper's number, …"""

    value: str
    beside: Sequence[str] = ()


@dataclass(frozen=True)
class Table:
    """Rows of (label, entries); None = not measured."""

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Entry | None]]]
    notes: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Picture:
    title: str
    files: Sequence[Path]
    notes: Sequence[str] = field(default=())


class Results:
    """What the finished cells say: figures of a slice by network, method and quality."""

    def __init__(self, params: Mapping[str, Any], root: Path) -> None:
        self.cells: dict[str, Mapping[str, Any]] = params["cells"]
        self.root = root
        self.paper = yaml.safe_load((root / "paper.yaml").read_text())

    def folder(self, cell: str) -> Path:
        return self.root / "cells" / cell / "evaluation"

    def find(self, network: str, slice_name: str, seed: int = 0, targets: int | None = None) -> str | None:
        """The finished cell of that network on that slice."""
        for name, c in self.cells.items():
            key = (c["network"], f"{c['method']}/{c['quality']}", c.get("seed", 0), c.get("targets"))
            if key == (network, slice_name, seed, targets) and (self.folder(name) / "metrics.json").is_file():
                return name
        return None

    def figures(self, cell: str | None) -> Figures | None:
        """The metrics of a cell's one slice."""
        if cell is None:
            return None
        slices = json.loads((self.folder(cell) / "metrics.json").read_text())["slices"]
        (only,) = slices.values()
        return dict(only)

    def table(
        self,
        title: str,
        figure: str,
        scores: Mapping[str, Mapping[str, float]],
        beside: Sequence[str],
        notes: list[str],
    ) -> Table:
        """`figure` of every network and slice that the paper's `scores` name."""
        columns = list(dict.fromkeys(column for row in scores.values() for column in row))
        rows = [
            (
                self.paper["rows"][network],
                [
                    entry(self.figures(self.find(network, column)), figure, beside, scores[network].get(column))
                    for column in columns
                ],
            )
            for network in scores
        ]
        return Table(title, [self.paper["columns"][column] for column in columns], rows, notes)


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def entry(figures: Figures | None, name: str, beside: Sequence[str], paper: float | None) -> Entry | None:
    """A figure with its interval, those named in `beside`, and the paper's."""
    if figures is None or figures.get(name) is None:
        return None
    notes = [f"[{percent(figures[f'{name}_low'])}, {percent(figures[f'{name}_high'])}]"]
    notes += [f"{BESIDE[key]} {percent(figures[key])}" for key in beside]
    notes += [] if paper is None else [f"paper {paper:.2f}"]
    return Entry(percent(figures[name]), notes)


BESIDE = {"video_accuracy": "videos", "pixel_accuracy_floor": "floor", "miou_floor": "floor"}


def paper_tables(results: Results) -> list[Table]:
    paper = results.paper
    scores2, notes2, notes4 = paper["table2"], paper["notes"]["table2"], paper["notes"]["table4"]
    only_f2f = {row: {c: v for c, v in values.items() if c.startswith("Face2Face")} for row, values in scores2.items()}
    table5 = [
        {row: {c: pair[k] for c, pair in values.items()} for row, values in paper["table5"].items()} for k in (0, 1)
    ]
    return [
        results.table("Table 2: accuracy of classification", "frame_accuracy", scores2, ["video_accuracy"], notes2),
        results.table("Table 3: Face2Face at both qualities", "frame_accuracy", only_f2f, ["video_accuracy"], []),
        results.table(
            "Table 4: accuracy of segmentation, per pixel",
            "pixel_accuracy",
            paper["table4_accuracy"],
            ["pixel_accuracy_floor"],
            notes4,
        ),
        results.table("Table 4: mIoU of segmentation", "miou", paper["table4_miou"], ["miou_floor"], []),
        results.table("Table 5: kinds of FER, classification", "frame_accuracy", table5[0], ["video_accuracy"], []),
        results.table(
            "Table 5: kinds of FER, segmentation per pixel", "pixel_accuracy", table5[1], ["pixel_accuracy_floor"], []
        ),
    ]


def seeds_table(results: Results) -> Table:
    """EMD and its twin without FER, mean and standard deviation over the seeds that both have."""
    seeds = sorted({c.get("seed", 0) for c in results.cells.values()})
    names = {"frame_accuracy": "frame acc.", "frame_auc": "frame AUC", "video_accuracy": "video acc."}
    names |= {"pixel_accuracy": "pixel acc.", "miou": "mIoU"}
    found = {
        network: {s: results.figures(results.find(network, "Face2Face/c23", seed=s)) for s in seeds}
        for network in TWINS
    }
    paired = [s for s in seeds if all(found[network][s] for network in TWINS)]
    rows = []
    for network, label in TWINS.items():
        values = {key: [float((found[network][s] or {})[key]) for s in paired] for key in names}
        rows.append((label, [spread(v) for v in values.values()]))
    differences = {
        key: [float((found["emd"][s] or {})[key]) - float((found["xception"][s] or {})[key]) for s in paired]
        for key in names
    }
    rows.append(("difference, seed by seed", [spread(v) for v in differences.values()]))
    note = f"Face2Face HQ; mean ± standard deviation over {len(paired)} seeds ({', '.join(map(str, paired))})."
    return Table("With and without FER, over seeds", list(names.values()), rows, [note])


def spread(values: Sequence[float]) -> Entry | None:
    if not values:
        return None
    sd = f"± {percent(stdev(values))}" if len(values) > 1 else "one seed"
    return Entry(percent(mean(values)), [sd, "(" + ", ".join(percent(v) for v in values) + ")"])


def joint_tables(root: Path) -> list[Table]:
    """The product's default, one network over all methods: per slice, by source of masks, and under perturbation."""
    official, difference = (_metrics(root / name) for name in ("robustness", "difference"))
    if official is None:
        return []
    slices = official["slices"]
    tables = [
        Table(
            "One joint network over all methods",
            ["frame acc.", "pixel acc.", "mIoU"],
            [
                (
                    name,
                    [
                        entry(figures, "frame_accuracy", ["video_accuracy"], None),
                        entry(figures, "pixel_accuracy", ["pixel_accuracy_floor"], None),
                        entry(figures, "miou", ["miou_floor"], None),
                    ],
                )
                for name, figures in slices.items()
            ],
        )
    ]
    if difference is not None:
        sources = {"official mask": slices, "real/fake difference": difference["slices"]}
        tables.append(
            Table(
                "The joint network against masks from both sources",
                [f"{figure}, {source}" for source in sources for figure in ("pixel acc.", "mIoU")],
                [
                    (
                        name,
                        [
                            entry(found.get(name), figure, [floor], None)
                            for found in sources.values()
                            for figure, floor in (("pixel_accuracy", "pixel_accuracy_floor"), ("miou", "miou_floor"))
                        ],
                    )
                    for name in slices
                ],
                ["Trained on official masks; only the truth that it is judged by differs."],
            )
        )
    if official.get("robustness"):
        rows = {"as it is": slices} | official["robustness"]
        tables.append(
            Table(
                "Robustness of the joint network: frame accuracy (mIoU) of perturbed test crops",
                list(slices),
                [
                    (
                        name,
                        [
                            Entry(percent(row[s]["frame_accuracy"]), [f"({percent(row[s]['miou'])})"])
                            if s in row
                            else None
                            for s in slices
                        ],
                    )
                    for name, row in rows.items()
                ],
            )
        )
    return tables


def _metrics(folder: Path) -> dict[str, Any] | None:
    path = folder / "metrics.json"
    return json.loads(path.read_text()) if path.is_file() else None


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
        if (c["network"], f"{c['method']}/{c['quality']}") == ("emd", slice_name) and cell is not None:
            table = read_manifest(Path(c["data"]) / "masks", MASKS).table
            everything = table.loc[(table["status"] == OK) & (table["split"] == "train"), "target"].nunique()
            found[c.get("targets") or everything] = results.figures(cell) or {}
    return found


def write_results(params: Mapping[str, Any], root: Path) -> Path:
    """Write results.html (alone in one file) and results.md into `root`; the page's path."""
    results = Results(params, root)
    done = sum((results.folder(name) / "metrics.json").is_file() for name in results.cells)
    tables = [*paper_tables(results), seeds_table(results), *joint_tables(root)]
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
        temporary.write_text(as_markdown(tables, shown, sample))
    return page


def as_markdown(tables: Iterable[Table], shown: Iterable[Picture], sample: bool) -> str:
    """The same tables for a README or a pull request; pictures by file name."""
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
        lines += [f"## {picture.title}", "", *(f"![{picture.title}]({_link(f)})" for f in picture.files), ""]
        lines += [f"{note}\n" for note in picture.notes]
    return "\n".join(lines)


def _link(file: Path) -> str:
    """From the folder of results.md."""
    return "/".join(file.parts[1:])
