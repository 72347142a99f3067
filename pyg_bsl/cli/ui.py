"""``pyg-bsl ui``."""

from __future__ import annotations

import os
import signal
import webbrowser
from types import FrameType

from pyg_bsl.cli import COMMANDS
from pyg_bsl.cli._store import add_store_flags, check_store, tidy
from pyg_bsl.flags import Parser
from pyg_bsl.tracking.address import is_server
from pyg_bsl.tracking.server import answers, check_port, serve

PORT = 5000


def run(argv: list[str]) -> int:
    """Show the runs in a browser, until interrupted."""
    parser = Parser(prog="pyg-bsl ui", description=f"{COMMANDS['ui'].capitalize()}.")
    add_store_flags(parser)
    parser.add_argument("--port", type=int, default=PORT, help=f"port on this machine [{PORT}]")
    parser.add_argument(
        "--no-browser", dest="browser", action="store_false", help="say the address, open nothing"
    )
    values = parser.parse_all(argv)
    uri = check_store(values)
    if is_server(uri):
        if not answers(uri):
            raise ConnectionError(
                f"No MLflow server answers at {uri}: start it, or look at a local store: --store, "
                "with MLFLOW_TRACKING_URI unset"
            )
        tidy(values)
        _show(uri, values.browser)
        return 0
    check_port(values.port)
    tidy(values)

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # Whatever ends us ends the server; the terminal that is closed, too.
    numbers = [signal.SIGTERM, *([signal.SIGHUP] if os.name == "posix" else [])]
    before = {number: signal.signal(number, stop) for number in numbers}
    print("Starting MLflow ...", flush=True)
    try:
        with serve(uri, values.port) as server:
            _show(f"http://127.0.0.1:{values.port}", values.browser)
            print("Ctrl-C ends it.", flush=True)
            if server.wait() != 0:
                raise RuntimeError("MLflow's server ended by itself")
    except KeyboardInterrupt:
        print("\nEnded.")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _show(address: str, in_browser: bool) -> None:
    print(f"Runs are at {address} (at the top left: Model training)", flush=True)
    if in_browser:
        webbrowser.open(address)
