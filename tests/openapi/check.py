"""Holds a socket's OpenAPI description against its answers, with schemathesis, which speaks TCP only: a relay stands between.

    check.py SOCKET DOCUMENT [DIMENSION]

DOCUMENT is the file that the socket has to serve byte for byte. Examples are generated from it as it stands, so that what it
calls wrong is refused; and once more, narrowed to what a configuration with the one dimension DIMENSION (measure sum)
takes, so that what it calls right is accepted.
"""

import copy
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading

EXAMPLES = int(os.environ.get("METERD_OPENAPI_EXAMPLES", "60"))
SEED = os.environ.get("METERD_OPENAPI_SEED", "7")


def relay(path):
    """Listens on a port of this machine for the socket at `path`; the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve():
        while True:
            client, _ = listener.accept()
            agent = socket.socket(socket.AF_UNIX)
            agent.connect(path)
            for ends in ((client, agent), (agent, client)):
                threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def served(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/v1/openapi.json")
    answer = connection.getresponse()
    return answer.status, answer.read()


def for_one_dimension(document, name, all_of_it):
    """`document` for a configuration with the dimension `name`; unless `all_of_it`, without what depends on the moment, on
    bytes rather than characters, on the measure, or on a float's digits."""
    narrowed = copy.deepcopy(document)
    increment = narrowed["components"]["schemas"]["Increment"]
    fields = increment["properties"]
    fields["dimension"] = {"const": name}
    if not all_of_it:
        for field in ("at", "id", "customer", "license"):
            del fields[field]
        increment["required"] = ["dimension", "quantity"]
        fields["key"] = {"type": "string", "pattern": "^[a-z0-9]{1,128}$"}
        fields["quantity"] = {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 999_999_999_999},
                {"type": "string", "pattern": "^(0|[1-9][0-9]{0,11})(\\.[0-9]{1,6})?$"},
            ]
        }
    return narrowed


def schemathesis(document, port, mode):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(document, file)
        file.flush()
        command = [sys.executable, "-m", "schemathesis.cli", "run", file.name, "--url", f"http://127.0.0.1:{port}"]
        command += ["--mode", mode, "--seed", SEED, "--max-examples", str(EXAMPLES), "--no-color"]
        command += ["--generation-database", "none", "--request-timeout", "60"]
        print("$", " ".join(command), flush=True)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tempfile.gettempdir())
    print(done.stdout, flush=True)
    return done.returncode


def main():
    path, file, *dimension = sys.argv[1:]
    port = relay(path)
    with open(file, "rb") as opened:
        text = opened.read()
    status, body = served(port)
    if (status, body) != (200, text):
        sys.exit(f"{path} does not serve {file}")
    document = json.loads(text)
    if dimension:
        wrong = schemathesis(for_one_dimension(document, dimension[0], True), port, "negative")
        right = schemathesis(for_one_dimension(document, dimension[0], False), port, "positive")
        sys.exit(wrong or right)
    sys.exit(schemathesis(document, port, "all"))


main()
