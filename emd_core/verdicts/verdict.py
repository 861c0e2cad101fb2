"""What is said of a file: `verdict.json`. docs/verdict.schema.json is its JSON Schema."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from emd_core.config import Config


class Answer(StrEnum):
    """What is said of a face and of a file; nobody can say "real"."""

    MANIPULATED = "manipulated"
    NOTHING = "nothing found"
    UNKNOWN = "cannot say"


class Seen(Config):
    """A face in one frame."""

    frame: int = Field(ge=0, description="Number of the frame, from 0; of a picture 0.")
    time_s: float = Field(ge=0, description="When it is shown, seconds from the start.")
    x: int = Field(description="Left edge of the square that was judged, pixels of the upright frame.")
    y: int = Field(description="Its upper edge.")
    side: int = Field(ge=1, description="Its side.")
    score: float = Field(ge=0, le=1, description="Calibrated probability that the face is manipulated here.")
    expression: str | None = Field(description="The recognised expression; null where the model recognises none.")


class Stretch(Config):
    """A stretch of time in which a face's scores, averaged over neighbouring frames, are above the limit."""

    start_s: float = Field(ge=0)
    end_s: float = Field(ge=0)
    score: float = Field(ge=0, le=1, description="The highest calibrated probability of its frames' averages.")


class Track(Config):
    """One face over time, within one shot."""

    number: int = Field(ge=1, description="From 1, the face with the most face over time first.")
    answer: Answer
    reasons: list[str] = Field(description="Sentences; why nothing can be said, and what else to know.")
    score: float | None = Field(
        ge=0, le=1, description="Calibrated probability of the track; null: uncalibrated model."
    )
    start_s: float = Field(ge=0)
    end_s: float = Field(ge=0)
    side: int = Field(ge=1, description="Median side of the squares that were judged, px.")
    stretches: list[Stretch] = Field(description="When; empty unless the answer is manipulated.")
    where: list[str] = Field(
        description="Where, in words: mouth, eyes and brows, nose, whole face, outside the face; empty where the model "
        "does not localise."
    )
    mask_share: float | None = Field(
        ge=0, le=1, description="Manipulated share of the square, mean over the stretches."
    )
    expressions: dict[str, float] = Field(description="Share of the frames in which each expression was recognised.")
    seen: list[Seen] = Field(description="The frames that were looked at, in order of time.")


class Limits(Config):
    """When a face is called manipulated."""

    asked: float = Field(description="False-positive rate that was asked for.")
    rate: float = Field(description="The rate that the model's validation data support.")
    score: float = Field(ge=0, le=1, description="Calibrated probability that must be exceeded.")


class Media(Config):
    kind: Literal["video", "picture"]
    width: int
    height: int
    frames: int = Field(description="Number of frames.")
    seconds: float
    looked_at: int = Field(description="Frames that were looked at, evenly spread.")


class Model(Config):
    """Which model said so, and what stands behind it."""

    name: str = Field(description="Such as emd-detector version 3, or the folder that it was read from.")
    reference: str = Field(description="By which it was asked for, such as models:/emd-detector@champion.")
    digest: str = Field(description="First 12 hex digits of the SHA-256 of its checkpoint.")
    network: str
    localises: bool = Field(default=True, description="Whether it says where, too; if not, masks and places are empty.")
    decision: str = Field(description="Why it is in use; empty where it was never promoted.")
    data: str = Field(description="Id of the data set that it was judged on; empty where that is not known.")
    originals: int | None = Field(description="Originals of the validation data that the limits rest on.")
    limits: list[Limits] = Field(description="For a face in a file of this kind, from the loosest to the strictest.")
    found: dict[str, float] = Field(
        default={},
        description="By method, the share of the validation data's fakes that it calls manipulated; what is not here, "
        "it never saw.",
    )


class Software(Config):
    emd: str
    commit: str = Field(description="Git commit; empty where it is not known.")
    torch: str


class Verdict(Config):
    """One file."""

    format: Literal["emd-verdict/1"] = "emd-verdict/1"
    file: str = Field(description="Its name, without folders.")
    path: str = Field(description="As it was given, relative to the folder that was given.")
    sha256: str
    bytes: int
    status: Literal["judged", "unreadable"] = Field(description="Unreadable: no answer, as it could not be decoded.")
    answer: Answer
    sentence: str = Field(description="The answer, for people.")
    reasons: list[str] = Field(description="Why nothing can be said, and what else to know.")
    score: float | None = Field(ge=0, le=1, description="Of the track that decides.")
    media: Media | None
    tracks: list[Track]
    model: Model
    software: Software
    judged_at: str = Field(description="UTC, ISO 8601.")
