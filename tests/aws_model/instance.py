#!/usr/bin/env python3
"""An EC2 instance's surroundings, for an agent that is told nothing: instance metadata (IMDSv2), the Metering Service
behind TLS under its own name, and a proxy.

    python3 instance.py --certificate CERT.pem --key KEY.pem --offset FILE --instance ID --region REGION --product CODE

Needs a network namespace of its own, with 169.254.169.254 on `lo`. FILE holds seconds (`+7200`) that are added to the
machine's clock; the agent's libfaketime reads the same file, so that a test moves both.

The service is endpoint.py, with what only an instance has: a role whose credentials rotate and expire. It takes no
access key but the newest ones of the role, checks session token and signature by each key's own secret, and answers
ExpiredTokenException to one that is past its time. The first line on stdout is the port of

    GET  /_ledger    as endpoint.py; "requests" say which access key signed ("key")
    POST /_control   as endpoint.py
    GET  /_imds      the paths that metadata was asked for, each with how often and the last status
    POST /_listing   {"dimensions": [NAMES]}: the dimensions that are published; at first any is
    POST /_role      {"issue": SECONDS}: the role, at first absent, has new credentials that live so long;
                     {"shift": SECONDS}: the service's clock is so far ahead of the instance's
    POST /_items     {ITEM: TEXT}: metadata has this item (with null: not, or no longer), below /latest/meta-data/; the
                     service knows the machine by its newest instance-id
    GET  /_proxied   what the proxy was asked to connect to
    GET, POST /_tags the tagging API, see tagging.py
"""

import argparse
import collections
import http.server
import json
import re
import secrets
import socket
import ssl
import threading
import time

import endpoint as model
import tagging

ROLE = "metering-role"
ACCOUNT = "123456789012"
TOKEN_HEADER = "X-aws-ec2-metadata-token"


class Role:
    """The instance's role: what metadata gives out, and every key it ever gave."""

    def __init__(self, now):
        self.now, self.attached, self.newest, self.keys = now, False, None, {}

    def issue(self, seconds):
        number = len(self.keys) + 1
        self.attached, self.newest = True, f"ASIATEST{number:012d}"
        self.keys[self.newest] = {
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": self.newest, "SecretAccessKey": secrets.token_urlsafe(30),
            "Token": secrets.token_urlsafe(200), "LastUpdated": model.iso(self.now()),
            "Expiration": model.iso(self.now() + seconds), "expires": self.now() + seconds,
        }

    def document(self):
        return {name: value for name, value in self.keys[self.newest].items() if name != "expires"}


class Service(model.Endpoint):
    """The Metering Service, for one instance in its Region."""

    def __init__(self, arguments):
        self.arguments, self.shift, self.items, self.published = arguments, 0, {}, None
        super().__init__(argparse.Namespace(secret=None, window=6 * 3600, dry_run_ok=False, clock_start=None, clock_speed=1))
        self.role = Role(self.instance_now)

    def now(self):
        """The service's own clock."""
        return self.instance_now() + self.shift

    def instance_now(self):
        with open(self.arguments.offset, encoding="ascii") as file:
            return time.time() + float(file.read())

    def call(self, headers, body):
        answer = super().call(headers, body)
        found = re.search(r"Credential=([^/]*)", headers.get("Authorization") or "")
        self.requests[-1]["key"] = found and found[1]
        return answer

    def _read(self, headers, body):
        scope = re.search(r"Credential=([^/]*)/\d*/([^/]*)/", headers.get("Authorization") or "")
        key = self.role.keys.get(scope[1]) if scope else None
        if key is None:
            raise model.Refused("UnrecognizedClientException", "the security token is invalid", 403)
        self.secret = key["SecretAccessKey"]
        _, operation, request = super()._read(headers, body)
        if request["ProductCode"] != self.arguments.product:
            message = "the product code passed does not match the product code used for publishing the product"
            raise model.Refused("InvalidProductCodeException", message)
        if self.published is not None and request["UsageDimension"] not in self.published:
            message = "the usage dimension does not match one of the UsageDimensions associated with products"
            raise model.Refused("InvalidUsageDimensionException", message)
        host, region = f"metering.marketplace.{self.arguments.region}.amazonaws.com", scope[2]
        found = []
        if headers.get("Host") != host:
            found.append(f"Host is {headers.get('Host')!r}, not {host!r}")
        if region != self.arguments.region:
            found.append(f"signed for Region {region!r}, not {self.arguments.region!r}")
        if not (headers.get("User-Agent") or "").startswith(f"APN_1.1/pc_{self.arguments.product}$ "):
            found.append(f"User-Agent is {headers.get('User-Agent')!r}")
        if headers.get("X-Amz-Security-Token") != key["Token"]:
            found.append("the session token is not that of the key")
        if found:
            self.violations.extend(found)
            raise model.Refused("ValidationException", "; ".join(found))
        if self.instance_now() > key["expires"]:
            raise model.Refused("ExpiredTokenException", "the security token included in the request is expired", 403)
        # One instance, whichever session of its role signs.
        return self.items.get("instance-id") or self.arguments.instance, operation, request


def imds(service):
    tokens, asked = {}, collections.OrderedDict()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def log_message(self, *_):
            """Quiet."""

        def answer(self, status, text="", **more):
            key = f"{self.command} {self.path}"
            asked[key] = [asked.get(key, [0])[0] + 1, status]
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(text)))
            for name, value in more.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(text.encode())

        def do_PUT(self):
            seconds = self.headers.get(f"{TOKEN_HEADER}-ttl-seconds") or ""
            if self.path != "/latest/api/token" or not seconds.isdigit() or not 1 <= int(seconds) <= 21600:
                return self.answer(400)
            token = secrets.token_urlsafe(40)
            tokens[token] = service.instance_now() + int(seconds)
            return self.answer(200, token, X_aws_ec2_metadata_token_ttl_seconds=seconds)

        def do_GET(self):
            # IMDSv2 only, as AMIs have it now.
            if tokens.get(self.headers.get(TOKEN_HEADER), 0) < service.instance_now():
                return self.answer(401)
            role, arguments = service.role, service.arguments
            known = {
                "/latest/meta-data/instance-id": arguments.instance,
                "/latest/meta-data/placement/region": arguments.region,
                "/latest/meta-data/product-codes": arguments.product,
                "/latest/meta-data/services/partition": "aws",
                "/latest/meta-data/services/domain": "amazonaws.com",
                "/latest/dynamic/instance-identity/document": json.dumps(
                    {"accountId": ACCOUNT, "region": arguments.region, "instanceId": arguments.instance}
                ),
            }
            if role.attached:
                known["/latest/meta-data/iam/security-credentials/"] = ROLE
                known["/latest/meta-data/iam/security-credentials/" + ROLE] = json.dumps(role.document())
            known.update({"/latest/meta-data/" + item: text for item, text in service.items.items()})
            found = known.get(self.path)
            return self.answer(404) if found is None else self.answer(200, found)

    return Handler, asked


def behind_tls(service, tags):
    class Handler(model.handler(service)):
        def do_POST(self):
            if not (self.headers.get("Host") or "").startswith("tagging."):
                return super().do_POST()
            status, code, text = tags.call(self.headers, self.rfile.read(self.body_bytes()))
            return self.reply(status, text, tags.model.media_type, code)

    return Handler


def control(service, asked, proxied, tags):
    class Handler(model.handler(service)):
        def do_GET(self):
            views = {"/_imds": asked, "/_proxied": proxied, "/_tags": tags.ledger()}
            if self.path in views:
                return self.reply(200, json.dumps(views[self.path]))
            return super().do_GET()

        def do_POST(self):
            if self.path not in ("/_role", "/_items", "/_listing", "/_tags"):
                return super().do_POST()
            asked_for = json.loads(self.rfile.read(self.body_bytes()))
            if self.path == "/_tags":
                tags.control(asked_for)
                return self.reply(200, "{}")
            if self.path == "/_items":
                service.items = {**service.items, **asked_for}
                return self.reply(200, "{}")
            service.published = asked_for.get("dimensions", service.published)
            if "issue" in asked_for:
                service.role.issue(asked_for["issue"])
            service.shift = asked_for.get("shift", service.shift)
            return self.reply(200, "{}")

    return Handler


def proxy(proxied):
    """CONNECT, to port 443 here; anything else is refused."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            """Quiet."""

        def do_GET(self):
            proxied.append(f"{self.command} {self.path}")
            self.send_error(403)

        do_PUT = do_POST = do_GET

        def do_CONNECT(self):
            proxied.append(f"CONNECT {self.path}")
            there = socket.create_connection(("127.0.0.1", 443))
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=pump, args=(there, self.connection), daemon=True)
            back.start()
            pump(self.connection, there)
            self.close_connection = True

    return Handler


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(address, made, tls=None):
    server = http.server.ThreadingHTTPServer(address, made)
    server.daemon_threads = True
    if tls:
        # The handshake is the connection's own thread's affair.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def main():
    parser = argparse.ArgumentParser(description="The surroundings of an EC2 instance")
    for name in ("certificate", "key", "offset", "instance", "region", "product"):
        parser.add_argument("--" + name, required=True)
    arguments = parser.parse_args()
    service, proxied = Service(arguments), []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(arguments.certificate, arguments.key)
    metadata, asked = imds(service)
    serve(("169.254.169.254", 80), metadata)
    tags = tagging.Tagging(service.role, arguments.region, arguments.product)
    serve(("127.0.0.1", 443), behind_tls(service, tags), tls)
    serve(("127.0.0.1", 3128), proxy(proxied))
    print(serve(("127.0.0.1", 0), control(service, asked, proxied, tags)), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
