"""A mistake of the user gives one sentence on stderr and exit code 2, whatever the stage."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.extract_frames import extract_frames
from components.ingest import ingest
from tests.fakes import tiny
from tests.house.contract import ROOT

PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def refused(result: subprocess.CompletedProcess[str], sentence: str) -> None:
    """Exit 2, and the last line of stderr is the sentence, without a traceback."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert sentence in last


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("treshold", 10, "generate_masks.treshold is not a known key; did you mean 'threshold'?"),
        ("threshold", "low", "generate_masks.threshold = 'low' is refused"),
        ("threshold", 10.5, "generate_masks.threshold = 10.5 is refused"),
        ("threshold", 300, "generate_masks.threshold = 300 is refused (Input should be less than or equal to 254)"),
        (
            "source",
            "haar",
            "generate_masks.source = 'haar' is refused (Input should be 'video', 'difference' or 'none')",
        ),
    ],
)
def test_params(tmp_path: Path, key: str, value: Any, sentence: str) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(PARAMS | {"generate_masks": PARAMS["generate_masks"] | {key: value}}))
    folders = [f"--dataset={tmp_path}", f"--faces={tmp_path}", f"--masks={tmp_path}/masks"]
    result = run("components", "generate_masks", f"--params={params}", *folders)
    refused(result, sentence)
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--params none.yaml --dataset .", "none.yaml does not exist"),
        ("--params README.md --dataset .", "README.md is not valid YAML"),
        ("--section {oops --dataset .", "--section is not valid JSON"),
        ("--dataset no/such/folder", "--dataset no/such/folder does not exist"),
        ("--dataset tests", "has not the FaceForensics++ layout"),
    ],
    ids=["no params file", "no YAML", "no JSON", "no dataset", "no layout"],
)
def test_ingest(tmp_path: Path, arguments: str, sentence: str) -> None:
    refused(run("components", "ingest", *arguments.split(), "--videos", str(tmp_path / "videos")), sentence)
    assert list(tmp_path.iterdir()) == []


def test_a_section_may_come_inline_with_kubeflows_numbers(tmp_path: Path) -> None:
    """Kubeflow hands every number over as a float: 3.0 is 3 again, 2.5 frames are refused."""
    tiny_root = tmp_path / "ffpp"
    tiny.write_tree(tiny_root)
    section = tiny.INGEST.model_dump_json()
    ingest = ["components", "ingest", "--section", section, "--dataset", str(tiny_root)]
    assert run(*ingest, "--videos", str(tmp_path / "videos")).returncode == 0
    frames = {"train": 3.0, "val": 1.0, "test": 1.0, "max_bad_share": 1.0, "workers": 1.0, "shard": "1/1"}
    extract = [f"--dataset={tiny_root}", f"--videos={tmp_path}/videos", f"--frames={tmp_path}/frames"]
    result = run("components", "extract_frames", *extract, "--section", json.dumps(frames))
    assert result.returncode == 0, result.stderr
    result = run(
        "components", "extract_frames", *extract, "--section", json.dumps(frames), "--set", "extract_frames.shard=9/9"
    )
    refused(result, "extract_frames.shard is 9/9, but there are 2 groups")
    result = run("components", "extract_frames", *extract, "--section", json.dumps(frames | {"train": 2.5}))
    refused(result, "extract_frames.train = 2.5 is refused")


def test_missing_weights(tmp_path: Path) -> None:
    section = json.dumps(PARAMS["crop_faces"] | {"detector": "retinaface", "weights": "none.pth"})
    tiny_root = tmp_path / "ffpp"
    tiny.write_tree(tiny_root)
    ports = {"dataset": tiny_root, "videos": tmp_path / "videos", "frames": tmp_path / "frames"}
    ingest(tiny.INGEST, dataset=ports["dataset"], videos=ports["videos"])
    extract_frames(tiny.EXTRACT, **ports)
    result = run(
        "components",
        "crop_faces",
        f"--section={section}",
        *(f"--{p}={ports[p]}" for p in ("dataset", "frames")),
        f"--faces={tmp_path}/f",
    )
    refused(result, "crop_faces.weights: none.pth does not exist")


def test_a_gate_without_test_videos_of_a_slice(tmp_path: Path) -> None:
    metrics = {"model": "m", "slices": {"Face2Face/c23": {"frame_accuracy": 0.99, "miou": 0.9, "videos": 20}}}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    result = run("components", "gate", f"--evaluation={tmp_path}", f"--decision={tmp_path}/decision")
    refused(result, "the gate asks for the slice 'Face2Face/c40' (gate.floors, gate.no_drop), but the evaluation")


def test_summary_before_the_first_run(tmp_path: Path) -> None:
    refused(
        run("pipelines", "summary", f"--evaluation={tmp_path}"),
        "metrics.json does not exist; run the pipeline (`make demo`)",
    )


def test_help_names_every_stage_and_every_port() -> None:
    assert "extract_frames" in run("components", "--help").stdout
    text = run("components", "extract_frames", "--help").stdout
    assert all(option in text for option in ("--videos", "--frames", "--params", "--section"))


@pytest.mark.skipif(shutil.which("unshare") is None or shutil.which("mount") is None, reason="needs unshare and mount")
def test_a_full_disk(tmp_path: Path) -> None:
    """A full file system: one sentence, and the place of the output stays empty."""
    tiny_root = tmp_path / "ffpp"
    tiny.write_tree(tiny_root)
    (tmp_path / "small").mkdir()
    section = tiny.INGEST.model_dump_json()
    stage = f"'{sys.executable}' -m components ingest --section '{section}' --dataset {tiny_root} --videos small/videos"
    small = f"cd {tmp_path} && mount -t tmpfs -o size=64k none small && cat /dev/zero > small/filler 2> /dev/null"
    script = f"{small}; PYTHONPATH={ROOT} {stage}; code=$?; ls small; exit $code"
    result = subprocess.run(["unshare", "-rm", "bash", "-c", script], capture_output=True, text=True, check=False)
    if "Operation not permitted" in result.stderr or "permission denied" in result.stderr:
        pytest.skip("this machine lets no one mount a file system")
    refused(result, "the disk is full")
    assert result.stdout.split() == ["filler"]
