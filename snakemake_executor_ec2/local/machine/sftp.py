"""An SFTP server (protocol version 3) on two file descriptors, for use inside a host."""

# Names are bytes here, whatever they are in text, and pathlib has only text.
# ruff: noqa: PTH101, PTH102, PTH104, PTH115, PTH116, PTH118, PTH208
from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable

_INIT, _VERSION = 1, 2
_STATUS, _HANDLE, _DATA, _NAME, _ATTRS = 101, 102, 103, 104, 105
_EXTENDED, _EXTENDED_REPLY = 200, 201
_OK, _EOF, _NO_SUCH_FILE, _PERMISSION_DENIED, _FAILURE, _UNSUPPORTED = 0, 1, 2, 3, 4, 8
_HAS_SIZE, _HAS_OWNER, _HAS_MODE, _HAS_TIMES = 1, 2, 4, 8
_READ, _WRITE, _APPEND, _CREATE, _TRUNCATE, _EXCLUSIVE = 1, 2, 4, 8, 16, 32
_NAMES_A_REPLY = 128


def serve(receive_fd: int, send_fd: int) -> None:
    """Answer requests until the peer closes."""
    _Server(receive_fd, send_fd).run()


class _Request:
    """Reads the fields of one packet, in order."""

    def __init__(self, packet: bytes) -> None:
        self._packet = packet
        self._at = 0

    def u32(self) -> int:
        (value,) = struct.unpack_from(">I", self._packet, self._at)
        self._at += 4
        return int(value)

    def u64(self) -> int:
        (value,) = struct.unpack_from(">Q", self._packet, self._at)
        self._at += 8
        return int(value)

    def string(self) -> bytes:
        length = self.u32()
        self._at += length
        return self._packet[self._at - length : self._at]

    def attributes(self) -> dict[str, tuple[int, ...]]:
        flags = self.u32()
        found: dict[str, tuple[int, ...]] = {}
        if flags & _HAS_SIZE:
            found["size"] = (self.u64(),)
        if flags & _HAS_OWNER:
            found["owner"] = (self.u32(), self.u32())
        if flags & _HAS_MODE:
            found["mode"] = (self.u32(),)
        if flags & _HAS_TIMES:
            found["times"] = (self.u32(), self.u32())
        return found


class _Server:
    def __init__(self, receive_fd: int, send_fd: int) -> None:
        self._input = os.fdopen(receive_fd, "rb", buffering=1 << 16)
        self._send_fd = send_fd
        self._files: dict[bytes, int] = {}
        self._listings: dict[bytes, list[bytes]] = {}
        self._listed: dict[bytes, bytes] = {}
        self._next_handle = 0
        self._handlers: dict[int, Callable[[_Request], bytes]] = {
            3: self._open,
            4: self._close,
            5: self._read,
            6: self._write,
            7: lambda request: _attrs(os.lstat(request.string())),
            8: lambda request: _attrs(os.fstat(self._files[request.string()])),
            9: lambda request: _change(request.string(), request.attributes()),
            10: lambda request: _change(self._files[request.string()], request.attributes()),
            11: self._open_directory,
            12: self._read_directory,
            13: lambda request: _done(os.unlink, request.string()),
            14: lambda request: _make_directory(request.string(), request.attributes()),
            15: lambda request: _done(os.rmdir, request.string()),
            16: lambda request: _names([(_real_path(request.string()), None)]),
            17: lambda request: _attrs(os.stat(request.string())),
            18: lambda request: _rename(request.string(), request.string()),
            19: lambda request: _names([(os.readlink(request.string()), None)]),
            20: lambda request: _done(os.symlink, request.string(), request.string()),
            _EXTENDED: self._extended,
        }

    def run(self) -> None:
        while packet := self._receive():
            if packet[0] == _INIT:
                extensions = _string(b"posix-rename@openssh.com") + _string(b"1")
                extensions += _string(b"fsync@openssh.com") + _string(b"1")
                self._send(bytes([_VERSION]) + struct.pack(">I", 3) + extensions)
                continue
            request = _Request(packet[1:])
            number = struct.pack(">I", request.u32())
            reply = self._answer(packet[0], request)
            self._send(reply[:1] + number + reply[1:])

    def _answer(self, kind: int, request: _Request) -> bytes:
        handler = self._handlers.get(kind)
        if handler is None:
            return _status(_UNSUPPORTED, "not supported")
        try:
            return handler(request)
        except OSError as error:
            return _status(_error_code(error), os.strerror(error.errno or 0))
        except KeyError:
            return _status(_FAILURE, "no such handle")

    def _receive(self) -> bytes:
        header = self._input.read(4)
        if len(header) < 4:
            return b""
        (length,) = struct.unpack(">I", header)
        packet = self._input.read(length)
        return packet if len(packet) == length else b""

    def _send(self, payload: bytes) -> None:
        view = memoryview(struct.pack(">I", len(payload)) + payload)
        while view:
            view = view[os.write(self._send_fd, view) :]

    def _new_handle(self) -> bytes:
        self._next_handle += 1
        return b"%d" % self._next_handle

    def _open(self, request: _Request) -> bytes:
        path, wanted, attributes = request.string(), request.u32(), request.attributes()
        both = _READ | _WRITE
        flags = {both: os.O_RDWR, _WRITE: os.O_WRONLY}.get(wanted & both, os.O_RDONLY)
        for bit, flag in (
            (_APPEND, os.O_APPEND),
            (_CREATE, os.O_CREAT),
            (_TRUNCATE, os.O_TRUNC),
            (_EXCLUSIVE, os.O_EXCL),
        ):
            flags |= flag if wanted & bit else 0
        (mode,) = attributes.get("mode", (0o666,))
        handle = self._new_handle()
        self._files[handle] = os.open(path, flags, stat.S_IMODE(mode))
        return bytes([_HANDLE]) + _string(handle)

    def _close(self, request: _Request) -> bytes:
        handle = request.string()
        if handle in self._files:
            os.close(self._files.pop(handle))
        else:
            del self._listings[handle], self._listed[handle]
        return _status(_OK)

    def _read(self, request: _Request) -> bytes:
        file, offset, length = self._files[request.string()], request.u64(), request.u32()
        data = os.pread(file, min(length, 1 << 18), offset)
        return bytes([_DATA]) + _string(data) if data else _status(_EOF, "end of file")

    def _write(self, request: _Request) -> bytes:
        file, offset, view = self._files[request.string()], request.u64(), memoryview(request.string())
        while view:
            written = os.pwrite(file, view, offset)
            offset, view = offset + written, view[written:]
        return _status(_OK)

    def _open_directory(self, request: _Request) -> bytes:
        path, handle = request.string(), self._new_handle()
        self._listings[handle] = [b".", b"..", *os.listdir(path)]
        self._listed[handle] = path
        return bytes([_HANDLE]) + _string(handle)

    def _read_directory(self, request: _Request) -> bytes:
        handle = request.string()
        names = self._listings[handle]
        if not names:
            return _status(_EOF, "end of directory")
        batch, self._listings[handle] = names[:_NAMES_A_REPLY], names[_NAMES_A_REPLY:]
        found: list[tuple[bytes, os.stat_result | None]] = []
        for name in batch:
            try:
                found.append((name, os.lstat(os.path.join(self._listed[handle], name))))
            except FileNotFoundError:
                continue  # deleted since the directory was read
        return _names(found)

    def _extended(self, request: _Request) -> bytes:
        name = request.string()
        if name == b"posix-rename@openssh.com":
            return _done(os.replace, request.string(), request.string())
        if name == b"fsync@openssh.com":
            return _done(os.fsync, self._files[request.string()])
        return _status(_UNSUPPORTED, "not supported")


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _status(code: int, message: str = "") -> bytes:
    return bytes([_STATUS]) + struct.pack(">I", code) + _string(message.encode()) + _string(b"en")


def _done(call: Callable[..., None], *arguments: bytes | int) -> bytes:
    call(*arguments)
    return _status(_OK)


def _error_code(error: OSError) -> int:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return _NO_SUCH_FILE
    return _PERMISSION_DENIED if error.errno in (errno.EACCES, errno.EPERM) else _FAILURE


def _packed(attributes: os.stat_result | None) -> bytes:
    if attributes is None:
        return struct.pack(">I", 0)
    return struct.pack(
        ">IQIIIII",
        _HAS_SIZE | _HAS_OWNER | _HAS_MODE | _HAS_TIMES,
        attributes.st_size,
        attributes.st_uid,
        attributes.st_gid,
        attributes.st_mode,
        int(attributes.st_atime) & 0xFFFFFFFF,
        int(attributes.st_mtime) & 0xFFFFFFFF,
    )


def _attrs(attributes: os.stat_result) -> bytes:
    return bytes([_ATTRS]) + _packed(attributes)


def _names(entries: list[tuple[bytes, os.stat_result | None]]) -> bytes:
    reply = bytes([_NAME]) + struct.pack(">I", len(entries))
    for name, attributes in entries:
        reply += _string(name) + _string(_long_name(name, attributes)) + _packed(attributes)
    return reply


def _long_name(name: bytes, attributes: os.stat_result | None) -> bytes:
    if attributes is None:
        return name
    mode = stat.filemode(attributes.st_mode)
    return f"{mode} 1 {attributes.st_uid} {attributes.st_gid} {attributes.st_size} ".encode() + name


def _real_path(path: bytes) -> bytes:
    return os.path.realpath(path or b".")


def _change(target: bytes | int, attributes: dict[str, tuple[int, ...]]) -> bytes:
    if "size" in attributes:
        os.truncate(target, attributes["size"][0])
    if "owner" in attributes:
        os.chown(target, *attributes["owner"])
    if "mode" in attributes:
        os.chmod(target, stat.S_IMODE(attributes["mode"][0]))
    if "times" in attributes:
        accessed, modified = attributes["times"]
        os.utime(target, (accessed, modified))
    return _status(_OK)


def _make_directory(path: bytes, attributes: dict[str, tuple[int, ...]]) -> bytes:
    os.mkdir(path, stat.S_IMODE(attributes.get("mode", (0o777,))[0]))
    return _status(_OK)


def _rename(old: bytes, new: bytes) -> bytes:
    # Version 3 promises that a rename replaces nothing.
    if os.path.lexists(new):
        return _status(_FAILURE, "the destination exists")
    os.rename(old, new)
    return _status(_OK)
