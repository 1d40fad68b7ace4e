"""A headless Chromium, told what to do through its DevTools pipe: what a page really looks like.

No driver and no port: the browser reads commands from file descriptor 3 and answers on 4, one JSON
text each, ended by a zero byte.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.support.waiting import LIMIT_S

NAMES = ("chromium", "chromium-browser", "google-chrome")
NEEDS_BROWSER = "OODINO_NEEDS_BROWSER"
"""Environment variable that lets no test of a page be skipped."""
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --hide-scrollbars "
    "--remote-debugging-pipe"
).split()


def find_browser() -> str | None:
    """The executable, if there is one; where `NEEDS_BROWSER` is set there has to be."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    names = ", ".join(NAMES)
    assert found or NEEDS_BROWSER not in os.environ, f"{NEEDS_BROWSER} is set, and no {names} found"
    return found


class Browser:
    """One tab, which keeps what its pages complain of and ask for."""

    def __init__(self, executable: str, profile: Path) -> None:
        """Start it with a fresh profile folder."""
        read_commands, self._commands = os.pipe()
        self._answers, write_answers = os.pipe()
        command = [executable, *FLAGS, f"--user-data-dir={profile}", "about:blank"]

        def place_pipes() -> None:
            """In the new process, whatever had the file descriptors 3 and 4 before."""
            out_of_the_way = fcntl.fcntl(write_answers, fcntl.F_DUPFD, 5)
            os.dup2(read_commands, 3)
            os.dup2(out_of_the_way, 4)

        self._process = subprocess.Popen(
            command,
            preexec_fn=place_pipes,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_commands)
        os.close(write_answers)
        self._received = b""
        self._number = 0
        self._session = ""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._loaded = 0
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        # Its helpers write into the profile until it has ended by itself.
        os.write(self._commands, b'{"id": 0, "method": "Browser.close"}\0')
        try:
            self._process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._commands)
        os.close(self._answers)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Give a command and wait for its result."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while True:
            message = self._receive()
            if message.get("id") == self._number:
                assert "error" not in message, (method, message["error"])
                return message["result"]

    def open(self, page: Path, width_px: int, height_px: int = 900, *, dark: bool = False) -> None:
        """Load a page in a window of this size, as a phone does if it is narrow."""
        is_phone = width_px < 600
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width_px,
            height=height_px,
            deviceScaleFactor=1,
            mobile=is_phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.complaints.clear()
        self.requests.clear()
        loaded = self._loaded
        self.call("Page.navigate", url=page.absolute().as_uri())
        while self._loaded == loaded:
            self._receive()

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def pdf(self) -> bytes:
        """The page as it is printed, on A4."""
        answer = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)
        return base64.b64decode(answer["data"])

    def _receive(self) -> dict[str, Any]:
        """The next message; what the page does is noted."""
        until = time.monotonic() + LIMIT_S
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._answers], [], [], until - time.monotonic())
            data = os.read(self._answers, 1 << 20) if ready else b""
            assert data, f"the browser did not answer for {LIMIT_S} s, or died"
            self._received += data
        text, _, self._received = self._received.partition(b"\0")
        message = json.loads(text)
        method, params = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded += 1
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(params))
        return message
