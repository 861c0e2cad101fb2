"""How much damage in video files is noticed: `python -m benchmarks.spoilt_videos --files 200 [--seed 2]`.

Spoils short drawn videos at random places (single bytes, a stretch, bytes left out, the header) and reads three picked
frames of each as the pipeline does. Per codec and container: how many were refused with a reason, gave unchanged
frames, or gave other ones, which nothing tells. Anything else, a crash above all, ends the run with its traceback.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

from emd_core.video.decode import BrokenVideo, PickedFrames, count_frames, pick_frames
from emd_core.video.rgb import RgbReader
from tests.fakes import tiny

KINDS = {  # suffix, settings of the encoder
    "H.264, MP4": (".mp4", {}),
    "H.264, MP4, index first": (".mp4", {"header_first": True, "pix_fmt": "yuv420p"}),
    "H.264, MP4, a key frame in 4": (".mp4", {"options": {"g": "4"}}),
    "H.264, Matroska": (".mkv", {}),
    "H.264, transport stream": (".ts", {}),
    "H.264, raw": (".h264", {}),
    "MPEG-4 part 2, AVI": (".avi", {"codec": "mpeg4", "pix_fmt": "yuv420p"}),
    "MJPEG, MP4": (".mp4", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "VP9, WebM": (".webm", {"codec": "libvpx-vp9", "pix_fmt": "yuv420p"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", type=int, default=200, help="spoilt files per kind")
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    pictures = [f // 2 + rng.integers(0, 60, f.shape, dtype=np.uint8) for f in tiny.face_frames(16)]
    print(f"{'':30}{'refused':>10}{'unchanged':>11}{'others':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (suffix, settings) in KINDS.items():
            whole = tiny.write_mp4(Path(folder) / f"whole{suffix}", pictures, **settings)  # type: ignore[arg-type]
            expected, data = read(whole), whole.read_bytes()
            spoilt = whole.with_stem("spoilt")
            told: Counter[str] = Counter()
            for _ in tqdm(range(args.files), name, leave=False):
                spoilt.write_bytes(spoil(data, rng))
                try:
                    told["unchanged" if read(spoilt) == expected else "others"] += 1
                except BrokenVideo:
                    told["refused"] += 1
            print(f"{name:30}{told['refused']:10}{told['unchanged']:11}{told['others']:8}", flush=True)


def read(path: Path) -> list[bytes]:
    """The picked frames, as RGB."""
    reader = RgbReader()
    return [reader.whole(frame).tobytes() for frame in PickedFrames(path, pick_frames(count_frames(path), 3))]


def spoil(data: bytes, rng: np.random.Generator) -> bytes:
    spoilt = bytearray(data)
    at = int(rng.integers(len(data)))
    match rng.integers(4):
        case 0:
            for place in rng.integers(len(data), size=rng.integers(1, 20)):
                spoilt[place] = rng.integers(256)
        case 1:
            stop = min(at + int(rng.integers(1, 400)), len(data))
            spoilt[at:stop] = rng.bytes(stop - at)
        case 2:
            del spoilt[at : at + int(rng.integers(1, 200))]
        case _:  # near the start or the end, where headers are
            near = int(rng.integers(min(1500, len(data))))
            spoilt[rng.choice([near, len(data) - 1 - near])] = rng.integers(256)
    return bytes(spoilt)


if __name__ == "__main__":
    main()
