"""Downloads, from a server on the loopback address: checked, cached, and leaving nothing bad."""

import gzip
import hashlib
import http.server
import os
import struct
import sys
import threading

import numpy as np
import pytest

from aeot_jax.data import download, images

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 6, 7), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)


def encode(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


FILES = {
    "train-images-idx3-ubyte": encode(IMAGES),
    "train-labels-idx1-ubyte": encode(LABELS),
    "t10k-images-idx3-ubyte": encode(IMAGES[::-1]),
    "t10k-labels-idx1-ubyte": encode(LABELS[::-1]),
}


class Server:
    """Serves what is in ``files``; counts requests; may cut answers short."""

    def __init__(self):
        self.files = {f"/{name}.gz": gzip.compress(data) for name, data in FILES.items()}
        self.headers: dict[str, str] = {}
        self.requests: list[str] = []
        self.cut = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.path)
                data = outer.files.get(self.path)
                if data is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data[: len(data) - outer.cut])

            def log_message(self, format, *args):
                """Keep quiet."""

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_address[1]}"


@pytest.fixture
def server(monkeypatch):
    server = Server()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv(download.URL_VARIABLE, raising=False)
    md5 = {name: hashlib.md5(data).hexdigest() for name, data in FILES.items()}
    monkeypatch.setitem(download.REGISTRY, "mnist", download.Published(server.url, md5))
    thread = threading.Thread(target=server.httpd.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.httpd.shutdown()
    server.httpd.server_close()
    thread.join()


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_each_split_is_downloaded_once(server, tmp_path):
    for _ in range(2):
        found = images.load("mnist", cache_dir=tmp_path)
        np.testing.assert_array_equal(found.images[..., 0], IMAGES)
        np.testing.assert_array_equal(found.labels, LABELS)
        assert found.name == "mnist"
    assert server.requests == ["/train-images-idx3-ubyte.gz", "/train-labels-idx1-ubyte.gz"]
    found = images.load("mnist", split="test", cache_dir=tmp_path)
    np.testing.assert_array_equal(found.images[..., 0], IMAGES[::-1])
    assert len(server.requests) == 4
    assert contents(tmp_path) == sorted(f"mnist/{name}" for name in FILES)


def test_a_mirror_may_compress_anew(server, tmp_path):
    server.files = {f"/{name}.gz": gzip.compress(data, 1) for name, data in FILES.items()}
    assert len(images.load("mnist", cache_dir=tmp_path)) == len(IMAGES)


def test_a_server_may_declare_the_compression(server, tmp_path):
    server.headers = {"Content-Encoding": "gzip"}
    assert len(images.load("mnist", cache_dir=tmp_path)) == len(IMAGES)


@pytest.mark.parametrize("how", ["argument", "variable"])
@pytest.mark.parametrize("end", ["/sets/{name}", "/sets/mnist/"])
def test_the_base_address_can_be_replaced(server, tmp_path, monkeypatch, how, end):
    server.files = {f"/sets/mnist{path}": data for path, data in server.files.items()}
    base_url = server.url + end
    if how == "variable":
        monkeypatch.setenv(download.URL_VARIABLE, base_url)
        base_url = None
    assert len(images.load("mnist", cache_dir=tmp_path, base_url=base_url)) == len(IMAGES)


def test_the_argument_wins_over_the_variable(server, tmp_path, monkeypatch):
    monkeypatch.setenv(download.URL_VARIABLE, "http://127.0.0.1:1/nothing")
    found = images.load("mnist", cache_dir=tmp_path, base_url=server.url)
    assert len(found) == len(IMAGES)


def test_a_wrong_checksum_is_refused_and_leaves_nothing(server, tmp_path):
    path = "/train-images-idx3-ubyte.gz"
    server.files[path] = gzip.compress(FILES["t10k-images-idx3-ubyte"])
    with pytest.raises(ValueError, match="another content than the published one of MD5"):
        images.load("mnist", cache_dir=tmp_path)
    assert contents(tmp_path) == []


def test_a_damaged_gzip_file_is_refused_and_leaves_nothing(server, tmp_path):
    path = "/train-images-idx3-ubyte.gz"
    server.files[path] = server.files[path][:-9]
    with pytest.raises(ValueError, match=r"as a damaged gzip file .* which was dropped"):
        images.load("mnist", cache_dir=tmp_path)
    assert contents(tmp_path) == []


def test_no_more_is_received_or_unpacked_than_is_published(server, tmp_path, monkeypatch):
    path = "/train-images-idx3-ubyte.gz"
    monkeypatch.setattr(download, "LARGEST", 2**12)
    for data in (bytes(2**13), gzip.compress(bytes(2**13))):
        server.files[path] = data
        with pytest.raises(ValueError, match="another content than the published one of MD5"):
            images.load("mnist", cache_dir=tmp_path)
        assert contents(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX has pipes")
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_in_the_cache_is_said(server, tmp_path, make):
    (tmp_path / "mnist").mkdir()
    make(tmp_path / "mnist" / "train-images-idx3-ubyte")
    with pytest.raises(ValueError, match=r"cache holds '.*ubyte', which is not a file; remove it"):
        images.load("mnist", cache_dir=tmp_path)
    assert server.requests == []


def test_a_link_to_nothing_in_the_cache_is_replaced(server, tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte").symlink_to("nothing")
    assert len(images.load("mnist", cache_dir=tmp_path)) == len(IMAGES)


def test_a_connection_that_breaks_off_leaves_nothing(server, tmp_path):
    server.cut = 20
    with pytest.raises(ConnectionError, match=r"could not be downloaded from http://127.0.0.1"):
        images.load("mnist", cache_dir=tmp_path)
    assert contents(tmp_path) == []
    server.cut = 0
    assert len(images.load("mnist", cache_dir=tmp_path)) == len(IMAGES)


def test_an_interrupt_leaves_nothing(server, tmp_path, monkeypatch):
    def interrupt(data):
        assert len(contents(tmp_path)) == 1  # the temporary file is there
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "gunzip", interrupt)
    with pytest.raises(KeyboardInterrupt):
        images.load("mnist", cache_dir=tmp_path)
    assert contents(tmp_path) == []


def test_a_file_gone_bad_in_the_cache_is_fetched_again(server, tmp_path):
    images.load("mnist", cache_dir=tmp_path)
    bad = tmp_path / "mnist" / "train-images-idx3-ubyte"
    bad.write_bytes(bad.read_bytes()[:-1] + b"\0")
    np.testing.assert_array_equal(images.load("mnist", cache_dir=tmp_path).images[..., 0], IMAGES)
    assert len(server.requests) == 3


def test_a_missing_file_and_a_silent_address_say_what_to_do(server, tmp_path):
    server.files = {}
    with pytest.raises(
        ConnectionError, match=r"404.*pass another `base_url`, set AEOT_JAX_DATA_URL"
    ):
        images.load("mnist", cache_dir=tmp_path)
    with pytest.raises(ConnectionError, match=r"could not be downloaded from http://127.0.0.1:1/"):
        images.load("mnist", cache_dir=tmp_path, base_url="http://127.0.0.1:1")
    assert contents(tmp_path) == []


def test_a_registry_can_be_passed(server, tmp_path):
    registry = {"tiny": download.REGISTRY["mnist"]}
    folder = download.fetch("tiny", "train", cache_dir=tmp_path, registry=registry)
    assert folder == tmp_path / "tiny"
    assert contents(folder) == ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_every_published_set_has_four_files_with_checksums(name):
    published = download.REGISTRY[name]
    assert published.url.startswith("http")
    assert published.md5.keys() == FILES.keys()
    assert len({md5 for md5 in published.md5.values() if len(bytes.fromhex(md5)) == 16}) == 4
