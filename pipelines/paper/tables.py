"""The paper's tables: our numbers, from the finished cells, beside the paper's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from emd_core.evaluation.slices import by_condition
from emd_core.reading import read_json

Figures = Mapping[str, Any]  # the metrics of one slice, as emd_core.detection.metrics.summarise names them
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
            key = (c["network"], f"{c.get('method')}/{c['quality']}", c.get("seed", 0), c.get("targets"))
            if key == (network, slice_name, seed, targets) and (self.folder(name) / "metrics.json").is_file():
                return name
        return None

    def figures(self, cell: str | None) -> Figures | None:
        """The metrics of a cell's one slice."""
        if cell is None:
            return None
        slices, _ = by_condition(read_json(self.folder(cell) / "metrics.json")["slices"])
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
                    entry(
                        self.figures(self.find(network, column)), figure, beside, self.quoted(network, scores, column)
                    )
                    for column in columns
                ],
            )
            for network in scores
        ]
        return Table(title, [self.paper["columns"][column] for column in columns], rows, notes)

    def quoted(self, network: str, scores: Mapping[str, Mapping[str, float]], column: str) -> str:
        """What the paper says, and whether it measured that itself; "" where it says nothing."""
        value = scores[network].get(column)
        source = "literature" if network in self.paper["literature"] else "paper"
        return "" if value is None else f"{source} {value:.2f}"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def entry(figures: Figures | None, name: str, beside: Sequence[str], quoted: str = "") -> Entry | None:
    """A figure with its interval, those named in `beside`, and what the paper says."""
    if figures is None or figures.get(name) is None:
        return None
    notes = [f"[{percent(figures[f'{name}_low'])}, {percent(figures[f'{name}_high'])}]"]
    notes += [f"{BESIDE[key]} {percent(figures[key])}" for key in beside]
    notes += filter(None, [quoted])
    return Entry(percent(figures[name]), notes)


BESIDE = {"video_accuracy": "videos", "pixel_accuracy_floor": "floor", "miou_floor": "floor"}


def paper_tables(results: Results) -> list[Table]:
    paper = results.paper
    scores2, notes2, notes4 = paper["table2"], paper["notes"]["table2"], paper["notes"]["table4"]
    table5 = [
        {row: {c: pair[k] for c, pair in values.items()} for row, values in paper["table5"].items()} for k in (0, 1)
    ]
    return [
        results.table("Table 2: accuracy of classification", "frame_accuracy", scores2, ["video_accuracy"], notes2),
        results.table(
            "Table 3: Face2Face at both qualities",
            "frame_accuracy",
            paper["table3"],
            ["video_accuracy"],
            paper["notes"]["table3"],
        ),
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
    pairs = {s: [results.figures(results.find(network, "Face2Face/c23", seed=s)) for network in TWINS] for s in seeds}
    paired = {s: [f for f in pair if f is not None] for s, pair in pairs.items() if None not in pair}
    rows = [
        (label, [spread([pair[k][key] for pair in paired.values()]) for key in names])
        for k, label in enumerate(TWINS.values())
    ]
    differences = [spread([pair[0][key] - pair[1][key] for pair in paired.values()]) for key in names]
    rows.append(("difference, seed by seed", differences))
    note = f"Face2Face HQ; mean ± standard deviation over {len(paired)} seeds ({', '.join(map(str, paired))})."
    return Table("With and without FER, over seeds", list(names.values()), rows, [note])


def spread(values: Sequence[float]) -> Entry | None:
    if not values:
        return None
    sd = f"± {percent(stdev(values))}" if len(values) > 1 else "one seed"
    return Entry(percent(mean(values)), [sd, "(" + ", ".join(percent(v) for v in values) + ")"])


def unseen_tables(results: Results) -> list[Table]:
    """Networks that learned all methods but one: first on that one, then, apart, on those that they did learn."""
    done = {
        (c["network"], c["unseen"], c["quality"]): read_json(results.folder(name) / "metrics.json")["slices"]
        for name, c in results.cells.items()
        if "unseen" in c and (results.folder(name) / "metrics.json").is_file()
    }
    if not done:
        return []
    columns = list(dict.fromkeys(f"{unseen}/{quality}" for _, unseen, quality in done))
    networks = list(dict.fromkeys(network for network, *_ in done))
    trained = [
        (
            f"{results.paper['rows'][network]}, all but {unseen}",
            [auc(slices.get(c)) if c != f"{unseen}/{quality}" else None for c in columns],
        )
        for (network, unseen, quality), slices in done.items()
    ]
    left_out = [
        (results.paper["rows"][network], [auc(done.get((network, *c.split("/")), {}).get(c)) for c in columns])
        for network in networks
    ]
    titles = [results.paper["columns"].get(column, column) for column in columns]
    figure = "frame AUC, and mIoU"
    return [
        Table(f"Unseen manipulations: {figure}, of a method that the network did not learn", titles, left_out),
        Table(f"The same networks on the methods that they did learn: {figure}", titles, trained),
    ]


def auc(figures: Figures | None) -> Entry | None:
    if figures is None:
        return None
    low, high = (percent(figures[f"frame_auc_{end}"]) for end in ("low", "high"))
    return Entry(percent(figures["frame_auc"]), [f"[{low}, {high}]", f"mIoU {percent(figures.get('miou'))}"])


def across_tables(root: Path) -> list[Table]:
    """The joint network on data sets that it did not learn."""
    names = {"frame_accuracy": "frame acc.", "frame_auc": "frame AUC", "video_auc": "video AUC", "miou": "mIoU"}
    rows = [
        (f"{path.parent.name}: {name}", [Entry(percent(figures[key])) for key in names])
        for path in sorted((root / "across").glob("[!.]*/metrics.json"))
        for name, figures in read_json(path)["slices"].items()
    ]
    return [
        Table("Across data sets: the joint network on those that it did not learn", [*names.values()], rows)
    ] * bool(rows)


def joint_tables(root: Path) -> list[Table]:
    """The product's default, one network over all methods: per slice, by source of masks, and under perturbation."""
    official, difference = (_metrics(root / name) for name in ("robustness", "difference"))
    if official is None:
        return []
    slices, hurt = by_condition(official["slices"])
    tables = [
        Table(
            "One joint network over all methods",
            ["frame acc.", "pixel acc.", "mIoU"],
            [
                (
                    name,
                    [
                        entry(figures, "frame_accuracy", ["video_accuracy"]),
                        entry(figures, "pixel_accuracy", ["pixel_accuracy_floor"]),
                        entry(figures, "miou", ["miou_floor"]),
                    ],
                )
                for name, figures in slices.items()
            ],
        )
    ]
    if difference is not None:
        sources = {"official mask": slices, "real/fake difference": by_condition(difference["slices"])[0]}
        tables.append(
            Table(
                "The joint network against masks from both sources",
                [f"{figure}, {source}" for source in sources for figure in ("pixel acc.", "mIoU")],
                [
                    (
                        name,
                        [
                            entry(found.get(name), figure, [floor])
                            for found in sources.values()
                            for figure, floor in (("pixel_accuracy", "pixel_accuracy_floor"), ("miou", "miou_floor"))
                        ],
                    )
                    for name in slices
                ],
                ["Trained on official masks; only the truth that it is judged by differs."],
            )
        )
    if hurt:
        tables += [
            robustness("frame accuracy at 0.5, and mIoU", "frame_accuracy", slices, hurt, beside="miou"),
            robustness("frame AUC", "frame_auc", slices, hurt),
        ]
    return tables


def robustness(
    title: str, figure: str, slices: Mapping[str, Figures], hurt: Mapping[str, Mapping[str, Figures]], beside: str = ""
) -> Table:
    """A figure of each slice as it is and under each perturbation, and the mean of those."""

    def row(found: Sequence[Mapping[str, Figures]]) -> list[Entry | None]:
        cells: list[Entry | None] = []
        for name in slices:
            values = {key: [f[name][key] for f in found] for key in filter(None, (figure, beside))}
            known = {key: None if None in x else mean(x) for key, x in values.items()}
            cells.append(Entry(percent(known.pop(figure)), [f"({percent(x)})" for x in known.values()]))
        return cells

    rows = [("as it is", row([slices])), *((name, row([found])) for name, found in hurt.items())]
    rows.append(("mean of the perturbed", row([*hurt.values()])))
    return Table(f"Robustness of the joint network: {title} of perturbed test crops", list(slices), rows)


def _metrics(folder: Path) -> dict[str, Any] | None:
    path = folder / "metrics.json"
    return read_json(path) if path.is_file() else None
