"""The spool keeps requests on a real disk in order and within a limit, despite crashes and foreign files."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from modeltrace.otel_env.table import SIGNALS, Signal
from modeltrace.sidecar.spool import Spool
from modeltrace.sidecar.spool_files import HEADER_BYTES, header

UNLIMITED = 2**30


class LossLog:
    """Records the losses of a spool."""

    def __init__(self) -> None:
        self.losses: list[tuple[Signal, int, str]] = []

    def __call__(self, signal: Signal, items: int, reason: str) -> None:
        """Record a loss."""
        self.losses.append((signal, items, reason))

    def items(self, signal: Signal) -> int:
        """Return the number of lost items of a signal."""
        return sum(items for each, items, _ in self.losses if each == signal)


def drain(spool: Spool, signal: Signal = "traces") -> list[tuple[bytes, int]]:
    """Remove and return all requests, like a delivery."""
    requests = []
    while request := spool.oldest(signal):
        requests.append((request.body, request.items))
        spool.remove(signal, request)
    return requests


def files(folder: Path) -> list[Path]:
    """Return all files of the spool except locks."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")


def test_requests_are_returned_in_order_per_signal(tmp_path: Path) -> None:
    """The oldest request of a signal is returned first, with its number of items."""
    spool = Spool(tmp_path, UNLIMITED)
    for number in range(10):
        assert spool.put("traces", b"t%d" % number, number)
        assert spool.put("logs", b"l%d" % number, 1)

    assert (spool.items("traces"), spool.items("logs"), spool.items("metrics")) == (45, 10, 0)
    assert drain(spool) == [(b"t%d" % number, number) for number in range(10)]
    assert drain(spool, "logs") == [(b"l%d" % number, 1) for number in range(10)]
    assert (spool.items("traces"), spool.items("logs"), spool.used_bytes) == (0, 0, 0)
    assert files(tmp_path) == []


def test_only_the_user_can_read_the_files(tmp_path: Path) -> None:
    """The requests contain the inputs of predictions."""
    folder = tmp_path / "deep" / "spool"
    spool = Spool(folder, UNLIMITED)
    spool.put("logs", b"private", 1)

    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())] == [0o700, 0o700]
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*/*")] == [0o600, 0o600]


def test_an_empty_spool_removes_its_folder(tmp_path: Path) -> None:
    """A process that ends with an empty spool leaves no folder behind."""
    spool = Spool(tmp_path, UNLIMITED)
    spool.put("logs", b"gone soon", 1)
    drain(spool, "logs")
    spool.close()
    spool.close()

    assert list(tmp_path.iterdir()) == []


requests = st.binary(max_size=64)
items = st.integers(0, 10**6)
signals = st.sampled_from(SIGNALS)


class SpoolMachine(RuleBasedStateMachine):
    """Compares a spool with three queues in memory."""

    @initialize()
    def begin(self) -> None:
        """Open an empty spool."""
        self.temporary = TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.losses = LossLog()
        self.spool = Spool(self.folder, UNLIMITED, self.losses)
        self.model: dict[Signal, deque[tuple[bytes, int]]] = {name: deque() for name in SIGNALS}

    @rule(name=signals, request=requests, number=items)
    def put(self, name: Signal, request: bytes, number: int) -> None:
        """Add a request."""
        assert self.spool.put(name, request, number)
        self.model[name].append((request, number))

    @rule(name=signals)
    def oldest(self, name: Signal) -> None:
        """Read the oldest request, which changes nothing."""
        request = self.spool.oldest(name)
        assert (request and (request.body, request.items)) == (self.model[name][0] if self.model[name] else None)

    @rule(name=signals, number=st.integers(1, 5))
    def remove(self, name: Signal, number: int) -> None:
        """Remove the oldest requests; removing them twice removes no other."""
        if request := self.spool.oldest(name, number):
            expected = [self.model[name].popleft() for _ in range(min(number, len(self.model[name])))]
            assert (request.body, request.items) == (b"".join(b for b, _ in expected), sum(n for _, n in expected))
            self.spool.remove(name, request)
            self.spool.remove(name, request)

    @rule(closed=st.booleans())
    def reopen(self, closed: bool) -> None:
        """Open the spool as another process."""
        if closed:
            self.spool.close()
        else:  # like the end of a process
            os.close(self.spool._lock_descriptor)
        self.spool = Spool(self.folder, UNLIMITED, self.losses)

    @invariant()
    def counts(self) -> None:
        """Items and bytes are correct; nothing is lost or quarantined."""
        for name, queue in self.model.items():
            assert self.spool.items(name) == sum(number for _, number in queue)
        size = sum(len(request) + HEADER_BYTES for queue in self.model.values() for request, _ in queue)
        assert self.spool.used_bytes == size == sum(path.stat().st_size for path in files(self.folder))
        assert self.losses.losses == []
        assert not list(self.folder.rglob("*.damaged"))

    def teardown(self) -> None:
        """Remove all files."""
        self.spool.close()
        self.temporary.cleanup()


TestAnySequence = SpoolMachine.TestCase
TestAnySequence.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(0, 200),
    steps=st.lists(st.tuples(signals, requests, items, st.integers(0, 4)), max_size=30),
)
def test_beyond_the_limit_the_oldest_are_lost_and_counted(
    limit: int, steps: list[tuple[Signal, bytes, int, int]]
) -> None:
    """The size stays within the limit, requests in flight stay, and stored and lost items add up."""
    losses = LossLog()
    accepted: Counter[Signal] = Counter()
    with TemporaryDirectory() as folder:
        spool = Spool(Path(folder), limit, losses)
        in_flight = {}
        for name, request, number, look in steps:
            if look and (request_in_flight := spool.oldest(name, look)):
                in_flight[name] = request_in_flight
            if spool.put(name, request, number):
                accepted[name] += number
            assert spool.used_bytes == sum(path.stat().st_size for path in files(Path(folder))) <= limit
        assert {reason for _, _, reason in losses.losses} <= {"spool_full"}
        for name in SIGNALS:
            assert spool.items(name) + losses.items(name) == accepted[name]
            if name in in_flight:
                assert spool.oldest(name, len(in_flight[name].file_names)) == in_flight[name]
        spool.close()


def test_the_oldest_request_of_any_signal_is_lost_first(tmp_path: Path) -> None:
    """The age of a request decides, not its signal."""
    losses = LossLog()
    spool = Spool(tmp_path, 3 * (HEADER_BYTES + 10), losses)
    for name, letter in (("logs", b"a"), ("traces", b"b"), ("logs", b"c"), ("metrics", b"d"), ("metrics", b"e")):
        assert spool.put(name, letter * 10, 5)  # type: ignore[arg-type]

    assert losses.losses == [("logs", 5, "spool_full"), ("traces", 5, "spool_full")]
    assert [len(drain(spool, name)) for name in SIGNALS] == [0, 2, 1]


def test_the_size_of_requests_that_are_returned_together_is_limited(tmp_path: Path) -> None:
    """They take at most a quarter of the spool, so newer requests still fit; a larger request is returned alone."""
    spool = Spool(tmp_path, 400)
    for letter in b"abcdefgh":
        assert spool.put("logs", bytes([letter]) * 20, 1)
    assert spool.put("logs", b"x" * 150, 1)
    sizes = []
    while request := spool.oldest("logs", 100):
        sizes.append(len(request.body))
        spool.remove("logs", request)

    assert sizes == [60, 60, 40, 150]


def test_a_damaged_file_between_others_is_left_out(tmp_path: Path) -> None:
    """The other requests are returned together, and removed together."""
    losses = LossLog()
    spool = Spool(tmp_path, UNLIMITED, losses)
    for letter in (b"a", b"b", b"c"):
        assert spool.put("logs", letter, 1)
    files(tmp_path)[1].write_bytes(b"damaged")
    request = spool.oldest("logs", 100)

    assert request
    assert (request.body, request.items, losses.losses) == (b"ac", 2, [("logs", 1, "damaged")])
    spool.remove("logs", request)
    assert (spool.items("logs"), [path.suffix for path in files(tmp_path)]) == (0, [".damaged"])


def test_a_request_larger_than_the_limit_is_rejected(tmp_path: Path) -> None:
    """No other request is removed for it."""
    losses = LossLog()
    spool = Spool(tmp_path, 100, losses)

    assert spool.put("logs", b"small", 1)
    assert not spool.put("logs", b"large" * 20, 1)
    assert (drain(spool, "logs"), losses.losses) == ([(b"small", 1)], [])


# Foreign and damaged files.


@contextmanager
def orphaned_folder(folder: Path) -> Iterator[Path]:
    """Create the folder of a process that has ended."""
    orphan = folder / "12345-0123456789abcdef"
    orphan.mkdir(mode=0o700)
    (orphan / "lock").touch()
    yield orphan


file_names = st.one_of(
    st.from_regex(rb"\A[0-9]{0,31}\.(traces|logs|metrics|spans|)\.?[0-9]{0,16}(\.damaged|\.part|)\Z"),
    st.binary(min_size=1, max_size=40).filter(lambda name: b"/" not in name and b"\0" not in name),
).filter(lambda name: name not in (b".", b"..", b"lock"))


@settings(max_examples=60, deadline=None)
@given(contents=st.dictionaries(file_names, st.binary(max_size=40), max_size=8))
def test_arbitrary_files_are_never_sent_and_never_raise(contents: dict[bytes, bytes]) -> None:
    """No file in an orphaned folder is returned as a request, and new requests are stored."""
    losses = LossLog()
    with TemporaryDirectory() as name:
        folder = Path(name)
        with orphaned_folder(folder) as orphan:
            for file_name, content in contents.items():
                Path(os.fsdecode(os.fsencode(orphan) + b"/" + file_name)).write_bytes(content)
        spool = Spool(folder, UNLIMITED, losses)
        assert all(spool.put(each, b"mine", 1) for each in SIGNALS)
        assert [drain(spool, each) for each in SIGNALS] == [[(b"mine", 1)]] * 3
        assert {reason for _, _, reason in losses.losses} <= {"damaged"}
        assert [spool.items(each) for each in SIGNALS] == [0, 0, 0]
        spool.close()


@settings(max_examples=60, deadline=None)
@given(request=st.binary(max_size=40), data=st.data())
def test_a_damaged_file_is_quarantined(request: bytes, data: st.DataObject) -> None:
    """A truncated, altered or extended file is counted as lost; the next request is returned."""
    losses = LossLog()
    with TemporaryDirectory() as name:
        spool = Spool(Path(name), UNLIMITED, losses)
        spool.put("logs", request, 7)
        (path,) = files(Path(name))
        content = bytearray(path.read_bytes())
        match data.draw(st.sampled_from(["truncated", "altered", "extended"])):
            case "truncated":
                del content[data.draw(st.integers(0, len(content) - 1)) :]
            case "altered":
                content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            case "extended":
                content += data.draw(st.binary(min_size=1, max_size=10))
        path.write_bytes(content)
        spool.put("logs", b"the next", 1)

        assert drain(spool, "logs") == [(b"the next", 1)]
        assert (losses.losses, spool.items("logs")) == ([("logs", 7, "damaged")], 0)
        assert [path.suffix for path in files(Path(name))] == [".damaged"]
        assert [each.read_bytes() for each in files(Path(name))] == [bytes(content)]
        spool.close()


def test_quarantined_files_are_removed_first(tmp_path: Path) -> None:
    """Quarantined files stay, also for the next process, until their space is needed."""
    spool = Spool(tmp_path, 2 * (HEADER_BYTES + 10))
    spool.put("logs", b"x" * 10, 1)
    files(tmp_path)[0].write_bytes(b"y" * (HEADER_BYTES + 10))
    assert spool.oldest("logs") is None
    spool.close()
    losses = LossLog()
    spool = Spool(tmp_path, 2 * (HEADER_BYTES + 10), losses)
    assert [path.suffix for path in files(tmp_path)] == [".damaged"]

    assert spool.put("logs", b"a" * 10, 1)
    assert spool.put("logs", b"b" * 10, 1)
    assert drain(spool, "logs") == [(b"a" * 10, 1), (b"b" * 10, 1)]
    assert losses.losses == []


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").touch()


def _link(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    elsewhere.write_bytes(header(b"not ours") + b"not ours")
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("make", [_pipe, _folder, _link])
def test_what_is_not_a_regular_file_is_quarantined(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A pipe without a writer, a folder and a link are neither read nor followed."""
    with orphaned_folder(tmp_path) as orphan:
        make(orphan / "1.logs.5")
    losses = LossLog()
    spool = Spool(tmp_path, UNLIMITED, losses)
    spool.put("logs", b"mine", 1)

    assert drain(spool, "logs") == [(b"mine", 1)]
    assert losses.losses == [("logs", 5, "damaged")]


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    """Foreign files and folders stay unchanged, also in an orphaned folder."""
    with orphaned_folder(tmp_path) as orphan:
        (orphan / "notes.txt").write_text("of somebody")
        (tmp_path / "notes.txt").write_text("of somebody else")
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "1.logs.5").touch()
    Spool(tmp_path, UNLIMITED).close()

    assert (orphan / "notes.txt").read_text() == "of somebody"
    assert (tmp_path / "notes.txt").read_text() == "of somebody else"
    assert (tmp_path / "photos" / "1.logs.5").exists()


def test_a_removed_folder_is_created_again(tmp_path: Path) -> None:
    """Its requests are counted as lost; later ones are stored."""
    losses = LossLog()
    folder = tmp_path / "spool"
    spool = Spool(folder, UNLIMITED, losses)
    spool.put("logs", b"removed", 3)
    folder.rename(tmp_path / "elsewhere")

    assert spool.put("logs", b"after", 1)
    assert losses.losses == [("logs", 3, "damaged")]
    assert (drain(spool, "logs"), spool.used_bytes) == ([(b"after", 1)], 0)


def test_a_request_whose_temporary_file_is_removed_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another program removes the file during the write, other requests are not affected."""
    losses = LossLog()
    spool = Spool(tmp_path, UNLIMITED, losses)
    assert spool.put("logs", b"before", 1)
    with monkeypatch.context() as cleanup:
        cleanup.setattr(os, "fsync", lambda _: [path.unlink() for path in tmp_path.rglob("*.part")])
        assert not spool.put("logs", b"removed", 1)
    assert spool.put("logs", b"after", 1)

    assert losses.losses == []
    assert drain(spool, "logs") == [(b"before", 1), (b"after", 1)]


# Disk errors.


@pytest.mark.parametrize("failing", [1, 2])
def test_a_request_that_cannot_be_synchronized_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """If the file or its name cannot be synchronized, no file stays: it would be sent twice."""
    calls = count(1)

    def fsync(_: int) -> None:
        if next(calls) == failing:
            raise OSError(errno.EIO, "simulated")

    spool = Spool(tmp_path, UNLIMITED)
    monkeypatch.setattr(os, "fsync", fsync)

    assert not spool.put("logs", b"perhaps", 1)
    assert (files(tmp_path), spool.used_bytes, spool.items("logs")) == ([], 0, 0)
    assert spool.put("logs", b"surely", 1)


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[None]:
    """Mount a file system at a folder; skip without permission."""
    folder.mkdir(exist_ok=True)
    result = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, check=False)
    if result.returncode:
        pytest.skip("needs permission to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_rejects_requests_and_loses_none(tmp_path: Path) -> None:
    """Requests that do not fit are rejected, stored ones are returned, and free space is used again."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=256k", "tmpfs"):
        spool = Spool(tmp_path / "disk", UNLIMITED)
        stored = [number for number in range(10) if spool.put("logs", bytes([number]) * 60_000, 1)]
        assert stored == [0, 1, 2, 3]
        assert not list((tmp_path / "disk").rglob("*.part"))
        assert [request[0] for request, _ in drain(spool, "logs")] == stored
        assert spool.put("logs", b"space again" * 1000, 1)
        spool.close()


def test_a_write_beyond_the_file_size_limit_is_rejected(tmp_path: Path) -> None:
    """A write that fails in the middle of a file leaves no part of it."""
    spool = Spool(tmp_path, UNLIMITED)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        accepted = [spool.put("logs", b"x" * size, 1) for size in (100, 100_000, 200)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert accepted == [True, False, True]
    assert [len(request) for request, _ in drain(spool, "logs")] == [100, 200]
    assert files(tmp_path) == []


def test_a_read_only_disk_is_still_read(tmp_path: Path) -> None:
    """New requests are rejected; stored ones are returned once."""
    disk = tmp_path / "disk"
    spool = Spool(disk, UNLIMITED)
    assert spool.put("logs", b"before", 1)
    with mounted(disk, "--bind", str(disk)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(disk)], check=True)
        assert not spool.put("logs", b"after", 1)
        assert drain(spool, "logs") == [(b"before", 1)]
        assert Spool(disk, UNLIMITED).put("logs", b"another", 1) is False
        spool.close()


@pytest.mark.parametrize("kind", ["file", "below a file", "link to nowhere"])
def test_a_folder_that_cannot_be_created_raises_nothing(tmp_path: Path, kind: str) -> None:
    """Requests are rejected without an exception until the folder can be created."""
    obstacle = tmp_path / "taken"
    obstacle.symlink_to("nowhere/at/all") if kind == "link to nowhere" else obstacle.touch()
    folder = obstacle / "spool" if kind == "below a file" else obstacle
    spool = Spool(folder, UNLIMITED)
    assert not spool.put("logs", b"rejected", 1)
    assert spool.oldest("logs") is None
    obstacle.unlink()

    assert spool.put("logs", b"accepted", 1)
    assert drain(spool, "logs") == [(b"accepted", 1)]


def test_running_out_of_descriptors_quarantines_nothing(tmp_path: Path) -> None:
    """Without a free file descriptor nothing is read, but later everything is."""
    losses = LossLog()
    spool = Spool(tmp_path, UNLIMITED, losses)
    spool.put("logs", b"patient", 1)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        oldest, stored = spool.oldest("logs"), spool.put("logs", b"not now", 1)
        late = Spool(tmp_path / "late", UNLIMITED)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert (oldest, stored, losses.losses) == (None, False, [])
    assert drain(spool, "logs") == [(b"patient", 1)]
    assert list((tmp_path / "late").iterdir()) == []
    assert late.put("logs", b"now", 1)


# Other processes.

WRITER = """
import sys
from pathlib import Path
from modeltrace.sidecar.spool import Spool

spool = Spool(Path(sys.argv[1]), 2**30)
for number in range(1_000_000):
    assert spool.put("logs", b"%d" % number * 20_000, number)
    print(number, flush=True)
"""


@contextmanager
def writer_process(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start a process that stores one request after the other and prints the number of each."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("after", [1, 7, 30])
def test_the_next_process_adopts_the_files_of_a_killed_one(tmp_path: Path, after: int) -> None:
    """After SIGKILL during a write all stored requests are complete and in order."""
    with writer_process(tmp_path) as process:
        assert process.stdout
        printed = [int(process.stdout.readline()) for _ in range(after)]
        process.send_signal(signal.SIGKILL)
        printed += [int(line) for line in process.stdout]
        process.wait()
    losses = LossLog()
    spool = Spool(tmp_path, UNLIMITED, losses)
    requests = drain(spool, "logs")

    assert [number for _, number in requests][: len(printed)] == printed
    assert len(requests) <= len(printed) + 1
    assert all(request == b"%d" % number * 20_000 for request, number in requests)
    assert losses.losses == []
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_files_of_a_running_process_are_not_adopted(tmp_path: Path) -> None:
    """A process that starts while another runs adopts nothing; one that starts afterwards does."""
    with writer_process(tmp_path) as process:
        assert process.stdout
        assert process.stdout.readline() == "0\n"
        second = Spool(tmp_path, UNLIMITED)
        assert second.oldest("logs") is None
        process.send_signal(signal.SIGSTOP)  # stopped, but not ended
        assert Spool(tmp_path, UNLIMITED).oldest("logs") is None
        process.send_signal(signal.SIGCONT)
    third = Spool(tmp_path, UNLIMITED)

    assert third.oldest("logs") is not None
    second.close()


def test_processes_that_start_together_adopt_each_file_once(tmp_path: Path) -> None:
    """Processes that start at the same time share the files without loss or duplicates."""
    for group in range(5):
        spool = Spool(tmp_path, UNLIMITED)
        for number in range(20):
            spool.put("logs", b"%d" % (100 * group + number), 1)
        os.close(spool._lock_descriptor)
    with ThreadPoolExecutor(8) as pool:
        spools = list(pool.map(lambda _: Spool(tmp_path, UNLIMITED), range(8)))
    adopted = [int(request) for spool in spools for request, _ in drain(spool, "logs")]

    assert sorted(adopted) == [100 * group + number for group in range(5) for number in range(20)]
    for spool in spools:
        spool.close()
    assert list(tmp_path.iterdir()) == []
