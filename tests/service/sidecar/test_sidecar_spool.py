"""Requests on a real disk: kept in order, within a limit, through crashes, and past whatever else is in the folder."""

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

from modeltrace.otlp.client import SIGNALS, Signal
from modeltrace.sidecar.spool import Spool
from modeltrace.sidecar.spool_files import HEADER_BYTES, header

PLENTY = 2**30


class Losses:
    """What a spool says is lost."""

    def __init__(self) -> None:
        self.told: list[tuple[Signal, int, str]] = []

    def __call__(self, signal: Signal, items: int, why: str) -> None:
        """Be told."""
        self.told.append((signal, items, why))

    def items(self, signal: Signal) -> int:
        """Those of a signal."""
        return sum(items for each, items, _ in self.told if each == signal)


def drain(spool: Spool, signal: Signal = "traces") -> list[tuple[bytes, int]]:
    """Take everything, as one does who sends it."""
    taken = []
    while stored := spool.oldest(signal):
        taken.append((stored.body, stored.items))
        spool.remove(stored)
    return taken


def files(folder: Path) -> list[Path]:
    """Every file in the spool but locks."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")


def test_requests_come_back_in_order_and_by_signal(tmp_path: Path) -> None:
    """First in, first out, each with its items."""
    spool = Spool(tmp_path, PLENTY)
    for number in range(10):
        assert spool.put("traces", b"t%d" % number, number)
        assert spool.put("logs", b"l%d" % number, 1)

    assert (spool.items("traces"), spool.items("logs"), spool.items("metrics")) == (45, 10, 0)
    assert drain(spool) == [(b"t%d" % number, number) for number in range(10)]
    assert drain(spool, "logs") == [(b"l%d" % number, 1) for number in range(10)]
    assert (spool.items("traces"), spool.items("logs"), spool.used_bytes) == (0, 0, 0)
    assert files(tmp_path) == []


def test_only_the_user_may_read_it(tmp_path: Path) -> None:
    """Inputs of predictions are in the requests."""
    folder = tmp_path / "deep" / "spool"
    spool = Spool(folder, PLENTY)
    spool.put("logs", b"private", 1)

    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())] == [0o700, 0o700]
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*/*")] == [0o600, 0o600]


def test_a_spool_that_is_closed_empty_leaves_nothing(tmp_path: Path) -> None:
    """No folder stays behind for each process that ever ran."""
    spool = Spool(tmp_path, PLENTY)
    spool.put("logs", b"gone soon", 1)
    drain(spool, "logs")
    spool.close()
    spool.close()

    assert list(tmp_path.iterdir()) == []


requests = st.binary(max_size=64)
items = st.integers(0, 10**6)
signals = st.sampled_from(SIGNALS)


class SpoolMachine(RuleBasedStateMachine):
    """A spool beside three queues in memory."""

    @initialize()
    def begin(self) -> None:
        """Start empty."""
        self.temporary = TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.losses = Losses()
        self.spool = Spool(self.folder, PLENTY, self.losses)
        self.model: dict[Signal, deque[tuple[bytes, int]]] = {name: deque() for name in SIGNALS}

    @rule(name=signals, request=requests, number=items)
    def put(self, name: Signal, request: bytes, number: int) -> None:
        """Keep one."""
        assert self.spool.put(name, request, number)
        self.model[name].append((request, number))

    @rule(name=signals)
    def oldest(self, name: Signal) -> None:
        """Look, which changes nothing."""
        found = self.spool.oldest(name)
        assert (found and (found.body, found.items)) == (self.model[name][0] if self.model[name] else None)

    @rule(name=signals)
    def remove(self, name: Signal) -> None:
        """Take one; to take it twice takes no other."""
        if found := self.spool.oldest(name):
            self.spool.remove(found)
            self.spool.remove(found)
            self.model[name].popleft()

    @rule(closed=st.booleans())
    def reopen(self, closed: bool) -> None:
        """Another process takes over."""
        if closed:
            self.spool.close()
        else:  # as the end of a process does
            os.close(self.spool._lock_descriptor)
        self.spool = Spool(self.folder, PLENTY, self.losses)

    @invariant()
    def counts(self) -> None:
        """Items and bytes are right, and nothing is lost or set aside."""
        for name, waiting in self.model.items():
            assert self.spool.items(name) == sum(number for _, number in waiting)
        size = sum(len(request) + HEADER_BYTES for waiting in self.model.values() for request, _ in waiting)
        assert self.spool.used_bytes == size == sum(path.stat().st_size for path in files(self.folder))
        assert self.losses.told == []
        assert self.spool.damaged_files == 0

    def teardown(self) -> None:
        """Leave nothing."""
        self.spool.close()
        self.temporary.cleanup()


TestAnySequence = SpoolMachine.TestCase
TestAnySequence.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(0, 200),
    steps=st.lists(st.tuples(signals, requests, items, st.booleans()), max_size=30),
)
def test_over_the_limit_the_oldest_go_and_are_counted(limit: int, steps: list[tuple[Signal, bytes, int, bool]]) -> None:
    """Files never outgrow the limit, what was handed out stays, and kept and lost add up to what was taken."""
    losses = Losses()
    taken: Counter[Signal] = Counter()
    with TemporaryDirectory() as folder:
        spool = Spool(Path(folder), limit, losses)
        out = {}
        for name, request, number, look in steps:
            if look and (stored := spool.oldest(name)):
                out[name] = stored
            if spool.put(name, request, number):
                taken[name] += number
            assert spool.used_bytes == sum(path.stat().st_size for path in files(Path(folder))) <= limit
        assert {why for _, _, why in losses.told} <= {"spool_full"}
        for name in SIGNALS:
            assert spool.items(name) + losses.items(name) == taken[name]
            if name in out:
                assert spool.oldest(name) == out[name]
        spool.close()


def test_the_oldest_of_any_signal_goes_first(tmp_path: Path) -> None:
    """Age decides, not the signal."""
    losses = Losses()
    spool = Spool(tmp_path, 3 * (HEADER_BYTES + 10), losses)
    for name, letter in (("logs", b"a"), ("traces", b"b"), ("logs", b"c"), ("metrics", b"d"), ("metrics", b"e")):
        assert spool.put(name, letter * 10, 5)  # type: ignore[arg-type]

    assert losses.told == [("logs", 5, "spool_full"), ("traces", 5, "spool_full")]
    assert [len(drain(spool, name)) for name in SIGNALS] == [0, 2, 1]


def test_a_request_larger_than_the_limit_is_not_taken(tmp_path: Path) -> None:
    """And nothing makes way for it."""
    losses = Losses()
    spool = Spool(tmp_path, 100, losses)

    assert spool.put("logs", b"small", 1)
    assert not spool.put("logs", b"large" * 20, 1)
    assert (drain(spool, "logs"), losses.told) == ([(b"small", 1)], [])


# What else may be in the folder.


@contextmanager
def left_by_the_dead(folder: Path) -> Iterator[Path]:
    """A subfolder as a process leaves it that is no more."""
    home = folder / "12345-0123456789abcdef"
    home.mkdir(mode=0o700)
    (home / "lock").touch()
    yield home


file_names = st.one_of(
    st.from_regex(rb"\A[0-9]{0,31}\.(traces|logs|metrics|spans|)\.?[0-9]{0,16}(\.damaged|\.part|)\Z"),
    st.binary(min_size=1, max_size=40).filter(lambda name: b"/" not in name and b"\0" not in name),
).filter(lambda name: name not in (b".", b"..", b"lock"))


@settings(max_examples=60, deadline=None)
@given(found=st.dictionaries(file_names, st.binary(max_size=40), max_size=8))
def test_hostile_files_are_never_sent_and_never_crash_it(found: dict[bytes, bytes]) -> None:
    """Whatever lies in a dead process's folder: none of it comes back as a request, and what is kept still does."""
    losses = Losses()
    with TemporaryDirectory() as name:
        folder = Path(name)
        with left_by_the_dead(folder) as home:
            for file_name, content in found.items():
                Path(os.fsdecode(os.fsencode(home) + b"/" + file_name)).write_bytes(content)
        spool = Spool(folder, PLENTY, losses)
        assert all(spool.put(each, b"mine", 1) for each in SIGNALS)
        assert [drain(spool, each) for each in SIGNALS] == [[(b"mine", 1)]] * 3
        assert {why for _, _, why in losses.told} <= {"damaged"}
        assert [spool.items(each) for each in SIGNALS] == [0, 0, 0]
        assert len(losses.told) == spool.damaged_files
        spool.close()


@settings(max_examples=60, deadline=None)
@given(request=st.binary(max_size=40), data=st.data())
def test_a_file_that_is_not_as_it_was_written_is_set_aside(request: bytes, data: st.DataObject) -> None:
    """Cut at any place, any bit turned, anything added: its items are told, the next one comes."""
    losses = Losses()
    with TemporaryDirectory() as name:
        spool = Spool(Path(name), PLENTY, losses)
        spool.put("logs", request, 7)
        (path,) = files(Path(name))
        content = bytearray(path.read_bytes())
        match data.draw(st.sampled_from(["cut", "turned", "added"])):
            case "cut":
                del content[data.draw(st.integers(0, len(content) - 1)) :]
            case "turned":
                content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            case "added":
                content += data.draw(st.binary(min_size=1, max_size=10))
        path.write_bytes(content)
        spool.put("logs", b"the next", 1)

        assert drain(spool, "logs") == [(b"the next", 1)]
        assert (spool.damaged_files, losses.told, spool.items("logs")) == (1, [("logs", 7, "damaged")], 0)
        assert [each.read_bytes() for each in files(Path(name))] == [bytes(content)]
        spool.close()


def test_what_was_set_aside_is_the_first_to_go(tmp_path: Path) -> None:
    """It is kept to be looked at as long as there is room, also by the next process."""
    spool = Spool(tmp_path, 2 * (HEADER_BYTES + 10))
    spool.put("logs", b"x" * 10, 1)
    files(tmp_path)[0].write_bytes(b"y" * (HEADER_BYTES + 10))
    assert spool.oldest("logs") is None
    spool.close()
    spool = Spool(tmp_path, 2 * (HEADER_BYTES + 10))
    assert [path.suffix for path in files(tmp_path)] == [".damaged"]

    assert spool.put("logs", b"a" * 10, 1)
    assert spool.put("logs", b"b" * 10, 1)
    assert drain(spool, "logs") == [(b"a" * 10, 1), (b"b" * 10, 1)]
    assert spool.damaged_files == 0


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
def test_what_is_no_file_is_set_aside(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A pipe that nobody writes to, a folder, a link: neither waited for nor followed."""
    with left_by_the_dead(tmp_path) as home:
        make(home / "1.logs.5")
    losses = Losses()
    spool = Spool(tmp_path, PLENTY, losses)
    spool.put("logs", b"mine", 1)

    assert drain(spool, "logs") == [(b"mine", 1)]
    assert losses.told == [("logs", 5, "damaged")]


def test_what_is_not_ours_stays_as_it_is(tmp_path: Path) -> None:
    """Files and folders of others, in the folder and in a dead process's subfolder."""
    with left_by_the_dead(tmp_path) as home:
        (home / "notes.txt").write_text("of somebody")
        (tmp_path / "notes.txt").write_text("of somebody else")
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "1.logs.5").touch()
    Spool(tmp_path, PLENTY).close()

    assert (home / "notes.txt").read_text() == "of somebody"
    assert (tmp_path / "notes.txt").read_text() == "of somebody else"
    assert (tmp_path / "photos" / "1.logs.5").exists()


def test_a_folder_that_was_cleared_away_is_made_again(tmp_path: Path) -> None:
    """What was in it is told as lost, what comes after is kept."""
    losses = Losses()
    folder = tmp_path / "spool"
    spool = Spool(folder, PLENTY, losses)
    spool.put("logs", b"cleared away", 3)
    folder.rename(tmp_path / "elsewhere")

    assert spool.put("logs", b"after", 1)
    assert losses.told == [("logs", 3, "damaged")]
    assert (drain(spool, "logs"), spool.used_bytes) == ([(b"after", 1)], 0)


def test_a_part_that_was_cleared_away_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something that tidies up takes the file that is being written; what waits already is as it was."""
    losses = Losses()
    spool = Spool(tmp_path, PLENTY, losses)
    assert spool.put("logs", b"before", 1)
    with monkeypatch.context() as tidying:
        tidying.setattr(os, "fsync", lambda _: [path.unlink() for path in tmp_path.rglob("*.part")])
        assert not spool.put("logs", b"tidied up", 1)
    assert spool.put("logs", b"after", 1)

    assert losses.told == []
    assert drain(spool, "logs") == [(b"before", 1), (b"after", 1)]


# What the disk may do.


@pytest.mark.parametrize("failing", [1, 2])
def test_what_may_not_survive_a_crash_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """A disk that cannot promise the file, or its name: nothing of it stays, or it would be sent twice."""
    calls = count(1)

    def fsync(_: int) -> None:
        if next(calls) == failing:
            raise OSError(errno.EIO, "as told")

    spool = Spool(tmp_path, PLENTY)
    monkeypatch.setattr(os, "fsync", fsync)

    assert not spool.put("logs", b"perhaps", 1)
    assert (files(tmp_path), spool.used_bytes, spool.items("logs")) == ([], 0, 0)
    assert spool.put("logs", b"surely", 1)


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[None]:
    """Something mounted at a folder, if this user may."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_takes_nothing_and_loses_nothing(tmp_path: Path) -> None:
    """What does not fit is not taken; what was there before comes back; when there is room again, it goes on."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=256k", "tmpfs"):
        spool = Spool(tmp_path / "disk", PLENTY)
        kept = [number for number in range(10) if spool.put("logs", bytes([number]) * 60_000, 1)]
        assert kept == [0, 1, 2, 3]
        assert not list((tmp_path / "disk").rglob("*.part"))
        assert [request[0] for request, _ in drain(spool, "logs")] == kept
        assert spool.put("logs", b"room again" * 1000, 1)
        spool.close()


def test_a_file_that_may_not_grow_takes_nothing(tmp_path: Path) -> None:
    """A limit in the midst of a file, as a full disk is, leaves no part of it."""
    spool = Spool(tmp_path, PLENTY)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        answers = [spool.put("logs", b"x" * size, 1) for size in (100, 100_000, 200)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert answers == [True, False, True]
    assert [len(request) for request, _ in drain(spool, "logs")] == [100, 200]
    assert files(tmp_path) == []


def test_a_disk_that_turns_read_only_is_read_to_its_end(tmp_path: Path) -> None:
    """Nothing more is taken; what is there is handed out once by this process."""
    disk = tmp_path / "disk"
    spool = Spool(disk, PLENTY)
    assert spool.put("logs", b"before", 1)
    with mounted(disk, "--bind", str(disk)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(disk)], check=True)
        assert not spool.put("logs", b"after", 1)
        assert drain(spool, "logs") == [(b"before", 1)]
        assert Spool(disk, PLENTY).put("logs", b"another", 1) is False
        spool.close()


@pytest.mark.parametrize("kind", ["file", "below a file", "link to nowhere"])
def test_a_folder_that_cannot_be_is_no_reason_to_stop(tmp_path: Path, kind: str) -> None:
    """Nothing is taken, and nothing raised, until it can be."""
    taken = tmp_path / "taken"
    taken.symlink_to("nowhere/at/all") if kind == "link to nowhere" else taken.touch()
    folder = taken / "spool" if kind == "below a file" else taken
    spool = Spool(folder, PLENTY)
    assert not spool.put("logs", b"in vain", 1)
    assert spool.oldest("logs") is None
    taken.unlink()

    assert spool.put("logs", b"at last", 1)
    assert drain(spool, "logs") == [(b"at last", 1)]


def test_running_out_of_files_sets_nothing_aside(tmp_path: Path) -> None:
    """A process without a free descriptor reads nothing now, and everything later."""
    spool = Spool(tmp_path, PLENTY)
    spool.put("logs", b"patient", 1)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        found, taken = spool.oldest("logs"), spool.put("logs", b"not now", 1)
        late = Spool(tmp_path / "late", PLENTY)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert (found, taken, spool.damaged_files) == (None, False, 0)
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
def writing(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that puts one request after the other, and says so after each."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("after", [1, 7, 30])
def test_what_a_killed_process_kept_is_found_by_the_next(tmp_path: Path, after: int) -> None:
    """SIGKILL in the midst of a put: every request that was taken is there, whole and in order, and no torn one."""
    with writing(tmp_path) as process:
        assert process.stdout
        said = [int(process.stdout.readline()) for _ in range(after)]
        process.send_signal(signal.SIGKILL)
        said += [int(line) for line in process.stdout]
        process.wait()
    spool = Spool(tmp_path, PLENTY)
    found = drain(spool, "logs")

    assert [number for _, number in found][: len(said)] == said
    assert len(found) <= len(said) + 1
    assert all(request == b"%d" % number * 20_000 for request, number in found)
    assert spool.damaged_files == 0
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_live_process_keeps_is_left_to_it(tmp_path: Path) -> None:
    """A second process takes nothing over while the first one runs; the one that starts after its end does."""
    with writing(tmp_path) as process:
        assert process.stdout
        assert process.stdout.readline() == "0\n"
        second = Spool(tmp_path, PLENTY)
        assert second.oldest("logs") is None
        process.send_signal(signal.SIGSTOP)  # slow is not dead
        assert Spool(tmp_path, PLENTY).oldest("logs") is None
        process.send_signal(signal.SIGCONT)
    third = Spool(tmp_path, PLENTY)

    assert third.oldest("logs") is not None
    second.close()


def test_of_many_that_start_at_once_each_file_finds_one(tmp_path: Path) -> None:
    """Those who take over at the same time share, and neither lose nor double anything."""
    for group in range(5):
        spool = Spool(tmp_path, PLENTY)
        for number in range(20):
            spool.put("logs", b"%d" % (100 * group + number), 1)
        os.close(spool._lock_descriptor)
    with ThreadPoolExecutor(8) as pool:
        spools = list(pool.map(lambda _: Spool(tmp_path, PLENTY), range(8)))
    found = [int(request) for spool in spools for request, _ in drain(spool, "logs")]

    assert sorted(found) == [100 * group + number for group in range(5) for number in range(20)]
    for spool in spools:
        spool.close()
    assert list(tmp_path.iterdir()) == []
