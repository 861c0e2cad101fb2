"""Section `serve` of the params files."""

from pydantic import Field

from emd_core.config import Config


class Serve(Config):
    host: str = Field(description="Address to listen on; 0.0.0.0: all of this machine's.")
    port: int = Field(ge=0, le=65535, description="Port to listen on; 0: any free one, which is printed.")
    workers: int = Field(ge=1, description="Files that are judged at the same time, each in a process of its own.")
    max_waiting: int = Field(ge=1, description="Files that may be uploading or waiting; more are refused with 503.")
    max_mb: float = Field(gt=0, description="Largest file, in millions of bytes.")
    upload_s: float = Field(gt=0, description="Seconds that an upload may take.")
    stall_s: float = Field(gt=0, description="Seconds that an upload may stand still.")
    seconds_per_file: float = Field(gt=0, description="That judging a file may take.")
    memory_mb: int | None = Field(ge=256, description="MiB that a file may take beyond the model; null: no limit.")
    keep_minutes: float = Field(gt=0, description="After these a verdict and its report are deleted.")
    max_results: int = Field(ge=1, description="Verdicts that are kept; the oldest are deleted first.")
    grace_s: float = Field(ge=0, description="Seconds that files at hand may still take after SIGTERM.")
    reload_s: float = Field(gt=0, description="Seconds between two looks at where the model's alias points.")
