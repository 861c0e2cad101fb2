"""Files waiting, worked on and judged: bounded in number and time, and gone when they are deleted."""

from pathlib import Path

import pytest

from components.service.jobs import STOPPING, VERDICT, Job, Jobs, Status, Upload


class Idle:
    progress = 0.5


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path, max_waiting=3, max_results=2, keep_s=60)


def uploaded(jobs: Jobs) -> Job:
    job = jobs.reserve()
    assert job is not None
    job.upload = Upload(job.folder / "upload.mp4", "a.mp4", job.folder / "result")
    job.upload.path.write_bytes(b"video")
    assert jobs.submit(job)
    return job


def judged(jobs: Jobs) -> Job:
    uploaded(jobs)
    job = jobs.take(Idle(), 0)
    assert job is not None and job.upload is not None
    job.upload.out.mkdir()
    (job.upload.out / VERDICT).write_text("{}")
    jobs.end(job)
    return job


def test_files_that_are_uploading_or_waiting_have_so_many_places(jobs: Jobs) -> None:
    receiving = jobs.reserve()
    assert receiving is not None
    for _ in range(2):
        uploaded(jobs)
    assert jobs.reserve() is None
    assert jobs.take(Idle(), 0)  # is worked on and no longer waits
    assert jobs.reserve() and jobs.reserve() is None
    jobs.give_up(receiving)
    assert jobs.reserve() and not receiving.folder.exists()


def test_the_first_come_is_the_first_served(jobs: Jobs) -> None:
    first, second = uploaded(jobs), uploaded(jobs)
    assert (jobs.take(Idle(), 0), jobs.take(Idle(), 0), jobs.take(Idle(), 0)) == (first, second, None)
    assert (first.status, first.progress) == (Status.WORKING, 0.5)


def test_what_was_uploaded_goes_as_soon_as_it_is_judged(jobs: Jobs) -> None:
    job = judged(jobs)
    assert (job.status, job.progress, job.ended.done()) == (Status.DONE, 1.0, True)
    assert [p.name for p in job.folder.iterdir()] == ["result"]


def test_a_file_that_failed_is_gone_and_has_a_reason(jobs: Jobs) -> None:
    uploaded(jobs)
    job = jobs.take(Idle(), 0)
    assert job
    jobs.end(job, "It crashed.")
    assert (job.status, job.reason, list(job.folder.iterdir())) == (Status.FAILED, "It crashed.", [])


def test_old_results_go(jobs: Jobs) -> None:
    job, young = judged(jobs), judged(jobs)
    job.ended_at -= 61
    jobs.sweep()
    assert (jobs.get(job.id), jobs.get(young.id)) == (None, young)
    assert not job.folder.exists() and young.folder.exists()


def test_of_too_many_results_the_oldest_go(jobs: Jobs) -> None:
    first, *others = [judged(jobs) for _ in range(3)]
    jobs.sweep()
    assert [jobs.get(job.id) for job in (first, *others)] == [None, *others]


def test_a_file_that_is_deleted_while_it_waits_is_not_judged(jobs: Jobs) -> None:
    job = uploaded(jobs)
    jobs.remove(job)
    assert (jobs.get(job.id), jobs.take(Idle(), 0), job.folder.exists(), job.ended.done()) == (None, None, False, True)


def test_a_file_that_is_deleted_while_it_is_worked_on_goes_when_that_ends(jobs: Jobs) -> None:
    uploaded(jobs)
    job = jobs.take(Idle(), 0)
    assert job
    jobs.remove(job)
    assert jobs.get(job.id) is None and job.folder.exists()
    jobs.end(job)
    assert not job.folder.exists() and jobs.counts["kept"] == 0


def test_what_waits_is_handed_back_and_what_is_worked_on_goes_on(jobs: Jobs) -> None:
    uploaded(jobs)
    working, waiting, receiving = jobs.take(Idle(), 0), uploaded(jobs), jobs.reserve()
    assert working and receiving
    jobs.hand_back()
    assert (waiting.status, waiting.reason, waiting.handed_back) == (Status.FAILED, STOPPING, True)
    assert working.status is Status.WORKING
    assert (jobs.reserve(), jobs.submit(receiving), jobs.take(Idle(), 0)) == (None, False, None)
