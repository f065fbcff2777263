"""BatchMeterUsage by AWS's rules, written down a second time; for endpoint.py.

Stricter than AWS: the deprecated CustomerIdentifier is a violation, and so is a call that mixes both ways to name a
product, a record twice in one call, and a customer's hour that is sent both ways.

    POST /_control   {"mode": "batch", "poisoned": [C], "gone": [C], "put_off_every": N}: calls with a record of a poisoned
                     customer are refused as a whole, records of gone ones are CustomerNotSubscribed, and every Nth record
                     is left unprocessed
"""

import json
import uuid

RECORDS_MAX = 25
CALL_BYTES = 1_000_000
MEMBERS = {"Timestamp", "CustomerAWSAccountId", "LicenseArn", "Dimension", "Quantity", "UsageAllocations"}


class Batches:
    """Accepted records of customers."""

    def __init__(self, window, refused, allocations, iso):
        self.window, self.refused, self.allocations, self.iso = window, refused, allocations, iso
        self.records, self.both_ways, self.counted = {}, {}, 0

    def violations(self, request, raw):
        """What no call of a careful client has in it."""
        found, seen = [], set()
        if len(request["UsageRecords"]) > RECORDS_MAX or len(raw) >= CALL_BYTES:
            found.append(f"{len(request['UsageRecords'])} records, {len(raw)} bytes in a call")
        for record in request["UsageRecords"]:
            for name in record.keys() - MEMBERS:
                found.append(f"{name} is sent")
            if "CustomerAWSAccountId" not in record:
                found.append("a record without CustomerAWSAccountId")
            if ("LicenseArn" in record) == ("ProductCode" in request):
                found.append("a record with both a ProductCode and a LicenseArn, or with neither")
            place = self.place(request, record)
            if place in seen:
                found.append(f"{place} stands twice in one call")
            seen.add(place)
            way = "LicenseArn" in record
            if self.both_ways.setdefault((place[0], place[3]), way) != way:
                found.append(f"customer {place[0]} is billed both ways in hour {place[3]}")
        return found

    @staticmethod
    def place(request, record):
        product = record.get("LicenseArn", request.get("ProductCode"))
        return record.get("CustomerAWSAccountId"), product, record["Dimension"], int(record["Timestamp"] // 3600)

    def judge(self, request, mode, now):
        """The answer's body."""
        for record in request["UsageRecords"]:
            if not now - self.window <= record["Timestamp"] <= now + 60:
                raise self.refused("TimestampOutOfBoundsException", f"{record['Timestamp']} is out of bounds at {now:.0f}")
            self.allocations(record.get("UsageAllocations"), record.get("Quantity", 0))
            if record["CustomerAWSAccountId"] in mode.get("poisoned", ()):
                raise self.refused("InvalidCustomerIdentifierException", f"no customer {record['CustomerAWSAccountId']}")
        results, unprocessed = [], []
        for record in request["UsageRecords"]:
            self.counted += 1
            if self.counted % mode.get("put_off_every", 1 << 60) == 0:
                unprocessed.append(record)
            else:
                results.append({"UsageRecord": record, **self._one(request, record, mode)})
        return json.dumps({"Results": results, "UnprocessedRecords": unprocessed})

    def _one(self, request, record, mode):
        place = self.place(request, record)
        if place[0] in mode.get("gone", ()):
            return {"Status": "CustomerNotSubscribed"}
        quantity = record.get("Quantity", 0)
        allocations = self.allocations(record.get("UsageAllocations"), quantity)
        stands = self.records.setdefault(place, {
            "customer": place[0], "product": place[1], "dimension": place[2], "hour": self.iso(place[3] * 3600),
            "quantity": quantity, "allocations": allocations, "metering_record_id": str(uuid.uuid4()),
        })
        if (stands["quantity"], stands["allocations"]) != (quantity, allocations):
            return {"Status": "DuplicateRecord"}
        return {"Status": "Success", "MeteringRecordId": stands["metering_record_id"]}
