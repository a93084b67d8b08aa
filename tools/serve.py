"""Serve the built site on this machine.

    python tools/serve.py [PORT]

On the first free port from 8000 on, or on the one that is named.
"""

import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SITE = Path(__file__).resolve().parents[1] / "_build" / "html"
PORTS = range(8000, 8100)


def listen(ports: list[int] | range) -> ThreadingHTTPServer:
    """A server on the first of the ports that can be had; leaves with one line where none can."""
    for port in ports:
        try:
            return ThreadingHTTPServer(
                ("127.0.0.1", port), partial(SimpleHTTPRequestHandler, directory=SITE)
            )
        except OSError as error:  # in use, or not for this user
            reason = error.strerror
    sys.exit(f"Port {ports[-1]} cannot be had ({reason}); name another: make serve PORT=8080")


def main(name: str | None = None) -> None:
    """Serve until Ctrl-C."""
    if name is not None and not (name.isdigit() and int(name) < 2**16):
        sys.exit(f"PORT must be a number below 65536, got {name!r}")
    with listen(PORTS if name is None else [int(name)]) as server:
        # Not localhost: where that is also ::1, another program may listen there.
        print(f"== http://127.0.0.1:{server.server_port} (Ctrl-C ends)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main(*sys.argv[1:2])
