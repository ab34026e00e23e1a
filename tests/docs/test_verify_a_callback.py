"""Each example of docs/how-to/verify-a-callback.md takes what the service signs, and nothing else."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import WebhookVerificationError

from quart_async_api.callbacks.signature import headers, new_secret

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "verify-a-callback.md"
SECRET = new_secret()
BODY = json.dumps({"type": "job.succeeded", "data": {"id": "0", "text": "gr\u00fc\u00df dich"}}).encode()


def example(section: str) -> str:
    """The code of the section whose heading begins like that."""
    found = re.search(rf"^## {section}.*?^```\w+\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found, section
    return found[1]


def signed(age: float = 0) -> dict[str, str]:
    return headers("msg_1", int(time.time() - age), BODY, [new_secret(), SECRET])


# Made when a test asks, since they age.
BAD: dict[str, Callable[[], tuple[dict[str, str], bytes]]] = {
    "another body": lambda: (signed(), BODY + b" "),
    "another id": lambda: ({**signed(), "webhook-id": "msg_2"}, BODY),
    "too old": lambda: (signed(age=400), BODY),
    "to come": lambda: (signed(age=-400), BODY),
    "no signature": lambda: ({**signed(), "webhook-signature": "v1,"}, BODY),
    "another secret": lambda: (headers("msg_1", int(time.time()), BODY, [new_secret()]), BODY),
}
each_bad = pytest.mark.parametrize("make", BAD.values(), ids=BAD)


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "example"}
    exec(code, names)  # noqa: S102
    return names


async def test_the_client_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    client = run(example("Python, with this"))["app"].test_client()
    assert (await client.post("/callbacks", headers=signed(), data=BODY)).status_code == 204
    assert capsys.readouterr().out == "msg_1 job.succeeded 0\n"


@each_bad
async def test_the_client_refuses(make: Callable[[], tuple[dict[str, str], bytes]]) -> None:
    sent, body = make()
    client = run(example("Python, with this"))["app"].test_client()
    assert (await client.post("/callbacks", headers=sent, data=body)).status_code == 400


def test_the_library_takes_it() -> None:
    assert run(example("Python, with the"))["receive"](signed(), BODY) == json.loads(BODY)


@each_bad
def test_the_library_refuses(make: Callable[[], tuple[dict[str, str], bytes]]) -> None:
    sent, body = make()
    with pytest.raises(WebhookVerificationError):
        run(example("Python, with the"))["receive"](sent, body)


@pytest.mark.process
@needs("node")
def test_node_takes_it_and_refuses_the_others(tmp_path: Path) -> None:
    (tmp_path / "receive.mjs").write_text(example("Node"))
    with subprocess.Popen(
        ["node", "receive.mjs"], cwd=tmp_path, env={**os.environ, "PORT": "0"}, stdout=subprocess.PIPE, text=True
    ) as node:
        try:
            assert node.stdout
            url = f"http://127.0.0.1:{node.stdout.readline().split()[-1]}/"
            assert httpx.post(url, headers=signed(), content=BODY).status_code == 204
            assert node.stdout.readline() == "msg_1 job.succeeded 0\n"
            for name, make in BAD.items():
                sent, body = make()
                assert httpx.post(url, headers=sent, content=body).status_code == 400, name
            assert httpx.post(url, content=BODY).status_code == 400
        finally:
            node.terminate()


@pytest.mark.process
@needs("openssl")
def test_openssl_computes_the_signature(tmp_path: Path) -> None:
    (tmp_path / "body.json").write_bytes(BODY)
    sent = signed()
    environment = {**os.environ, "id": sent["webhook-id"], "timestamp": sent["webhook-timestamp"]}
    shell = subprocess.run(
        ["sh", "-euc", example("By hand")], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert shell.stdout.strip() in sent["webhook-signature"].split()
