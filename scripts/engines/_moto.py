"""Serves S3 by `moto`, one request at a time: `_moto.py PORT`, run by the Python that has moto.

S3 decides a conditional write during the write. Moto looks first and writes later, so that of several requests at once
more than one may create an object; in turn, they cannot.
"""

import sys
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

turn = threading.Lock()
moto = DomainDispatcherApplication(create_backend_app)


def serve(environment, start_response):
    with turn:
        return list(moto(environment, start_response))


# Threads, so that a connection that says nothing holds nobody up.
run_simple("127.0.0.1", int(sys.argv[1]), serve, threaded=True, request_handler=MotoRequestHandler)
