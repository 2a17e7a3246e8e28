"""A small RTSP server: Motion JPEG over RTP (RFC 2435) in the RTSP connection, for tests.

    python rtsp_server.py --port 8554 --rate 25

Each picture has the grey value `number % 8 * 30 + 20`, so that a test can tell which one it got. It
can be told to misbehave: `status` answers DESCRIBE with that code, `mute` accepts and says nothing,
`stall_after` stops to send after so many pictures but keeps the connection.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import struct
import threading
import time

import cv2
import numpy as np

WIDTH, HEIGHT = 320, 240
PACKET = 1400
_STATUS = {200: "OK", 401: "Unauthorized", 404: "Not Found", 453: "Not Enough Bandwidth"}


def grey_of(number: int) -> int:
    return number % 8 * 30 + 20


class Picture:
    """A JPEG in the pieces that RFC 2435 sends: quantisation tables and scan."""

    def __init__(self, number: int) -> None:
        noise = np.random.default_rng(number).integers(0, 4, (HEIGHT, WIDTH, 3), np.uint8)
        pixels = np.full((HEIGHT, WIDTH, 3), grey_of(number), np.uint8) + noise
        done, encoded = cv2.imencode(".jpg", pixels)
        assert done
        data, at = encoded.tobytes(), 2
        self.tables = b""
        while data[at + 1] != 0xDA:
            length = struct.unpack(">H", data[at + 2 : at + 4])[0]
            if data[at + 1] == 0xDB:
                segment = data[at + 4 : at + 2 + length]
                self.tables += b"".join(segment[n + 1 : n + 65] for n in range(0, len(segment), 65))
            at += 2 + length
        at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
        self.scan = data[at : data.rindex(b"\xff\xd9")]

    def packets(self) -> list[tuple[bool, bytes]]:
        """(last, payload) of each RTP packet."""
        pieces, at = [], 0
        while at < len(self.scan):
            header = struct.pack(">II", at, 0x01FF0000 | (WIDTH // 8) << 8 | HEIGHT // 8)
            tables = struct.pack(">HH", 0, len(self.tables)) + self.tables if at == 0 else b""
            piece = self.scan[at : at + PACKET - len(tables)]
            at += len(piece)
            pieces.append((at >= len(self.scan), header + tables + piece))
        return pieces


class RtspServer:
    """Serves one stream to each client; `close` cuts every connection, as a pulled cable does."""

    def __init__(
        self,
        port: int = 0,
        *,
        rate_hz: float = 50.0,
        status: int = 200,
        mute: bool = False,
        stall_after: int = 0,
    ) -> None:
        self.rate_hz, self.status, self.mute, self.stall_after = rate_hz, status, mute, stall_after
        self._pictures = [Picture(n).packets() for n in range(8)]
        self._listener = socket.create_server(("127.0.0.1", port), backlog=8)
        self.port = self._listener.getsockname()[1]
        self.url = f"rtsp://127.0.0.1:{self.port}/belt"
        self._clients: list[socket.socket] = []
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._closed = True
        for each in (self._listener, *self._clients):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client.makefile("rb") as stream:
            while first := stream.read(1):
                if first == b"$":  # the client's reports on what it received
                    _, length = struct.unpack(">BH", stream.read(3))
                    stream.read(length)
                    continue
                lines = [first + stream.readline()]
                while (line := stream.readline()).strip():
                    lines.append(line)
                if self.mute:
                    continue
                method = lines[0].split()[0].decode()
                headers = dict(line.decode().strip().split(": ", 1) for line in lines[1:])
                self._answer(client, method, headers["CSeq"])
                if method == "PLAY":
                    threading.Thread(target=self._send, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket, method: str, cseq: str) -> None:
        status, extra, body = 200, "", ""
        if method == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            status = self.status
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=belt\r\nt=0 0\r\n"
                "m=video 0 RTP/AVP 26\r\na=control:track1\r\n"
            )
            extra = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            if status != 200:
                extra, body = 'WWW-Authenticate: Basic realm="belt"\r\n', ""
        elif method == "SETUP":
            extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
        else:
            extra = "Session: 1\r\n"
        head = f"RTSP/1.0 {status} {_STATUS[status]}\r\nCSeq: {cseq}\r\n{extra}\r\n"
        client.sendall((head + body).encode())

    def _send(self, client: socket.socket) -> None:
        start, number, sequence = time.monotonic(), 0, 0
        with contextlib.suppress(OSError):
            while not self._closed and not (self.stall_after and number >= self.stall_after):
                stamp = round(number / self.rate_hz * 90_000)
                for last, payload in self._pictures[number % 8]:
                    head = struct.pack(">BBHII", 0x80, 26 | last << 7, sequence & 0xFFFF, stamp, 7)
                    packet = head + payload
                    client.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                    sequence += 1
                number += 1
                time.sleep(max(0.0, start + number / self.rate_hz - time.monotonic()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8554)
    parser.add_argument("--rate", type=float, default=25.0)
    args = parser.parse_args()
    print(RtspServer(args.port, rate_hz=args.rate).url, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
