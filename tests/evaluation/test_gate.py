"""The decision, as tables; then the stage on real files."""

import json
import math
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.models import EvaluationResult, MetricThreshold
from mlflow.models.evaluation.validation import ModelValidationFailedException

from components.gate import gate, write_decision
from emd_core.errors import UserError
from emd_core.evaluation.gating import Comparison, Decision, Difference, Gate, Service, decide
from emd_core.evaluation.slices import NOT_LOCALISED
from pipelines.summary import FIGURES, summary

F2F, NT, DF = "Face2Face/c23", "NeuralTextures/c23", "Deepfakes/c23"
ACCURACY, MIOU = "frame_accuracy", "miou"
CFG = Gate(
    floors={"Face2Face": {"c23": {ACCURACY: 0.9, MIOU: 0.7}}, "NeuralTextures": {"c23": {ACCURACY: 0.8}}},
    max_drop={ACCURACY: 0.02, MIOU: 0.05},
    no_drop=[F2F, DF],
    min_videos=10,
    max_latency_ms=None,
    max_size_mb=None,
)


def metrics(changes: dict[tuple[str, str], Any] | None = None, **other: Any) -> dict[str, Any]:
    """A candidate that is above every floor, but for `changes` by (slice, figure)."""
    slices = {name: {ACCURACY: 0.95, MIOU: 0.8, "videos": 10} for name in (F2F, NT, DF)}
    for (name, figure), value in (changes or {}).items():
        slices[name][figure] = value
    return {"slices": slices, "model": "new", "data": "d", **other}


def against(changes: dict[tuple[str, str], Difference | None] | None = None, model: str = "old") -> Comparison:
    """A champion that is as good on every slice, but for `changes`; None: not compared."""
    equal = Difference(0.95, 0.95, 0.0, 0.0)
    slices: dict[str, dict[str, Difference]] = {name: {ACCURACY: equal, MIOU: equal} for name in (F2F, NT, DF)}
    for (name, figure), difference in (changes or {}).items():
        if difference is None:
            del slices[name][figure]
        else:
            slices[name][figure] = difference
    return Comparison(model, slices)


def failed(decision: Decision) -> list[tuple[str, str, str]]:
    return [(check.name, check.slice, check.figure) for check in decision.checks if check.verdict == "failed"]


def check_of(decision: Decision, *wanted: str) -> Any:
    (found,) = (check for check in decision.checks if (check.name, check.slice, check.figure) == wanted)
    return found


@pytest.mark.parametrize(
    ("changes", "expected", "told"),
    [
        pytest.param({}, [], "judged alone", id="above every floor"),
        pytest.param({(F2F, ACCURACY): 0.9, (F2F, MIOU): 0.7}, [], "all 6 checks passed", id="exactly on the floors"),
        pytest.param(
            {(F2F, ACCURACY): 0.8999},
            [("floor", F2F, ACCURACY)],
            "0.8999 is below the limit of 0.9000 frame accuracy",
            id="just below a floor",
        ),
        pytest.param(
            {(F2F, MIOU): 0.69},
            [("floor", F2F, MIOU)],
            "0.6900 is below the limit of 0.7000 mIoU",
            id="localises too badly",
        ),
        pytest.param(
            {(F2F, ACCURACY): 0.1, (NT, ACCURACY): 0.1},
            [("floor", F2F, ACCURACY), ("floor", NT, ACCURACY)],
            "; NeuralTextures/c23: 0.1000 is below",
            id="below two floors",
        ),
        pytest.param(
            {(F2F, MIOU): None},
            [("floor", F2F, MIOU)],
            "mIoU is unknown (no fake of it has a known mask), but 0.7000 is asked for",
            id="masks unknown where a floor asks for them",
        ),
        pytest.param({(NT, MIOU): None}, [], "passed", id="masks unknown where nobody asks"),
        pytest.param(
            {(F2F, ACCURACY): None},
            [("floor", F2F, ACCURACY)],
            "frame accuracy is unknown (not measured)",
            id="accuracy unknown",
        ),
        pytest.param(
            {(NT, "videos"): 9}, [("videos", NT, "videos")], "9 is below the limit of 10 test videos", id="few videos"
        ),
        pytest.param(
            {(DF, "videos"): 9}, [("videos", DF, "videos")], "Deepfakes/c23: 9 is below", id="few identity swaps"
        ),
    ],
)
def test_floors(changes: dict[tuple[str, str], Any], expected: list[tuple[str, str, str]], told: str) -> None:
    decision = decide(metrics(changes), CFG)
    assert failed(decision) == expected
    assert decision.promote == (not expected)
    assert told in decision.summary and decision.champion == ""


@pytest.mark.parametrize(
    ("changes", "name", "told"),
    [
        pytest.param({}, None, "all 10 checks passed", id="equal"),
        pytest.param(
            {F2F: Difference(0.95, 0.97, -0.03, -0.01)}, None, "a loss within the margin of 0.0200", id="at margin"
        ),
        pytest.param(
            {F2F: Difference(0.9499, 0.97, -0.03, -0.01)}, F2F, "and not by chance", id="just beyond, and significant"
        ),
        pytest.param({F2F: Difference(0.9, 0.95, -0.1, 0.001)}, None, "but within noise", id="beyond, within noise"),
        pytest.param({F2F: Difference(0.9, 0.95, -0.1, 0.0)}, None, "but within noise", id="interval ends at 0"),
        pytest.param({F2F: Difference(0.96, 0.95, 0.005, 0.02)}, None, "the champion's 0.9500: no loss", id="better"),
        pytest.param(
            {F2F: Difference(0.99, 0.9, 0.05, 0.12), DF: Difference(0.8, 0.9, -0.12, -0.08)},
            DF,
            "Deepfakes/c23: frame accuracy 0.8000, the champion's 0.9000: a loss beyond the margin of 0.0200",
            id="a gain pays for no drop on identity swaps",
        ),
        pytest.param({NT: Difference(0.8, 0.9, -0.12, -0.08)}, None, "all 10", id="dropped where nobody asks"),
        pytest.param({DF: None}, DF, "cannot be compared with the champion's (not measured)", id="not compared"),
        pytest.param({DF: Difference(0.9, 0.9, math.nan, 0)}, DF, "cannot be compared", id="not a number"),
    ],
)
def test_drops(changes: dict[str, Difference | None], name: str | None, told: str) -> None:
    decision = decide(metrics(), CFG, comparison=against({(n, ACCURACY): d for n, d in changes.items()}))
    assert failed(decision) == ([] if name is None else [("drop", name, ACCURACY)])
    assert told in decision.summary + " ".join(check.reason for check in decision.checks)
    assert "compared with champion old on the same frames" in decision.summary and decision.champion == "old"
    Decision.model_validate_json(decision.model_dump_json())  # also where a value is unknown


def test_a_drop_tells_its_figures() -> None:
    decision = decide(metrics(), CFG, comparison=against({(DF, MIOU): Difference(0.7, 0.8, -0.15, -0.05)}))
    drop = check_of(decision, "drop", DF, MIOU)
    assert (drop.value, drop.limit, drop.interval) == (pytest.approx(-0.1), -0.05, (-0.15, -0.05))
    assert decision.checks[0] == drop, "failed checks come first"


@pytest.mark.parametrize(
    ("comparison", "told"),
    [
        (against({(DF, MIOU): None}), "mIoU cannot be compared with the champion's (no fake of it has a known mask)"),
        (Comparison("old", {F2F: against().slices[F2F]}), "(it was not scored on this slice)"),
    ],
)
def test_a_slice_on_which_the_champion_is_not_known_does_not_pass(comparison: Comparison, told: str) -> None:
    decision = decide(metrics(), CFG, comparison=comparison)
    assert not decision.promote and told in decision.summary


def test_who_it_was_compared_with() -> None:
    service = Service(latency_ms=1, size_mb=1)
    assert "first promotion" in decide(metrics(), CFG, service=service).summary
    assert "judged alone" in decide(metrics(), CFG).summary
    itself = decide(metrics(), CFG, comparison=against(model="new"), service=service)
    assert itself.promote and "compared with itself, as it is the champion" in itself.summary


@pytest.mark.parametrize(
    ("limits", "written", "service", "latency", "size"),
    [
        pytest.param((100, 50), None, None, "pending", "pending", id="not measured yet"),
        pytest.param((100, 50), 50, None, "pending", "passed", id="size is known to evaluate"),
        pytest.param((100, 50), 50.1, None, "pending", "failed", id="too large, seen in DVC"),
        pytest.param((100, 50), 50, Service(100, 50), "passed", "passed", id="at both limits"),
        pytest.param((100, 50), 50, Service(100.1, 50.1), "failed", "failed", id="above both, of the registered model"),
        pytest.param((100, 50), 50, Service(math.nan, 50), "failed", "passed", id="latency is no number"),
        pytest.param((None, None), 50, Service(1e9, 1e9), None, None, id="without limits"),
    ],
)
def test_ceilings(
    limits: tuple[float | None, float | None],
    written: float | None,
    service: Service | None,
    latency: str | None,
    size: str | None,
) -> None:
    cfg = CFG.model_copy(update={"max_latency_ms": limits[0], "max_size_mb": limits[1]})
    measured = {} if written is None else {"size_mb": written}
    decision = decide(metrics(**measured), cfg, service=service)
    verdicts = {check.name: check.verdict for check in decision.checks}
    assert (verdicts.get("latency"), verdicts.get("size")) == (latency, size)
    assert decision.promote == ("failed" not in (latency, size))
    pending = [check.reason for check in decision.checks if check.verdict == "pending"]
    assert all("measured at promotion" in reason for reason in pending)
    if pending and decision.promote:
        assert (
            f"{len(decision.checks) - len(pending)} checks passed, {len(pending)} left to promotion" in decision.summary
        )


@pytest.mark.parametrize(
    ("slices", "told"),
    [
        ({F2F: metrics()["slices"][F2F], DF: {}}, f"asks for the slice '{NT}' .* measured only {DF}, {F2F}"),
        ({F2F: metrics()["slices"][F2F], NT: metrics()["slices"][NT]}, f"asks for the slice '{DF}'"),
        (metrics({(F2F, ACCURACY): math.nan})["slices"], f"no frame_accuracy for the slice '{F2F}'"),
        (metrics()["slices"] | {NT: {ACCURACY: 0.95}}, f"no videos for the slice '{NT}'"),
        (metrics()["slices"] | {F2F: {ACCURACY: 0.95, "videos": 10}}, f"no miou for the slice '{F2F}'"),
    ],
)
def test_what_no_evaluation_wrote_is_an_error(slices: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        decide({"slices": slices, "model": "new"}, CFG)


@pytest.mark.parametrize("value", [0.0, 0.6999, 0.7, 0.7001, 1.0])
def test_floors_agree_with_mlflow(value: float) -> None:
    ours = decide(metrics({(F2F, MIOU): value}), CFG).promote
    thresholds = {f"{F2F}/{MIOU}": MetricThreshold(threshold=0.7, greater_is_better=True)}
    result = EvaluationResult(metrics={f"{F2F}/{MIOU}": value}, artifacts={})
    try:
        mlflow.validate_evaluation_results(thresholds, result)
        theirs = True
    except ModelValidationFailedException:
        theirs = False
    assert ours == theirs


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
    evaluation = write(tmp_path / "evaluation", json.dumps(metrics({(F2F, ACCURACY): 0.5})))
    gate(CFG, evaluation=evaluation, decision=tmp_path / "decision")
    assert capsys.readouterr().out.startswith("Refused")
    decision = json.loads((tmp_path / "decision" / "decision.json").read_text())
    assert (decision["promote"], decision["model"], decision["champion"]) == (False, "new", "")
    assert Gate.model_validate(decision["cfg"]) == CFG
    page = (tmp_path / "decision" / "decision.md").read_text()
    assert page.startswith(f"# Do not promote\n\n- {F2F}: 0.5000 is below the limit of 0.9000 frame accuracy\n")
    assert f"| {F2F} | frame accuracy | 0.5000 | ≥ 0.9000 |  | **failed** |" in page
    (run,) = mlflow.search_runs(search_all_experiments=True, filter_string="tags.stage = 'gate'", output_format="list")
    assert run.data.tags["promote"] == "false"


def test_the_page_names_reasons_first_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    comparison = against({(DF, ACCURACY): Difference(0.8, 0.9, -0.12, -0.08)}, model="<old>")
    cfg = CFG.model_copy(update={"max_latency_ms": 100.0})
    write_decision(tmp_path / "decision", decide(metrics(), cfg, comparison=comparison))
    page = (tmp_path / "decision" / "decision.html").read_text()
    reason = page.index("<li>Deepfakes/c23: frame accuracy 0.8000")
    assert page.index("Do not promote: 1 of 11") < reason < page.index("<table>")
    assert "<td>-0.1000<td>≥ -0.0200 or noise<td>-0.1200 to -0.0800<td" in page
    assert "latency, ms per picture<td>not measured yet<td>≤ 100.0" in page
    assert "&lt;old&gt;" in page and "<old>" not in page


def test_the_summary_names_what_did_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    measured = metrics({(F2F, ACCURACY): 0.5}) | {"slices": {F2F: dict.fromkeys(FIGURES, 0.5) | {"frames": 10}}}
    evaluation = write(tmp_path / "evaluation", json.dumps(measured))
    cfg = CFG.model_copy(update={"max_latency_ms": 100.0})
    write_decision(tmp_path / "decision", decide(metrics({(F2F, ACCURACY): 0.5}), cfg))
    summary(evaluation, tmp_path / "decision")
    said = capsys.readouterr().out
    assert f"  FAILED   {F2F}: 0.5000 is below" in said and "  pending  latency" in said
    assert "reaches the limit" not in said and f"{tmp_path}/decision/decision.html" in said


def test_the_summary_tells_the_final_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a promotion, and with a params file that lies over another one."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    client.create_registered_model("sample")
    decision = {"model.digest": metrics()["model"], "decision": "Promote (no champion yet): all 8 checks passed."}
    version = client.create_model_version("sample", str(tmp_path), tags=decision)
    client.set_registered_model_alias("sample", "champion", version.version)
    (tmp_path / "base.yaml").write_text("promote: {model_name: other, batch_size: 8}\n")
    (tmp_path / "over.yaml").write_text("base: base.yaml\npromote: {model_name: sample}\n")
    slices = {"slices": {F2F: dict.fromkeys(FIGURES, 0.5) | {"frames": 10}}}
    evaluation = write(tmp_path / "evaluation", json.dumps(metrics() | slices))
    write_decision(tmp_path / "decision", decide(metrics(), CFG.model_copy(update={"max_latency_ms": 100.0})))
    summary(evaluation, tmp_path / "decision", tmp_path / "over.yaml")
    said = capsys.readouterr().out
    assert "Promotion: Promote (no champion yet): all 8 checks passed." in said and "pending" not in said
    assert "Registered model: sample version 1, alias champion" in said


def test_who_does_not_localise_fails_where_that_is_asked_for() -> None:
    """Floors and drops of mIoU fail with that reason; against such a champion none is lost."""
    why = {name: {MIOU: NOT_LOCALISED} for name in (F2F, NT, DF)}
    blind = metrics({(name, MIOU): None for name in (F2F, NT, DF)}, localises=False, unknown=why)
    compared = against({(name, MIOU): None for name in (F2F, NT, DF)})
    decision = decide(blind, CFG, comparison=compared)
    assert {figure for *_, figure in failed(decision)} == {MIOU}
    assert {name for name, *_ in failed(decision)} == {"floor", "drop"}
    assert all(NOT_LOCALISED in check.reason for check in decision.checks if check.verdict == "failed")
    alone = CFG.model_copy(update={"floors": {"Face2Face": {"c23": {ACCURACY: 0.9}}}, "max_drop": {ACCURACY: 0.02}})
    assert decide(blind, alone, comparison=compared).promote
    replaced = decide(metrics(localises=True), CFG, comparison=compared._replace(localises=False))
    assert replaced.promote
    assert "as the champion does not localise" in check_of(replaced, "drop", F2F, MIOU).reason
