"""The strip below a marked video: the scores of its faces over time, and where in it one is."""

import cv2
import numpy as np
from numpy.typing import NDArray

from emd_core.pages.looks import runs
from emd_core.pages.marks import COLOURS, Picture, label, paste
from emd_core.verdicts.verdict import Answer, Media, Track, Verdict

GROUND, FAINT, BRIGHT = (24, 24, 24), (110, 110, 110), (255, 255, 255)
SHADE = 0.35  # share of the colour where a face is manipulated
SHIFT = 4  # bits of a pixel's fraction in which lines are drawn


class Timeline:
    """Pictures of `width` x `height` px; left is the start of the video, right its end; below is score 0, above 1."""

    def __init__(self, verdict: Verdict, media: Media, width: int, height: int) -> None:
        self._seconds = max(media.seconds, 1e-3)
        self._size, self._gap = max(10, height // 6), height // 5
        above, below, limit = (label(words, self._size, GROUND) for words in ("score 1", "0", "limit"))
        self._left, self._right = above.shape[1], width - limit.shape[1]
        self._still = np.full((height, width, 3), GROUND, np.uint8)
        tracks = sorted(verdict.tracks, key=lambda track: track.answer is Answer.MANIPULATED)  # these drawn last
        for track in tracks:
            self._shade(track)
        words = [(above, 0, 1.0), (below, self._left - below.shape[1], 0.0)]
        if verdict.model.limits:
            strictest = verdict.model.limits[-1].score
            self._line([(0, strictest), (self._seconds, strictest)], FAINT)
            words.append((limit, self._right, strictest))
        for track in tracks:
            for run in runs(track.seen, media):
                self._line([(track.seen[i].time_s, track.seen[i].score) for i in run], COLOURS[track.answer])
        for tile, x, score in words:
            paste(self._still, tile, x, round(self._y(score) - len(tile) / 2))

    def at(self, time_s: float) -> Picture:
        image = self._still.copy()
        x = round(self._x(time_s))
        cv2.line(image, (x, 0), (x, len(image)), BRIGHT, max(1, image.shape[1] // 640))
        tile = label(f"{time_s:.1f} s", self._size, GROUND)
        paste(image, tile, x + 4 if x < image.shape[1] * 0.8 else x - 4 - tile.shape[1], 0)
        return image

    def _x(self, time_s: float) -> float:
        return self._left + min(time_s / self._seconds, 1.0) * (self._right - self._left)

    def _y(self, score: float) -> float:
        return len(self._still) - self._gap / 2 - score * (len(self._still) - self._gap)

    def _shade(self, track: Track) -> None:
        for stretch in track.stretches:
            part = self._still[:, round(self._x(stretch.start_s)) : round(self._x(stretch.end_s)) + 1]
            part[:] = (1 - SHADE) * np.array(GROUND) + SHADE * np.array(COLOURS[track.answer])

    def _line(self, points: list[tuple[float, float]], colour: tuple[int, int, int]) -> None:
        """Through points of time and score; a single one is a dot."""
        places: NDArray[np.int32] = np.array([(self._x(t), self._y(s)) for t, s in points]) * 2**SHIFT
        places = places.round().astype(np.int32)
        cv2.polylines(self._still, [places], False, colour, max(1, len(self._still) // 40), cv2.LINE_AA, SHIFT)
        if len(places) == 1:
            cv2.circle(self._still, places[0].tolist(), 2 * 2**SHIFT, colour, -1, cv2.LINE_AA, SHIFT)
