"""The word that crops and masks passed the data contract; apart from the report, whose captions retrain nothing."""

import json
from pathlib import Path

from emd_core.errors import UserError
from emd_core.reading import read_json
from emd_core.storage.manifest import Manifest

VALIDITY = "validity.json"


def write_validity(report: Path, masks: Manifest, success: bool) -> None:
    (report / VALIDITY).write_text(json.dumps({"success": success, "masks": masks.id}) + "\n")


def require_validated(report: Path, masks: Manifest) -> None:
    """Refuse data that did not pass validate_data, or that another report is about."""
    path = report / VALIDITY
    said = read_json(path, "a verdict on data", "run validate_data first (`dvc repro validate_data`)")
    if said != {"success": True, "masks": masks.id}:
        raise UserError(f"{path} does not say that these --masks are valid; run validate_data on them first.")
