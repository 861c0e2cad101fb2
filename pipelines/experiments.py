"""The paper's tables and figures: every cell that is not done yet, then the page of results."""

from pathlib import Path
from typing import Annotated

import typer
import yaml
from tqdm import tqdm

from emd_core.errors import UserError

PIPELINE = "experiments/dvc.yaml"
CELLS = Path("experiments/cells")


def experiments(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Cells, by the start of their names (emd, multitask-DFDC, …); all if none is given."),
    ] = None,
    page_only: Annotated[bool, typer.Option("--page-only", help="Train nothing, only write the page anew.")] = False,
) -> None:
    """Train and judge what the tables still lack (through DVC, so nothing is done twice), and write the page.

    Can be interrupted at any time: finished cells stay, and the one at work goes on from its last epoch.
    """
    params = yaml.safe_load(Path("experiments/params.yaml").read_text())
    wanted = [name for name in params["cells"] if name.startswith(tuple(names or [""]))]
    if not wanted:
        raise UserError(f"no cell in experiments/params.yaml starts with {' or '.join(names or [])}; look there.")
    if not page_only:
        others = ["robustness", "difference", *(f"across@{name}" for name in params["across"])]
        reproduce([f"cell@{name}" for name in wanted] + ([] if names else others))
    from pipelines.paper.results import write_results

    page = write_results(params, Path("experiments"))
    print(f"Tables and figures: {page.resolve()} (Markdown: {page.with_name('results.md')})")


def reproduce(stages: list[str]) -> None:
    """`dvc repro` of each stage with what it depends on, under one progress bar."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    with Repo() as repo:
        for stage in (progress := tqdm(stages, unit="cell")):
            progress.set_description(stage)
            try:
                repo.reproduce(f"{PIPELINE}:{stage}")
            except DvcException as error:
                raise UserError(
                    f"{stage} did not finish ({error}); see its message above, then start again: what is done stays."
                ) from None
