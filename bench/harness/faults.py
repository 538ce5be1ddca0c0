"""A wire between a server and an engine that can be frozen, as when a network swallows everything that is sent.

It refuses nothing that passes through it. To add a fault: a state that `_may_pass` waits for or refuses.
"""

import socket
import threading

PIECE_BYTES = 64 << 10


class Wire:
    """`with Wire(port) as wire:` leads from `wire.port` to a port of this machine."""

    def __init__(self, port):
        self.far_port = port
        self.is_frozen = False
        self.changed = threading.Condition()
        self.open = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        # A thread that waits in accept is not woken by closing alone.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.mend()
        for end in self.open:
            _close(end)

    def freeze(self):
        """From now on bytes and new connections are held."""
        self._set(True)

    def mend(self):
        """What was held arrives, as it does when a network is whole again."""
        self._set(False)

    def _set(self, is_frozen):
        with self.changed:
            self.is_frozen = is_frozen
            self.changed.notify_all()

    def _may_pass(self):
        with self.changed:
            self.changed.wait_for(lambda: not self.is_frozen)

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near):
        self._may_pass()
        try:
            far = socket.create_connection(("127.0.0.1", self.far_port), timeout=5)
        except OSError:
            _close(near)
            return
        for end in (near, far):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.open.append(end)
        threading.Thread(target=self._pass, args=(near, far), daemon=True).start()
        self._pass(far, near)

    def _pass(self, source, sink):
        try:
            while piece := source.recv(PIECE_BYTES):
                self._may_pass()
                sink.sendall(piece)
        except OSError:
            pass
        _close(source)
        _close(sink)


def _close(end):
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
