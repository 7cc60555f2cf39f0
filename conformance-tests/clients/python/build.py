"""A caller in Python: packs with tarfile and posts with Requests.

build.py <folder> <url> <file of the key, or -> [stream]
"""

import hashlib
import hmac
import io
import json
import pathlib
import sys
import tarfile

import requests

CONFIG = "com.openfaas.docker.config"


def pack(folder):
    """The configuration first, then the tree, in tarfile's default format: PAX."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        config = (folder / CONFIG).read_bytes()
        entry = tarfile.TarInfo(CONFIG)
        entry.size, entry.mode = len(config), 0o664
        tar.addfile(entry, io.BytesIO(config))
        tar.add(folder / "context", arcname="context")
    return archive.getvalue()


def main(folder, url, secret, *options):
    body = pack(pathlib.Path(folder))
    headers = {"Content-Type": "application/octet-stream", "User-Agent": "openfaas-python-sdk/0.1.0"}
    if secret != "-":
        key = pathlib.Path(secret).read_bytes().strip()
        headers["X-Build-Signature"] = "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()
    stream = "stream" in options
    if stream:
        headers["Accept"] = "application/x-ndjson"
    with requests.post(url, data=body, headers=headers, stream=stream) as answer:
        lines = answer.iter_lines() if stream else [answer.content]
        lines = [json.loads(line) for line in lines if line]
        print(json.dumps({"code": answer.status_code, "lines": lines}))


main(*sys.argv[1:])
