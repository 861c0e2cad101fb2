"""A video's sound for an MP4: copied where browsers and phones play it, else encoded anew as AAC."""

from collections.abc import Iterator
from fractions import Fraction

import av

PLAYED = {"aac", "mp3"}  # within an MP4, by every browser
RATES = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}  # Hz, of AAC
OTHER_RATE = 48000
AAC_SAMPLES = 1024  # per frame of AAC


class Sound:
    """The sound stream of one file on its way into another one, `origin` seconds earlier."""

    def __init__(self, given: av.AudioStream, made: av.container.OutputContainer, origin: Fraction) -> None:
        codec = given.codec_context
        self._given, self._origin = given, origin
        self._resampler: av.AudioResampler | None = None
        self._out: av.AudioStream
        if codec.codec.canonical_name in PLAYED:
            self._out = made.add_stream_from_template(given)
        else:
            rate = codec.sample_rate if codec.sample_rate in RATES else OTHER_RATE
            layout = "mono" if codec.channels == 1 else "stereo"
            self._out = made.add_stream("aac", rate=rate, layout=layout)
            self._resampler = av.AudioResampler("fltp", layout, rate, AAC_SAMPLES)

    def packets(self, packet: av.Packet) -> Iterator[av.Packet]:
        """What to write for a packet of the given stream; an empty one ends it. What is damaged is left out."""
        if self._resampler is not None:
            yield from self._encoded(packet, self._resampler)
        elif packet.size and packet.dts is not None and packet.pts is not None and not packet.is_corrupt:
            early = round(self._origin / packet.time_base)
            packet.pts, packet.dts = packet.pts - early, packet.dts - early
            packet.stream = self._out
            yield packet

    def _encoded(self, packet: av.Packet, resampler: av.AudioResampler) -> Iterator[av.Packet]:
        try:
            frames = self._given.decode(packet)
        except av.FFmpegError:
            frames = []
        for frame in frames:
            if frame.pts is not None and frame.time_base:
                frame.pts -= round(self._origin / frame.time_base)
            for part in resampler.resample(frame):
                yield from self._out.encode(part)
        if not packet.size:
            for part in resampler.resample(None):
                yield from self._out.encode(part)
            yield from self._out.encode(None)
