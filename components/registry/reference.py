"""The version of a model that an address names."""

import os
import re
from typing import TYPE_CHECKING

from components.tracking.server import connect, refused, workspace
from emd_core.errors import UserError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

REFERENCE = re.compile(r"(?:models:/)?(?P<name>[^/@:]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


def find(reference: str) -> "ModelVersion":
    """The version that models:/name@alias or models:/name/version names; UserError if there is none."""
    import mlflow
    from mlflow import MlflowException

    parts = REFERENCE.fullmatch(reference)
    if parts is None:
        raise UserError(f"{reference} names no model; write models:/name@alias or models:/name/version.")
    if not os.environ.get("MLFLOW_TRACKING_URI") and not (workspace() / "mlflow.db").is_file():
        raise UserError("there is no mlflow.db here; start this where it is, or set MLFLOW_TRACKING_URI.")
    connect()
    client = mlflow.MlflowClient()
    try:
        if parts["alias"]:
            return client.get_model_version_by_alias(parts["name"], parts["alias"])
        return client.get_model_version(parts["name"], parts["version"])
    except MlflowException as error:
        # The first for a model without that alias, the second for a name or version that is not registered.
        if error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
            raise UserError(
                f"the registry has no {reference} ({str(error.message).rstrip('.')}); `make ui` shows what it has."
            ) from None
        raise refused(error, mlflow.get_tracking_uri()) from error
