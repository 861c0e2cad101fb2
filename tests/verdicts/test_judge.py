"""From a file to a verdict: everybody's faces, over time, in whatever file."""

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emd_core.detection.profile import fit_profile
from emd_core.faces.mtcnn import MtcnnDetector
from emd_core.models.checkpoint import save_detector
from emd_core.models.detector import Detector
from emd_core.models.multitask import MultiTask, MultiTaskConfig
from emd_core.models.rule import Limit, VerdictRule
from emd_core.pages.overlay_video import write_overlay
from emd_core.pages.verdict import write_report
from emd_core.verdicts.judge import Judge
from emd_core.verdicts.looking import Looking, Network
from emd_core.verdicts.verdict import Answer, Model, Software
from tests.fakes import tiny

SIZE = 64
LIMIT = Limit(asked=0.05, rate=0.05, log_odds=1.0)
LOOKING = Looking(frames=8, every_s=0.5, min_face=20, detect_side=320, threshold=0.9, scale=1.3, max_faces=5, batch=4)
MODEL = Model(
    name="tiny", reference="tiny", digest="0" * 12, network="", decision="", data="", originals=None, limits=[]
)
SOFTWARE = Software(emd="", commit="", torch="")
GREEN = (40, 200, 40)


class Greenish(Detector):
    """Takes a face for manipulated where it is green, and marks the green pixels."""

    def __init__(self) -> None:
        super().__init__(MultiTaskConfig(kind="multitask", size=SIZE, expression=False))
        self.weight = nn.Parameter(torch.ones(()))

    def detect(self, image_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, Tensor]:
        green = (image_B3SS[:, 1] - image_B3SS[:, 0] > 0.3).float()
        logit = torch.where(green.mean(dim=(1, 2)) > 0.02, 5.0, -5.0) * self.weight
        return torch.stack([-logit / 2, logit / 2], dim=1), (green[:, None] - 0.5) * 20


def scene(*faces: tuple[int, bool], width: int = 320, height: int = 160, grey: int = 110) -> tiny.Image:
    """Faces at these x, each with a green mouth or not."""
    frame = np.full((height, width, 3), grey, np.uint8)
    for x, green in faces:
        tiny.draw_face(frame, x, 80, height=100)
        if green:
            cv2.ellipse(frame, (x, 106), (18, 10), 0, 0, 360, GREEN, -1)
    return np.asarray(cv2.GaussianBlur(frame, (0, 0), 0.8), np.uint8)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    crops = [scene((160 + x, green))[15:145, 95 + x : 225 + x] for green in (True, False) for x in range(-20, 20)]
    features = MtcnnDetector(0.9, "cpu").features(crops, LOOKING.scale)
    few = [features[i : i + 4] for i in range(0, 80, 4)]
    profile = fit_profile(features, np.full(80, 60.0), np.full(80, 1.0), few)
    profile = profile.model_copy(update={"limits": {1: 3.5, 4: 3.5}})  # of so few and so equal crops
    rule = VerdictRule(temperature=1, originals=19, window=4, limits={1: [LIMIT], 4: [LIMIT]}, profile=profile)
    save_detector(path, MultiTask(MultiTaskConfig(kind="multitask", size=SIZE, expression=False), None), None, rule)
    found = Judge(path, LOOKING, MODEL, SOFTWARE, precision="fp32")
    found.network = Network(Greenish(), "fp32")
    return found


def video(path: Path, frames: list[tiny.Image]) -> Path:
    return tiny.write_mp4(path, frames, pix_fmt="yuv420p", crf=12)


def test_of_two_people_the_manipulated_one_is_named(judge: Judge, tmp_path: Path) -> None:
    frames = [scene((80 + i // 4, False), (240, True)) for i in range(24)]
    verdict, looks, _ = judge(video(tmp_path / "a.mp4", frames))
    assert verdict.answer is Answer.MANIPULATED and len(verdict.tracks) == 2
    found = {track.answer: track for track in verdict.tracks}
    assert found[Answer.MANIPULATED].seen[0].x > 160 > found[Answer.NOTHING].seen[0].x
    assert found[Answer.MANIPULATED].where == ["mouth"]
    assert f"Face {found[Answer.MANIPULATED].number} of 2" in verdict.sentence
    assert [len(its) for its in looks] == [len(track.seen) for track in verdict.tracks] == [8, 8]


class Blind(Greenish):
    """The same, but it does not say where."""

    localises = False

    def detect(self, image_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, None]:
        return super().detect(image_B3SS, expression_BChw)[0], None


def test_a_network_that_does_not_localise_says_who_and_when_but_not_where(judge: Judge, tmp_path: Path) -> None:
    blind = copy.copy(judge)
    blind.network = Network(Blind(), "fp32")
    blind.model = judge.model.model_copy(update={"localises": False})
    made = blind(video(tmp_path / "a.mp4", [scene((160, True))] * 24))
    (track,) = made.verdict.tracks
    assert track.answer is Answer.MANIPULATED and track.stretches
    assert (track.where, track.mask_share) == ([], None)
    assert {look.mask for look in made.looks[0]} == {None}
    write_overlay(tmp_path / "overlay.mp4", tmp_path / "a.mp4", made)
    write_report(tmp_path / "report.html", made, "overlay.mp4")
    page = (tmp_path / "report.html").read_text()
    assert "This model does not say which pixels." in page
    assert "Where" not in page and "Outlined" not in page and "outlined" not in page


def test_after_a_cut_there_is_another_face(judge: Judge, tmp_path: Path) -> None:
    frames = [scene((160, False))] * 24 + [scene((160, True), grey=30)] * 24
    verdict, *_ = judge(video(tmp_path / "a.mp4", frames))
    assert len(verdict.tracks) == 2
    assert sorted((t.start_s < 0.9, t.end_s < 1.0) for t in verdict.tracks) == [(False, False), (True, True)]


def test_a_part_of_a_video_is_found_where_it_is(judge: Judge, tmp_path: Path) -> None:
    frames = [scene((160, 50 <= i < 90)) for i in range(125)]
    judge.looking = LOOKING.model_copy(update={"every_s": 0.2})
    verdict, *_ = judge(video(tmp_path / "a.mp4", frames))
    judge.looking = LOOKING
    (track,) = verdict.tracks
    (stretch,) = track.stretches
    assert abs(stretch.start_s - 2.0) < 0.35 and abs(stretch.end_s - 3.6) < 0.35
    assert verdict.media is not None and verdict.media.looked_at == 25 and verdict.media.seconds == pytest.approx(5)


def test_a_picture_is_one_look(judge: Judge, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), cv2.cvtColor(scene((160, True)), cv2.COLOR_RGB2BGR))
    verdict, *_ = judge(tmp_path / "a.png", "of/somebody.png")
    assert (verdict.file, verdict.path, verdict.answer) == ("somebody.png", "of/somebody.png", Answer.MANIPULATED)
    assert verdict.media is not None and verdict.media.kind == "picture"


def test_a_file_without_a_face_cannot_be_judged(judge: Judge, tmp_path: Path) -> None:
    verdict, *_ = judge(video(tmp_path / "a.mp4", tiny.flat_frames(10)))
    assert (verdict.answer, verdict.reasons, verdict.tracks) == (Answer.UNKNOWN, ["No face was found."], [])


def test_faces_unlike_the_training_data_are_told(judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge.rule is not None
    profile = judge.rule.profile.model_copy(update={"limits": {1: 0.1, 4: 0.1}})
    monkeypatch.setattr(judge, "rule", judge.rule.model_copy(update={"profile": profile}))
    verdict, *_ = judge(video(tmp_path / "a.mp4", [scene((160, False))] * 12))
    assert verdict.answer is Answer.UNKNOWN and "unlike the faces that the model was trained on" in verdict.sentence


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"no video at all", "no readable video"),
        (b"\x89PNG\r\n\x1a\n broken", "no whole PNG or JPEG picture"),
        (None, "No such file"),
    ],
)
def test_what_cannot_be_read_is_a_verdict_with_its_reason(
    judge: Judge, tmp_path: Path, content: bytes | None, says: str
) -> None:
    path = tmp_path / "bad.mp4"
    if content is not None:
        path.write_bytes(content)
    verdict, looks, _ = judge(path)
    assert (verdict.status, verdict.answer, looks) == ("unreadable", Answer.UNKNOWN, [])
    assert says in verdict.sentence and verdict.bytes == len(content or b"")


def test_progress_goes_up_to_one(judge: Judge, tmp_path: Path) -> None:
    told: list[float] = []
    judge(video(tmp_path / "a.mp4", [scene((160, False))] * 40), progress=told.append)
    assert told == [i / 8 for i in range(1, 9)]
