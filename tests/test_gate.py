"""The decision, as a table; then the stage on real files."""

import json
from pathlib import Path
from typing import Any

import mlflow
import pytest

from components.gate import gate
from emd_core.errors import UserError
from emd_core.gating import Gate, decide

F2F, NT = "Face2Face/c23", "NeuralTextures/c23"
CFG = Gate(floors={F2F: 0.9, NT: 0.8}, max_drop=0.02, min_videos=10)


def metrics(f2f: float = 0.95, nt: float = 0.85, videos: int = 10, **other: str) -> dict[str, Any]:
    slices = {name: {"frame_accuracy": value, "videos": videos} for name, value in ((F2F, f2f), (NT, nt))}
    return {"slices": slices, "overall": {}, "model": "new", "data": "d", **other}


@pytest.mark.parametrize(
    ("candidate", "champion", "failed"),
    [
        pytest.param(metrics(), None, [], id="first promotion"),
        pytest.param(metrics(f2f=0.9, nt=0.8), None, [], id="exactly on the floors"),
        pytest.param(metrics(f2f=0.8999), None, [("floor", F2F)], id="just below one floor"),
        pytest.param(metrics(f2f=0.1, nt=0.1), None, [("floor", F2F), ("floor", NT)], id="below both floors"),
        pytest.param(metrics(videos=9), None, [("videos", F2F), ("videos", NT)], id="too few videos to believe it"),
        pytest.param(metrics(), metrics(0.94, 0.84, model="old"), [], id="better than the champion"),
        pytest.param(metrics(f2f=0.95), metrics(f2f=0.97, model="old"), [], id="exactly at the margin"),
        pytest.param(metrics(f2f=0.95), metrics(f2f=0.9701, model="old"), [("drop", F2F)], id="just past the margin"),
        pytest.param(metrics(f2f=0.99), metrics(nt=0.9, model="old"), [("drop", NT)], id="a gain pays for no drop"),
        pytest.param(metrics(nt=0.7), metrics(nt=0.7, model="old"), [("floor", NT)], id="as bad as the champion"),
        pytest.param(metrics(), {"slices": {}, "model": "old"}, [], id="champion not measured on these slices"),
    ],
)
def test_decide(candidate: dict[str, Any], champion: dict[str, Any] | None, failed: list[tuple[str, str]]) -> None:
    decision = decide(candidate, champion, CFG)
    assert [(check.name, check.slice) for check in decision.checks if not check.passed] == failed
    assert decision.promote == (not failed)
    assert ("first promotion" in decision.summary) == (champion is None)
    assert all(slice_ in decision.summary for _, slice_ in failed)


def test_the_decision_says_whether_the_champion_saw_the_same_data() -> None:
    assert "on the same data" in decide(metrics(), metrics(model="old"), CFG).summary
    assert "on other data" in decide(metrics(), metrics(model="old", data="last year"), CFG).summary


@pytest.mark.parametrize(
    ("slices", "told"),
    [
        ({F2F: {"frame_accuracy": 0.95, "videos": 10}}, f"names the slice '{NT}'"),
        ({F2F: {"frame_accuracy": float("nan"), "videos": 10}}, f"no frame_accuracy for the slice '{F2F}'"),
        ({F2F: {"frame_accuracy": 0.95}}, f"no videos for the slice '{F2F}'"),
    ],
)
def test_what_was_not_measured_cannot_pass(slices: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        decide({"slices": slices, "model": "new"}, None, CFG)


def write(folder: Path, content: str) -> Path:
    folder.mkdir()
    (folder / "metrics.json").write_text(content)
    return folder


@pytest.mark.parametrize("content", ["{", "[]", '{"slices": {}}', '{"slices": [], "model": "m"}'])
def test_a_broken_metrics_file_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(UserError, match="metrics.json"):
        gate(CFG, evaluation=write(tmp_path / "evaluation", content), decision=tmp_path / "decision")
    assert not (tmp_path / "decision").exists()


def test_a_refusal_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    evaluation = write(tmp_path / "evaluation", json.dumps(metrics(f2f=0.5)))
    champion = write(tmp_path / "champion", json.dumps(metrics(model="old")))
    gate(CFG, evaluation=evaluation, champion=champion, decision=tmp_path / "decision")
    assert capsys.readouterr().out.startswith("Refused")
    decision = json.loads((tmp_path / "decision" / "decision.json").read_text())
    assert (decision["promote"], decision["model"], decision["champion"]) == (False, "new", "old")
    assert Gate.model_validate(decision["cfg"]) == CFG
    page = (tmp_path / "decision" / "decision.md").read_text()
    assert f"| {F2F} | floor | 0.5 | 0.9 | **no** |" in page
    (run,) = mlflow.search_runs(search_all_experiments=True, filter_string="tags.stage = 'gate'", output_format="list")
    assert run.data.tags["promote"] == "false"
