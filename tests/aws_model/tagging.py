"""The Resource Groups Tagging API of one Region, as instance.py has it behind TLS under its own name: every request is
checked against AWS's own service model, as botocore ships it, and its signature computed again.

    GET  /_tags    {"tags": {ARN: {KEY: VALUE}}, "calls": [{"operation", "user_agent"}], "violations": [...]}
    POST /_tags    {"tags": {ARN: {KEY: VALUE}}}: these resources have these tags, and no others
                   {"deny": [RIGHTS]}: of tag:GetResources, tag:TagResources and ec2:CreateTags the role lacks these
                   {"throttle": TIMES}: the next calls are refused for their number
"""

import json
import threading

import endpoint as model

SERVICE = "resourcegroupstaggingapi"


class Tagging:
    def __init__(self, role, region, product):
        self.role, self.region, self.product = role, region, product
        self.model = model.Model(SERVICE)
        self.tags, self.deny, self.throttle, self.calls, self.violations = {}, [], 0, [], []
        self.lock = threading.Lock()

    def control(self, change):
        with self.lock:
            for name in ("tags", "deny", "throttle"):
                setattr(self, name, change.get(name, getattr(self, name)))

    def ledger(self):
        with self.lock:
            return {"tags": self.tags, "calls": self.calls, "violations": self.violations}

    def call(self, headers, body):
        """(status, error type, body) of the answer."""
        with self.lock:
            try:
                return 200, None, json.dumps(self._answer(headers, body))
            except model.Refused as refused:
                return refused.status, refused.code, json.dumps({"__type": refused.code, "message": refused.message})

    def _answer(self, headers, body):
        operation, request = self._read(headers, body)
        self.calls.append({"operation": operation, "user_agent": headers.get("User-Agent")})
        if self.throttle > 0:
            self.throttle -= 1
            raise model.Refused("ThrottledException", "Rate exceeded")
        self._allow(f"tag:{operation}")
        known = request["ResourceARNList"]
        if operation == "GetResources":
            # As AWS has it: who never had a tag is left out.
            having = [arn for arn in known if arn in self.tags]
            pairs = [(arn, [{"Key": key, "Value": value} for key, value in self.tags[arn].items()]) for arn in having]
            return {"PaginationToken": "", "ResourceTagMappingList": [{"ResourceARN": arn, "Tags": tags} for arn, tags in pairs]}
        if "ec2:CreateTags" in self.deny:
            failure = {"StatusCode": 403, "ErrorCode": "AccessDeniedException", "ErrorMessage": "You are not authorized to perform this operation."}
            return {"FailedResourcesMap": {arn: failure for arn in known}}
        for arn in known:
            self.tags.setdefault(arn, {}).update(request["Tags"])
        return {"FailedResourcesMap": {}}

    def _allow(self, right):
        if right in self.deny:
            who = "arn:aws:sts::123456789012:assumed-role/metering-role/i-0123456789abcdef0"
            raise model.Refused("AccessDeniedException", f"User: {who} is not authorized to perform: {right}")

    def _read(self, headers, body):
        key, found = model.header_violations(self.model, headers, body, None)
        known = self.role.keys.get(key)
        if known is None:
            raise model.Refused("UnrecognizedClientException", "The security token included in the request is invalid.")
        _, found = model.header_violations(self.model, headers, body, known["SecretAccessKey"])
        host = f"tagging.{self.region}.amazonaws.com"
        prefix, _, operation = (headers.get("X-Amz-Target") or "").rpartition(".")
        if headers.get("Host") != host:
            found.append(f"Host is {headers.get('Host')!r}, not {host!r}")
        if headers.get("X-Amz-Security-Token") != known["Token"]:
            found.append("the session token is not that of the key")
        if prefix != self.model.target_prefix or operation not in ("GetResources", "TagResources"):
            found.append(f"X-Amz-Target is {headers.get('X-Amz-Target')!r}")
        if not (headers.get("User-Agent") or "").startswith(f"APN_1.1/pc_{self.product}$ "):
            found.append(f"User-Agent is {headers.get('User-Agent')!r}")
        request = json.loads(body)
        if operation in self.model.service.operation_names:
            found.extend(self.model.violations(operation, request))
        if found:
            self.violations.append("; ".join(found))
            raise model.Refused("ValidationException", "; ".join(found))
        return operation, request
