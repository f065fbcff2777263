//! `meterd customers`: the register of a SaaS product's customers.

mod notice;

use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{NoAnswer, Target, get, post};
use super::exit;
use super::say::{complain, json_line, on_one_line, say};
use crate::ingest::listener::ADMIN;
use crate::view::customers::CustomerView;

/// The register of customers: whose usage may be sent (SaaS products)
///
/// Once there is a customer in it, usage of customers that it does not know waits (customers.unknown in the configuration).
/// For root and the agent's own user.
#[derive(Debug, clap::Args)]
pub struct Customers {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Every customer that this log knows, and how it stands
    List {
        /// One object a line, for programs
        #[arg(long)]
        json: bool,
    },
    /// A customer has subscribed
    Add {
        /// Its account id, 12 digits
        #[arg(value_name = "ACCOUNT-ID")]
        customer: String,
        /// The licence it has, for products with concurrent agreements
        #[arg(long, value_name = "ARN")]
        license: Option<String>,
        /// A product that it has subscribed to
        #[arg(long = "product", value_name = "CODE")]
        products: Vec<String>,
    },
    /// Whom a registration token stands for, by AWS's ResolveCustomer; - reads the token from stdin, where nobody sees it
    Resolve {
        /// What AWS's form posts to your registration page as x-amzn-marketplace-token
        #[arg(value_name = "TOKEN")]
        token: String,
    },
    /// A customer's subscription has ended: its open hour is sent now, and nothing of it is taken any more
    End {
        /// Its account id, 12 digits
        #[arg(value_name = "ACCOUNT-ID")]
        customer: String,
        /// Only this licence; default: all that it has
        #[arg(long, value_name = "ARN")]
        license: Option<String>,
    },
    /// Messages of AWS Marketplace from stdin: EventBridge events, SNS message bodies, SQS messages; one or many
    Notify,
}

/// What the agent answers.
#[derive(Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    came: String,
    #[serde(default)]
    customers: Vec<CustomerView>,
    #[serde(default)]
    more: bool,
    #[serde(default)]
    message: String,
    #[serde(default)]
    retryable: bool,
    #[serde(default)]
    error: String,
}

impl Answer {
    /// The exit code of what was refused.
    fn code(&self) -> u8 {
        if self.retryable || self.error == "aws_unreachable" { exit::RETRY } else { exit::REFUSED }
    }
}

/// Does what the verb says; returns the exit code.
pub fn run(args: &Customers) -> u8 {
    let socket = match args.target.socket() {
        Ok(socket) => socket.with_file_name(ADMIN),
        Err(message) => {
            complain!("meterd: {message}");
            return exit::CONFIG;
        }
    };
    match &args.verb {
        Verb::List { json } => list(&socket, *json),
        Verb::Add { customer, license, products } => {
            one(&socket, "add", &json!({ "customer": customer, "license": license, "products": products }))
        }
        Verb::Resolve { token } => match token_of(token) {
            Ok(token) => one(&socket, "resolve", &json!({ "token": token })),
            Err(error) => {
                complain!("meterd: reading stdin: {error}");
                exit::REFUSED
            }
        },
        Verb::End { customer, license } => one(&socket, "end", &json!({ "customer": customer, "license": license })),
        Verb::Notify => notify(&socket),
    }
}

fn token_of(given: &str) -> io::Result<String> {
    let mut token = given.to_owned();
    if given == "-" {
        token.clear();
        io::stdin().read_to_string(&mut token)?;
    }
    Ok(token.trim().to_owned())
}

fn list(socket: &Path, json: bool) -> u8 {
    let mut after = 0;
    loop {
        let page = match page(socket, after) {
            Ok(page) => page,
            Err(none) => {
                complain!("meterd: {}", none.message);
                return none.code();
            }
        };
        for customer in &page.customers {
            if json {
                // Whoever closes the pipe has heard enough.
                let _ = json_line(&mut io::stdout(), customer);
            } else {
                say!("{}", line(customer));
            }
        }
        match page.customers.last() {
            Some(last) if page.more => after = last.number,
            _ => return exit::FINE,
        }
    }
}

fn page(socket: &Path, after: u32) -> Result<Answer, NoAnswer> {
    let body = get(socket, &format!("/v1/customers?after={after}"))?;
    serde_json::from_slice(&body).map_err(|e| format!("the agent's answer cannot be read: {e}").into())
}

fn line(customer: &CustomerView) -> String {
    let CustomerView { customer: id, license, state, since, products, waiting, .. } = customer;
    let since = since.as_ref().map_or_else(String::new, |since| format!(" since {since}"));
    let license = license.as_ref().map_or_else(String::new, |license| format!("  {license}"));
    let products = if products.is_empty() { String::new() } else { format!("  products {}", products.join(", ")) };
    let waiting = if *waiting == 0 { String::new() } else { format!("  {waiting} records wait") };
    on_one_line(&format!("{id}  {state}{since}{license}{products}{waiting}")).into_owned()
}

fn one(socket: &Path, verb: &str, body: &Value) -> u8 {
    match post::<Answer>(socket, &format!("/v1/customers/{verb}"), body.to_string()) {
        Ok(answer) if answer.ok => {
            tell(&answer);
            exit::FINE
        }
        Ok(answer) => {
            complain!("meterd: {}", answer.message);
            answer.code()
        }
        Err(message) => {
            complain!("meterd: {message}");
            exit::UNREACHABLE
        }
    }
}

fn tell(answer: &Answer) {
    match answer.came.as_str() {
        "older" => say!("nothing has changed: something later is known of this customer"),
        "other_product" => say!("nothing has changed: it is about another product"),
        came => {
            let before = if came == "known" { "nothing has changed: " } else { "" };
            answer.customers.iter().for_each(|customer| say!("{before}{}", line(customer)));
        }
    }
}

/// All messages are told, also behind one that is unknown or refused.
fn notify(socket: &Path) -> u8 {
    let mut code = exit::FINE;
    for value in serde_json::Deserializer::from_reader(io::stdin().lock()).into_iter::<Value>() {
        let value = match value {
            Ok(value) => value,
            Err(error) => {
                complain!("meterd: stdin is no JSON from here on: {error}");
                return exit::REFUSED;
            }
        };
        for notice in notice::notices(&value) {
            let Some(told) = notice.told else {
                complain!("meterd: not known, and passed over: {}", on_one_line(&notice.name));
                code = exit::REFUSED;
                continue;
            };
            match post::<Answer>(socket, "/v1/customers/notify", told.to_string()) {
                Ok(answer) if answer.ok => tell(&answer),
                Ok(answer) => {
                    complain!("meterd: {}: {}", on_one_line(&notice.name), answer.message);
                    code = answer.code().max(code);
                }
                Err(message) => {
                    complain!("meterd: {message}");
                    return exit::UNREACHABLE;
                }
            }
        }
    }
    code
}
