"""Kinds of bad and odd videos, and what each gives."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from tests.fakes import spoil, tiny
from tests.fakes.spoil import Pictures, Spoil, encoded, showing

PICKED = tiny.EXTRACT.train  # frames of a healthy video that are used
MP4, FASTER = Fraction(1, 25), {"preset": "ultrafast"}
OPEN = {"g": "6", "bf": "2", "b_strategy": "0", "x264-params": "open-gop=1:scenecut=0"}
GONE = "the file cannot be opened (No such file or directory)"
INVALID = "no readable video (Invalid data found when processing input)"
DAMAGED = "it is damaged in a picked frame or in one that it refers to"


@dataclass(frozen=True)
class Kind:
    """What is done to one file of a pair, and what its rows say then; `…` in a reason stands for anything."""

    name: str
    spoil: Spoil
    of: Literal["original", "fake", "mask"] = "original"
    crops: int = PICKED
    status: str = ""  # of the rows without a crop (or mask)
    stage: str = ""  # the first whose table says so
    reason: str = ""
    note: str = ""
    target: str = ""  # the video's id, where it matters
    after: str = ""  # the stage after which the file is spoilt; before all if empty

    @property
    def gives(self) -> str:
        unit = "mask" if self.of == "mask" else "crop"
        if self.status:
            return f"`{self.status}`" + (f", but for {self.crops} {unit}s" if self.crops else f", no {unit}")
        frames = "" if self.crops == PICKED else f", {self.crops} {unit}{'s' if self.crops > 1 else ''}"
        return f"used{frames}" + (f"; {self.note}" if self.note else "")

    @property
    def told(self) -> str:
        return f"`{self.stage}`: {self.reason}" if self.stage else ""


def broken(name: str, how: Spoil, stage: str, reason: str, **more: Any) -> Kind:
    """The video gives a row without a crop."""
    return Kind(name, how, crops=0, status="unreadable", stage=stage, reason=reason, **more)


def missing(name: str, how: Spoil) -> Kind:
    return Kind(name, how, crops=0, status="missing", stage="ingest", reason="… is not there")


def faceless(name: str, how: Spoil, **more: Any) -> Kind:
    return Kind(name, how, crops=0, status="no_face", stage="crop_faces", reason="no face found in this frame", **more)


def maskless(name: str, how: Spoil, reason: str, crops: int = 0) -> Kind:
    return Kind(name, how, "mask", crops=crops, status="no_mask", stage="generate_masks", reason=reason)


def first(n: int) -> Spoil:
    return showing(lambda pictures: pictures[:n])


def two_faces(pictures: Pictures) -> Pictures:
    wide = [np.concatenate([image, np.full_like(image, 110)], axis=1) for image in pictures]
    for image in wide:
        tiny.draw_face(image, 190, 50, 36)
    return wide


def one_face(x: int, height: int) -> Spoil:
    def draw(pictures: Pictures) -> Pictures:
        drawn = [np.full_like(image, 110) for image in pictures]
        for i, image in enumerate(drawn):
            tiny.draw_face(image, x + i, 48, height)
        return drawn

    return showing(draw)


larger = showing(lambda pictures: [spoil.enlarged(image, 160, 120) for image in pictures])
SECTIONS = {
    "No video, or not a whole one": [
        broken("empty file", spoil.holding(b""), "ingest", "the file is empty"),
        broken("a text", spoil.holding(b"not a video " * 99), "ingest", INVALID),
        broken("a list of files (ffconcat)", spoil.list_of_files, "ingest", "it is a list of other files, no video"),
        broken("a playlist (HLS)", spoil.holding(b"#EXTM3U\n#EXTINF:1,\na.mp4\n"), "ingest", INVALID),
        broken("sound only", spoil.sound_only, "ingest", "the file has no video stream"),
        broken("a header without frames", spoil.without_frames, "ingest", "the file has no video stream"),
        broken("unknown codec", spoil.with_bytes(b"avc1", b"zzzz"), "ingest", "its codec is unknown"),
        broken("cut off, index at the end", spoil.cut_before_index, "ingest", INVALID),
        broken("cut off, index first", spoil.cut_after_index, "extract_frames", "the file is cut off in frame … of 8"),
        broken("garbage in a frame", spoil.scribble(0.5, 0.6), "crop_faces", DAMAGED),
        broken("garbage at the end", spoil.scribble(0.9, 1), "crop_faces", DAMAGED, of="fake"),
        broken(
            "no key frame at the start",
            spoil.without_packets(range(2), options={"g": "4", "bf": "0"}),
            "crop_faces",
            "frame 1 is damaged or what it refers to is missing",
        ),
        broken(
            "cut within an open group",
            spoil.without_packets(range(4), ".mkv", options=OPEN),
            "crop_faces",
            "frame 0 is damaged or what it refers to is missing",
        ),
        broken("size changes in mid-stream", spoil.changing_size, "crop_faces", "its frame size changes from … to …"),
        Kind("a picture, renamed", spoil.picture, crops=1, note="a video of one frame"),
        Kind("zeros after its end", spoil.longer),
        Kind(
            "a frame left out",
            spoil.without_packets(range(5, 6), options={"bf": "0"}),
            note="not noticed",
        ),
    ],
    "Odd but sound": [
        Kind("AVI, named .mp4", encoded(".avi")),
        Kind("Matroska, named .mp4", encoded(".mkv")),
        Kind("1 frame", first(1), crops=1),
        Kind(
            "2 frames, the fake of a longer original", first(2), "fake", crops=2, note="the original keeps its frames"
        ),
        Kind(
            "variable frame rate",
            spoil.at_times([0, 1, 5, 6, 20, 21, 22, 50], MP4),
            note="frames are counted, not timed",
        ),
        Kind("times before 0 (edit list)", spoil.at_times(range(-2, 9), MP4, avoid_negative_ts="disabled")),
        Kind("equal times", spoil.at_times(range(0, 40, 5), Fraction(1, 10000), ".mkv")),
        Kind("no times (raw H.264)", encoded(".h264")),
        Kind("turned by 90° in the header", spoil.turned(90), note="upright"),
        Kind("turned by 180° in the header", spoil.turned(180), note="upright"),
        Kind("turned by 270° in the header", spoil.turned(270), note="upright"),
        Kind("a thumbnail stream before the video's", spoil.with_second_stream, note="the larger stream"),
        Kind("a title in Latin-1", spoil.titled),
        Kind("odd width and height", showing(lambda pictures: [image[:95, :127] for image in pictures])),
        Kind("10 bits", encoded(pix_fmt="yuv420p10le"), note="as 8 bits"),
        Kind("grey", encoded(pix_fmt="gray")),
        Kind("4:2:2", encoded(pix_fmt="yuv422p")),
        Kind("4:1:1", encoded(".mkv", codec="ffv1", pix_fmt="yuv411p")),
        Kind("4:1:0", encoded(".mkv", codec="ffv1", pix_fmt="yuv410p")),
        Kind("RGB", encoded(codec="libx264rgb", pix_fmt="rgb24")),
        Kind("alpha", encoded(".mkv", codec="ffv1", pix_fmt="bgra"), note="without it"),
        Kind(
            "alpha at 10 bits (ProRes)", encoded(".mov", codec="prores_ks", pix_fmt="yuva444p10le"), note="without it"
        ),
        Kind(
            "interlaced", encoded(options={"flags": "+ildct+ilme"}, pix_fmt="yuv420p"), note="fields stay interleaved"
        ),
        Kind("open groups of pictures", encoded(options=OPEN)),
        Kind("intra refresh", encoded(options={"g": "4", "intra-refresh": "1"}, pix_fmt="yuv420p")),
        Kind("HEVC", encoded(codec="libx265", options={"x265-params": "log-level=none"})),
        Kind("VP9", encoded(".webm", codec="libvpx-vp9", pix_fmt="yuv420p")),
        Kind("AV1", encoded(codec="libsvtav1", pix_fmt="yuv420p")),
        Kind("MPEG-4 part 2", encoded(".avi", codec="mpeg4", pix_fmt="yuv420p")),
        Kind("MJPEG", encoded(codec="mjpeg", pix_fmt="yuvj420p")),
        Kind("an original of another size than its fakes", larger, note="each is searched itself"),
    ],
    "Faces": [
        faceless(
            "16 x 16 px", showing(lambda pictures: [image[40:56, 40:56] for image in pictures], pix_fmt="yuv420p")
        ),
        faceless("black", showing(lambda pictures: tiny.flat_frames(8, 0))),
        faceless("a face below crop_faces.min_face", one_face(64, 18)),
        Kind("two faces", showing(two_faces), note="the larger one, in all frames"),
        Kind("a face at the border", one_face(22, 60), note="the square is moved into the frame"),
    ],
    "Masks": [
        maskless("no mask video", spoil.gone, "the dataset has no mask video for it"),
        maskless("mask video cut off", spoil.cut_before_index, "its mask video is broken: …"),
        maskless("mask video of another size", larger, "its mask video has another frame size (160 x 120)"),
        maskless("black mask video", showing(lambda _: tiny.flat_frames(8, 0)), "its mask is empty inside the crop"),
        maskless("mask video shorter", first(5), "its mask video is broken: it ends after 5 frames, …", crops=2),
    ],
    "Files": [
        Kind("letters beyond ASCII, spaces, quotes", spoil.untouched, target="Zoë ' \" 顔 %d:#?"),
        Kind("a name of 120 letters", spoil.untouched, target="n" * 120),
        Kind("a link to a file outside", spoil.cached, note="links are followed"),
        missing("a folder", spoil.folder),
        missing("a named pipe", spoil.pipe),
        missing("a link to nothing", spoil.link_to("no-such")),
        missing("a link to itself", spoil.link_to_itself),
        broken("gone after ingest", spoil.gone, "extract_frames", GONE, after="ingest"),
        broken("gone after extract_frames", spoil.gone, "crop_faces", GONE, after="extract_frames"),
        broken(
            "shorter after extract_frames",
            first(5),
            "crop_faces",
            "it ends after 5 frames, frame 6 was wanted",
            after="extract_frames",
        ),
    ],
}
KINDS = [kind for section in SECTIONS.values() for kind in section]


def matches(text: str, expected: str) -> bool:
    return re.fullmatch(re.escape(expected).replace("…", ".*"), text, re.DOTALL) is not None
