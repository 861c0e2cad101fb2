"""How a command begins and ends: no telemetry; exit 2 with a sentence, 143 after SIGTERM."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from emd_core.errors import Preempted, UserError, fault_of_place

# Telemetry of our tools is off unless the user turned it on.
TELEMETRY_OFF = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}


def telemetry_off() -> None:
    """Before any of those tools is imported; a user's own setting wins."""
    for variable, value in TELEMETRY_OFF.items():
        os.environ.setdefault(variable, value)


def exit_on_user_error(run: Callable[[], Any]) -> None:
    """Exit 2 with one sentence where the user can mend it, 143 after SIGTERM; our own mistakes show their traceback."""
    try:
        run()
    except UserError as error:
        sys.exit(_refuse(str(error)))
    except Preempted as stop:
        _say(f"stopped: {stop}")
        sys.exit(128 + signal.SIGTERM)  # 143, what a shell says of a process that SIGTERM ended
    except OSError as error:
        if sentence := fault_of_place(error):
            sys.exit(_refuse(sentence))
        raise


def _refuse(sentence: str) -> int:
    _say(f"error: {sentence}")
    return 2


def _say(sentence: str) -> None:
    """On a line of its own, also where a progress bar was being drawn."""
    from tqdm import tqdm

    tqdm.write(sentence, file=sys.stderr)
