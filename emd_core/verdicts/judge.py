"""Judges files, one after another, with one model."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from emd_core.detection.profile import distance_over_limit
from emd_core.detection.tracks import limits_for, log_odds
from emd_core.faces.boxes import face_tracks, most_face
from emd_core.faces.mtcnn import MtcnnDetector
from emd_core.models.build import network_name
from emd_core.models.checkpoint import load_detector, load_rule
from emd_core.models.parts.esr import EXPRESSIONS
from emd_core.models.parts.precision import Precision, pick_device
from emd_core.storage.pictures import decode as decode_picture
from emd_core.verdicts.deciding import Figures, decide, overall, sentence
from emd_core.verdicts.looking import Face, Frame, Looking, Network, look
from emd_core.verdicts.regions import in_words, share_of_parts
from emd_core.verdicts.verdict import Answer, Limits, Media, Model, Seen, Software, Stretch, Track, Verdict
from emd_core.video.decode import BrokenVideo, Clip, decode, measure, pick_frames

PICTURES = (b"\x89PNG", b"\xff\xd8")  # how PNG and JPEG files begin
BLOCK = 1 << 20  # bytes read at once
MASK_ON = 128  # of 255
PREVIEW = 1280  # px, longer side of the whole of a picture, for the report


class Look(NamedTuple):
    """A face in one frame, as a report shows it."""

    seen: Seen
    picture: bytes  # JPEG of the square that was judged, looking.THUMBNAIL px
    # looking.MASK_SIDE px, of the same square; probability that a pixel is manipulated, 255 = 1; None: not localised
    mask: NDArray[np.uint8] | None


class Judgement(NamedTuple):
    """A verdict with the pictures that stand behind it."""

    verdict: Verdict
    looks: list[list[Look]]  # per track, in the order of verdict.tracks; each in order of time, as track.seen
    picture: bytes | None = None  # of a picture: all of it upright, JPEG, its longer side at most 1280 px


class Judge:
    """One model, ready to judge files.

    Args:
        checkpoint: of the detector; what was fitted for verdicts is part of it.
        looking: how densely, and for which faces.
        model: what is known of it, for the verdicts; its network, and what was fitted, are filled in here.
        software: what judges.
        precision: number format in which the model was judged.
        faces: file of the face detector's weights; None: those of the installed package.
    """

    def __init__(
        self,
        checkpoint: Path,
        looking: Looking,
        model: Model,
        software: Software,
        *,
        precision: Precision,
        faces: Path | None = None,
    ) -> None:
        device = pick_device()
        # channels_last: a fifth of the time on a CPU.
        self.network = Network(load_detector(checkpoint).to(device).to(memory_format=torch.channels_last), precision)
        self.rule, self.looking, self.software = load_rule(checkpoint), looking, software
        self.faces = MtcnnDetector(looking.threshold, str(device), weights=faces)
        network = self.network.detector
        self.model = model.model_copy(update={"network": network_name(network.config), "localises": network.localises})

    def _about_model(self, kind: Literal["picture", "video"]) -> Model:
        """The model with the limits that hold for a file of this kind."""
        if self.rule is None:
            return self.model
        looks = 1 if kind == "picture" else self.rule.window
        given, found = limits_for(self.rule, looks), self.rule.found.get(looks, {})
        limits = [Limits(asked=x.asked, rate=x.rate, score=float(expit(x.log_odds))) for x in given]
        return self.model.model_copy(update={"originals": self.rule.originals, "limits": limits, "found": found})

    def __call__(self, path: Path, name: str = "", progress: Callable[[float], None] = lambda share: None) -> Judgement:
        """The verdict on a video or a picture (PNG, JPEG); one that cannot be read has status "unreadable".

        Args:
            name: by which the verdict names the file; "": its own.
            progress: told which share of the frames is done.
        """
        try:
            media, frames = self._look(path, progress)
        except (BrokenVideo, OSError) as broken:
            reason = broken.strerror or "" if isinstance(broken, OSError) else str(broken)
            return Judgement(unreadable(path, name, self.model, self.software, reason), [])
        tracks, looks, sums = self._tracks(frames, media.kind)
        answer, reasons, score = overall(tracks, sums)
        about = about_file(path, name) | {"model": self._about_model(media.kind), "software": self.software}
        about |= {"answer": answer, "sentence": sentence(answer, tracks, reasons), "reasons": reasons, "score": score}
        verdict = Verdict(**about, status="judged", media=media, tracks=tracks, judged_at=now())
        return Judgement(verdict, looks, preview(path) if media.kind == "picture" else None)

    def _look(self, path: Path, progress: Callable[[float], None]) -> tuple[Media, list[Frame]]:
        with path.open("rb") as file:
            is_picture = file.read(4).startswith(PICTURES)
        frames: list[Frame] = []
        sizes: list[tuple[int, int]] = []

        def source() -> Iterator[tuple[int, float, av.VideoFrame]]:
            for number, frame in zip(picked, decoded, strict=True):
                sizes.append((frame.width, frame.height))
                yield number, clip.time_s(number, frame.pts), frame

        kind: Literal["picture", "video"]
        if is_picture:
            image = decode_picture(path.read_bytes())
            if image is None:
                raise BrokenVideo("it is no whole PNG or JPEG picture, or larger than 50 megapixels")
            kind, clip = "picture", Clip(1, 0, 0.0, 0.0)
            picked, decoded = [0], iter([av.VideoFrame.from_ndarray(image, format="rgb24")])
        else:
            kind, clip = "video", measure(path)
            picked = pick_frames(clip.frames, self.looking.number_of_frames(clip))
            decoded = decode(path, picked)
        for frame in look(source(), self.faces, self.network, self.looking):
            frames.append(frame)
            progress(len(frames) / len(picked))
        width, height = sizes[0]
        media = Media(
            kind=kind, width=width, height=height, frames=clip.frames, seconds=clip.seconds, looked_at=len(frames)
        )
        return media, frames

    def _tracks(
        self, frames: list[Frame], kind: Literal["picture", "video"]
    ) -> tuple[list[Track], list[list[Look]], list[float]]:
        """The faces over time with their answers, what a report shows of them, and how much of each is seen."""
        boxes = face_tracks([[face.box for face in frame.faces] for frame in frames], [f.shot for f in frames])
        boxes.sort(key=most_face, reverse=True)
        tracks, looks = [], []
        for number, track in enumerate(boxes, 1):
            shown = [(frames[i], next(f for f in frames[i].faces if f.box == box)) for i, box in sorted(track.items())]
            judged, its = self._track(number, shown, picture=kind == "picture")
            tracks.append(judged)
            looks.append(its)
        return tracks, looks, [most_face(track) for track in boxes]

    def _track(self, number: int, shown: list[tuple[Frame, Face]], *, picture: bool) -> tuple[Track, list[Look]]:
        temperature = self.rule.temperature if self.rule else 1.0
        odds = log_odds(np.array([face.score for _, face in shown]), temperature)
        features = np.stack([face.features for _, face in shown])
        side = float(np.median([face.square.side for _, face in shown]))
        figures = Figures(
            log_odds=odds,
            times=np.array([frame.time_s for frame, _ in shown]),
            side=side,
            sharpness=float(np.median([face.sharpness for _, face in shown])),
            far=distance_over_limit(self.rule.profile, features) if self.rule else 0.0,
        )
        decision = decide(figures, self.rule, picture=picture)
        looks = [
            Look(
                Seen(
                    frame=frame.number,
                    time_s=frame.time_s,
                    **face.square._asdict(),
                    score=float(expit(value)),
                    expression=None if face.expression is None else EXPRESSIONS[face.expression],
                ),
                face.picture,
                face.mask,
            )
            for (frame, face), value in zip(shown, odds, strict=True)
        ]
        meant = [face for frame, face in shown if within(frame.time_s, decision.stretches)]
        found = decision.answer is Answer.MANIPULATED and self.model.localises
        where, mask_share = place(meant) if found else ([], None)
        seen = [look.seen for look in looks]
        return Track(
            number=number,
            answer=decision.answer,
            reasons=decision.reasons,
            score=decision.score,
            start_s=seen[0].time_s,
            end_s=seen[-1].time_s,
            side=round(side),
            stretches=decision.stretches,
            where=where,
            mask_share=mask_share,
            expressions=shares([one.expression for one in seen]),
            seen=seen,
        ), looks


def preview(path: Path) -> bytes | None:
    """A picture upright as JPEG, its longer side at most PREVIEW px."""
    image = decode_picture(path.read_bytes())
    if image is None:
        return None
    share = min(1.0, PREVIEW / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1].tobytes()


def within(time_s: float, stretches: list[Stretch]) -> bool:
    return any(stretch.start_s <= time_s <= stretch.end_s for stretch in stretches)


def place(faces: list[Face]) -> tuple[list[str], float]:
    """Where the masks of faces lie, in words, and their mean share of the square."""
    masks = [(face.mask >= MASK_ON, face.landmarks) for face in faces if face.mask is not None]
    covered = [share_of_parts(mask, landmarks) for mask, landmarks in masks]
    mean = {part: float(np.mean([shares[part] for shares in covered])) for part in covered[0]}
    return in_words(mean), float(np.mean([mask.mean() for mask, _ in masks]))


def shares(expressions: list[str | None]) -> dict[str, float]:
    """How often each expression was recognised, the most frequent first."""
    known = [name for name in expressions if name]
    counted = {name: known.count(name) / len(known) for name in dict.fromkeys(known)}
    return dict(sorted(counted.items(), key=lambda item: -item[1]))


def unreadable(path: Path, name: str, model: Model, software: Software, reason: str) -> Verdict:
    """The verdict on a file of which nothing can be seen."""
    said = f"The file cannot be read: {reason}."
    about = about_file(path, name) | {"model": model, "software": software, "judged_at": now()}
    about |= {"answer": Answer.UNKNOWN, "sentence": f"Cannot say. {said}", "reasons": [said], "score": None}
    return Verdict(**about, status="unreadable", media=None, tracks=[])


def about_file(path: Path, name: str) -> dict[str, Any]:
    """Name, size in bytes and SHA-256 of a file; of one that cannot be opened no bytes are known."""
    size, digest = 0, hashlib.sha256()
    with suppress(OSError), path.open("rb") as file:
        while block := file.read(BLOCK):
            size += len(block)
            digest.update(block)
    # A name that is no text in UTF-8 cannot be written.
    shown = (name or path.name).encode(errors="surrogateescape").decode(errors="replace")
    return {"file": Path(shown).name, "path": shown, "sha256": digest.hexdigest(), "bytes": size}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
