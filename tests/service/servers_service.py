"""A service that is told to end, is killed, or whose model changes, in the middle of work (about a minute)."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests

from components.service.jobs import STOPPING
from emd_core.models.checkpoint import save_detector
from emd_core.models.multitask import MultiTask, MultiTaskConfig
from emd_core.models.parts.checkpoint import CHECKPOINT
from tests.fakes import tiny
from tests.fakes.service import Running, picture, running, video, wait_for


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_is_worked_on_and_hands_back_what_waits(tmp_path: Path, how: signal.Signals) -> None:
    with running(tmp_path) as service, ThreadPoolExecutor() as threads:
        working = [service.started("sleep 4") for _ in range(2)]
        video_waiting = service.post(video()).json()["id"]
        picture_waiting = threads.submit(service.post, picture())
        wait_for(lambda: service.metric('emd_files{state="waiting"}') == 2)
        service.process.send_signal(how)
        handed_back = service.until(video_waiting, "failed")
        assert handed_back["reason"] == STOPPING
        answer = picture_waiting.result()
        assert (answer.status_code, answer.json()) == (503, {"detail": STOPPING})
        answer = service.post(picture())
        assert (answer.status_code, answer.json()) == (503, {"detail": STOPPING})
        assert (service.get("/readyz").status_code, service.get("/healthz").status_code) == (503, 200)
        assert [service.until(i, "done")["verdict"]["answer"] for i in working] == ["nothing found"] * 2
        assert service.process.wait(timeout=10) == 0
        assert list(service.work.glob("*")) == []


def test_an_upload_that_is_under_way_is_told_at_once(tmp_path: Path) -> None:
    with running(tmp_path, stall_s=20, upload_s=20) as service:
        host, port = service.url.removeprefix("http://").split(":")
        with closing(socket.create_connection((host, int(port)), timeout=10)) as upload:
            upload.sendall(b"POST /v1/verdicts HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + picture())
            wait_for(lambda: service.metric('emd_files{state="receiving"}') == 1)
            identity = service.started("sleep 3")
            service.process.terminate()
            wait_for(lambda: service.get("/readyz").status_code == 503)
            upload.sendall(b"x")
            assert upload.recv(1000).startswith(b"HTTP/1.1 503")
        service.until(identity, "done")
        assert service.process.wait(timeout=10) == 0


def test_after_the_grace_what_is_still_worked_on_fails(tmp_path: Path) -> None:
    with running(tmp_path, grace_s=1) as service:
        identity = service.started("sleep 15")
        service.process.terminate()
        start = time.monotonic()
        assert service.until(identity, "failed")["reason"] == STOPPING
        assert service.process.wait(timeout=10) == 0
        assert 0.8 < time.monotonic() - start < 10


def test_who_does_not_ask_for_the_result_does_not_hold_it_up_for_long(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.started("sleep 1")
        service.process.terminate()
        assert service.process.wait(timeout=15) == 0


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        service.started("sleep 15")
        service.process.terminate()
        wait_for(lambda: service.get("/readyz").status_code == 503)
        service.process.terminate()
        assert service.process.wait(timeout=5) == 0
        assert list(service.work.glob("*")) == []


def test_what_a_killed_service_left_goes_at_the_next_start_and_no_process_stays(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with running(tmp_path / "service") as killed, running(tmp_path / "service2") as other:
        killed.post(video(f"say-pid {pid}"))
        worker = int(wait_for(lambda: pid.exists() and pid.read_text()))
        killed.process.kill()
        killed.process.wait()
        assert any("upload.mp4" in file for file in killed.files())
        os.kill(worker, signal.SIGKILL)  # at work; one that is idle ends by itself
        with running(tmp_path / "service") as again:
            assert again.files() == []
            assert len(list(again.work.iterdir())) == 1
            with running(tmp_path / "service") as beside:  # the folder of one that lives stays
                assert len(list(beside.work.iterdir())) == 2
        assert other.post(picture()).status_code == 200


@pytest.fixture(scope="class")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("service")) as client:
        yield client


def version(service: Running) -> str:
    said: str = service.post(picture()).json()["verdict"]["model"]["name"]
    return said


class TestTheAliasMoves:
    def test_in_the_middle_of_work(self, service: Running) -> None:
        """Every file that is under way is judged, by the old model or the new; then all by the new one."""
        begun = service.started("sleep 3")
        statuses = []
        service.alias.write_text("second")
        end = time.monotonic() + 30
        while time.monotonic() < end and service.state(begun)["status"] == "working":
            statuses.append(service.post(picture()).status_code)
        assert set(statuses) == {200} and len(statuses) > 5
        assert service.until(begun, "done")["verdict"]["model"]["name"] == "first"
        wait_for(lambda: {version(service) for _ in range(4)} == {"second"})
        assert service.metric('emd_model_info{name="second"}') == 1
        assert service.metric("emd_workers_died_total") == 0

    def test_while_the_registry_is_away_the_model_stays_and_one_line_says_so(self, service: Running) -> None:
        now = version(service)
        service.alias.rename(service.alias.with_suffix(".away"))
        wait_for(lambda: "does not answer" in service.log.read_text())
        time.sleep(1)
        assert service.log.read_text().count("does not answer") == 1
        assert version(service) == now and service.get("/readyz").status_code == 200
        service.alias.with_suffix(".away").rename(service.alias)

    def test_a_model_that_cannot_be_loaded_leaves_the_one_before(self, service: Running) -> None:
        now = version(service)
        service.alias.write_text("broken")
        wait_for(lambda: "the model broken cannot be loaded" in service.log.read_text())
        assert {version(service) for _ in range(4)} == {now}
        service.alias.write_text("third")
        wait_for(lambda: {version(service) for _ in range(4)} == {"third"})


def test_a_model_that_cannot_be_loaded_at_the_start_ends_it(tmp_path: Path) -> None:
    (tmp_path / "alias").write_text("broken")
    with running(tmp_path, ready=False) as service:
        assert service.process.wait(timeout=60) == 1
        assert "ValueError: no such model" in service.log.read_text()
        assert list(service.work.glob("*")) == []


def test_results_go_after_their_time(tmp_path: Path) -> None:
    with running(tmp_path, keep_minutes=0.02) as service:
        state = service.post(picture()).json()
        assert service.get(state["links"]["report"]).status_code == 200
        wait_for(lambda: service.get(state["links"]["self"]).status_code == 404)
        assert service.files() == []


def test_a_port_that_is_taken_is_a_sentence(tmp_path: Path) -> None:
    with running(tmp_path / "one") as service:
        port = int(service.url.rsplit(":", 1)[1])
        with (
            pytest.raises(AssertionError, match=f"127.0.0.1:{port} cannot be listened on"),
            running(tmp_path / "two", port=port),
        ):
            pass


def test_fifty_clients_that_connect_and_say_nothing_do_not_stop_others(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        host, port = service.url.removeprefix("http://").split(":")
        silent = [socket.create_connection((host, int(port))) for _ in range(50)]
        for connection in silent:
            connection.sendall(b"POST /v1/verdicts HTTP/1.1\r\n")
        assert requests.post(f"{service.url}/v1/verdicts", data=picture(), timeout=20).status_code == 200
        for connection in silent:
            connection.close()


def test_the_command_judges_pictures_and_videos_with_a_model(tmp_path: Path) -> None:
    """One that nobody calibrated, so it cannot say."""
    config = MultiTaskConfig(kind="multitask", size=64, expression=False)
    (tmp_path / "model").mkdir()
    save_detector(tmp_path / "model" / CHECKPOINT, MultiTask(config, None), None, None)
    frame = np.full((160, 320, 3), 110, np.uint8)
    tiny.draw_face(frame, 160, 80, height=100)
    clip = tiny.write_mp4(tmp_path / "clip.mp4", [frame] * 10, pix_fmt="yuv420p", crf=12)
    still = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1].tobytes()
    with running(tmp_path / "service", model=tmp_path / "model") as service:
        answer = service.post(still, name="face.png").json()
        verdict = answer["verdict"]
        assert (verdict["status"], verdict["answer"], verdict["file"]) == ("judged", "cannot say", "face.png")
        assert "face.png" in service.get(answer["links"]["report"]).text
        broken = service.post(still[: len(still) // 2]).json()["verdict"]
        assert (broken["status"], broken["answer"]) == ("unreadable", "cannot say")
        state = service.until(service.post(clip.read_bytes()).json()["id"], "done", "failed", seconds=60)
        assert (state["verdict"]["media"]["kind"], state["verdict"]["media"]["frames"]) == ("video", 10)
        service.process.terminate()
        assert service.process.wait(timeout=20) == 0


def test_the_command_refuses_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="error: .*holds no model.safetensors"), running(tmp_path, model=tmp_path):
        pass
