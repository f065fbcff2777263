#!/usr/bin/env python3
"""A Metering Service endpoint that checks every request against AWS's own service model, as botocore ships it.

No code of meterd has a part in it: Python's HTTP server, botocore's model, and AWS's rules written down a second
time. It is stricter than AWS: whatever the model does not know is a violation, not something to skip.

    python3 endpoint.py [--port 0] [--clock-start T] [--clock-speed N] [--window SECONDS] [--secret KEY] [--dry-run-ok]

The first line on stdout is the port. With --secret the SigV4 signature is computed again and compared.

    POST /           MeterUsage, as AWS takes it; BatchMeterUsage: see batch.py
    GET  /_ledger    {"records": [...], "totals": {dimension: units}, "violations": [...], "requests": [...]}
                     records: instance, product_code, dimension, hour, timestamp, quantity, allocations, client_token,
                     metering_record_id, calls, bodies (distinct request bodies that were judged to be this record);
                     batches: what stands of customers;
                     violations: one entry for each request that the model does not allow; requests: the last ones, raw, with answer
    POST /_control   {"mode": M, "times": N, "dimension": D, "code": C, "status": S}: how requests that pass the model
                     are treated; all but mode optional, times counts down to mode ok again
                       ok          judged and answered
                       refuse      answered with error C (default AccessDeniedException), not judged
                       throttle    answered ThrottlingException, not judged
                       unavailable answered ServiceUnavailableException (503), not judged
                       error500    answered InternalServiceErrorException (500), not judged
                       garbage     answered 200 with a body that is no JSON, not judged
                       lose_reply  judged (and recorded), then the connection is closed without an answer
                       drop        the connection is closed without an answer, not judged
                       batch       BatchMeterUsage: see batch.py
                     or {"now": T}: the clock stands at T (Unix seconds) from now on
"""

import argparse
import collections
import datetime
import email.utils
import hashlib
import hmac
import http.server
import json
import re
import sys
import threading
import time
import uuid

import botocore.loaders
import botocore.model
import botocore.validate

import batch

SERVICE = "meteringmarketplace"
AHEAD_MAX = 60
REQUESTS_KEPT_MAX = 20_000


class Refused(Exception):
    """An error answer."""

    def __init__(self, code, message, status=400):
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class Model:
    """botocore's model of the service, and a strict reading of requests by it."""

    def __init__(self, name=SERVICE):
        document = botocore.loaders.Loader().load_service_model(name, "service-2")
        self.service = botocore.model.ServiceModel(document, name)
        self.target_prefix = self.service.metadata["targetPrefix"]
        self.signing_name = self.service.metadata.get("signingName", self.service.metadata["endpointPrefix"])
        self.media_type = "application/x-amz-json-" + self.service.metadata["jsonVersion"]

    def violations(self, operation, body):
        """What in the parsed JSON `body` the model does not allow."""
        shape = self.service.operation_model(operation).input_shape
        found = []
        converted = self._walk(shape, body, operation, found)
        if not found:
            report = botocore.validate.ParamValidator().validate(converted, shape)
            if report.has_errors():
                found.append(report.generate_report())
        return found

    def _walk(self, shape, value, at, found):
        """Checks wire types and the bounds that botocore's validator leaves to the service; returns Python values."""
        kind = shape.type_name
        expected = {
            "structure": dict, "map": dict, "list": list, "string": str,
            "integer": int, "long": int, "boolean": bool, "timestamp": (int, float),
        }[kind]
        if not isinstance(value, expected) or (isinstance(value, bool) and kind != "boolean"):
            found.append(f"{at}: {json.dumps(value)[:80]} is not the JSON of a {kind}")
            return value
        self._bounds(shape, value, at, found)
        if kind == "structure":
            for name in value.keys() - shape.members.keys():
                found.append(f"{at}.{name}: the model has no such member")
            return {
                name: self._walk(shape.members[name], member, f"{at}.{name}", found)
                for name, member in value.items() if name in shape.members
            }
        if kind == "list":
            return [self._walk(shape.member, member, f"{at}[{n}]", found) for n, member in enumerate(value)]
        if kind == "timestamp":
            try:
                return datetime.datetime.fromtimestamp(value, datetime.timezone.utc)
            except (ValueError, OverflowError, OSError):
                found.append(f"{at}: {value} is no moment")
        return value

    def _bounds(self, shape, value, at, found):
        # The document's own constraints: `shape.metadata` leaves some of them out in older botocores.
        raw = self.service._shape_resolver._shape_map[shape.name]
        measured = len(value) if isinstance(value, (str, list, dict)) else value
        if not isinstance(value, bool):
            if "min" in raw and measured < raw["min"]:
                found.append(f"{at}: {measured} is below the model's minimum {raw['min']}")
            if "max" in raw and measured > raw["max"]:
                found.append(f"{at}: {measured} is above the model's maximum {raw['max']}")
        if isinstance(value, str):
            if "pattern" in raw and not re.fullmatch(raw["pattern"], value):
                found.append(f"{at}: {value!r} does not match the model's pattern {raw['pattern']}")
            if "enum" in raw and value not in raw["enum"]:
                found.append(f"{at}: {value!r} is none of {raw['enum']}")


def header_violations(model, headers, body, secret):
    """What in the HTTP headers is not a signed awsJson call of this service, and the access key id."""
    found = []
    if not headers.get("Host"):
        found.append("no Host header")
    if headers.get("Content-Type") != model.media_type:
        found.append(f"Content-Type is {headers.get('Content-Type')!r}, not {model.media_type!r}")
    if headers.get("Content-Length") != str(len(body)):
        found.append(f"Content-Length is {headers.get('Content-Length')!r}, the body has {len(body)} bytes")
    if not headers.get("User-Agent"):
        found.append("no User-Agent header")
    stamp = headers.get("X-Amz-Date") or ""
    if not re.fullmatch(r"\d{8}T\d{6}Z", stamp):
        found.append(f"X-Amz-Date is {stamp!r}, not like 20261121T090000Z")
    authorization = headers.get("Authorization") or ""
    parts = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=(?P<key>[A-Za-z0-9]{1,128})/(?P<date>\d{8})/(?P<region>[a-z0-9-]+)/"
        r"(?P<service>[a-z0-9-]+)/aws4_request, ?SignedHeaders=(?P<signed>[a-z0-9;-]+), ?Signature=(?P<sig>[0-9a-f]{64})",
        authorization,
    )
    if not parts:
        return None, found + [f"Authorization is no SigV4 header: {authorization[:60]!r}"]
    if parts["service"] != model.signing_name:
        found.append(f"signed for {parts['service']!r}, not {model.signing_name!r}")
    if not stamp.startswith(parts["date"]):
        found.append(f"the scope's date {parts['date']} is not that of X-Amz-Date {stamp}")
    signed = parts["signed"].split(";")
    if signed != sorted(set(signed)):
        found.append(f"SignedHeaders are not sorted: {signed}")
    for name in ("host", "x-amz-date"):
        if name not in signed:
            found.append(f"{name} is not signed")
    if secret and not hmac.compare_digest(signature(parts, signed, headers, body, stamp, secret), parts["sig"]):
        found.append("the signature is not that of the request")
    return parts["key"], found


def signature(parts, signed, headers, body, stamp, secret):
    """SigV4 of a POST to /, from its definition."""
    canonical_headers = "".join(f"{name}:{' '.join((headers.get(name) or '').split())}\n" for name in signed)
    canonical = "\n".join(["POST", "/", "", canonical_headers, ";".join(signed), hashlib.sha256(body).hexdigest()])
    scope = "/".join([parts["date"], parts["region"], parts["service"], "aws4_request"])
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


class Table:
    """Accepted records by AWS's rules."""

    def __init__(self, window, dry_run_ok):
        self.window, self.dry_run_ok = window, dry_run_ok
        self.records, self.tokens = {}, {}

    def judge(self, instance, request, raw, now):
        """The metering record id, or None for a dry run that is answered with 200."""
        stamp, quantity = request["Timestamp"], request.get("UsageQuantity", 0)
        allocations = self._allocations(request.get("UsageAllocations"), quantity)
        if not now - self.window <= stamp <= now + AHEAD_MAX:
            raise Refused("TimestampOutOfBoundsException", f"timestamp {stamp} is out of bounds at {now:.0f}")
        if request.get("DryRun"):
            if self.dry_run_ok:
                return None
            raise Refused("DryRunOperation", "Request would have succeeded, but DryRun flag is set")
        parameters = {name: member for name, member in request.items() if name != "ClientToken"}
        token = request.get("ClientToken")
        if token is not None and self.tokens.get((instance, token), parameters) != parameters:
            raise Refused("IdempotencyConflictException", f"token {token} was used with other parameters")
        hour = int(stamp // 3600)
        key = (instance, request["ProductCode"], request["UsageDimension"], hour)
        record = self.records.get(key)
        if record is None:
            record = self.records[key] = {
                "instance": instance, "product_code": key[1], "dimension": key[2], "hour": iso(hour * 3600),
                "timestamp": stamp, "quantity": quantity, "allocations": allocations, "client_token": token,
                "metering_record_id": str(uuid.uuid4()), "calls": 0, "bodies": [],
            }
        if (record["quantity"], record["allocations"]) != (quantity, allocations):
            raise Refused("DuplicateRequestException", f"quantity {record['quantity']} stands for {key[2]} {record['hour']}")
        record["calls"] += 1
        if raw not in record["bodies"]:
            record["bodies"].append(raw)
        if token is not None:
            self.tokens[(instance, token)] = parameters
        return record["metering_record_id"]

    @staticmethod
    def _allocations(sent, quantity):
        if sent is None:
            return []
        shares = []
        for allocation in sent:
            tags = [(tag["Key"], tag["Value"]) for tag in allocation.get("Tags", [])]
            if len(dict(tags)) != len(tags):
                raise Refused("InvalidTagException", "a tag key stands twice in one allocation")
            shares.append({"quantity": allocation["AllocatedUsageQuantity"], "tags": dict(sorted(tags))})
        tag_sets = [json.dumps(share["tags"]) for share in shares]
        if len(set(tag_sets)) != len(tag_sets):
            raise Refused("InvalidUsageAllocationsException", "two allocations have the same tags")
        if len({key for share in shares for key in share["tags"]}) > 5:
            raise Refused("InvalidTagException", "more than 5 tag keys in one record")
        if sum(share["quantity"] for share in shares) != quantity:
            raise Refused("InvalidUsageAllocationsException", "the allocations do not add up to the quantity")
        return sorted(shares, key=lambda share: json.dumps(share["tags"]))


class Endpoint:
    """The whole state, under one lock."""

    def __init__(self, arguments):
        self.model, self.secret = Model(), arguments.secret
        self.table = Table(arguments.window, arguments.dry_run_ok)
        self.batches = batch.Batches(max(arguments.window, 24 * 3600), Refused, Table._allocations, iso)
        self.start, self.speed, self.origin = arguments.clock_start, arguments.clock_speed, time.monotonic()
        self.lock = threading.Lock()
        self.control = {"mode": "ok"}
        self.violations = []
        self.requests = collections.deque(maxlen=REQUESTS_KEPT_MAX)

    def now(self):
        if self.start is None:
            return time.time()
        return self.start + (time.monotonic() - self.origin) * self.speed

    def call(self, headers, body):
        """(status, error type, body) of the answer, or None for a closed connection."""
        with self.lock:
            seen = {"at": self.now(), "headers": dict(headers.items()), "body": body.decode("utf-8", "replace")}
            answer = self._answer(headers, body)
            seen["status"], seen["code"], seen["answer"] = answer or (None, None, None)
            self.requests.append(seen)
            return answer

    def _answer(self, headers, body):
        try:
            instance, operation, request = self._read(headers, body)
            mode = self._mode(request)
            if mode["mode"] == "drop":
                return None
            if mode["mode"] == "garbage":
                return 200, None, "<html>nothing to see</html>"
            if mode["mode"] not in ("ok", "lose_reply", "batch"):
                code, status = {
                    "refuse": (mode.get("code", "AccessDeniedException"), mode.get("status", 400)),
                    "throttle": ("ThrottlingException", 400),
                    "unavailable": ("ServiceUnavailableException", 503),
                    "error500": ("InternalServiceErrorException", 500),
                }[mode["mode"]]
                raise Refused(code, "as asked for over /_control", status)
            if operation == "BatchMeterUsage":
                answer = self._batch(request, mode)
            else:
                answer = self._judged(instance, request, body)
            return None if mode["mode"] == "lose_reply" else answer
        except Refused as refused:
            return self._refused(refused)

    def _judged(self, instance, request, body):
        try:
            record = self.table.judge(instance, request, body.decode(), self.now())
            return 200, None, json.dumps({} if record is None else {"MeteringRecordId": record})
        except Refused as refused:
            return self._refused(refused)

    def _batch(self, request, mode):
        try:
            return 200, None, self.batches.judge(request, mode, self.now())
        except Refused as refused:
            return self._refused(refused)

    @staticmethod
    def _refused(refused):
        answer = json.dumps({"__type": refused.code, "message": refused.message})
        return refused.status, refused.code, answer

    def _read(self, headers, body):
        instance, found = header_violations(self.model, headers, body, self.secret)
        target = headers.get("X-Amz-Target") or ""
        prefix, _, operation = target.rpartition(".")
        if prefix != self.model.target_prefix or operation not in ("MeterUsage", "BatchMeterUsage"):
            found.append(f"X-Amz-Target is {target!r}, not {self.model.target_prefix}.MeterUsage")
        request = None
        try:
            request = json.loads(body.decode("utf-8"), parse_constant=lambda text: found.append(f"{text} is not JSON"))
        except ValueError as error:
            found.append(f"the body is not JSON in UTF-8: {error}")
        if request is not None and operation in self.model.service.operation_names:
            found.extend(self.model.violations(operation, request))
        if not found and operation == "BatchMeterUsage":
            found.extend(self.batches.violations(request, body))
        if found:
            self.violations.append("; ".join(found))
            raise Refused("ValidationException", "; ".join(found))
        return instance, operation, request

    def _mode(self, request):
        control = self.control
        if control.get("dimension", request.get("UsageDimension")) != request.get("UsageDimension"):
            return {"mode": "ok"}
        if "times" in control:
            control["times"] -= 1
            if control["times"] <= 0:
                self.control = {"mode": "ok"}
        return control

    def set_control(self, control):
        modes = ("ok", "refuse", "throttle", "unavailable", "error500", "garbage", "lose_reply", "drop", "batch")
        known = {"mode", "times", "dimension", "code", "status", "now", "poisoned", "gone", "put_off_every"}
        if not isinstance(control, dict) or control.keys() - known or control.get("mode", "ok") not in modes:
            raise Refused("BadControl", f"keys are {sorted(known)}, modes are {modes}")
        with self.lock:
            if "now" in control:
                self.start, self.speed = control["now"], 0
            if "mode" in control:
                self.control = {name: value for name, value in control.items() if name != "now"}

    def ledger(self):
        with self.lock:
            totals = collections.Counter()
            for record in self.table.records.values():
                totals[record["dimension"]] += record["quantity"]
            return {
                "records": list(self.table.records.values()), "totals": dict(totals),
                "batches": list(self.batches.records.values()), "violations": self.violations, "requests": list(self.requests),
            }


def iso(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def handler(endpoint):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An answer leaves in one piece: in two, each call on a kept connection waits for a delayed acknowledgement.
        wbufsize = -1

        def date_time_string(self, timestamp=None):
            return email.utils.formatdate(endpoint.now(), usegmt=True)

        def log_message(self, *_):
            """Quiet: stdout carries the port, stderr real trouble."""

        def reply(self, status, body, media_type="application/json", error_type=None):
            encoded = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(encoded)))
            self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
            if error_type:
                self.send_header("x-amzn-ErrorType", error_type)
            self.end_headers()
            self.wfile.write(encoded)

        def body_bytes(self):
            length = self.headers.get("Content-Length") or ""
            return int(length) if length.isdigit() else 0

        def do_GET(self):
            if self.path == "/_ledger":
                return self.reply(200, json.dumps(endpoint.ledger()))
            return self.reply(404, json.dumps({"message": f"no GET {self.path} here"}))

        def do_POST(self):
            body = self.rfile.read(self.body_bytes())
            if self.path == "/_control":
                try:
                    endpoint.set_control(json.loads(body))
                    return self.reply(200, "{}")
                except (Refused, ValueError) as error:
                    return self.reply(400, json.dumps({"message": str(error)}))
            if self.path != "/":
                with endpoint.lock:
                    endpoint.violations.append(f"POST {self.path}: the service's path is /")
                return self.reply(404, json.dumps({"__type": "UnknownOperationException"}))
            answer = endpoint.call(self.headers, body)
            if answer is None:
                self.close_connection = True
                return None
            status, code, text = answer
            return self.reply(status, text, endpoint.model.media_type, code)

    return Handler


def moment(text):
    try:
        return float(text)
    except ValueError:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def main():
    parser = argparse.ArgumentParser(description="A Metering Service endpoint that checks requests by botocore's model")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--clock-start", type=moment, default=None, help="RFC 3339 or Unix seconds; default: now")
    parser.add_argument("--clock-speed", type=float, default=1)
    parser.add_argument("--window", type=float, default=6 * 3600, help="seconds")
    parser.add_argument("--secret", help="the secret access key; signatures are checked if it is given")
    parser.add_argument("--dry-run-ok", action="store_true", help="answer granted dry runs with 200")
    arguments = parser.parse_args()
    if arguments.clock_start is None and arguments.clock_speed != 1:
        arguments.clock_start = time.time()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", arguments.port), handler(Endpoint(arguments)))
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
