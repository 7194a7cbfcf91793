"""A TCP conversation that lasts, as two programs.

tcp_echo.py serve ADDRESS          prints "ready", sends back what comes
tcp_echo.py ask ADDRESS            says one word each 20 ms and prints it when it is back, until stdin ends
"""

from __future__ import annotations

import select
import socket
import sys
import time

PORT = 7007


def serve(address: str) -> None:
    with socket.create_server((address, PORT)) as listening:
        print("ready", flush=True)
        connection, _ = listening.accept()
        while data := connection.recv(4096):
            connection.sendall(data)


def ask(address: str) -> None:
    with socket.create_connection((address, PORT), timeout=10) as connection:
        number = 0
        while not select.select([sys.stdin], [], [], 0)[0]:
            number += 1
            connection.sendall(b"%d\n" % number)
            answer = b""
            while not answer.endswith(b"\n"):
                answer += connection.recv(64)
            print(int(answer), flush=True)
            time.sleep(0.02)


if __name__ == "__main__":
    {"serve": serve, "ask": ask}[sys.argv[1]](sys.argv[2])
