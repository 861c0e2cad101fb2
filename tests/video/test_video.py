"""Picked frames are a full decode's to the last bit, and broken videos say what is wrong with them."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from emd_core.video.decode import (
    BrokenVideo,
    PickedFrames,
    _about,
    _decode_stretches,
    count_frames,
    decode,
    frame_times,
    pick_frames,
    read_frames,
)
from emd_core.video.rgb import RgbReader
from tests.fakes import tiny


@pytest.mark.parametrize(
    ("n_frames", "n", "picked"),
    [
        (10, 1, [5]),
        (10, 2, [2, 7]),
        (9, 3, [1, 4, 7]),
        (3, 3, [0, 1, 2]),
        (2, 5, [0, 1]),
        (0, 5, []),
    ],
)
def test_frames_are_picked_from_the_middle_of_equal_parts(n_frames: int, n: int, picked: list[int]) -> None:
    assert pick_frames(n_frames, n) == picked


@pytest.mark.parametrize("n_frames", [7, 31, 300])
def test_picks_are_evenly_spread(n_frames: int) -> None:
    steps = np.diff(pick_frames(n_frames, 7))
    assert steps.min() >= 1 and steps.max() - steps.min() <= 1


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("not a video " * 100)


def cut_before_index(path: Path) -> None:
    tiny.cut_off(tiny.write_mp4(path, tiny.face_frames(12)))


def cut_after_index(path: Path) -> None:
    tiny.cut_off(tiny.write_mp4(path, tiny.face_frames(12), header_first=True))


def sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (empty, "the file is empty"),
        (text, "no readable video"),
        (cut_before_index, "no readable video"),
        (cut_after_index, "cut off in frame .* of 12"),
        (sound_only, "no video stream"),
    ],
)
def test_broken_videos_say_why(tmp_path: Path, spoil: Callable[[Path], None], says: str) -> None:
    spoil(tmp_path / "broken.mp4")
    with pytest.raises(BrokenVideo, match=says):
        count_frames(tmp_path / "broken.mp4")


def test_wanted_frames_are_those_of_a_full_pass(tmp_path: Path) -> None:
    path = tiny.write_mp4(tmp_path / "a.mp4", tiny.face_frames(9))
    assert count_frames(path) == 9
    every = list(read_frames(path, range(9)))
    some = list(read_frames(path, [1, 4, 8]))
    assert [np.array_equal(a, every[i]) for a, i in zip(some, (1, 4, 8), strict=True)] == [True] * 3
    assert not np.array_equal(every[1], every[4])
    assert list(read_frames(path, [])) == []


def test_a_frame_past_the_end_is_an_error(tmp_path: Path) -> None:
    path = tiny.write_mp4(tmp_path / "a.mp4", tiny.face_frames(5))
    with pytest.raises(BrokenVideo, match="ends after 5 frames, frame 7 was wanted"):
        list(read_frames(path, [2, 7]))


KINDS = {  # x264 options, pixel format
    "as FaceForensics++": ({"g": "250"}, "yuv444p"),
    "short stretches": ({"g": "7"}, "yuv420p"),
    "no B-frames": ({"g": "9", "bf": "0"}, "yuv420p"),
    "a pyramid of B-frames": ({"g": "20", "bf": "5", "b-pyramid": "normal", "b_strategy": "0"}, "yuv444p"),
    "open stretches": ({"g": "8", "bf": "3", "b_strategy": "0", "x264-params": "open-gop=1"}, "yuv420p"),
    "refreshed bit by bit": ({"g": "8", "intra-refresh": "1"}, "yuv420p"),
    "interlaced": ({"g": "12", "flags": "+ildct+ilme"}, "yuv420p"),
}


def noisy_frames(n: int) -> list[tiny.Image]:
    """Frames whose every block changes, so that a frame decoded from a wrong reference shows it."""
    rng = np.random.default_rng(0)
    return [f // 2 + rng.integers(0, 60, f.shape, dtype=np.uint8) for f in tiny.face_frames(n)]


def planes(frame: av.VideoFrame) -> bytes:
    return bytes(frame.to_ndarray().data)


@pytest.mark.parametrize(("options", "pix_fmt"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("wanted", [[0], [39], [3, 17, 18, 33], list(range(1, 40, 4))], ids=str)
def test_picked_frames_are_those_of_a_full_decode(
    tmp_path: Path, options: dict[str, str], pix_fmt: str, wanted: list[int]
) -> None:
    path = tiny.write_mp4(tmp_path / "a.mp4", noisy_frames(40), pix_fmt=pix_fmt, options=options)
    with av.open(str(path)) as container:
        every = [planes(frame) for frame in container.decode(video=0)]
    assert len(every) == 40
    assert [planes(frame) for frame in decode(path, wanted)] == [every[i] for i in wanted]


def test_no_more_than_needed_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny.write_mp4(tmp_path / "a.mp4", noisy_frames(60), options={"g": "20", "bf": "3", "b_strategy": "0"})
    monkeypatch.setattr("emd_core.video.decode._decode_all", lambda *_: pytest.fail("the short way was left"))
    with av.open(str(path)) as container:
        decoder = container.streams.video[0].codec_context
        packets = [p for p in container.demux(video=0) if p.size]
        about = [_about(packet, decoder) for packet in packets]
        times = frame_times([a.pts for a in about], decoder)
        assert len(times) == 60
        sent: list[int] = []

        class Counting:
            """The decoder, which notes what it was sent."""

            skip_frame = "DEFAULT"
            extradata, flush_buffers = decoder.extradata, decoder.flush_buffers

            def decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
                sent.append(packets.index(packet)) if packet else None
                return decoder.decode(packet)

        frames = list(_decode_stretches(Counting(), packets, about, {times[25]}))  # type: ignore[arg-type]
    assert [frame.pts for frame in frames] == [times[25]]
    assert packets[sent[0]].is_keyframe and sent[0] > 0 and len(sent) <= 10


def test_times_that_the_container_makes_up_are_not_believed(tmp_path: Path) -> None:
    """An AVI has no times; FFmpeg numbers its packets in the order of decoding."""
    path = tiny.write_mp4(tmp_path / "a.avi", noisy_frames(16), options={"bf": "3", "b_strategy": "0"})
    with av.open(str(path)) as container:
        every = [planes(frame) for frame in container.decode(video=0)]
    assert [[planes(frame) for frame in decode(path, [i])] for i in range(16)] == [[frame] for frame in every]


def test_frames_lost_at_the_start_do_not_shift_the_others(tmp_path: Path) -> None:
    whole = tiny.write_mp4(tmp_path / "whole.mp4", noisy_frames(12), options={"g": "4", "bf": "0", "sc_threshold": "0"})
    with av.open(str(whole)) as source, av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in [packet for packet in source.demux(video=0) if packet.size][2:]:
            packet.stream = stream
            container.mux(packet)
    picked = [planes(frame) for frame in decode(tmp_path / "a.mkv", [2, 7])]
    assert picked == [planes(frame) for frame in decode(whole, [4, 9])]
    with pytest.raises(BrokenVideo, match="frame 1 is damaged or what it refers to is missing"):
        list(decode(tmp_path / "a.mkv", [1, 7]))


def test_damage_in_a_frame_that_a_picked_one_refers_to_is_told(tmp_path: Path) -> None:
    path = tiny.write_mp4(tmp_path / "a.mp4", noisy_frames(16), options={"g": "8", "bf": "0", "sc_threshold": "0"})
    with av.open(str(path)) as container:
        hit = [packet for packet in container.demux(video=0) if packet.size][10]
        assert hit.pos is not None
    data = bytearray(path.read_bytes())
    data[hit.pos + 20 : hit.pos + hit.size] = bytes(hit.size - 20)
    path.write_bytes(data)
    assert len(list(decode(path, [2, 9]))) == 2  # nothing refers to it
    with pytest.raises(BrokenVideo, match="damaged in a picked frame or in one that it refers to"):
        list(decode(path, [2, 13]))


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg", "libx265", "libvpx-vp9"])
def test_other_codecs_are_decoded_in_full(tmp_path: Path, codec: str) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = tiny.write_mp4(tmp_path / "a.mkv", noisy_frames(12), codec=codec, pix_fmt=pix_fmt)
    with av.open(str(path)) as container:
        every = [planes(frame) for frame in container.decode(video=0)]
    assert [planes(frame) for frame in decode(path, [2, 11])] == [every[2], every[11]]


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuvj420p", "yuv422p", "gray", "yuv420p10le"])
@pytest.mark.parametrize("colours", [(2, 0), (1, 1), (5, 2)], ids=["untagged", "bt709", "bt601-full"])
@pytest.mark.parametrize("width", [tiny.WIDTH, 121], ids=["even", "odd"])
def test_a_part_is_the_part_of_the_whole(tmp_path: Path, pix_fmt: str, colours: tuple[int, int], width: int) -> None:
    rng = np.random.default_rng(0)
    frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (96, width, 3), dtype=np.uint8), format="rgb24")
    frame = frame.reformat(format=pix_fmt)
    frame.colorspace, frame.color_range = colours
    reader = RgbReader()
    whole = reader.whole(frame)
    corners = [(0, 0), (width - 40, 96 - 40), (13, 7), (width - 41, 55)]
    for (x, y), side in zip([*corners, (3, 3)], [40, 40, 40, 40, 17], strict=True):
        part = reader.part(frame, x, y, side, room=40)
        assert part.shape == (side, side, 3) and np.array_equal(part, whole[y : y + side, x : x + side])
    assert np.array_equal(reader.part(frame, 0, 0, 96, room=96), whole[:96, :96])


def test_frames_that_do_not_fit_into_memory_are_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny.write_mp4(tmp_path / "a.mp4", tiny.face_frames(9))
    held, again = PickedFrames(path, [1, 4]), None
    monkeypatch.setattr("emd_core.video.decode.HELD_BYTES", 30_000)  # one frame
    again = PickedFrames(path, [1, 4])
    assert held.size == again.size == (tiny.WIDTH, tiny.HEIGHT)
    for _ in range(2):
        assert [planes(f) for f in again] == [planes(f) for f in held] and len(list(held)) == 2
    path.unlink()
    assert len(list(held)) == 2
    with pytest.raises(BrokenVideo):
        list(again)
