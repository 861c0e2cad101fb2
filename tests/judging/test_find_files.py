"""Which files a folder means."""

from pathlib import Path

from components.judging.files import MADE_BY, find_files


def test_what_detect_wrote_within_the_folder_is_not_judged(tmp_path: Path) -> None:
    for name in ("clip.mp4", "deep/er/photo.PNG", "notes.txt", ".hidden.mp4", "verdicts/1/3/clip-0/overlay.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "verdicts/1/3" / MADE_BY).touch()
    assert sorted(name for _, name in find_files([tmp_path], None)) == ["clip.mp4", "deep/er/photo.PNG"]
