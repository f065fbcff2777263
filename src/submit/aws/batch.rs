//! One call of BatchMeterUsage. The buyer's account id always, the deprecated customer identifier never; under a licence no
//! product code.

use std::sync::Arc;

use aws_sdk_marketplacemetering::Client;
use aws_sdk_marketplacemetering::operation::batch_meter_usage::BatchMeterUsageOutput;
use aws_sdk_marketplacemetering::types::{UsageRecord, UsageRecordResult};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;

use super::super::answer::{OfRecord, Outcome, Reply};
use super::wire::{Watch, Wire};
use super::{allocations, as_i32};
use crate::entry::{Buyer, Request};
use crate::hour::Timestamp;

/// Sends `requests`, which share a product. None of them: asks whether AWS is there.
pub(super) async fn send(client: &Client, product_code: &str, requests: &[Request]) -> Reply {
    let records: Result<Vec<UsageRecord>, String> = requests.iter().map(record).collect();
    let records = match records {
        Ok(records) => records,
        Err(why) => return Reply::not_sent(Outcome::NotSent, format!("the request cannot be built: {why}")),
    };
    let product = requests.first().map_or(product_code, |first| first.product_code.as_str());
    let licensed = requests.first().is_some_and(Request::is_licensed);
    let call = client.batch_meter_usage().set_usage_records(Some(records));
    let call = if licensed { call } else { call.product_code(product) };
    let wire = Wire::of(product_code);
    let call = call.customize().interceptor(Watch(Arc::clone(&wire))).interceptor(WithoutIdentifiers);
    let result = call.send().await;
    wire.reply(match result {
        Ok(output) => {
            let records: Vec<OfRecord> = requests.iter().map(|request| said_of(request, &output)).collect();
            let taken = records.iter().filter(|said| matches!(said, OfRecord::Success { .. })).count();
            let message = format!("{taken} of {} records taken", records.len());
            (Outcome::Batch(records), message)
        }
        Err(error) => wire.failed(&error),
    })
}

/// The SDK sends the deprecated identifier of a record even where it has none, as an empty text. Taken out before the
/// request is signed.
#[derive(Debug)]
struct WithoutIdentifiers;

/// As the SDK writes it; inside a text quotes would be escaped.
const NO_IDENTIFIER: &str = "\"CustomerIdentifier\":\"\",";

#[dyn_dispatch_hint]
impl Intercept for WithoutIdentifiers {
    fn name(&self) -> &'static str {
        "meterd: without identifiers"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let body = request.body().bytes().ok_or("the body is a stream")?;
        let body = std::str::from_utf8(body)?.replace(NO_IDENTIFIER, "");
        request.headers_mut().insert("content-length", body.len().to_string());
        *request.body_mut() = SdkBody::from(body);
        Ok(())
    }
}

fn record(request: &Request) -> Result<UsageRecord, String> {
    let buyer = request.buyer().ok_or_else(|| format!("{:?} is no customer", request.client_token))?;
    UsageRecord::builder()
        .timestamp(DateTime::from_secs(request.timestamp.seconds()))
        .customer_aws_account_id(buyer.customer_id())
        .set_license_arn(buyer.license)
        .dimension(&request.dimension)
        .quantity(as_i32(request.quantity))
        .set_usage_allocations(allocations(request)?)
        .build()
        .map_err(|error| error.to_string())
}

/// What an answer says of one record.
fn said_of(request: &Request, output: &BatchMeterUsageOutput) -> OfRecord {
    let Some(buyer) = request.buyer() else { return OfRecord::Nothing { status: None } };
    let same = |record: &UsageRecord| is_same(record, request, &buyer);
    let result = output.results().iter().find(|result| result.usage_record.as_ref().is_some_and(same));
    match result {
        Some(result) => of_result(result),
        None if output.unprocessed_records().iter().any(same) => OfRecord::Unprocessed,
        None => OfRecord::Nothing { status: None },
    }
}

fn of_result(result: &UsageRecordResult) -> OfRecord {
    match (result.status.as_ref().map(|status| status.as_str()), &result.metering_record_id) {
        (Some("Success"), Some(id)) => OfRecord::Success { metering_record_id: id.clone() },
        (Some("CustomerNotSubscribed"), _) => OfRecord::NotSubscribed,
        (Some("DuplicateRecord"), _) => OfRecord::Duplicate,
        (status, _) => OfRecord::Nothing { status: status.map(str::to_owned) },
    }
}

/// Whether `record`, as AWS repeats it, is the one that was sent: AWS takes one per customer, licence, dimension and hour,
/// and may repeat the hour instead of the moment.
fn is_same(record: &UsageRecord, request: &Request, buyer: &Buyer) -> bool {
    record.customer_aws_account_id() == Some(buyer.customer_id().as_str())
        && record.license_arn() == buyer.license.as_deref()
        && record.dimension() == request.dimension
        && Timestamp::from_seconds(record.timestamp().secs()).hour() == request.timestamp.hour()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(seconds: i64) -> Request {
        Request {
            product_code: "p".into(),
            dimension: "requests".into(),
            timestamp: Timestamp::from_seconds(seconds),
            quantity: 5,
            allocations: Vec::new(),
            client_token: "123456789012".into(),
        }
    }

    #[test]
    fn an_answer_is_of_the_record_of_its_hour() {
        let of_the_hour = record(&sent(9 * 3600)).unwrap();
        let taken =
            UsageRecordResult::builder().usage_record(of_the_hour).metering_record_id("id").status("Success".into());
        let output = BatchMeterUsageOutput::builder().results(taken.build()).build();
        let last_second = said_of(&sent(10 * 3600 - 1), &output);
        assert_eq!(last_second, OfRecord::Success { metering_record_id: "id".into() });
        assert_eq!(said_of(&sent(10 * 3600), &output), OfRecord::Nothing { status: None });
    }
}
