"""The marked video shows the source, its sound and its times, and marks the faces where and when they were seen."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from emd_core.pages.overlay_video import LARGEST, write_overlay
from emd_core.verdicts.judge import Judgement
from emd_core.verdicts.verdict import Answer, Media, Seen
from emd_core.video.decode import BrokenVideo, measure, read_frames
from tests.fakes import judgements, tiny
from tests.fakes.tiny import Image

WIDTH, HEIGHT, N, RATE = 640, 480, 20, 25
SIDE = 160  # px, of the face's square
SOUND_HZ = 44100


def frames(n: int = N, height: int = HEIGHT, width: int = WIDTH) -> list[Image]:
    """Colours from left to right that grow lighter, so that turned and swapped frames are told."""
    across = np.linspace(40, 180, width)
    ramp = np.broadcast_to(np.stack([across, 0 * across + 40, 200 - across], axis=-1), (height, width, 3))
    return [(ramp + i).astype(np.uint8) for i in range(n)]


def judged(width: int = WIDTH, height: int = HEIGHT, n: int = N, seconds: float = N / RATE) -> Judgement:
    """A face that moves by 4 px a frame, in every other frame of 0 to 4 and 12 to 14; manipulated in the first ones."""
    seen = [
        Seen(frame=i, time_s=i * seconds / n, x=100 + 4 * i, y=200, side=SIDE, score=0.9, expression=None)
        for i in (0, 2, 4, 12, 14)
    ]
    track = judgements.track(seen, Answer.MANIPULATED, stretches=[(0, 5 * seconds / n)], where=["mouth"])
    media = Media(kind="video", width=width, height=height, frames=n, seconds=seconds, looked_at=n // 2)
    return judgements.judgement([track], Answer.MANIPULATED, "The face looks manipulated (mouth).", media)


def write_with_sound(path: Path, codec: str, rate: int = SOUND_HZ, delay_s: float = 0) -> Path:
    """A video with a tone that begins `delay_s` late."""
    options = {"output_ts_offset": "5"} if path.suffix == ".ts" else {}  # recordings of broadcasts begin anywhere
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream(codec, rate=rate, layout="mono")
        for frame in frames():
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode())
        tone = np.sin(np.arange(int(rate * N / RATE)) * 2 * np.pi * 440 / rate)[None]
        resampler = av.AudioResampler(audio.codec_context.format, "mono", rate, audio.codec_context.frame_size or None)
        whole = av.AudioFrame.from_ndarray(tone.astype(np.float32), "flt", "mono")
        whole.sample_rate, whole.pts = rate, round(delay_s * rate)
        for part in [*resampler.resample(whole), *resampler.resample(None)]:
            container.mux(audio.encode(part))
        container.mux(audio.encode())
    return path


def sound_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def loud_from(path: Path) -> float:
    """When the tone begins, seconds after the first picture."""
    with av.open(str(path)) as container:
        starts = {s.type: float((s.start_time or 0) * (s.time_base or 0)) for s in container.streams}
        for frame in container.decode(audio=0):
            full = np.iinfo(np.int16).max if frame.format.name.startswith("s16") else 1
            loud = np.abs(frame.to_ndarray().astype(float)).reshape(-1) > 0.05 * full
            if loud.any():
                return float(frame.time) + float(loud.argmax()) / frame.sample_rate - starts["video"]
    raise AssertionError("it is silent")


@pytest.mark.parametrize("colours", [(2, 0), (1, 2)], ids=["unnamed", "BT.709 of full range"])
def test_the_faces_are_marked_where_and_when_they_were_seen(tmp_path: Path, colours: tuple[int, int]) -> None:
    source = tiny.write_mp4(tmp_path / "clip.mp4", frames(), crf=10, colours=colours)
    write_overlay(tmp_path / "overlay.mp4", source, judged())
    given, made = (list(read_frames(path, range(N))) for path in (source, tmp_path / "overlay.mp4"))
    assert len(made) == N and not (tmp_path / ".overlay.mp4.partial").exists()
    for i, (before, after) in enumerate(zip(given, made, strict=True)):
        assert after.shape[1] == WIDTH and after.shape[0] % 2 == 0 and after.shape[0] > HEIGHT
        change = np.abs(after[:HEIGHT].astype(int) - before).max(axis=2)
        seen = i <= 4 or 12 <= i <= 14
        near = np.zeros_like(change, bool)
        near[200 - 40 : 200 + SIDE + 10, 100 + 4 * i - 10 : 100 + 4 * i + SIDE + 40] = seen
        assert np.median(change[~near]) < 5 and np.percentile(change[~near], 99.9) < 20  # the rest stays as it is
        x = 100 + 4 * i
        edge = change[200 + SIDE // 2 - 5 : 200 + SIDE // 2 + 5, x : x + 1]
        assert (edge.min() > 40) == seen, f"frame {i}"  # at the left edge of the box, interpolated between looks
        mouth = change[200 + SIDE * 44 // 64, x + SIDE // 2]
        assert (mouth > 15) == (i <= 4), f"frame {i}"  # tinted within the stretch
    places = [int(frame[HEIGHT + 4 : -4].min(axis=(0, 2)).argmax()) for frame in made]  # of the line that is now
    assert places == sorted(places) and places[0] < WIDTH / 4 < 3 * WIDTH / 4 < places[-1]


def test_it_is_what_browsers_play_and_as_long_as_the_source(tmp_path: Path) -> None:
    source = tiny.write_mp4(tmp_path / "clip.mp4", frames(height=481, width=641))
    write_overlay(tmp_path / "overlay.mp4", source, judged(641, 481))
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.codec_context.profile in ("Main", "High")
        assert stream.width % 2 == stream.height % 2 == 0
    data = (tmp_path / "overlay.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert measure(tmp_path / "overlay.mp4").seconds == pytest.approx(measure(source).seconds, abs=0.2 / RATE)


@pytest.mark.parametrize(
    ("name", "codec", "kept"),
    [
        ("clip.mp4", "aac", True),
        ("clip.ts", "aac", True),  # there without the header that an MP4 needs
        ("clip.mkv", "libmp3lame", True),
        ("clip.mov", "pcm_s16le", False),
        ("clip.mkv", "libopus", False),
        ("clip.mkv", "ac3", False),
    ],
)
def test_sound_is_kept_in_time(tmp_path: Path, name: str, codec: str, kept: bool) -> None:
    rate = 48000 if codec == "libopus" else SOUND_HZ
    source = write_with_sound(tmp_path / name, codec, rate, delay_s=0.2)
    write_overlay(tmp_path / "overlay.mp4", source, judged())
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        (sound,) = container.streams.audio
        assert sound.codec_context.codec.canonical_name == ("mp3" if codec == "libmp3lame" else "aac")
    if kept and name != "clip.ts":
        assert sound_packets(tmp_path / "overlay.mp4") == sound_packets(source)
    assert loud_from(tmp_path / "overlay.mp4") == pytest.approx(loud_from(source), abs=0.03)


def test_frames_keep_their_times(tmp_path: Path) -> None:
    times = [0, 40, 80, 300, 310, 320, 500, 900]  # ms
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time, picture in zip(times, frames(len(times)), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    write_overlay(tmp_path / "overlay.mp4", tmp_path / "clip.mkv", judged(n=len(times), seconds=0.94))
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        found = [frame.time for frame in container.decode(video=0)]
    assert found == pytest.approx([time / 1000 for time in times], abs=1e-3)
    lasts = [measure(tmp_path / name).seconds for name in ("clip.mkv", "overlay.mp4")]
    assert lasts[0] == pytest.approx(lasts[1], abs=0.01)


def test_a_turned_video_is_upright_and_a_large_one_is_reduced(tmp_path: Path) -> None:
    source = tiny.write_mp4(tmp_path / "clip.mp4", frames(4, height=1080, width=1920), options={"preset": "ultrafast"})
    turned = tmp_path / "turned.mp4"
    with av.open(str(source)) as given, av.open(str(turned), "w") as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    data = turned.read_bytes()
    one = (0x10000).to_bytes(4)
    matrix = one + bytes(12) + one + bytes(12) + (0x40000000).to_bytes(4)
    quarter = bytes(4) + one + bytes(4) + (-0x10000).to_bytes(4, signed=True) + bytes(16) + (0x40000000).to_bytes(4)
    at = data.index(matrix, data.index(b"tkhd"))
    turned.write_bytes(data[:at] + quarter + data[at + len(matrix) :])
    (given_first,) = read_frames(turned, [0])
    assert given_first.shape == (1920, 1080, 3)
    write_overlay(tmp_path / "overlay.mp4", turned, judged(1080, 1920, n=4, seconds=0.16))
    (first,) = read_frames(tmp_path / "overlay.mp4", [0])
    assert first.shape[1] == LARGEST * 1080 // 1920 and LARGEST < first.shape[0] < 1.2 * LARGEST
    column, expected = first[: LARGEST - 10, 20, 0].astype(int), given_first[:, 30, 0].astype(int)  # red
    assert abs(column[-1] - column[0]) > 100
    assert np.sign(column[-1] - column[0]) == np.sign(expected[-1] - expected[0])


def test_what_breaks_in_the_middle_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    source = tiny.write_mp4(tmp_path / "clip.mp4", frames(), options={"g": "1"})
    data = bytearray(source.read_bytes())
    at = data.index(b"mdat") + 4
    length = int.from_bytes(data[at - 8 : at - 4], "big") - 8
    data[at + length // 2 : at + length] = bytes(length - length // 2)
    source.write_bytes(data)
    write_overlay(tmp_path / "overlay.mp4", source, judged())
    assert N // 3 < measure(tmp_path / "overlay.mp4").frames <= N
    source.write_bytes(b"no video")
    with pytest.raises(BrokenVideo):
        write_overlay(tmp_path / "other.mp4", source, judged())
    assert not list(tmp_path.glob("*other*"))
