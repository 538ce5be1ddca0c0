"""Serves ClickHouse's library over HTTP: `_clickhouse.py PORT FOLDER USER PASSWORD`, run by the Python that has chdb.

It answers what a client asks of the server's HTTP interface: a statement in `query` or in the body, data of an INSERT in
the body, settings as parameters, `/ping`. The library is the server's own engine. Statements run side by side, as many as
there are sessions: each has the settings of its statement alone. It refuses what nobody here sends: compressed bodies,
sessions of callers, external tables.
"""

import os
import pathlib
import queue
import re
import signal
import socket
import sys
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from chdb import _chdb

PORT, FOLDER, USER, PASSWORD = int(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4]
# Parameters that are about the request and are no settings.
OF_REQUEST = {"query", "default_format", "wait_end_of_query", "query_id", "user", "password"}
AUTHENTICATION_FAILED = (403, 516, "Code: 516. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)\n")

SESSIONS = 8


class Refused(Exception):
    """What the engine says of a statement that it does not do."""


class Session:
    """What one statement at a time has to itself."""

    def __init__(self, number):
        self.library = _chdb.connect(str(FOLDER / "data"))
        self.body = FOLDER / f"body-{number}"

    def run(self, statement, form="TabSeparated"):
        try:
            return bytes(self.library.query(statement, form).bytes() or b"")
        except RuntimeError as failure:
            raise Refused(str(failure)) from None

    def answer(self, parameters, body):
        """The bytes that one statement gives. Its settings hold for it alone."""
        statement = parameters.get("query", "")
        if not statement:
            statement = body.decode()
        elif body:
            # The library reads data of a statement as text, and from a file as it is.
            self.body.write_bytes(body)
            head, form = re.fullmatch(r"(?s)(.*?)\s+FORMAT\s+(\w+)\s*", statement).groups()
            statement = f"{head} FROM INFILE '{self.body}' FORMAT {form}"
        settings = {name: value for name, value in parameters.items() if name not in OF_REQUEST}
        done = []
        try:
            for name, value in settings.items():
                self.run(f"SET {name} = '{value}'")
                done.append(name)
            return self.run(statement, parameters.get("default_format", "TabSeparated"))
        finally:
            for name in done:
                self.run(f"SET {name} = DEFAULT")


idle = queue.Queue()
for place in range(SESSIONS):
    idle.put(Session(place))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One write for each answer, so that no part of it waits for an acknowledgement.
    wbufsize = -1

    def setup(self):
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()

    def reply(self, status, body, code=None):
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        if code is not None:
            self.send_header("X-ClickHouse-Exception-Code", str(code))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def do_GET(self):
        if urllib.parse.urlsplit(self.path).path == "/ping":
            return self.reply(200, b"Ok.\n")
        return self.do_POST()

    def do_POST(self):
        query = urllib.parse.urlsplit(self.path).query
        parameters = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            # Cut off on its way: nothing of it is done, as by the server.
            self.close_connection = True
            return None
        user = self.headers.get("X-ClickHouse-User") or parameters.get("user", "default")
        password = self.headers.get("X-ClickHouse-Key") or parameters.get("password", "")
        if (user, password) != (USER, PASSWORD):
            status, code, text = AUTHENTICATION_FAILED
            return self.reply(status, text.encode(), code)
        session = idle.get()
        try:
            found = session.answer(parameters, body)
        except Refused as failure:
            text = str(failure)
            code = re.search(r"Code: (\d+)", text)
            return self.reply(500, text.encode() + b"\n", code[1] if code else 0)
        finally:
            idle.put(session)
        return self.reply(200, found)

    def log_message(self, form, *values):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
Server(("127.0.0.1", PORT), Handler).serve_forever()
