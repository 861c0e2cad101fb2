"""Whatever a file does to its process, it costs that file alone."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.service import Running, picture, running, video, wait_for


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("service"), seconds_per_file=1.5) as client:
        yield client


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("crash", "It could not be judged: the process that decoded it crashed (signal 11)."),
        ("hang", "It could not be judged: it took longer than 1.5 s."),
        ("raise", "It could not be judged, by a fault of the service that its log shows."),
    ],
)
def test_a_file_fails_alone(service: Running, does: str, reason: str) -> None:
    died = service.metric("emd_workers_died_total")
    with ThreadPoolExecutor() as threads:
        other = threads.submit(service.post, picture("sleep 1"))
        answer = service.post(picture(does))
        assert other.result().json()["status"] == "done"
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["reason"], answer.json()["verdict"]) == ("failed", reason, None)
    assert service.metric("emd_workers_died_total") == died + (does != "raise")
    assert service.post(picture()).json()["status"] == "done"
    assert not any("upload" in file for file in service.files())


def test_a_process_that_is_killed_costs_its_file_alone(service: Running, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    identity = service.post(video(f"say-pid {pid}")).json()["id"]
    waiting = [service.post(video("sleep 0.3")).json()["id"] for _ in range(4)]
    os.kill(int(wait_for(lambda: pid.exists() and pid.read_text())), signal.SIGKILL)
    assert "was killed" in service.until(identity, "failed")["reason"]
    assert {service.until(i, "done", "failed")["status"] for i in waiting} == {"done"}


def test_too_much_work_is_refused_until_there_is_room(service: Running) -> None:
    started = []
    while (answer := service.post(video("sleep 1.2"))).status_code == 202:
        started.append(answer)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert answer.json() == {"detail": "8 files wait already; try again later."}
    for answer in started:
        assert service.session.delete(service.url + answer.headers["Location"], timeout=20).status_code == 204
    assert service.post(picture()).status_code == 200


def test_a_video_is_followed_read_and_deleted(service: Running) -> None:
    answer = service.post(video("sleep 0.5"), name="clip.mp4")
    state = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/verdicts/{state['id']}")
    assert state["links"] == {"self": answer.headers["Location"], "report": None, "overlay": None}
    assert service.until(state["id"], "working")["verdict"] is None
    wait_for(lambda: service.state(state["id"])["progress"] == 0.5)
    done = service.until(state["id"], "done")
    assert (done["progress"], done["verdict"]["file"]) == (1.0, "clip.mp4")
    report = service.get(done["links"]["report"])
    assert "as told" in report.text and report.headers["Content-Security-Policy"].startswith("sandbox; default-src")
    part = service.get(done["links"]["overlay"], headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
    assert service.get(f"{done['links']['self']}/overlay.mp4").content == bytes(range(256))  # beside the report
    assert service.session.delete(service.url + done["links"]["self"], timeout=20).status_code == 204
    assert {service.get(path).status_code for path in done["links"].values()} == {404}
    assert not any(state["id"] in file for file in service.files())


def test_every_answer_has_the_headers_that_confine_it(service: Running) -> None:
    for path in ("/", "/page.js", "/healthz", "/v1/verdicts/unknown", "/nothing", "/openapi.json"):
        headers = service.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff" and "server" not in headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "Access-Control-Allow-Origin" not in headers
    page = service.get("/").headers["Content-Security-Policy"]
    assert "script-src 'self';" in page and "http" not in page


def test_the_page_fetches_nothing_from_elsewhere(service: Running) -> None:
    assert "0.2 MB" in service.get("/").text
    assert "://" not in service.get("/").text + service.get("/page.js").text


def test_the_description_names_what_is_answered(service: Running) -> None:
    described = service.get("/openapi.json").json()
    post = described["paths"]["/v1/verdicts"]["post"]
    assert {"200", "202", "400", "401", "408", "413", "415", "503"} <= set(post["responses"])
    assert "application/octet-stream" in post["requestBody"]["content"]
    assert {"Verdict", "Track", "State", "Problem"} <= set(described["components"]["schemas"])
