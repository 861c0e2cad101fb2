"""Hold the data against its contract (Great Expectations) before any training sees it.

Writes report.html for people, result.json for machines, profile.json (what the crops are like, which later data can be
held against), and validity.json: that these masks passed, which is all that a training asks. A broken critical
expectation stops the pipeline, and the report then lies in `<report>.failed`; a broken warning is printed and passes.
"""

import base64
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from components import In, Out
from components.contract.expectations import (
    Contract,
    column_expectations,
    crop_expectations,
    drift_expectations,
    group_expectations,
    video_expectations,
)
from components.contract.validation import run_expectations
from components.tracking.run import stage_run
from emd_core.contract.drift import drifts, make_profile, read_profile, write_profile
from emd_core.contract.tables import per_column, per_crop, per_group, per_video
from emd_core.errors import UserError
from emd_core.pages.contract_figures import histograms
from emd_core.pages.render import render
from emd_core.storage.atomic import atomic_dir
from emd_core.storage.manifest import FACES, MASKS, OK, VIDEOS, read_manifest, require_made_from
from emd_core.storage.validity import write_validity


class ValidateData(Contract):
    """Section validate_data of params.yaml."""

    profile: Path | None = Field(
        description="The profile.json of an earlier report, to hold face sizes and sharpness against; null: none. "
        "Keep it under a name of its own: DVC sees the name, not what is in the file."
    )


def validate_data(cfg: ValidateData, *, videos: In, faces: In, masks: In, report: Out) -> None:
    """Raises UserError, naming the broken expectations, when the data may not be trained on."""
    reference = read_profile(cfg.profile) if cfg.profile else None
    listed, cropped = read_manifest(videos, VIDEOS), read_manifest(faces, FACES)
    masked = read_manifest(masks, MASKS)
    require_made_from(masked, "masks", faces=cropped)
    crops = per_crop(masked.table, cfg.near_bits)
    usable = crops[crops["status"] == OK]
    columns = per_column({"videos": (listed.table, VIDEOS), "masks": (masked.table, MASKS)})
    rows = per_video(listed.table, crops)
    groups = per_group(rows)
    tables = {
        "columns": (columns, column_expectations()),
        "videos": (rows, video_expectations(cfg)),
        "groups": (groups, group_expectations(cfg)),
        "crops": (crops, crop_expectations(len(cropped.table), cfg)),
    }
    drift = drifts(reference, usable) if reference else None
    if drift is not None:
        tables["drift"] = (drift, drift_expectations(cfg))
    with stage_run("validate_data", cfg, {"videos": videos, "faces": faces, "masks": masks}) as run:
        checks = run_expectations(tables)
        broken = [c for c in checks if not c["success"]]
        critical = [c for c in broken if c["severity"] == "critical"]
        warnings = [c for c in broken if c["severity"] != "critical"]
        figures = summarise(rows, crops, drift) | {"critical": len(critical), "warnings": len(warnings)}
        failed_report = report.with_name(f"{report.name}.failed")
        place = failed_report if critical else report
        with atomic_dir(place) as out:
            result = {"success": not critical, "masks": masked.id, "figures": figures, "checks": checks}
            (out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
            write_validity(out, masked, success=not critical)
            write_profile(out / "profile.json", make_profile(usable, masked.id))
            page = render(
                "contract",
                cfg=cfg,
                checks={"critical": critical, "warning": warnings, "passed": [c for c in checks if c["success"]]},
                figures=figures,
                groups=groups.to_dict("records"),
                drift=drift.to_dict("records") if drift is not None else None,
                masks=masked.id,
                picture=base64.b64encode(histograms(usable, reference)).decode() if len(usable) else None,
            )
            (out / "report.html").write_text(page)
        run.log_metrics({f"data/{name}": value for name, value in figures.items()})
        run.log_artifacts(place, "validation")
        for check in warnings:
            print(f"warning: {check['name']}: {check['observed']}", file=sys.stderr)
        if critical:
            told = ", ".join(f"{c['name']} ({c['observed']})" for c in critical)
            raise UserError(f"the data breaks its contract: {told}; see {place / 'report.html'} and mend the data.")
        shutil.rmtree(failed_report, ignore_errors=True)
    print(f"{len(checks)} expectations checked on {len(usable)} crops; report in {report / 'report.html'}")


def summarise(videos: pd.DataFrame, crops: pd.DataFrame, drift: pd.DataFrame | None) -> dict[str, Any]:
    """The numbers that tell one data set from the next; `bad_share` is of the videos found.

    videos, crops, drift: as per_video, per_crop and drifts make them.
    """
    found = videos[videos["status"] != "missing"]
    measured = [] if drift is None else drift.dropna().to_dict("records")
    return {
        "videos": int((videos["status"] == OK).sum()),
        "crops": int((crops["status"] == OK).sum()),
        "bad_share": float((found["status"] != OK).mean()) if len(found) else 0.0,
        "same_crops": int(crops["same"].sum()),
        "near_crops": int(crops["near"].sum()),
        "near_videos": int((videos["near_share"] > 0).sum()),
        **{f"drift/{row['name']}": float(row["drift"]) for row in measured},
    }
