//! ResolveCustomer: whom a registration token stands for. The token itself is nobody's to see: it stands in no message.

use aws_sdk_marketplacemetering::error::SdkError;

use super::{Aws, chain};
use crate::entry::Buyer;

/// What a registration token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The buyer's account and, for products with concurrent agreements, the licence.
    pub customer: Buyer,
    /// AWS's deprecated identifier of it, which notifications still use.
    pub identifier: Option<String>,
    /// The product's code.
    pub product: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotResolved {
    /// In AWS's words, or the way's to it.
    pub message: String,
    /// AWS refuses the token: the same again comes to the same.
    pub refused: bool,
}

impl Aws {
    /// Exchanges a registration token for who it is.
    pub async fn resolve_customer(&self, token: &str) -> Result<Resolved, NotResolved> {
        let not_reached = |message: String| NotResolved { message: hidden(&message, token), refused: false };
        let client = self.client.get_or_try_init(|| self.connect()).await.map_err(not_reached)?;
        let answer = client.resolve_customer().registration_token(token).send().await;
        let answer = answer.map_err(|error| {
            let service = error.as_service_error();
            let token_is_wrong =
                |e: &aws_sdk_marketplacemetering::operation::resolve_customer::ResolveCustomerError| {
                    e.is_invalid_token_exception() || e.is_expired_token_exception()
                };
            let words = service.map(|e| {
                let meta = e.meta();
                format!("{}: {}", meta.code().unwrap_or("an error"), meta.message().unwrap_or("no message"))
            });
            let refused = service.is_some_and(token_is_wrong);
            NotResolved { message: hidden(&words.unwrap_or_else(|| way(&error)), token), refused }
        })?;
        let account = answer.customer_aws_account_id().unwrap_or_default();
        let customer = Buyer::parse(account, answer.license_arn())
            .map_err(|why| not_reached(format!("AWS's answer cannot be used: {why}")))?;
        let known = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        Ok(Resolved {
            customer,
            identifier: known(answer.customer_identifier()),
            product: known(answer.product_code()),
        })
    }
}

fn way<E: std::error::Error + 'static, R: std::fmt::Debug + 'static>(error: &SdkError<E, R>) -> String {
    format!("AWS does not answer: {}", chain(error))
}

/// `message` without the token, should somebody have put it there.
fn hidden(message: &str, token: &str) -> String {
    if token.is_empty() { message.to_owned() } else { message.replace(token, "(the token)") }
}
