#!/usr/bin/env python3
"""Tries the lines of `meterd attribution --lines` for Python, the AWS CLI and JavaScript, and shows the header that leaves.

    python3 user_agents.py

Needs boto3 and awscli (PyPI), and @aws-sdk/client-sts (npm) below the working directory; says what is not here. Nothing leaves
the machine: an endpoint of its own answers. The exit code is 1 if a header is not what the lines say.
"""

import http.server
import os
import shutil
import subprocess
import sys
import threading

TOKEN = "APN_1.1/pc_5ugbbrmu7ud3u5hsipfzug61p$"
MANGLED = "app/" + TOKEN.replace("/", "-")
ANSWER = b"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>a</Arn><UserId>u</UserId><Account>1</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"""

PYTHON = "import boto3, botocore.config; boto3.client('sts'{}).get_caller_identity()"
NODE = ("const {{ STSClient, GetCallerIdentityCommand }} = require('@aws-sdk/client-sts');"
        "new STSClient({{{}}}).send(new GetCallerIdentityCommand({{}}))")
PY, NODE_CAN = [sys.executable, "-c"], ["node", "-e"]
BY_VARIABLE = {"AWS_SDK_UA_APP_ID": TOKEN}
# What, whether it is here, the command, what it adds to the environment, what has to stand in the header.
TRIES = [
    ("boto3, AWS_SDK_UA_APP_ID", [*PY, "import boto3"], [*PY, PYTHON.format("")], BY_VARIABLE, MANGLED),
    ("boto3, user_agent_extra", [*PY, "import boto3"],
     [*PY, PYTHON.format(f", config=botocore.config.Config(user_agent_extra='{TOKEN}')")], {}, TOKEN),
    ("AWS CLI, AWS_SDK_UA_APP_ID", ["aws", "--version"], ["aws", "sts", "get-caller-identity"], BY_VARIABLE, MANGLED),
    ("JavaScript, AWS_SDK_UA_APP_ID", [*NODE_CAN, "require('@aws-sdk/client-sts')"], [*NODE_CAN, NODE.format("")],
     BY_VARIABLE, MANGLED),
    ("JavaScript, customUserAgent", [*NODE_CAN, "require('@aws-sdk/client-sts')"],
     [*NODE_CAN, NODE.format(f"customUserAgent: '{TOKEN}'")], {}, TOKEN),
]


def main():
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            """Quiet."""

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(self.headers["User-Agent"])
            self.send_response(200)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(ANSWER)))
            self.end_headers()
            self.wfile.write(ANSWER)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        **os.environ, "AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "dummy", "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "NODE_NO_WARNINGS": "1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}",
    }
    wrong = 0
    for what, here, command, more, wanted in TRIES:
        if not shutil.which(here[0]) or subprocess.run(here, capture_output=True, check=False, env=environment).returncode:
            print(f"skipped: {what}: not here")
            continue
        seen.clear()
        ran = subprocess.run(command, capture_output=True, check=False, text=True, env={**environment, **more})
        # Words of the header are parted by spaces.
        as_said = bool(seen) and wanted in seen[-1].split()
        wrong += not as_said
        print(f"{'ok' if as_said else 'WRONG'}: {what}: {seen[-1] if seen else ran.stderr.strip()}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
