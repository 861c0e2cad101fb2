"""Judge videos and pictures: `python -m components detect clip.mp4 folder --out verdicts`."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from pydantic import Field
from tqdm import tqdm

from components.command_line.kubeflow import write_views
from components.command_line.options import Changes, Kubeflow, ParamsFile, Section
from components.command_line.stages import parse_json, read_cfg
from components.judging.files import FOLDER, MADE_BY, find_files, folder_of, own_share
from components.judging.model import find_model, software
from components.judging.work import REPORT, VERDICT, Job, Overlays, in_process, keep_dead
from emd_core.errors import UserError
from emd_core.expendable import Died, each
from emd_core.models.parts.precision import pick_device
from emd_core.pages.verdicts import write_index
from emd_core.reading import read_json, reading
from emd_core.storage.atomic import atomic_file, require_replaceable
from emd_core.verdicts.looking import Looking
from emd_core.verdicts.table import row, write_tables
from emd_core.verdicts.verdict import Verdict

CHAMPION = "models:/emd-detector@champion"
PRINTED = 20  # files up to which each sentence is printed


class Detect(Looking):
    """Section detect of params.yaml."""

    overlays: Overlays = Field(description="Of which videos a copy with the masks drawn in is written.")
    seconds_per_file: float = Field(gt=0, description="That one file may take; then it is a row with that reason.")
    memory_mb: int = Field(ge=256, description="MiB that a file may take beyond the model itself; without a GPU only.")
    workers: int = Field(ge=1, description="Processes; each judges one file at a time on one core.")


def detect(
    paths: Annotated[list[Path] | None, typer.Argument(help="Videos, pictures (PNG, JPEG), folders of them.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write; a run that was killed goes on there.")] = Path("verdicts"),
    listed: Annotated[Path | None, typer.Option("--list", help="Text file that names more, a line each.")] = None,
    model: Annotated[str, typer.Option(help="Folder that train_emd wrote, or a registered model.")] = CHAMPION,
    frames: Annotated[int | None, typer.Option(min=1, help="Instead of detect.frames.")] = None,
    every: Annotated[float | None, typer.Option(min=0.01, help="Seconds; instead of detect.every_s.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Instead of detect.workers.")] = None,
    shard: Annotated[str, typer.Option(help="Only a part of the files: 2/8 is the second of eight.")] = "1/1",
    params: ParamsFile = Path("params.yaml"),
    set: Changes = [],  # noqa: B006 - typer reads it
    section: Section = "",
    kubeflow: Kubeflow = "",
) -> None:
    """Judge videos and pictures: is a face in them manipulated, when, and where? (not a stage of the pipeline)

    Writes a folder per file with verdict.json, report.html and overlay.mp4, and the tables verdicts.parquet and
    verdicts.csv with a page of all, index.html. A file that cannot be read, or over which its process dies, is a row
    with the reason.
    """
    given = {"frames": frames, "every_s": every, "workers": workers}
    cfg = read_cfg("detect", Detect, params, section, set)
    cfg = cfg.model_copy(update={name: value for name, value in given.items() if value is not None})
    require_replaceable(out)
    files = own_share(find_files(paths or [], listed), shard)
    jobs = [Job(path.absolute(), name, (out / folder_of(path, name)).absolute()) for path, name in files]
    with TemporaryDirectory() as fetched:
        found, about = find_model(model, Path(fetched)), software()
        looking = Looking(**{name: getattr(cfg, name) for name in Looking.model_fields})
        claim(out, {"model": found.about.digest, "overlays": cfg.overlays, **looking.model_dump(mode="json")})
        waiting = [job for job in jobs if not is_done(job)]
        memory = cfg.memory_mb if pick_device().type == "cpu" else None
        processes = [
            in_process(found, looking, about, cfg.overlays, seconds=cfg.seconds_per_file, mebibytes=memory)
            for _ in range(min(cfg.workers, len(waiting)))
        ]
        with tqdm(desc="files", total=len(jobs), initial=len(jobs) - len(waiting), unit="file") as bar:
            for job, result in each(processes, waiting):
                if isinstance(result, Died):
                    keep_dead(job, found.about, about, str(result))
                bar.update()
    table = write_tables(out, (row(read_verdict(job.out), job.out.name) for job in jobs))
    write_index(out, table)
    say(jobs, out)
    if kubeflow:
        write_views(parse_json(kubeflow, "--kubeflow"), {"judged": {FOLDER: str(out)}})


def claim(out: Path, made_by: dict[str, Any]) -> None:
    """Refuse a folder with verdicts of another model or of other values, which would be mixed with these."""
    path = out / MADE_BY
    if path.is_file():
        before = read_json(path)
        if changed := [name for name in made_by if before.get(name) != made_by[name]]:
            raise UserError(
                f"{out} holds verdicts with another {', '.join(changed)}; name another folder, or remove that one."
            )
    elif out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty and holds no verdicts of before; name a folder of its own.")
    with atomic_file(path) as work:
        work.write_text(json.dumps(made_by, indent=1) + "\n")


def is_done(job: Job) -> bool:
    """Whether there is a verdict on the file as it is now."""
    verdict = job.out / VERDICT
    return verdict.is_file() and job.path.stat().st_mtime < verdict.stat().st_mtime


def read_verdict(folder: Path) -> Verdict:
    path = folder / VERDICT
    with reading(path, "a verdict of this version", "remove its folder, and start again"):
        return Verdict.model_validate_json(path.read_bytes())


def say(jobs: list[Job], out: Path) -> None:
    if len(jobs) <= PRINTED:
        for job in jobs:
            print(f"{job.name}: {read_verdict(job.out).sentence}  {out / job.out.name / REPORT}")
    print(f"all {len(jobs)}: {out / 'index.html'}, {out / 'verdicts.csv'}")
