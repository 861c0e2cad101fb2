"""`python -m tests.fakes.bad_input_page > docs/bad-input.md`: what bad and odd input gives."""

from tests.fakes.bad_videos import SECTIONS

STOPS = "the stage stops"
OUTSIDE = "…: path is '…'; it must be relative and without '..', so that it stays in its folder: mend what names it."
# Kind, what happens, sentence: each has a test of its own in tests/storage/test_bad_places.py.
PLACES = [
    ("a dataset of links, as DVC's symlink cache makes it; a root that is a link", "used; links are followed", ""),
    ("a frame of 7680 x 4320 px", "used", ""),
    ("a video that may not be read", "`unreadable`, no crop", "no readable video (Permission denied)"),
    (
        "a folder that may not be read",
        STOPS,
        "… cannot be listed (Permission denied); whoever runs this must be able to read the data set.",
    ),
    ("'..' in a split file", STOPS, OUTSIDE),
    ("'..' in videos.csv", STOPS, "…, line 2: path is '…'; it must lie below the list's folder, without '..'."),
    ("'..' or an absolute path in a manifest", STOPS, OUTSIDE.replace("path", "…", 1)),
    ("a name of 300 letters", "`missing`, no crop", "… is not there"),
    (
        "more bad videos than max_bad_share",
        STOPS,
        "3 of 4 videos (75.0%) are unusable, but ingest.max_bad_share allows 50.0% (…); mend or remove them, or raise "
        "the limit.",
    ),
    (
        "disk full",
        f"{STOPS}; started again with more space, it goes on",
        "the disk is full…; free some space and start again, nothing is lost.",
    ),
]


def sentence_of(place: str) -> str:
    return next(sentence for name, _, sentence in PLACES if name == place)


HEAD = """# Bad and odd input

Every line was tried: `tests/fakes/bad_videos.py` spoils one file of a pair, `tests/video/test_bad_videos.py` and
`tests/storage/test_bad_places.py` run the stages from `ingest` to `generate_masks` and assert what stands here. All
kinds but those of the last table are in one run, and the rows, crops and masks of every other video in it are those of
a run without them; a fake of a bad original is the exception, as it is cut by its own box.

A video that cannot be used is a row with a status and a reason, from the stage named on; where more are than the
stage's `max_bad_share`, the stage stops (exit code 2) and its output stays as it was. `…` stands for what differs from
case to case.

Paths in split files, lists and manifests stay below the dataset's root: `..` and absolute paths are refused, wherever
they would lead. Symbolic links are followed, also out of the root: whoever may lay a link there may read what it points
to, and datasets that DVC links from its cache or that lie on several disks consist of them.
"""
TAIL = """
## What is not noticed

- Damage that the decoder does not notice, as most codecs carry no checksum. Of 1,200 H.264 files that were spoilt at
  random places 680 were refused, 401 gave the same frames and 119 other ones; of 200 in VP9, 162 gave other ones
  (`python -m benchmarks.spoilt_videos`).
- A frame that an editor left out, and a file that another whole video replaced: nothing in a file tells. DVC notices
  both, as it knows the files' sums.
- Pixels that are not square, interlaced fields and mirrored pictures are used as they are stored.
"""


def page() -> str:
    """docs/bad-input.md."""
    lines = [HEAD]
    for section, kinds in SECTIONS.items():
        lines += [f"## {section}\n", "| kind | what happens | where the reason stands |", "|---|---|---|"]
        lines += [f"| {kind.name} | {kind.gives} | {kind.told} |" for kind in kinds] + [""]
    lines += ["## Places\n", "| kind | what happens | what it says |", "|---|---|---|"]
    lines += [f"| {name} | {gives} | {sentence} |" for name, gives, sentence in PLACES]
    return "\n".join(lines) + "\n" + TAIL


if __name__ == "__main__":
    print(page(), end="")
