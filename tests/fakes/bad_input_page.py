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


# As above, of what lies beside the videos: tests/datasets/test_files_of_people.py, tests/storage/test_broken_files.py.
PICTURE = "… is not a readable image, or it is cut off; restore it, or drop it and its annotation."
COLUMNS = (
    '…: column … is missing or unknown; the first line is "…", but must name some of these, in small letters and with '
    "commas between them: path, label, method, quality, split, target, source, mask_path."
)
LABEL = "…, line 2: label is '…'; it must be 0 (original) or 1 (manipulated), so write 0."
WEB = "… is a web page, such as a site's refusal to a download; download the file itself."
POINTER = "… is a pointer of Git LFS, not the file itself; run `git lfs pull` where it came from."
CONFLICT = "… holds git's conflict markers; resolve the merge."
STATE = (
    "warning: … is …; checkpoint.pt is now checkpoint.pt.broken, and the training goes on from the state before it, or "
    "anew where there is none."
)
FILES = [
    ("a picture of CMYK, of 16 bits, of grey with transparency, turned by EXIF", "used; upright, 8 bits, RGB", ""),
    ("a picture cut off", STOPS, PICTURE),
    ("a picture without bytes", STOPS, "… is empty; copy it again."),
    ("a picture that is a web page", STOPS, WEB),
    ("._name, .DS_Store, Thumbs.db, desktop.ini beside annotations and pictures", "left out", ""),
    (
        "an annotation that is no number",
        STOPS,
        "… is not an annotation, one number in an .npy file (…); restore it, or drop it and its image.",
    ),
    (
        "a table with other separators",
        STOPS,
        "… has no column 'subDirectory_filePath'; restore the table as AffectNet ships it, in UTF-8 with commas "
        "between the cells.",
    ),
    ("a list's names in another Unicode form than the disk's", "used", ""),
    ("a list from Windows (byte-order mark, CRLF), lines of commas, spaces around cells", "used", ""),
    ("a list with backslashes", STOPS, "…, line 2: path is '…'; write '/' between folders: real/b.mp4."),
    ("a list with drives", STOPS, "…, line 2: path is '…'; it must lie below the list's folder, without '..'."),
    ("a list with decimal labels", STOPS, LABEL),
    ("a list with words as labels", STOPS, LABEL),
    ("a list with semicolons", STOPS, COLUMNS),
    ("a list with an index column", STOPS, COLUMNS),
    ("a list with capitals in its first line", STOPS, COLUMNS),
    ("a list in UTF-16", STOPS, "… is not a CSV file in UTF-8 (byte 0 is not UTF-8); save it as one."),
    (
        "a list in Latin-1",
        STOPS,
        "… is not a CSV file in UTF-8 (byte … is not UTF-8); save it as one.",
    ),
    ("a list with conflict markers", STOPS, CONFLICT),
    ("a list that is a folder", STOPS, "… is a folder, where a file must be; name the file, or move the folder away."),
    ("dvc.lock with conflict markers", STOPS, CONFLICT),
    (
        "dvc.lock of another form",
        STOPS,
        "… is not a lock file of DVC with the stages' inputs and outputs (…); resolve its conflicts, restore it from "
        "git, or make it anew (`dvc commit`).",
    ),
    ("a manifest cut off", STOPS, "… is not a readable parquet file (…); make … anew."),
    ("weights within state_dict, model or net, with module. or backbone. before all names", "used", ""),
    ("weights without num_batches_tracked", "used", ""),
    (
        "weights that are a pickled module",
        STOPS,
        "… holds a pickled …, and reading that would run code; in the environment that made it save the weights alone, "
        "`torch.save(model.state_dict(), 'weights.pt')`, where `model` is what `torch.load(file, weights_only=False)` "
        "gives, or what that holds as 'model'.",
    ),
    (
        "weights that are TorchScript",
        STOPS,
        "… is a TorchScript archive; save its weights alone: "
        "`torch.save(torch.jit.load(file).state_dict(), 'weights.pt')`.",
    ),
    ("weights that are a pointer of Git LFS", STOPS, POINTER),
    ("weights that are a web page", STOPS, WEB),
    ("weights cut off", STOPS, "… is cut off; copy it again."),
    ("a state of a training cut off", "put aside; from the one before", STATE),
    (
        "a part of a stage's growing table cut off",
        "the stage goes on from the part before",
        "warning: … is not a part of a table (…); the stage goes on from what was made before it.",
    ),
    (
        "a part of DFDC",
        "a warning; with `ingest.require_splits` the stage stops",
        "warning: no usable video is in val and test, which validate_data and train_emd refuse; of DFDC, the parts 0 "
        "to 34 are train, 35 to 39 val and 40 to 49 test, so add a part of each.",
    ),
    (
        "an output on a disk that is mounted read-only",
        STOPS,
        "… cannot be written, as … is read-only for whoever runs …",
    ),
    ("an output below a file", STOPS, "… cannot be written, as … is no folder; name another place, or move it away."),
    ("an output that is a file", STOPS, "… is a file, where a folder is to be written; name another place, or move …"),
    (
        "an output that is a mount point",
        STOPS,
        "… is a mount point, which cannot be replaced; name a folder within it.",
    ),
]


def sentence_of(kind: str) -> str:
    return next(sentence for name, _, sentence in [*PLACES, *FILES] if name == kind)


HEAD = """# Bad and odd input

Every line was tried: `tests/fakes/bad_videos.py` spoils one file of a pair, `tests/video/test_bad_videos.py` and
`tests/storage/test_bad_places.py` run the stages from `ingest` to `generate_masks` and assert what stands here. All
kinds but those of the last two tables are in one run, and the rows, crops and masks of every other video in it are
those of a run without them; a fake of a bad original is the exception, as it is cut by its own box. The last table is
that of `tests/datasets/test_files_of_people.py` and `tests/storage/test_broken_files.py`.

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
    lines += ["\n## Files beside the videos\n", "| kind | what happens | what it says |", "|---|---|---|"]
    lines += [f"| {name} | {gives} | {sentence} |" for name, gives, sentence in FILES]
    return "\n".join(lines) + "\n" + TAIL


if __name__ == "__main__":
    print(page(), end="")
