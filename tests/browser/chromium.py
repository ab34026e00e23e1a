"""The Chromium that the browser tests drive. `python -m tests.browser.chromium` sees that there is one, as far as it can."""

import os
import shutil
import subprocess
import sys

# The first is what Playwright itself starts: the same engine, without the windows of a browser. It takes a fifth less CPU.
SHELL = "chromium-headless-shell"
NAMES = (SHELL, "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Chromium obeys only the last list that it gets: Playwright's own (as of 1.64), and two popups of the address bar, which
# nobody sees here. Each window loads them into a process of their own, which takes half a second of CPU.
_DISABLED = (
    *("AimEnabled", "AvoidCorsURLLoaderRestartOnRedirect", "AvoidUnnecessaryBeforeUnloadCheckSync"),
    *(
        "DestroyProfileOnBrowserClose",
        "HttpsFirstBalancedModeAutoEnable",
        "HttpsUpgrades",
        "LensOverlay",
        "MediaRouter",
    ),
    *(
        "NetworkTimeServiceQuerying",
        "OptimizationHints",
        "PaintHolding",
        "PreconnectToSearch",
        "TcpPortRandomizationWin",
    ),
    *("ThirdPartyStoragePartitioning", "WebUIOmniboxPopup", "WebUIOmniboxAimPopup"),
)
# A browser of the machine's must not look for Google's hosts; root has no sandbox to be in.
ARGUMENTS = (
    f"--disable-features={','.join(_DISABLED)}",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--process-per-site",  # else each page that a test opens starts a process
    "--no-first-run",
    *(("--no-sandbox",) if os.geteuid() == 0 else ()),
)
_INSTALL_SECONDS = 400


def find() -> str | None:
    """The path of the machine's own Chromium; CHROMIUM names another. None: at most Playwright's is there."""
    return shutil.which(os.environ.get("CHROMIUM", "")) or next(filter(None, map(shutil.which, NAMES)), None)


def _run(*command: str) -> bool:
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_INSTALL_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _install() -> bool:
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _run("apt-get", "update", "-qq")
        for name in (SHELL, "chromium"):
            if _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", name) and find():
                return True
    return _run(sys.executable, "-m", "playwright", "install", "--only-shell", "chromium")


if __name__ == "__main__" and not find() and not _install():
    sys.stdout.write(
        "There is no Chromium and none could be installed: the browser tests will be skipped (in CI they fail).\n"
    )
