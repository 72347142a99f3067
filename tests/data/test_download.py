"""Fetching from a real server that misbehaves."""

import hashlib
import http.server
import io
import socket
import tarfile
import threading
import zipfile

import pytest

from pyg_bsl.data import download
from pyg_bsl.data.download import check_file, fetch
from pyg_bsl.data.errors import DataError
from pyg_bsl.data.table import SourceFile

BODY = b"0 1 2\n1 2 3\n" * 5000


class Server(http.server.ThreadingHTTPServer):
    """Answers request ``n`` of a path by ``answers[path][n]``, the last one for ever.

    An answer is bytes, a status, ``"short"`` (breaks off in the middle of ``BODY``) or ``"drop"``
    (hangs up).
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = {}
        self.requests = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def file(self, path, *answers, content=BODY, sha256=None):
        """A file of which the server gives ``answers``."""
        self.answers[f"/{path}"] = answers
        sha256 = hashlib.sha256(content).hexdigest() if sha256 is None else sha256
        return SourceFile(path, f"{self.url}/{path}", sha256)

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answers = self.server.answers.get(self.path, (404,))
        answer = answers[min(self.server.requests.count(self.path), len(answers) - 1)]
        self.server.requests.append(self.path)
        if answer == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif answer == "short":
            self.send(200, BODY[: len(BODY) // 2], length=len(BODY))
        elif isinstance(answer, int):
            self.send(answer, b"sorry")
        else:
            self.send(200, answer)

    def send(self, status, body, length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("PYG_BSL_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0, 0.0))
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def left_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_comes_whole(server, tmp_path):
    file = server.file("data/train.txt", BODY)
    assert fetch(file, tmp_path / "raw").read_bytes() == BODY
    assert left_in(tmp_path) == ["train.txt"]


def test_a_file_that_is_there_is_not_fetched(server, tmp_path):
    (tmp_path / "train.txt").write_text("mine")
    fetch(server.file("data/train.txt", BODY), tmp_path)
    assert (tmp_path / "train.txt").read_text() == "mine"
    assert server.requests == []


@pytest.mark.parametrize("fault", ["short", "drop", 503, 429])
def test_a_passing_fault_is_tried_again(server, tmp_path, fault):
    file = server.file("data/train.txt", fault, fault, BODY)
    assert fetch(file, tmp_path).read_bytes() == BODY
    assert len(server.requests) == 3


@pytest.mark.parametrize("fault", ["short", "drop", 503])
def test_a_lasting_fault_leaves_nothing_and_tells_the_cure(server, tmp_path, fault):
    file = server.file("data/train.txt", fault)
    with pytest.raises(ConnectionError) as caught:
        fetch(file, tmp_path)
    assert len(server.requests) == 4
    for part in (file.url, str(tmp_path / "train.txt"), "PYG_BSL_MIRROR", "data/train.txt"):
        assert part in str(caught.value)
    assert left_in(tmp_path) == []


def test_a_broken_download_without_checksum_leaves_nothing(server, tmp_path):
    file = SourceFile("train.txt", server.file("train.txt", "short").url)
    with pytest.raises(ConnectionError, match="broke off after 30000 of 60000 bytes"):
        fetch(file, tmp_path)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("status", [404, 403])
def test_a_refusal_is_not_tried_again(server, tmp_path, status):
    error = FileNotFoundError if status == 404 else ConnectionError
    with pytest.raises(error, match=f"{status}.*by hand"):
        fetch(server.file("data/train.txt", status), tmp_path)
    assert len(server.requests) == 1
    assert left_in(tmp_path) == []


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    file = server.file("data/train.txt", BODY[1:])
    with pytest.raises(DataError, match=f"checksum: sha256 must be {file.sha256}"):
        fetch(file, tmp_path)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("name", ["proc.zip", "data.tar.gz"])
def test_a_page_instead_of_an_archive_is_refused(server, tmp_path, name):
    page = b"<html>sign in first</html>"
    file = SourceFile(name, server.file(name, page).url)
    with pytest.raises(DataError, match=r"not a (zip|tar\.gz) file \(it starts with b'<html>"):
        fetch(file, tmp_path)
    assert left_in(tmp_path) == []


def test_a_dead_network_is_told_with_address_and_cure(server, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    file = SourceFile("data/train.txt", f"http://127.0.0.1:{port}/data/train.txt")
    with pytest.raises(ConnectionError, match=rf"{port}/data/train\.txt.*PYG_BSL_MIRROR"):
        fetch(file, tmp_path)


def test_a_silent_server_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/train.txt"
        with pytest.raises(ConnectionError, match="timed out"):
            fetch(SourceFile("train.txt", url), tmp_path)


def test_a_mirror_url_goes_before_the_address(server, tmp_path, monkeypatch):
    server.file("copy/lightgcn/train.txt", BODY)
    file = SourceFile("lightgcn/train.txt", "http://nowhere.invalid/train.txt")
    monkeypatch.setenv("PYG_BSL_MIRROR", f"{server.url}/copy/")
    assert fetch(file, tmp_path).read_bytes() == BODY
    assert server.requests == ["/copy/lightgcn/train.txt"]


def test_a_mirror_url_without_the_file_is_told(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PYG_BSL_MIRROR", server.url)
    file = SourceFile("lightgcn/train.txt", "http://nowhere.invalid/train.txt")
    with pytest.raises(FileNotFoundError, match=r"/lightgcn/train.txt \(HTTP 404\)"):
        fetch(file, tmp_path)


def test_a_mirror_folder_is_copied_from(tmp_path, monkeypatch):
    (tmp_path / "mirror/lightgcn").mkdir(parents=True)
    (tmp_path / "mirror/lightgcn/train.txt").write_bytes(BODY)
    monkeypatch.setenv("PYG_BSL_MIRROR", str(tmp_path / "mirror"))
    file = SourceFile("lightgcn/train.txt", "http://nowhere.invalid/train.txt")
    assert fetch(file, tmp_path / "raw").read_bytes() == BODY
    missing = SourceFile("lightgcn/test.txt", "http://nowhere.invalid/test.txt")
    with pytest.raises(FileNotFoundError, match=r"mirror '.*' has no file 'lightgcn/test\.txt'"):
        fetch(missing, tmp_path / "raw")
    broken = SourceFile("lightgcn/train.txt", missing.url, "0" * 64)
    with pytest.raises(DataError, match=r"mirror/lightgcn/train\.txt: wrong checksum"):
        fetch(broken, tmp_path / "other")
    assert left_in(tmp_path / "raw") == ["train.txt"]
    assert left_in(tmp_path / "other") == []


def test_an_unwritable_root_is_told(server, tmp_path):
    (tmp_path / "data").write_text("a file, not a folder")
    with pytest.raises(PermissionError, match=r"Cannot write to the data folder.*'root'"):
        fetch(server.file("train.txt", BODY), tmp_path / "data" / "raw")


def test_archives_pass_the_check(tmp_path):
    with zipfile.ZipFile(tmp_path / "proc.zip", "w") as archive:
        archive.writestr("train.tsv", "x")
    with tarfile.open(tmp_path / "data.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("train.txt"), io.BytesIO())
    for name in ("proc.zip", "data.tar.gz"):
        check_file(tmp_path / name, SourceFile(name, "http://nowhere.invalid"))
