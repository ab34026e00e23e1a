"""`serve --processes N`: processes that share one listening socket, replaced when one dies, stopped together."""

import asyncio
import logging
import signal
import sys
import time
from asyncio.subprocess import PIPE
from contextlib import suppress

log = logging.getLogger(__name__)

STEADY_SECONDS = 10.0  # one that lived so long is replaced at once
LONGEST_PAUSE = 30.0


async def supervise(listener: int, processes: int) -> int:
    """Keep `processes` servers on the listening socket until SIGTERM or SIGINT; 0 once each of them has drained."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return max(await asyncio.gather(*(_keep(listener, stop) for _ in range(processes))))


async def _keep(listener: int, stop: asyncio.Event) -> int:
    """One of the servers, and its successors; 1 where the last one did not end well."""
    stopping = asyncio.create_task(stop.wait())
    failures = 0
    try:
        while not stop.is_set():
            started = time.monotonic()
            # Its standard input ends with this process, however that ends: it is how the server learns of it.
            server = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                __package__,
                "serve",
                "--inherited",
                str(listener),
                stdin=PIPE,
                pass_fds=[listener],
            )
            ended = asyncio.create_task(server.wait())
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                server.terminate()
            code = await ended
            if stop.is_set():
                # One that was just starting has nothing to drain, and dies of the signal itself.
                return 0 if code in (0, -signal.SIGTERM) else 1
            failures = 0 if time.monotonic() - started > STEADY_SECONDS else failures + 1
            log.error("process %d ended with %d; another takes its place", server.pid, code)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(LONGEST_PAUSE, 0.1 * 2 ** min(failures, 16))):
                    await stop.wait()
        return 0
    finally:
        stopping.cancel()
