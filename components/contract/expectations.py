"""The data contract in Great Expectations' words: what must hold (critical) and what should (warning)."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from emd_core.config import Config
from emd_core.contract.tables import SPLITS
from emd_core.storage.manifest import OK, ORIGINAL

if TYPE_CHECKING:
    from great_expectations.expectations import Expectation

STATUSES = [OK, "missing", "unreadable", "no_face", "no_mask"]


class Contract(Config):
    """The limits of the contract."""

    min_videos: int = Field(ge=1, description="Least number of usable videos per method, quality and split.")
    max_bad_share: float = Field(
        ge=0, le=1, description="Share of the videos found that may be unreadable, without a face or without a mask."
    )
    masks: Literal["required", "none"] = Field(
        description="required: the mask of every crop is known; none: of no crop is it known."
    )
    max_mask_share: float = Field(gt=0, le=1, description="Largest manipulated share of a manipulated crop's pixels.")
    max_empty_share: float = Field(ge=0, le=1, description="Share of the manipulated crops whose mask may be empty.")
    min_crops_share: float = Field(
        ge=0,
        le=1,
        description="Crops that a video should have, as a share of their median in its split; else a warning.",
    )
    min_label_share: float = Field(
        ge=0, le=0.5, description="Share that either label should have in a method and its originals; else a warning."
    )
    near_bits: int = Field(
        ge=0,
        le=6,
        description="Crops of two splits are near each other if their hashes differ in at most so many bits.",
    )
    max_near_share: float = Field(
        ge=0, le=1, description="Share of a video's crops that may be near those of another split; else a warning."
    )
    max_drift: float = Field(
        ge=0, le=1, description="Kolmogorov-Smirnov distance from the reference profile; beyond it, a warning."
    )


def column_expectations() -> "list[Expectation]":
    """What must hold for `per_column`."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnPairValuesToBeEqual(
            column_A="type", column_B="declared", description="columns have their declared types"
        ),
        gxe.ExpectColumnValuesToBeBetween(column="gaps", max_value=0, description="no value is missing"),
    ]


def video_expectations(cfg: Contract) -> "list[Expectation]":
    """What must hold for `per_video`."""
    import great_expectations.expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity
    from great_expectations.expectations.row_conditions import Column

    found, ok = Column("status") != "missing", Column("status") == OK
    return [
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
        gxe.ExpectColumnValuesToBeBetween(
            column="crops_share",
            min_value=cfg.min_crops_share,
            row_condition=ok,
            severity=FailureSeverity.WARNING,
            description=f"a video has at least {cfg.min_crops_share:.0%} of the crops that are usual in its split",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="near_share",
            max_value=cfg.max_near_share,
            severity=FailureSeverity.WARNING,
            description=f"at most {cfg.max_near_share:.0%} of a video's crops look like crops of another split",
        ),
    ]


def group_expectations(cfg: Contract) -> "list[Expectation]":
    """What must hold for `per_group`."""
    import great_expectations.expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="videos",
            min_value=cfg.min_videos,
            description=f"at least {cfg.min_videos} usable videos per method, quality and split",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="fake_share",
            min_value=cfg.min_label_share,
            max_value=1 - cfg.min_label_share,
            severity=FailureSeverity.WARNING,
            description=f"either label has {cfg.min_label_share:.0%} of the crops of a method and its originals",
        ),
    ]


def crop_expectations(faces: int, cfg: Contract) -> "list[Expectation]":
    """What must hold for `per_crop`; `faces` is the number of rows in the table of faces."""
    import great_expectations.expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity
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
        between("same", None, 0, "no crop lies in two splits"),
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
        between("sharpness", 0, None, "no crop is flat", strict_min=True, severity=FailureSeverity.WARNING),
        *masks,
    ]


def drift_expectations(cfg: Contract) -> "list[Expectation]":
    """What should hold for `drifts`."""
    import great_expectations.expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    return [
        gxe.ExpectColumnValuesToNotBeNull(
            column="drift", severity=FailureSeverity.WARNING, description="the reference profile knows every quality"
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="drift",
            max_value=cfg.max_drift,
            severity=FailureSeverity.WARNING,
            description=f"face size and sharpness are within {cfg.max_drift} of the reference profile",
        ),
    ]
