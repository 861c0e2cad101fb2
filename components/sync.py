"""`python -m components sync`: send what earlier runs could not, without running a stage."""

from components.tracking.delivery import empty
from components.tracking.outbox import left_behind, servers
from components.tracking.server import answering, connect


def sync() -> None:
    """Send all outboxes for the server in use; name those for another one. Raises UserError where none answers."""
    server = connect()
    import mlflow

    for box in left_behind(server):
        held, run = box.contents(), box.header
        with answering(mlflow.get_tracking_uri()):
            empty(mlflow.MlflowClient(), box)
        refused = f", {box.refused()} refused: {box.folder / 'refused.jsonl'}" if box.refused() else ""
        box.close()
        print(f"sent {held or 'nothing more'} of run {run['name']} ({run['run']}){refused}")
    for other in servers() - {server}:
        print(f"there is more for {other}; set MLFLOW_TRACKING_URI to it and start again")
