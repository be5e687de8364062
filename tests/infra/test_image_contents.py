"""The image's contents run without a container engine, with the rights that the manifests give a pod."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local.stack.azurite import Azurite
from local.stack.processes import Process
from local.vault.server import Vault
from tests.support import image_contents
from tests.support.doc_samples import ROOT
from tests.support.document_files import lines, pdf
from tests.support.endpoint import Endpoint
from tests.support.harness import Customer, Harness, open_harness

pytestmark = pytest.mark.long

WRITES = """
import json, os, sys

app, *more = sys.argv[1:]
mounts = {line.split()[1]: line.split()[3].split(",") for line in open("/proc/self/mounts")}
writable = sorted(path for path, options in mounts.items() if "rw" in options)
folders = {"/", *mounts, *(folder for folder, _, _ in os.walk(app))}
files = [os.path.join(folder, name) for folder, _, names in os.walk(app) for name in names]
written = []
for path in [*(os.path.join(folder, "new") for folder in folders if os.path.isdir(folder)), *files]:
    try:
        open(path, "ab").close()
        written.append(path)
    except OSError:
        pass
there = [path for path in more if os.path.exists(path)]
print(json.dumps({"writable": writable, "written": written, "files": len(files), "there": there}))
"""


def contents(folder: Path) -> dict[str, str]:
    """The files below a folder, each with its mode, time and hash."""
    return {
        str(path.relative_to(folder)): f"{path.stat().st_mode:o} {path.stat().st_mtime_ns} "
        + (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in folder.rglob("*")
    }


async def one_result(harness: Harness, customer: Customer, **members: object) -> dict[str, Any]:
    """Send a job, and wait for its result: there is no other job."""
    queue = harness.queues.get_queue_client(harness.environment["JOBS_QUEUE"])
    await queue.send_message(base64.b64encode(customer.body(**members)).decode())
    while not (bodies := await harness.messages(harness.environment["RESULTS_QUEUE"])):  # noqa: ASYNC110  # a queue has no event
        await asyncio.sleep(0.1)
    (body,) = bodies
    return dict(json.loads(body))


async def summary_of_a_pdf(harness: Harness, customer: Customer) -> dict[str, Any]:
    """Store a document, have it summarized, and return the result."""
    container, blob = harness.environment["INPUT_CONTAINERS"], f"{customer.name}/a.pdf"
    await harness.blobs.get_blob_client(container, blob).upload_blob(pdf([lines("In a pod.")]))
    job = {"job_id": "document", "action": "summarize", "input": {"blob": f"{container}/{blob}"}}
    return await one_result(harness, customer, **job)


async def run(command: list[str]) -> str:
    """Run a command, and return what it prints."""
    done = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True)
    return str(done.stdout)


async def test_a_pod_runs_a_job_with_only_what_the_manifests_give_it(
    azurite: Azurite, vault: Vault, endpoint: Endpoint, tmp_path: Path
):
    """
    The app of the image runs a chat job and summarizes a document, as the image's user without a right, and stops in
    good order. It can write in /tmp only, so its files remain as they were built, each module compiled.
    """
    if sys.platform != "linux" or not shutil.which("unshare"):
        pytest.skip("There are no mount namespaces without Linux and unshare.")
    if why_not := image_contents.refusal():
        (pytest.fail if "CI" in os.environ else pytest.skip)(f"There are no mount namespaces here: {why_not}")
    image = image_contents.build(tmp_path / "image")
    app = image.outside(image.app())
    built = contents(image.folder)
    modules = {path for path in built if path.endswith(".py")}
    assert {"host.json", "function_app.py", "shared", "__pycache__"} == {path.name for path in app.iterdir()}
    assert {Path(path).with_suffix("") for path in modules} == {
        Path(path).parents[1] / Path(path).name.split(".")[0] for path in built if path.endswith(".pyc")
    }
    trusted = {"/run/vault.pem": vault.ca_file, "/run/authorities.pem": Path(os.environ["SSL_CERT_FILE"])}
    files = {path: Path(shutil.copyfile(source, tmp_path / Path(path).name)) for path, source in trusted.items()}
    quick = {"AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.2"}
    async with open_harness(azurite, vault, endpoint) as harness:
        identity = {name: os.environ[name] for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")}
        paths = {"KEY_VAULT_CA_FILE": "/run/vault.pem", "SSL_CERT_FILE": "/run/authorities.pem"}
        command = image_contents.pod(image, harness.environment | identity | paths | quick, files)
        pod = await Process.start("pod", command)
        try:
            await pod.ready(["^host ready"], within=60)
            host = image_contents.process_1(pod.pid)
            customer = harness.customer()
            async with asyncio.timeout(90):
                result = await one_result(harness, customer, job_id="in-a-pod")
                summary = await summary_of_a_pdf(harness, customer)

            rights = image_contents.status(host)
            probe = ["python", "-c", WRITES, str(image.app()), "/tmp", str(ROOT / "function_app.py")]
            writes = json.loads(await run(image_contents.inside(host, image, probe)))
            await run(image_contents.as_root("kill", "-TERM", str(host)))
            async with asyncio.timeout(20):
                ended = await pod.ended()
        finally:
            if left := image_contents.process_1(pod.pid):  # `stop` may end only what is no other user's
                await run(image_contents.as_root("kill", "-KILL", str(left)))
            await pod.stop()

    assert ("in-a-pod", "succeeded") == (result["job_id"], result["status"])
    assert ("succeeded", 1) == (summary["status"], summary["output"]["documents"][0]["pages"])
    assert 2 == len(customer.account.received)
    assert ["10001"] * 4 == rights["Uid"].split() == rights["Gid"].split()
    assert {"10001"} == set(rights["Groups"].split())
    assert {0} == {int(rights[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")}
    assert "1" == rights["NoNewPrivs"]
    assert {
        "writable": ["/proc", "/tmp"],
        "written": ["/tmp/new"],
        "files": sum(path.is_file() for path in app.rglob("*")),
        "there": ["/tmp"],
    } == writes
    assert "exited with code 0" == ended
    assert built == contents(image.folder)
    assert not any(path.stat().st_uid == 10001 or path.stat().st_mode & 0o002 for path in image.folder.rglob("*"))
