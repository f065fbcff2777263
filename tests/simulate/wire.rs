//! The simulation speaks awsJson 1.1 as AWS does, on connections that stay open.

use std::net::TcpStream;

use meterd::simulate::Options;
use serde_json::{Value, json};

use crate::client::{SIGNED, aws, headers, headers_but, http, receive, request, send};

#[test]
fn every_answer_carries_the_request_id_the_type_and_the_services_date() {
    let aws = aws(Options::default());
    let (granted, refused) = (aws.call(json!({})), aws.call(json!({ "UsageQuantity": 1 })));
    for answer in [&granted, &refused] {
        assert_eq!(answer.header("content-type"), Some("application/x-amz-json-1.1"));
        assert_eq!(answer.header("date"), Some("Sat, 21 Nov 2026 12:30:00 GMT"));
        assert_eq!(answer.header("x-amzn-requestid").unwrap().len(), 36);
    }
    assert_ne!(granted.header("x-amzn-requestid"), refused.header("x-amzn-requestid"));
    assert_eq!(refused.status, 400);
    assert_eq!(refused.header("x-amzn-errortype"), Some("DuplicateRequestException"));
    assert!(refused.json()["message"].as_str().unwrap().contains("25"));
}

#[test]
fn requests_that_are_not_awsjson_signed_for_this_service_are_refused() {
    let aws = aws(Options::default());
    let other_service = SIGNED.replace("aws-marketplace", "execute-api");
    let no_key = SIGNED.replace("AKIDEXAMPLE", "");
    for (name, value, expected) in [
        ("x-amz-target", None, "UnknownOperationException"),
        ("x-amz-target", Some("AWSMPMeteringService.RegisterUsage"), "UnknownOperationException"),
        ("x-amz-target", Some("AWSMPMeteringService.NoSuchOperation"), "UnknownOperationException"),
        ("x-amz-target", Some("MeterUsage"), "UnknownOperationException"),
        ("content-type", Some("application/json"), "SerializationException"),
        ("authorization", None, "MissingAuthenticationTokenException"),
        ("authorization", Some("Bearer x"), "IncompleteSignatureException"),
        ("authorization", Some("AWS4-HMAC-SHA256 Credential=A/B"), "IncompleteSignatureException"),
        ("authorization", Some(no_key.as_str()), "IncompleteSignatureException"),
        ("authorization", Some(other_service.as_str()), "InvalidSignatureException"),
        ("x-amz-date", None, "IncompleteSignatureException"),
    ] {
        let answer = aws.post(&headers_but(name, value), request(json!({})).to_string().as_bytes()).unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (400, expected), "{name}: {value:?}");
    }
    assert_eq!(aws.ledger()["records"], json!([]));
}

#[test]
fn bodies_of_other_types_are_a_serialization_error() {
    let aws = aws(Options::default());
    let plain = request(json!({})).to_string();
    for body in [
        "".to_owned(),
        "{".to_owned(),
        "[]".to_owned(),
        "\"x\"".to_owned(),
        plain.replace("25", "\"25\""),
        plain.replace("25", "25.0"),
        plain.replace("25", "9999999999999999999"),
        plain.replace("1795262399", "\"2026-11-21T11:59:59Z\""),
        plain.replace("1795262399", "1e300"),
        plain.replace("\"prod\"", "1"),
        plain.replace("25", "25,\"DryRun\":\"true\""),
        plain.replace("25", "25,\"UsageAllocations\":{}"),
        plain.replace("25", "25,\"UsageAllocations\":[[25]]"),
        plain.replace("25", "25,\"UsageAllocations\":[{\"AllocatedUsageQuantity\":25,\"Tags\":[[\"k\",\"v\"]]}]"),
    ] {
        let answer = aws.post(&headers(), body.as_bytes()).unwrap();
        assert_eq!(answer.code(), "SerializationException", "{body}");
    }
    // What the model does not know is skipped, and null is absent, as at AWS.
    let extra = plain.replace("25", "25,\"Unheard\":1,\"ClientToken\":null");
    assert_eq!(aws.post(&headers(), extra.as_bytes()).unwrap().code(), "");
}

#[test]
fn one_connection_carries_many_calls() {
    let aws = aws(Options::default());
    let mut stream = TcpStream::connect(aws.simulation.addr()).unwrap();
    for dimension in ["a", "b", "c"] {
        let body = request(json!({ "UsageDimension": dimension })).to_string();
        send(&mut stream, "POST", "/", &headers(), body.as_bytes()).unwrap();
        receive(&mut stream).unwrap().unwrap().record_id();
    }
    assert_eq!(aws.simulation.ledger().totals.len(), 3);
}

#[test]
fn calls_can_be_read_back_as_they_came_in() {
    let aws = aws(Options::default());
    let body = request(json!({})).to_string();
    let answer = aws.post(&headers(), body.as_bytes()).unwrap();
    let expected = json!({ "calls": [{
        "number": 1, "at": "2026-11-21T12:30:00Z", "target": "AWSMPMeteringService.MeterUsage",
        "user_agent": "test/1", "instance": "AKIDEXAMPLE", "body": body, "fault": null,
        "request_id": answer.header("x-amzn-requestid"), "status": 200, "answer": answer.body,
    }] });
    assert_eq!(aws.get("/calls"), expected);
}

#[test]
fn the_log_of_calls_is_bounded_and_keeps_the_last() {
    let aws = aws(Options::default());
    let mut stream = TcpStream::connect(aws.simulation.addr()).unwrap();
    for _ in 0..1001 {
        send(&mut stream, "POST", "/", &headers(), b"{").unwrap();
        receive(&mut stream).unwrap().unwrap();
    }
    let calls = aws.simulation.calls();
    assert_eq!((calls.len(), calls.first().unwrap().number), (1000, 2));
}

#[test]
fn other_paths_say_what_there_is() {
    let aws = aws(Options::default());
    let answer = http(aws.simulation.addr(), "GET", "/", &[], b"").unwrap().unwrap();
    assert_eq!(answer.status, 404);
    assert!(answer.json()["message"].as_str().unwrap().contains("GET /ledger"));
    assert_eq!(aws.ledger()["calls"], json!(0), "that was no call of the service");
}

#[test]
fn a_simulation_that_is_dropped_is_gone() {
    let aws = aws(Options::default());
    let mut idle = TcpStream::connect(aws.simulation.addr()).unwrap();
    drop(aws);
    // That nobody listens on the port any more is not asked: another test may have taken it meanwhile.
    assert!(matches!(receive(&mut idle), Ok(None) | Err(_)));
}

#[test]
fn the_handle_and_http_tell_the_same() {
    let aws = aws(Options::default());
    aws.call(json!({}));
    let of_handle: Value = serde_json::to_value(aws.simulation.ledger()).unwrap();
    assert_eq!(of_handle, aws.ledger());
}
