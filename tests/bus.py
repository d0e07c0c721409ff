"""D-Bus by hand, for tests whose client says what no library would: calls of the bytes that one wants, and what comes back."""
import socket
import struct

AUTH = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"
INTERFACE = "org.bertd1.Manager"
ERROR = 3  # type of a message


def padded(data, n):
    return data + b"\0" * (-len(data) % n)


def string(text):
    text = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<I", len(text)) + text + b"\0"


def signature(text):
    return bytes([len(text)]) + text.encode() + b"\0"


def strings(words):
    data = b""
    for word in words:
        data = padded(data, 4) + string(word)
    return struct.pack("<I", len(data)) + data


def dictionary(entries):
    """a{sv} of (key, type, value): s text, u number, as words."""
    data = b""
    for key, kind, value in entries:
        data = padded(data, 8) + string(key) + signature(kind)
        data = padded(data, 4) + {"s": string, "u": lambda n: struct.pack("<I", n), "as": strings}[kind](value)
    return padded(struct.pack("<I", len(data)), 8) + data


def call(method, serial, body=b"", types="", body_size=None, path="/org/bertd1", interface=INTERFACE):
    """body_size: what the header says of a body that is not sent, or not whole."""
    fields = b""
    for code, kind, value in ((1, "o", string(path)), (2, "s", string(interface)), (3, "s", string(method)), (8, "g", signature(types))):
        if value != signature(""):
            fields = padded(fields, 8) + bytes([code]) + signature(kind) + value
    header = struct.pack("<cBBBIII", b"l", 1, 0, 1, len(body) if body_size is None else body_size, serial, len(fields))
    return padded(header + fields, 8) + body


def connect(path, timeout=1):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(timeout)
    s.connect(path)
    return s


class Client:
    """One that reads its answers."""

    def __init__(self, path, timeout):
        self.socket, self.data, self.serial = connect(path, timeout), b"", 1
        self.socket.sendall(AUTH)
        while b"OK " not in self.data or not self.data.endswith(b"\r\n"):
            self.more()
        self.data = b""

    def more(self):
        piece = self.socket.recv(1 << 16)
        if not piece:
            raise ConnectionError("closed")
        self.data += piece

    def take(self, n):
        while len(self.data) < n:
            self.more()
        taken, self.data = self.data[:n], self.data[n:]
        return taken

    def call(self, method, body=b"", types=""):
        """(type, body) of the answer; the message was `size` bytes long."""
        self.serial += 1
        self.socket.sendall(call(method, self.serial, body, types))
        header = self.take(16)
        kind, body_size, fields = header[1], *struct.unpack("<I", header[4:8]), *struct.unpack("<I", header[12:16])
        self.size = 16 + fields + -fields % 8 + body_size
        self.fields = self.take(fields + -fields % 8)
        return kind, self.take(body_size)

    def close(self):
        self.socket.close()
