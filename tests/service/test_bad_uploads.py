"""What a client can do wrong, each with its status and one sentence; after all of it the service is as before."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from tests.fakes.service import PNG, Running, picture, running, video, wait_for

RAW = "send the bytes of the file as the body, such as with curl --data-binary @file."
EMPTY = f"The body is empty; {RAW}"
LARGE = "The file is larger than 0.2 MB, the most that is taken here."
OTHER = "The file is none that can be judged; it must be a PNG or JPEG picture, or a video (MP4, MOV, MKV,"
STILL = "The upload stood still for 0.8 s; send it again."
SLOW = "The upload took longer than 2.5 s; send it again."
GONE = "There is no such verdict, or it was deleted after its time; send the file again."
POST = b"POST /v1/verdicts HTTP/1.1\r\nHost: here\r\n"
ENDLESS = 600  # chunks


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("service")) as client:
        yield client
        assert client.process.poll() is None
        wait_for(lambda: client.metric('emd_files{state="receiving"}') == 0)
        assert client.post(picture()).status_code == 200
        assert client.metric("emd_workers_died_total") == 0


def speak(service: Running, *parts: bytes, pause: float = 0.0) -> tuple[int, bytes, bytes]:
    """Status, headers and body of the answer to raw bytes, sent part by part until they are answered."""
    address = urlsplit(service.url)
    answer = b""
    with closing(socket.create_connection((address.hostname, address.port), timeout=15)) as connection:
        for part in parts:
            connection.sendall(part)
            connection.settimeout(pause or 0.001)
            try:
                answer += connection.recv(65536)
            except TimeoutError:
                continue
            break
        connection.settimeout(15)
        while b"\r\n\r\n" not in answer or (b"content-length" in answer and not whole(answer)):
            more = connection.recv(65536)
            if not more:
                break
            answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), head, body


def whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    return len(body) >= length


def chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


BODIES = {
    "empty": (b"", 400, EMPTY),
    "one byte": (b"x", 415, OTHER),
    "a text": (b"not a video " * 99, 415, OTHER),
    "a page": (b"<!doctype html><html><body>video</body></html>" * 20, 415, OTHER),
    "an archive": (b"PK\x03\x04" + bytes(1000), 415, OTHER),
    "a program": (b"\x7fELF" + bytes(1000), 415, OTHER),
    "a document": (b"%PDF-1.7\n" + bytes(1000), 415, OTHER),
    "a playlist that names other files": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", 415, OTHER),
    "a list of files for FFmpeg": (b"ffconcat version 1.0\nfile /etc/passwd\n", 415, OTHER),
    "a vector picture": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, OTHER),
    "a picture of another format": (b"GIF89a" + bytes(1000), 415, OTHER),
    "zeros": (bytes(1000), 415, OTHER),
    "half of PNG's signature": (PNG[:5], 415, OTHER),
    "too large": (PNG + bytes(200_000), 413, LARGE),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_is_refused(service: Running, kind: str) -> None:
    body, status, sentence = BODIES[kind]
    answer = service.post(body)
    assert (answer.status_code, list(answer.json())) == (status, ["detail"])
    assert answer.json()["detail"].startswith(sentence)


def test_a_form_is_told_how_to_send_a_file(service: Running) -> None:
    answer = service.session.post(f"{service.url}/v1/verdicts", files={"file": picture()}, timeout=20)
    assert (answer.status_code, answer.json()) == (415, {"detail": f"The body is a form; {RAW}"})


def test_a_body_that_is_packed_is_refused(service: Running) -> None:
    answer = service.session.post(
        f"{service.url}/v1/verdicts", data=picture(), headers={"Content-Encoding": "gzip"}, timeout=20
    )
    assert (answer.status_code, answer.json()) == (415, {"detail": f"The body has a content encoding; {RAW}"})


LYING = {
    "too large, without a length, told while it comes": (
        [POST + b"Transfer-Encoding: chunked\r\n\r\n", chunk(PNG), *[chunk(bytes(65536))] * 10],
        413,
        LARGE,
    ),
    "endless": (
        [POST + b"Transfer-Encoding: chunked\r\n\r\n", chunk(PNG), *[chunk(bytes(4096))] * ENDLESS],
        413,
        LARGE,
    ),
    "a length that is too large, before the body": ([POST + b"Content-Length: 99999999999\r\n\r\n"], 413, LARGE),
    "a length that is too large, asked first": (
        [POST + b"Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n"],
        413,
        LARGE,
    ),
    "less than its length": ([POST + b"Content-Length: 1000\r\n\r\n" + PNG], 408, STILL),
    "nothing after its length": ([POST + b"Content-Length: 1000\r\n\r\n"], 408, STILL),
    "chunks that stop": ([POST + b"Transfer-Encoding: chunked\r\n\r\n", chunk(PNG)], 408, STILL),
}


@pytest.mark.parametrize("kind", LYING)
def test_an_upload_that_is_not_what_it_says(service: Running, kind: str) -> None:
    parts, expected, sentence = LYING[kind]
    status, head, body = speak(service, *parts)
    assert (status, json.loads(body)) == (expected, {"detail": sentence})
    assert b"connection: close" in head.lower() and b"100 Continue" not in head


def test_an_upload_that_trickles(service: Running) -> None:
    """It never stands still for long, but takes too long."""
    start = time.monotonic()
    status, _, body = speak(service, POST + b"Content-Length: 1000\r\n\r\n" + PNG, *[b"x"] * 40, pause=0.2)
    assert (status, json.loads(body)) == (408, {"detail": SLOW})
    assert 2.0 < time.monotonic() - start < 5


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: -5\r\n\r\n",
        b"Content-Length: many\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 7\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzzzz\r\n",
        b"Transfer-Encoding: gzip\r\n\r\n",
        b"X: " + b"y" * 200_000 + b"\r\n\r\n",
    ],
    ids=["negative", "a word", "two lengths", "a chunk without a size", "unknown encoding", "endless header"],
)
def test_what_is_no_http_is_refused_by_the_web_server(service: Running, header: bytes) -> None:
    status, _, _ = speak(service, POST + header)
    assert status in (400, 501)


def test_a_client_that_goes_away_leaves_nothing(service: Running) -> None:
    wait_for(lambda: service.metric('emd_files{state="receiving"}') == 0)
    before = service.files()
    address = urlsplit(service.url)
    with closing(socket.create_connection((address.hostname, address.port))) as connection:
        connection.sendall(POST + b"Content-Length: 1000\r\n\r\n" + PNG)
        wait_for(lambda: service.metric('emd_files{state="receiving"}') == 1)
    wait_for(lambda: service.metric('emd_files{state="receiving"}') == 0)
    assert service.files() == before


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/cron.d/job.mp4", "job.mp4"),
        ("C:\\Users\\me\\clip.mp4", "clip.mp4"),
        ("a\x00b\n.png", "ab.png"),
        ("\u202egnp.exe", "gnp.exe"),  # which would be read from right to left
        ("..", ".."),
        ("", "upload"),
        ("<script>alert(1)</script>.png", "script>.png"),
        ("x" * 5000 + ".mp4", "x" * 200),
        ("顔😀.png", "顔😀.png"),
    ],
)
def test_a_name_is_a_name_and_never_a_path(service: Running, given: str, name: str) -> None:
    state = service.post(picture(), name=given).json()
    assert state["verdict"]["file"] == name
    assert {f for f in service.files() if f.startswith(state["id"])} == {
        f"{state['id']}/result/{part}" for part in ("report.html", "verdict.json")
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/verdicts/unknown", 404),
        ("GET", "/v1/verdicts/unknown/report", 404),
        ("DELETE", "/v1/verdicts/unknown", 404),
        ("GET", "/v1/verdicts/..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/v1/verdicts/%2e%2e/report", 404),
        ("GET", "/v1/verdicts/..%5c..%5cx/overlay", 404),
        ("GET", "/v1/verdicts/" + "a" * 5000, 404),
        ("GET", "/v1/verdicts/%00/report", 404),
        ("GET", "/v1/verdicts", 405),
        ("PUT", "/v1/verdicts", 405),
        ("POST", "/v1/verdicts/unknown", 405),
        ("GET", "/etc/passwd", 404),
    ],
)
def test_what_there_is_not(service: Running, method: str, path: str, status: int) -> None:
    answer = service.session.request(method, service.url + path, timeout=20)
    assert answer.status_code == status and list(answer.json()) == ["detail"]
    assert "unknown" not in path or status == 405 or answer.json()["detail"] == GONE


def test_what_cannot_be_decoded_is_a_verdict(service: Running) -> None:
    answer = service.post(picture("spoilt"))
    assert (answer.status_code, answer.json()["verdict"]["status"]) == (200, "unreadable")
    assert service.metric('emd_verdicts_total{answer="unreadable",kind="picture"}') == 1


def test_parts_that_are_not_there_yet(service: Running) -> None:
    identity = service.started("sleep 1")
    answer = service.get(f"/v1/verdicts/{identity}/report")
    assert (answer.status_code, answer.json()["detail"]) == (404, "There is no report.html of this file, or not yet.")
    service.until(identity, "done")
    assert service.get(f"/v1/verdicts/{identity}/report").status_code == 200


class TestToken:
    @pytest.fixture(scope="class")
    def guarded(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
        with running(tmp_path_factory.mktemp("guarded"), env={"EMD_SERVE_TOKEN": "secret"}) as client:
            yield client

    @pytest.mark.parametrize(
        ("header", "sentence"),
        [
            (None, "A token is asked for; send the header Authorization: Bearer TOKEN."),
            ("Bearer ", "A token is asked for; send the header Authorization: Bearer TOKEN."),
            ("Bearer wrong", "The token is wrong; send the header Authorization: Bearer TOKEN."),
            ("Basic secret", "The token is wrong; send the header Authorization: Bearer TOKEN."),
        ],
    )
    def test_without_it(self, guarded: Running, header: str | None, sentence: str) -> None:
        headers = {"Authorization": header} if header else {}
        for method, path in [("POST", ""), ("GET", "/some"), ("DELETE", "/some"), ("GET", "/some/report")]:
            url = f"{guarded.url}/v1/verdicts{path}"
            answer = guarded.session.request(method, url, data=picture(), headers=headers, timeout=20)
            assert (answer.status_code, answer.json()) == (401, {"detail": sentence})
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert guarded.files() == []

    def test_with_it(self, guarded: Running) -> None:
        answer = guarded.session.post(
            f"{guarded.url}/v1/verdicts",
            data=picture(),
            headers={"Authorization": "bearer secret"},
            timeout=20,
        )
        assert answer.status_code == 200

    def test_probes_figures_and_page_ask_for_none(self, guarded: Running) -> None:
        for path in ("/healthz", "/readyz", "/metrics", "/", "/page.js"):
            assert guarded.get(path).status_code == 200


def test_a_video_is_not_taken_for_a_picture(service: Running) -> None:
    assert service.post(video()).status_code == 202
