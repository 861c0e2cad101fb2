"""The one place on the disk where a service keeps what it was sent."""

from pathlib import Path

from components.service.folder import private_folder


def test_nobody_else_may_read_it_and_it_goes_at_the_end(tmp_path: Path) -> None:
    with private_folder(tmp_path / "new/work") as folder:
        assert folder.parent == tmp_path / "new/work" and folder.stat().st_mode & 0o777 == 0o700
        (folder / "upload").write_text("secret")
    assert list((tmp_path / "new/work").iterdir()) == []


def test_what_is_left_goes_and_what_is_in_use_or_not_ours_stays(tmp_path: Path) -> None:
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (work / "service-left/some").mkdir(parents=True)
    (work / "service-link").symlink_to(elsewhere)
    (work / "other").mkdir()
    with private_folder(work) as first, private_folder(work) as second:
        assert {p.name for p in work.iterdir()} == {first.name, second.name, "service-link", "other"}
    assert list(elsewhere.iterdir()) == []
