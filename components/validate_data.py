"""Hold the data against its contract (Great Expectations) before any training sees it.

Writes report.html for people and result.json for machines. A broken critical expectation stops the pipeline,
and the report then lies in `<report>.failed`; a broken warning is printed and passes.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import Field

from components import In, Out
from components.pages import render
from components.tracking import stage_run
from emd_core.atomic import atomic_dir
from emd_core.config import Config
from emd_core.errors import UserError
from emd_core.manifest import FACES, MASKS, OK, ORIGINAL, VIDEOS, read_manifest, require_made_from

if TYPE_CHECKING:
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.expectations import Expectation

SPLITS = ["train", "val", "test"]
STATUSES = [OK, "missing", "unreadable", "no_face", "no_mask"]


class ValidateData(Config):
    min_videos: int = Field(ge=1, description="Least number of usable videos per method, quality and split.")
    max_bad_share: float = Field(
        ge=0, le=1, description="Share of the videos found that may be unreadable, without a face or without a mask."
    )
    masks: Literal["required", "none"] = Field(
        description="required: the mask of every crop is known; none: of no crop is it known."
    )
    max_mask_share: float = Field(gt=0, le=1, description="Largest manipulated share of a manipulated crop's pixels.")
    max_empty_share: float = Field(ge=0, le=1, description="Share of the manipulated crops whose mask may be empty.")


def validate_data(cfg: ValidateData, *, videos: In, faces: In, masks: In, report: Out) -> None:
    """Raises UserError, naming the broken expectations, when the data may not be trained on."""
    import mlflow

    videos_table, faces_table = read_manifest(videos, VIDEOS), read_manifest(faces, FACES)
    masks_table = read_manifest(masks, MASKS)
    require_made_from(masks_table, "masks", faces=faces_table)
    tables = {
        "videos": (per_video(videos_table.table, masks_table.table), video_expectations(videos_table.table, cfg)),
        "crops": (per_crop(masks_table.table), crop_expectations(len(faces_table.table), cfg)),
    }
    with stage_run("validate_data", cfg, {"videos": videos, "faces": faces, "masks": masks}):
        results = run_expectations(tables)
        checks = [as_check(r) for r in results]
        critical = [c for c in checks if not c["success"] and c["severity"] == "critical"]
        failed_report = report.with_name(f"{report.name}.failed")
        place = failed_report if critical else report
        with atomic_dir(place) as out:
            page = render(
                "contract",
                checks=checks,
                videos=len(videos_table.table),
                crops=len(masks_table.table),
                critical=len(critical),
                warnings=sum(not c["success"] for c in checks) - len(critical),
            )
            (out / "report.html").write_text(page)
            verdict = {"success": not critical, "masks": masks_table.id, "checks": checks}
            (out / "result.json").write_text(json.dumps(verdict, indent=2) + "\n")
        mlflow.log_artifacts(str(place), "validation")
        for check in checks:
            if not check["success"] and check["severity"] != "critical":
                print(f"warning: {check['name']}: {check['observed']}", file=sys.stderr)
        if critical:
            broken = ", ".join(f"{c['name']} ({c['observed']})" for c in critical)
            raise UserError(f"the data breaks its contract: {broken}; see {place / 'report.html'} and mend the data.")
        shutil.rmtree(failed_report, ignore_errors=True)
    print(f"{len(checks)} expectations checked on {len(masks_table.table)} crops; report in {report / 'report.html'}")


def per_video(videos: pd.DataFrame, masks: pd.DataFrame) -> pd.DataFrame:
    """One row per video: `rows` in the table of masks, `splits` in which its ids occur, and its final status.

    A video is ok if one of its crops is; else it has the status of its first row downstream.
    """
    ids = pd.concat([videos[["target", "split"]], videos[["source", "split"]].set_axis(["target", "split"], axis=1)])
    splits = ids[ids["target"] != ""].groupby("target")["split"].nunique()
    downstream = masks.groupby("video")["status"]
    status = downstream.first()
    status[masks.loc[masks["status"] == OK, "video"].unique()] = OK
    return videos.assign(
        rows=videos["video"].map(downstream.size()).fillna(0).astype(int),
        splits=videos[["target", "source"]].apply(lambda column: column.map(splits)).max(axis=1).astype(int),
        status=videos["status"].where(videos["status"] != OK, videos["video"].map(status).fillna("missing")),
    )


def per_crop(masks: pd.DataFrame) -> pd.DataFrame:
    """The table of masks with the far edges of each box, in pixels of the source frame."""
    return masks.assign(right=masks["x"] + masks["side"], bottom=masks["y"] + masks["side"])


def video_expectations(videos: pd.DataFrame, cfg: ValidateData) -> "list[Expectation]":
    """What must hold for `per_video`."""
    import great_expectations.expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity
    from great_expectations.expectations.row_conditions import Column

    found = Column("status") != "missing"
    expectations: list[Expectation] = [
        gxe.ExpectColumnValuesToBeUnique(column="video", description="one row per video"),
        gxe.ExpectColumnValuesToBeInSet(column="split", value_set=SPLITS, description="known splits"),
        gxe.ExpectColumnValuesToBeInSet(column="status", value_set=STATUSES, description="known statuses"),
        gxe.ExpectColumnValuesToBeBetween(column="rows", min_value=1, description="no video is lost on the way"),
        gxe.ExpectColumnValuesToBeBetween(
            column="splits", max_value=1, description="no target or source id in two splits"
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="status",
            value_set=[OK],
            row_condition=found,
            mostly=1 - cfg.max_bad_share,
            description=f"at most {cfg.max_bad_share:.1%} of the videos found are bad",
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="status", value_set=[OK], severity=FailureSeverity.WARNING, description="every video is usable"
        ),
    ]
    pairs = set(videos[["method", "quality"]].itertuples(index=False, name=None))
    pairs |= {(ORIGINAL, quality) for quality in videos["quality"].unique()}
    for method, quality in sorted(pairs):
        for split in SPLITS:
            group = (Column("method") == method) & (Column("quality") == quality) & (Column("split") == split)
            expectations.append(
                gxe.ExpectColumnUniqueValueCountToBeBetween(
                    column="video",
                    min_value=cfg.min_videos,
                    row_condition=group & (Column("status") == OK),
                    description=f"at least {cfg.min_videos} usable videos in {method}/{quality}/{split}",
                )
            )
    return expectations


def crop_expectations(faces: int, cfg: ValidateData) -> "list[Expectation]":
    """What must hold for `per_crop`; `faces` is the number of rows in the table of faces."""
    import great_expectations.expectations as gxe
    from great_expectations.expectations.row_conditions import Column

    ok, original = Column("status") == OK, Column("method") == ORIGINAL
    real, fake = ({"row_condition": ok & (Column("label") == label)} for label in (0, 1))

    def between(column: str, low: float | None, high: float | None, name: str, **options: Any) -> "Expectation":
        options = {"row_condition": ok, **options}
        return gxe.ExpectColumnValuesToBeBetween(
            column=column, min_value=low, max_value=high, description=name, **options
        )

    masks: list[Expectation] = [
        gxe.ExpectColumnValuesToNotBeNull(  # the expectations on ranges skip what is null
            column="mask_share", row_condition=ok, description="every mask was measured"
        ),
        between("mask_share", 0, 0, "masks of originals are empty", **real),
        between("mask_share", 0, cfg.max_mask_share, f"masks fill at most {cfg.max_mask_share:.0%} of a crop", **fake),
        between(
            "mask_share",
            0,
            None,
            f"at most {cfg.max_empty_share:.1%} of the manipulated masks are empty",
            strict_min=True,
            mostly=1 - cfg.max_empty_share,
            **fake,
        ),
    ]
    if cfg.masks == "none":
        masks = [gxe.ExpectColumnValuesToBeNull(column="mask_share", description="no mask is known")]
    return [
        gxe.ExpectTableRowCountToEqual(value=faces, description="a mask for every crop"),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["video", "frame"], description="a frame is cropped once"),
        gxe.ExpectCompoundColumnsToBeUnique(
            column_list=["file", "row"], row_condition=ok, description="crops lie in places of their own"
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="label", value_set=[0], row_condition=original, description="originals have label 0"
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="label",
            value_set=[1],
            row_condition=Column("method") != ORIGINAL,
            description="manipulated videos have label 1",
        ),
        between("frame", 0, None, "frames are numbered from 0"),
        between("side", 1, None, "boxes have a size"),
        between("x", 0, None, "boxes start inside the frame (x)"),
        between("y", 0, None, "boxes start inside the frame (y)"),
        *(
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(
                column_A=size, column_B=edge, or_equal=True, row_condition=ok, description=f"boxes end inside ({edge})"
            )
            for size, edge in (("width", "right"), ("height", "bottom"))
        ),
        between("score", 0, 1, "scores are probabilities"),
        *masks,
    ]


def run_expectations(
    tables: "Mapping[str, tuple[pd.DataFrame, list[Expectation]]]",
) -> "list[ExpectationValidationResult]":
    """Validate each table against its expectations; the results of all tables in one list."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    source = context.data_sources.add_pandas("tables")
    results: list[ExpectationValidationResult] = []
    for name, (table, expectations) in tables.items():
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
        validation = gx.ValidationDefinition(name=name, data=batch, suite=suite)
        done = context.validation_definitions.add(validation).run(
            batch_parameters={"dataframe": table},
            result_format={"result_format": "SUMMARY", "unexpected_index_column_names": ["video"]},
        )
        results += done.results
    return results


def as_check(result: "ExpectationValidationResult") -> dict[str, Any]:
    """One expectation's result: name, severity, success, and what was observed as a phrase."""
    details, config = result.result, result.expectation_config
    assert config is not None  # every result of a suite carries the expectation it answers
    if "unexpected_count" in details:
        observed = f"{details['unexpected_count']} of {details['element_count']} break it"
        examples = [str(e["video"]) for e in details.get("partial_unexpected_index_list") or []]
        observed += f", e.g. {', '.join(dict.fromkeys(examples[:3]))}" if examples else ""
    else:
        observed = str(details["observed_value"])
    return {
        "name": config.description,
        "severity": config.severity.value,
        "success": bool(result.success),
        "observed": observed,
    }
