"""Judgements as a detector would make them, by hand: faces that move to the right, with masks at their mouths."""

from collections.abc import Sequence

import cv2
import numpy as np

from emd_core.verdicts.judge import Judgement, Look
from emd_core.verdicts.looking import MASK_SIDE, THUMBNAIL
from emd_core.verdicts.verdict import Answer, Limits, Media, Model, Seen, Software, Stretch, Track, Verdict
from tests.fakes.tiny import Image, draw_face

MODEL = Model(
    name="emd-detector version 3",
    reference="models:/emd-detector@champion",
    digest="0123456789ab",
    network="EMD",
    decision="all 16 checks passed",
    data="fedcba987654",
    originals=6,
    limits=[Limits(asked=0.05, rate=1 / 7, score=0.62), Limits(asked=0.01, rate=1 / 7, score=0.62)],
)
SOFTWARE = Software(emd="0.9.0", commit="718b00d", torch="2.9.1")
JUDGED_AT = "2026-11-28T19:30:00Z"


def look(seen: Seen, marked: bool) -> Look:
    """A thumbnail of a drawn face, its mouth in the mask where it is `marked`."""
    image: Image = np.full((THUMBNAIL, THUMBNAIL, 3), 110, np.uint8)
    draw_face(image, THUMBNAIL // 2, THUMBNAIL // 2, round(THUMBNAIL * 0.75), 0.12 if marked else 0.045)
    mask = np.zeros((MASK_SIDE, MASK_SIDE), np.uint8)
    if marked:
        cv2.ellipse(mask, (MASK_SIDE // 2, 44), (16, 9), 0, 0, 360, 255, -1)
    return Look(seen, cv2.imencode(".jpg", image[..., ::-1])[1].tobytes(), mask)


def track(
    seen: Sequence[Seen],
    answer: Answer = Answer.NOTHING,
    *,
    number: int = 1,
    reasons: Sequence[str] = (),
    stretches: Sequence[tuple[float, float]] = (),
    where: Sequence[str] = (),
) -> Track:
    return Track(
        number=number,
        answer=answer,
        reasons=list(reasons),
        score=max(s.score for s in seen),
        start_s=seen[0].time_s,
        end_s=seen[-1].time_s,
        side=seen[len(seen) // 2].side,
        stretches=[Stretch(start_s=a, end_s=b, score=max(s.score for s in seen)) for a, b in stretches],
        where=list(where),
        mask_share=0.1 if where else None,
        expressions={"happy": 0.8, "neutral": 0.2},
        seen=list(seen),
    )


def judgement(
    tracks: Sequence[Track],
    answer: Answer,
    sentence: str,
    media: Media | None,
    *,
    file: str = "clip.mp4",
    reasons: Sequence[str] = (),
    picture: bytes | None = None,
    model: Model = MODEL,
) -> Judgement:
    verdict = Verdict(
        file=file,
        path=file,
        sha256="ab" * 32,
        bytes=1_234_567,
        status="unreadable" if media is None else "judged",
        answer=answer,
        sentence=sentence,
        reasons=list(reasons),
        score=max((t.score for t in tracks if t.score is not None), default=None),
        media=media,
        tracks=list(tracks),
        model=model,
        software=SOFTWARE,
        judged_at=JUDGED_AT,
    )
    looks = [[look(s, s.score > 0.5 and t.answer is Answer.MANIPULATED) for s in t.seen] for t in tracks]
    return Judgement(verdict, looks, picture)
