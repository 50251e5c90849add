"""What every RemoteHost must do: the paramiko adapter, on two real servers, and the fake."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from typing import BinaryIO

import pytest

from snakemake_executor_ec2.errors import ConnectionLost, InstanceLost, StagingError
from snakemake_executor_ec2.ports import RemoteHost
from tests.contract.rigs import SILENCE_S, Rig

# --- commands -----------------------------------------------------------------------------


def test_run_tells_exit_code_and_both_streams(rig: Rig) -> None:
    """A command that fails is no error of the connection's."""
    done = rig.host.run("echo out; echo err >&2; exit 3")
    assert (done.exit_code, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


def test_streams_are_binary_safe(rig: Rig) -> None:
    """Every byte value arrives as it was sent, more of them than any buffer holds."""
    data = bytes(range(256)) * 20_000
    assert rig.host.run("cat", stdin=data, most_bytes=len(data)).stdout == data


@pytest.mark.parametrize("number", [9, 14, 15])  # not 1, which nohup has everybody ignore
def test_a_signal_is_a_negative_exit_code(rig: Rig, number: int) -> None:
    """A command that was killed says by what."""
    assert rig.host.run(f"kill -{number} $$; sleep 5").exit_code == -number


def test_much_standard_error_blocks_nothing(rig: Rig) -> None:
    """Nobody has to read standard error for standard output to arrive."""
    command = "head -c 6000000 /dev/zero >&2; head -c 3000000 /dev/zero"
    assert len(rig.host.run(command, most_bytes=3_000_000).stdout) == 3_000_000
    assert rig.host.download(command, lambda stream: len(stream.read())) == 3_000_000
    assert rig.host.upload(f"{command}; cat >/dev/null", lambda _: None).exit_code == 0


def test_a_command_that_takes_too_long_is_given_up(rig: Rig) -> None:
    """`timeout_s` holds for the output and for the end."""
    for command in ("sleep 2", "exec >&- 2>&-; sleep 2"):
        host = rig.connect()
        with pytest.raises(ConnectionLost):
            host.run(command, timeout_s=0.3)
        host.close()


def test_several_commands_at_once(rig: Rig) -> None:
    """Threads share a connection."""
    results: dict[int, bytes] = {}

    def run(number: int) -> None:
        results[number] = rig.host.run(f"sleep 0.2; echo {number}").stdout

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: f"{number}\n".encode() for number in range(6)}


def test_a_command_is_spoken_with(rig: Rig) -> None:
    """Line by line, and more in one go than any buffer holds."""
    command = 'read n; head -c "$n" | wc -c; read word; echo "got $word"; exit 3'
    conversation = rig.host.converse(command)
    conversation.send(b"3000000\n" + bytes(3_000_000))
    assert (conversation.line(None) or b"").strip() == b"3000000"
    conversation.send(b"word\n")
    assert conversation.line(time.monotonic() + 10) == b"got word"
    assert conversation.line(None) is None
    assert conversation.end().exit_code == 3


def test_a_command_that_does_not_answer_is_given_up(rig: Rig) -> None:
    """At its deadline; what it says after that would be the answer to something else."""
    host = rig.connect()
    conversation = host.converse("read line; sleep 3; echo late")
    conversation.send(b"a line\n")
    with pytest.raises(ConnectionLost):
        conversation.line(time.monotonic() + 0.3)
    host.close()


def test_a_conversation_breaks_with_its_connection(rig: Rig) -> None:
    """A thread that waits for a line hears of it."""
    conversation = rig.host.converse("read line; read line")
    threading.Timer(0.3, rig.cut).start()
    with pytest.raises(ConnectionLost):
        conversation.line(None)


# --- transfers ----------------------------------------------------------------------------


def test_a_large_file_goes_up_and_comes_down(rig: Rig) -> None:
    """100 MB survive the round trip."""
    piece = os.urandom(1_000_000)
    sent = hashlib.sha256()

    def write(stream: BinaryIO) -> None:
        for _ in range(100):
            stream.write(piece)
            sent.update(piece)

    def read(stream: BinaryIO) -> str:
        received = hashlib.sha256()
        while data := stream.read(1 << 20):
            received.update(data)
        return received.hexdigest()

    assert rig.host.upload('cat > "$HOME/big"', write).exit_code == 0
    assert rig.host.download('cat "$HOME/big"', read) == sent.hexdigest()


def test_upload_to_a_command_that_stops_reading(rig: Rig) -> None:
    """The writer sees BrokenPipeError, the caller how the command ended."""
    seen: list[type[BaseException]] = []

    def write(stream: BinaryIO) -> None:
        try:
            for _ in range(1000):
                stream.write(bytes(100_000))
        except BrokenPipeError as error:
            seen.append(type(error))
            raise

    done = rig.host.upload("head -c 10 >/dev/null; echo full >&2; exit 4", write)
    assert (done.exit_code, done.stderr) == (4, b"full\n")
    assert seen == [BrokenPipeError]


def test_upload_passes_the_writers_own_error_on(rig: Rig) -> None:
    """An error of the caller's is the caller's."""

    def write(stream: BinaryIO) -> None:
        stream.write(b"begun")
        raise KeyError("mine")

    with pytest.raises(KeyError):
        rig.host.upload("cat >/dev/null", write)
    assert rig.host.run("echo well").stdout == b"well\n"


def test_download_of_a_command_that_fails(rig: Rig) -> None:
    """Its last words are the error, also where the reader has stumbled over the cut first."""

    def read(stream: BinaryIO) -> None:
        if len(stream.read()) < 10:
            raise ValueError("cut short")

    with pytest.raises(StagingError, match="no such thing"):
        rig.host.download("echo part; echo no such thing >&2; exit 1", read)


def test_download_passes_the_readers_own_error_on(rig: Rig) -> None:
    """A reader that refuses what comes need not wait for the rest."""

    def read(stream: BinaryIO) -> None:
        stream.read(10)
        raise KeyError("mine")

    with pytest.raises(KeyError):
        rig.host.download("cat /dev/zero", read)
    assert rig.host.run("echo well").stdout == b"well\n"


def test_a_machine_that_talks_without_end_is_given_up(rig: Rig) -> None:
    """An answer, a line, or what follows the files that were asked for: nothing of it fills the memory."""
    with pytest.raises(InstanceLost, match="an answer without end"):
        rig.connect().run("cat /dev/zero")
    with pytest.raises(InstanceLost, match="a line without end"):
        list(rig.connect().lines("cat /dev/zero"))
    with pytest.raises(InstanceLost, match="files without end"):
        rig.connect().download("cat /dev/zero", lambda stream: stream.read(10))


def test_an_answer_may_be_as_long_as_it_is_expected_to_be(rig: Rig) -> None:
    """Not a byte more."""
    command = "head -c 100000 /dev/zero"
    assert len(rig.host.run(command, most_bytes=100_000).stdout) == 100_000
    with pytest.raises(InstanceLost):
        rig.connect().run(command, most_bytes=99_999)


def test_download_sends_standard_input(rig: Rig) -> None:
    """What to fetch is told on standard input."""
    assert rig.host.download("tr a-z A-Z", lambda stream: stream.read(), stdin=b"abc") == b"ABC"


# --- lines --------------------------------------------------------------------------------


def test_lines_come_as_they_are_printed(rig: Rig) -> None:
    """A line is there before the command has ended, and the last one needs no newline."""
    lines = rig.host.lines("echo one; sleep 0.5; printf 'two\\n\\nthree'")
    assert next(lines) == b"one"
    first = time.monotonic()
    assert list(lines) == [b"two", b"", b"three"]
    assert time.monotonic() - first > 0.3


def test_lines_sends_heartbeats(rig: Rig) -> None:
    """A command that reads its standard input hears a newline now and then."""
    lines = rig.host.lines("read a && read b && echo two beats", heartbeat_s=0.1)
    assert list(lines) == [b"two beats"]


def test_lines_gives_a_silent_command_up(rig: Rig) -> None:
    """Silence on a connection that should pulse means that it is lost."""
    began = time.monotonic()
    with pytest.raises(ConnectionLost):
        list(rig.host.lines("echo one; read -r _", silence_s=0.4))
    assert time.monotonic() - began < 2.5


def test_lines_are_not_lost_to_a_slow_reader(rig: Rig) -> None:
    """Whoever takes the lines may take longer than the silence that is suffered."""
    lines = rig.host.lines("for n in 1 2 3; do echo $n; sleep 0.1; done", silence_s=0.4)
    seen = []
    for line in lines:
        seen.append(line)
        time.sleep(0.5)
    assert seen == [b"1", b"2", b"3"]


def test_lines_of_a_command_that_fails(rig: Rig) -> None:
    """Its last words are the error, after the lines that it printed."""
    lines = rig.host.lines("echo one; echo broken >&2; exit 2")
    assert next(lines) == b"one"
    with pytest.raises(StagingError, match="broken"):
        next(lines)


# --- connections that break ---------------------------------------------------------------


def _run(host: RemoteHost) -> None:
    host.run("while sleep 0.2; do echo on; done")


def _upload(host: RemoteHost) -> None:
    def write(stream: BinaryIO) -> None:
        while True:
            stream.write(bytes(1 << 20))

    host.upload("cat >/dev/null", write)


def _download(host: RemoteHost) -> None:
    def read(stream: BinaryIO) -> None:
        while stream.read(1 << 20):
            pass

    host.download("cat /dev/zero", read)


def _lines(host: RemoteHost) -> None:
    for _ in host.lines("while read -r _; do echo pulse; done", heartbeat_s=0.1):
        pass


@pytest.mark.parametrize("call", [_run, _upload, _download, _lines])
def test_a_cut_connection_is_lost_at_once(rig: Rig, call: Callable[[RemoteHost], None]) -> None:
    """Whatever is under way ends with ConnectionLost."""
    timer = threading.Timer(0.3, rig.cut)
    timer.start()
    began = time.monotonic()
    with pytest.raises(ConnectionLost):
        call(rig.host)
    assert 0.2 < time.monotonic() - began < 2.5
    timer.join()


@pytest.mark.parametrize("call", [_run, _upload, _download, _lines])
def test_a_half_open_connection_is_noticed(rig: Rig, call: Callable[[RemoteHost], None]) -> None:
    """A connection over which nothing comes any more, although it is asked, is lost after a while."""
    timer = threading.Timer(0.2, rig.freeze)
    timer.start()
    began = time.monotonic()
    with pytest.raises(ConnectionLost):
        call(rig.host)
    assert 0.8 < time.monotonic() - began < 4.5
    timer.join()


@pytest.mark.parametrize("call", [_run, _upload, _download, _lines])
def test_close_ends_what_other_threads_wait_for(rig: Rig, call: Callable[[RemoteHost], None]) -> None:
    """`close` may be called from any thread."""
    timer = threading.Timer(0.2, rig.host.close)
    timer.start()
    with pytest.raises(ConnectionLost):
        call(rig.host)
    timer.join()
    with pytest.raises(ConnectionLost):
        rig.host.run("echo again")


def test_a_quiet_connection_lives(rig: Rig) -> None:
    """A command that prints nothing for long is no lost connection."""
    assert rig.host.run(f"sleep {1.3 * SILENCE_S}; echo there").stdout == b"there\n"
