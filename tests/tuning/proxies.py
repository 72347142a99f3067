"""A server that can go away, though it is not ours to stop: a door to it that is shut."""

import socket
import threading
from contextlib import suppress


class Proxy:
    """Passes connections to its port on to ``target``, while it is open."""

    def __init__(self, target):
        self.target, self.port = target, 0

    def open(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port, self.ends = self.listener.getsockname()[1], []
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()
        return self

    def shut(self):
        for end in (self.listener, *self.ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, listener):
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self.target)
                self.ends += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source, sink):
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
