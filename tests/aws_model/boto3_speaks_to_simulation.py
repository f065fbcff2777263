#!/usr/bin/env python3
"""AWS's own client, botocore (the whole of boto3's wire code), speaks to the simulated Metering Service.

    python3 boto3_speaks_to_simulation.py target/debug/meterd

Starts `meterd simulate-aws` and shows every answer to a client that was written by AWS. Then the same calls go to
endpoint.py, which shares no code with the simulation: the two must agree on every answer. Exit code 0 when all is as
said, 1 with the case that is not, 77 when botocore is missing.
"""

import datetime
import json
import pathlib
import subprocess
import sys
import urllib.request

try:
    import botocore.config
    import botocore.exceptions
    import botocore.session
except ImportError:
    print("skipped: botocore is not installed for", sys.executable)
    sys.exit(77)

HERE = pathlib.Path(__file__).resolve().parent
NOW = datetime.datetime(2026, 11, 21, 12, 30, tzinfo=datetime.timezone.utc)
LAST_SECOND = datetime.datetime(2026, 11, 21, 11, 59, 59, tzinfo=datetime.timezone.utc)
SECRET = "secret-of-nobody"


def share(quantity, *tags):
    allocation = {"AllocatedUsageQuantity": quantity}
    if tags:
        allocation["Tags"] = [{"Key": key, "Value": value} for key, value in tags]
    return allocation


def hours(n):
    return datetime.timedelta(hours=n)


# (what is shown, members over the plain request, the expected error code, or "" for a record).
CASES = [
    ("a record is accepted", {"ClientToken": "t-1"}, ""),
    ("the identical request is the same record", {"ClientToken": "t-1"}, ""),
    ("another quantity is refused", {"UsageQuantity": 26, "ClientToken": "t-2"}, "DuplicateRequestException"),
    ("a token stands for one request", {"UsageQuantity": 26, "ClientToken": "t-1"}, "IdempotencyConflictException"),
    ("another dimension has its own record", {"UsageDimension": "users", "ClientToken": "t-3"}, ""),
    ("another hour has its own record", {"Timestamp": LAST_SECOND - hours(1), "ClientToken": "t-4"}, ""),
    ("six hours back are accepted", {"Timestamp": NOW - hours(6) + datetime.timedelta(minutes=5)}, ""),
    ("older is refused", {"Timestamp": NOW - hours(6) - datetime.timedelta(seconds=1)}, "TimestampOutOfBoundsException"),
    ("the future is refused", {"Timestamp": NOW + hours(1)}, "TimestampOutOfBoundsException"),
    ("a split that adds up is accepted", {"UsageDimension": "split", "ClientToken": "t-5", "UsageAllocations": [
        share(20, ("team", "red")), share(5)]}, ""),
    ("the same split in another order is the same record", {"UsageDimension": "split", "UsageAllocations": [
        share(5), share(20, ("team", "red"))]}, ""),
    ("another split is refused", {"UsageDimension": "split", "UsageAllocations": [
        share(6), share(19, ("team", "red"))]}, "DuplicateRequestException"),
    ("a split that does not add up is refused", {"UsageAllocations": [share(24, ("team", "red"))]},
     "InvalidUsageAllocationsException"),
    ("tag sets are unique", {"UsageAllocations": [share(5), share(20)]}, "InvalidUsageAllocationsException"),
    ("a record has five tag keys at most", {"UsageAllocations": [
        share(5, ("a", "1"), ("b", "1"), ("c", "1")), share(20, ("d", "1"), ("e", "1"), ("f", "1"))]},
     "InvalidTagException"),
    ("a quantity has an upper bound", {"UsageQuantity": 2_147_483_648}, "ValidationException"),
    ("a dimension has a name", {"UsageDimension": ""}, "ValidationException"),
    ("a product code has no spaces", {"ProductCode": "a b"}, "ValidationException"),
    ("a token has 64 characters at most", {"ClientToken": "x" * 65}, "ValidationException"),
    ("an empty list of tags is no list", {"UsageAllocations": [{"AllocatedUsageQuantity": 25, "Tags": []}]},
     "ValidationException"),
    ("a dry run is answered by its own code", {"DryRun": True}, "DryRunOperation"),
    ("a dry run checks the window", {"DryRun": True, "Timestamp": NOW - hours(8)}, "TimestampOutOfBoundsException"),
]


class Failed(Exception):
    """Something is not as said."""


def expect(what, got, wanted):
    if got != wanted:
        raise Failed(f"{what}: got {got!r}, expected {wanted!r}")
    print(f"  ok  {what}: {got if got != '' else 'accepted'}")


def client(url, key="AKIDEXAMPLE"):
    session = botocore.session.Session()
    # No validation on this side: it is the service whose answers are to be seen.
    config = botocore.config.Config(
        parameter_validation=False, retries={"total_max_attempts": 1}, read_timeout=30, connect_timeout=30
    )
    return session.create_client(
        "meteringmarketplace", region_name="us-east-1", endpoint_url=url, aws_access_key_id=key,
        aws_secret_access_key=SECRET, config=config,
    )


def call(metering, members):
    """(error code or "", record id or None, HTTP headers)."""
    request = {"ProductCode": "prod", "Timestamp": LAST_SECOND, "UsageDimension": "requests", "UsageQuantity": 25}
    try:
        answer = metering.meter_usage(**(request | members))
        return "", answer.get("MeteringRecordId"), answer["ResponseMetadata"]["HTTPHeaders"]
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"], None, error.response["ResponseMetadata"]["HTTPHeaders"]
    except botocore.exceptions.ConnectionClosedError:
        return "connection closed", None, {}


def fetch(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=30) as answer:
        return json.load(answer)


def play_cases(url):
    """Every case, and what both ledgers have in common afterwards."""
    metering = client(url)
    ids = []
    for what, members, expected in CASES:
        code, record_id, headers = call(metering, members)
        expect(what, code, expected)
        ids.append(record_id)
        if "x-amzn-requestid" not in headers or not headers["date"].startswith("Sat, 21 Nov 2026 1"):
            raise Failed(f"{what}: headers are {headers}")
    expect("the retry has the first one's record id", ids[1], ids[0])
    code, record_id, _ = call(client(url, key="AKIDOTHER"), {"UsageQuantity": 7})
    expect("another instance has its own record", (code, record_id in ids), ("", False))


LICENSE = "arn:aws:license-manager::123456789012:license:l-0123456789abcdef"


def usage(customer, quantity, **more):
    return {"Timestamp": LAST_SECOND, "CustomerAWSAccountId": customer, "Dimension": "requests", "Quantity": quantity} | more


# (what is shown, the product's code or None, the records, the statuses or the expected error code).
BATCHES = [
    ("two customers", "prod", [usage("1" * 12, 5), usage("2" * 12, 6)], ["Success", "Success"]),
    ("the same once more", "prod", [usage("1" * 12, 5)], ["Success"]),
    ("another quantity beside a new record", "prod", [usage("1" * 12, 7), usage("3" * 12, 1)], ["DuplicateRecord", "Success"]),
    ("a licence without a product", None, [usage("4" * 12, 2, LicenseArn=LICENSE)], ["Success"]),
    ("twenty-two hours back", "prod", [usage("1" * 12, 1, Timestamp=LAST_SECOND - hours(22))], ["Success"]),
    ("one record too old for all of them", "prod", [usage("5" * 12, 1), usage("6" * 12, 1, Timestamp=LAST_SECOND - hours(26))],
     "TimestampOutOfBoundsException"),
    ("one split that does not add up", "prod", [usage("5" * 12, 1), usage("6" * 12, 2, UsageAllocations=[share(1)])],
     "InvalidUsageAllocationsException"),
    ("nothing", "prod", [], []),
]


def play_batches(url):
    metering = client(url)
    ids = []
    for what, product, records, expected in BATCHES:
        try:
            answer = metering.batch_meter_usage(UsageRecords=records, **({"ProductCode": product} if product else {}))
            got = [result["Status"] for result in answer["Results"]]
            ids.append([result.get("MeteringRecordId") for result in answer["Results"]])
            expect(what + ": nothing is unprocessed", answer["UnprocessedRecords"], [])
        except botocore.exceptions.ClientError as error:
            got = error.response["Error"]["Code"]
        expect(what, got, expected)
    expect("the retry has the first one's record id", ids[1][0], ids[0][0])


def common(ledger):
    shared = ("instance", "product_code", "dimension", "hour", "quantity", "client_token", "calls")
    records = [{name: record[name] for name in shared} for record in ledger["records"]]
    for record in records:
        # botocore invents a token where none is given.
        if not (record["client_token"] or "").startswith("t-"):
            record["client_token"] = None
    return records, ledger["totals"]


class Running:
    """A server process; its address is what `read` makes of its first line."""

    def __init__(self, command, read):
        self.process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().strip()
        if not line:
            raise Failed(f"{command[0]} did not start")
        self.url = read(line)

    def __enter__(self):
        return self.url

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=30)


def simulation(meterd, *flags):
    command = [meterd, "simulate-aws", "--listen", "127.0.0.1:0", "--clock-start", NOW.isoformat(), *flags]
    return Running(command, lambda line: line.removeprefix("listening on "))


def main():
    if len(sys.argv) != 2:
        print(__doc__)
        return 64
    meterd = pathlib.Path(sys.argv[1]).resolve()

    print("the simulation:")
    with simulation(meterd) as url:
        play_cases(url)
        of_simulation = common(fetch(url + "/ledger"))
        metering = client(url)
        for what, fault, expected in [
            ("a lost reply", {"kind": "accept_and_lose_reply"}, "connection closed"),
            ("throttling", {"kind": "throttle"}, "ThrottlingException"),
            ("an outage", {"kind": "service_unavailable"}, "ServiceUnavailableException"),
            ("an internal error", {"kind": "internal_error"}, "InternalServiceErrorException"),
            ("a missing permission", {"kind": "denied"}, "AccessDeniedException"),
            ("an old token", {"kind": "expired_token"}, "ExpiredTokenException"),
        ]:
            fetch(url + "/faults", fault | {"nth": 1})
            expect(what, call(metering, {"UsageDimension": "faulty", "ClientToken": "t-6"})[0], expected)
        expect("the lost record is found again", call(metering, {"UsageDimension": "faulty", "ClientToken": "t-6"})[0], "")
        faulty = [record for record in fetch(url + "/ledger")["records"] if record["dimension"] == "faulty"]
        expect("it stands once", [(record["quantity"], record["calls"]) for record in faulty], [(25, 2)])

    print("the simulation, customers:")
    with simulation(meterd, "--product", "prod") as url:
        play_batches(url)
        metering = client(url)
        stands = [(r.get("customer"), r["quantity"]) for r in fetch(url + "/ledger")["records"]]
        expect("what was refused is not there", stands, [
            ("1" * 12, 5), ("2" * 12, 6), ("3" * 12, 1), ("4" * 12, 2), ("1" * 12, 1)])
        records = [usage(str(n) * 12, 1) for n in (7, 8)]
        fetch(url + "/faults", {"kind": "unprocessed", "records": 1, "nth": 1})
        answer = metering.batch_meter_usage(UsageRecords=records, ProductCode="prod")
        expect("a record is put off", [r["CustomerAWSAccountId"] for r in answer["UnprocessedRecords"]], ["8" * 12])
        fetch(url + "/faults", {"kind": "not_subscribed", "customer": "8" * 12, "nth": 1})
        answer = metering.batch_meter_usage(UsageRecords=records, ProductCode="prod")
        expect("a customer has left", [r["Status"] for r in answer["Results"]], ["Success", "CustomerNotSubscribed"])
        who = metering.resolve_customer(RegistrationToken="9" * 12 + "/" + LICENSE)
        expect("a token is a customer", (who["CustomerAWSAccountId"], who["LicenseArn"], who["ProductCode"]),
               ("9" * 12, LICENSE, "prod"))
        for token, expected in [("expired", "ExpiredTokenException"), ("x", "InvalidTokenException")]:
            try:
                got = metering.resolve_customer(RegistrationToken=token)
            except botocore.exceptions.ClientError as error:
                got = error.response["Error"]["Code"]
            expect(f"the token {token}", got, expected)

    print("the simulation with a listing:")
    with simulation(meterd, "--product", "prod", "--dimension", "requests", "--dry-run-ok") as url:
        metering = client(url)
        expect("another dimension", call(metering, {"UsageDimension": "request"})[0], "InvalidUsageDimensionException")
        expect("another product", call(metering, {"ProductCode": "other"})[0], "InvalidProductCodeException")
        expect("a dry run with --dry-run-ok", call(metering, {"DryRun": True})[:2], ("", None))

    print("the endpoint that checks by AWS's model:")
    command = [sys.executable, HERE / "endpoint.py", "--clock-start", NOW.isoformat(), "--secret", SECRET]
    with Running(command, lambda line: f"http://127.0.0.1:{line}") as url:
        play_cases(url)
        ledger = fetch(url + "/_ledger")
        expect("both ledgers agree", common(ledger) == of_simulation, True)
        refused = sum(expected == "ValidationException" for _, _, expected in CASES)
        expect("only what the model forbids is a violation", len(ledger["violations"]), refused)
        play_batches(url)
        expect("no call for customers is one", len(fetch(url + "/_ledger")["violations"]), refused)
        for mode, expected in [
            ("lose_reply", "connection closed"), ("drop", "connection closed"), ("throttle", "ThrottlingException"),
            ("unavailable", "ServiceUnavailableException"), ("error500", "InternalServiceErrorException"),
            ("refuse", "AccessDeniedException"), ("ok", ""),
        ]:
            fetch(url + "/_control", {"mode": mode, "times": 1})
            got, _, _ = call(client(url), {"UsageDimension": "faulty", "ClientToken": "t-6"})
            expect(f"control {mode}", got, expected)
        fetch(url + "/_control", {"now": NOW.timestamp() + 8 * 3600})
        expect("its clock can be set", call(client(url), {})[0], "TimestampOutOfBoundsException")
        violations = len(fetch(url + "/_ledger")["violations"])
        expect("signatures are verified", (call(client_with_other_secret(url), {})[0], violations + 1),
               ("ValidationException", len(fetch(url + "/_ledger")["violations"])))
    print("all as said")
    return 0


def client_with_other_secret(url):
    global SECRET
    SECRET, kept = "another-secret", SECRET
    try:
        return client(url)
    finally:
        SECRET = kept


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failed:
        print("FAILED", failed)
        sys.exit(1)
