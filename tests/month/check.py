#!/usr/bin/env python3
"""Recomputes a month's report from `records --json`, and holds it against the books and AWS's ledger.

check.py DIR: reads month.json, month.csv, records.jsonl, status.json and ledger.json there. Shares no code with what it
checks. Says what differs and exits with 1.
"""

import csv
import json
import pathlib
import sys
from collections import defaultdict
from decimal import Decimal

STATES = ["accepted", "pending", "held", "conflict", "in_doubt", "expired", "discarded", "carried"]
found = []


def same(what, reported, computed):
    if Decimal(reported) != Decimal(computed):
        found.append(f"{what}: the report says {reported}, the records say {computed}")


def sums_of(records):
    sums = defaultdict(Decimal)
    for record in records:
        for column in ["late", "carried_in"]:
            sums[column] += Decimal(record[column])
        sums[record["state"]] += Decimal(record["value"])
        sums["units", record["state"]] += record["quantity"]
        sums["records", record["state"]] += 1
    return sums


def check_sums(what, row, records):
    sums = sums_of(records)
    for column in STATES + ["late", "carried_in"]:
        same(f"{what} {column}", row[column], sums[column])
    for kind in ["units", "records"]:
        for state in STATES:
            same(f"{what} {kind} {state}", row[kind].get(state, 0), sums[kind, state])
    same(f"{what} billed_units", row["billed_units"], sum(sums["units", s] for s in STATES if s != "carried"))


def received_and_included(records):
    """Usage of hours without a record shows in the remainder that the next record began with."""
    received, included, left = Decimal(0), Decimal(0), Decimal(0)
    for record in records:
        received += Decimal(record["usage"]) + Decimal(record["remainder_in"]) - left
        included += Decimal(record["included"])
        left = Decimal(record["remainder"])
    return received, included, left


def main(directory):
    report = json.loads((directory / "month.json").read_text())
    status = json.loads((directory / "status.json").read_text())
    ledger = json.loads((directory / "ledger.json").read_text())
    lines = [json.loads(line) for line in (directory / "records.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["hour"].startswith("2026-11")]
    if report["records"] != lines:
        found.append(f"the report lists {len(report['records'])} records, `records --json` {len(lines)}, or others")
    by_dimension = defaultdict(list)
    for line in sorted(lines, key=lambda line: (line["hour"], line["generation"])):
        by_dimension[line["dimension"]].append(line)
    books = {row["dimension"]: row for row in status["books"]}
    checked = 0
    for dimension in report["dimensions"]:
        name, total, records = dimension["dimension"], dimension["total"], by_dimension[dimension["dimension"]]
        check_sums(f"{name} in all:", total, records)
        received, included, left = received_and_included(records)
        # What came after the last record, and what was included whole: neither made a record.
        received += Decimal(total["remainder"]) - left + Decimal(total["included"]) - included
        same(f"{name} received", total["received"], received)
        if name != "gigabytes":
            same(f"{name} included", total["included"], included)
        came = sum(Decimal(total[c]) for c in ["received", "remainder_in", "carried_in", "rounded"])
        same(f"{name} where it is", came, sum(Decimal(total[c]) for c in STATES + ["included", "open", "remainder"]))
        if not dimension["balanced"]:
            found.append(f"{name}: not balanced")
        # The log is younger than the month, so its books say the same.
        for column in ["received", "accepted", "expired", "discarded", "included", "rounded", "remainder"]:
            same(f"{name} {column} in the books", total[column], books[name][column])
        same(f"{name} with_person", books[name]["with_person"], sum(Decimal(total[s]) for s in ["held", "conflict", "in_doubt"]))
        # What a crash left in doubt AWS may have, too.
        accepted, doubt = total["units"].get("accepted", 0), total["units"].get("in_doubt", 0)
        if not accepted <= ledger["totals"].get(name, 0) <= accepted + doubt:
            found.append(f"{name} at AWS: {ledger['totals'].get(name)}, the report says {accepted} and {doubt} in doubt")
        days = defaultdict(list)
        for record in records:
            days[record["hour"][:10]].append(record)
        for day in dimension["days"]:
            check_sums(f"{name} {day['day']}:", day, days.pop(day["day"], []))
            if name != "gigabytes":
                usage = sum(Decimal(record["usage"]) for record in records if record["hour"][:10] == day["day"])
                same(f"{name} {day['day']} received", day["received"], usage)
            checked += 1
        if days:
            found.append(f"{name}: days without a line: {sorted(days)}")
        for column in STATES + ["received", "late", "carried_in", "rounded", "included", "open"]:
            dayless = Decimal(dimension["dayless"]) if column in ("received", "included") else 0
            same(f"{name} {column}, day by day", total[column], dayless + sum(Decimal(day[column]) for day in dimension["days"]))
    with open(directory / "month.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for dimension in report["dimensions"]:
        row = next(r for r in rows if r["row"] == "total" and r["dimension"] == dimension["dimension"])
        for column in STATES + ["received", "late", "remainder"]:
            same(f"{dimension['dimension']} {column} in the CSV", row[column], dimension["total"][column])
    ids = sorted(row["metering_record_id"] for row in rows if row["row"] == "record" and row["metering_record_id"])
    if ids != sorted(line["metering_record_id"] for line in lines if line["metering_record_id"]):
        found.append("the CSV has other record ids")
    late, carried = (sum(Decimal(line[c]) for line in lines) for c in ["late", "carried_in"])
    states = {line["state"] for line in lines}
    if not {"accepted", "carried", "conflict", "held"} <= states or not late or not carried or not report["outages"]:
        found.append(f"the month lacks something: {states}, late {late}, carried {carried}, {len(report['outages'])} outages")
    print("\n".join(found) or f"month: {len(lines)} records, {checked} days recomputed, nothing differs")
    return 1 if found else 0


sys.exit(main(pathlib.Path(sys.argv[1])))
