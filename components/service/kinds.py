"""What an upload is, by its first bytes. A container that is not named here never reaches a decoder."""

from typing import NamedTuple

FIRST = 512  # bytes that tell


class Kind(NamedTuple):
    suffix: str  # of the file that it is written to
    picture: bool


SIGNATURES = (  # bytes, the place where they stand
    (b"\x89PNG\r\n\x1a\n", 0, Kind(".png", True)),
    (b"\xff\xd8\xff", 0, Kind(".jpg", True)),
    *((name, 4, Kind(".mp4", False)) for name in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp")),
    (b"\x1a\x45\xdf\xa3", 0, Kind(".mkv", False)),  # and WebM
    (b"AVI ", 8, Kind(".avi", False)),
    (b"FLV\x01", 0, Kind(".flv", False)),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0, Kind(".wmv", False)),
    (b"OggS", 0, Kind(".ogv", False)),
    (b"\x00\x00\x01\xba", 0, Kind(".mpg", False)),
    (b"\x00\x00\x01\xb3", 0, Kind(".mpg", False)),
)
KNOWN = "a PNG or JPEG picture, or a video (MP4, MOV, MKV, WebM, AVI, MPEG, TS, FLV, WMV, OGV)"


def kind_of(first: bytes) -> Kind | None:
    """By the first FIRST bytes of a file, or all if it has fewer; None: neither a picture nor a video."""
    for signature, place, kind in SIGNATURES:
        if first[place : place + len(signature)] == signature:
            return kind
    for start, step in ((0, 188), (4, 192)):  # packets of a transport stream each begin with G
        if first[start::step][:2] == b"GG":
            return Kind(".ts", False)
    return None
