//! From what stands in the file to what the agent can trust: every value within its bounds, or an error.

use std::path::PathBuf;
use std::time::Duration;

use super::check_dimension::dimensions;
use super::error::{Refusal, quoted};
use super::limits::{self, defaults};
use super::raw::{Items, Raw, RawProduct, RawSocket, RawState, RawSubmit};
use super::table::{Field, Findings, RawDuration, RawId, RawMode};
use super::words::Word;
use super::{Alert, Config, Gate, HourRules, Instance, Offset, Product, ProductKind, Socket, State, Submit};
use super::{Credentials, Late, ZeroRecords, duration, endpoint, names};

/// The checked configuration. Where something was refused it stands in `findings` and its default stands in the
/// result, which the caller then throws away: so everything else is still checked in the same go.
pub(super) fn check(raw: Raw, findings: &mut Findings<'_>) -> Config {
    let (product, kind) = product(raw.product, findings);
    let close_place = raw.close_after.place();
    let gate = Gate {
        warn_after: findings.or(raw.warn_after, defaults::WARN_AFTER, |text| at_least(text, limits::WARN_AFTER_MIN)),
        close_after: findings.or(raw.close_after, None, |text| match text.0.as_str() {
            "never" => Ok(None),
            _ => at_least(text, limits::CLOSE_AFTER_MIN)
                .map(Some)
                .map_err(|refusal| Refusal::new(refusal.what, format!("{}, or \"never\"", refusal.remedy))),
        }),
    };
    if let (Some(place), Some(close_after)) = (close_place, gate.close_after.filter(|close| *close < gate.warn_after)) {
        let [close, warn] = [close_after, gate.warn_after].map(duration::text);
        let what = format!("is \"{close}\", before gate.warn_after (\"{warn}\")");
        findings.refuse(&place, Refusal::new(what, "let it warn before it closes"));
    }
    Config {
        dimensions: dimensions(raw.dimensions, kind, findings),
        socket: socket(raw.socket, findings),
        alert: Alert { command: alert_command(raw.alert_command, findings) },
        state: state(raw.state, findings),
        submit: submit(raw.submit, kind, findings),
        instance: Instance {
            id: findings.or(raw.instance_id, None, |id| match id.as_str() {
                "auto" => Ok(None),
                _ => characters(id, &limits::INSTANCE_ID_CHARS, "A-Z a-z 0-9 . _ -", |c| {
                    c.is_ascii_alphanumeric() || "._-".contains(c)
                })
                .map(Some),
            }),
        },
        hour: HourRules { grace: findings.or(raw.grace, defaults::GRACE, |text| within(text, &limits::GRACE)) },
        gate,
        product,
    }
}

/// The product, and its kind unless that was refused (bounds that depend on it are then not judged).
fn product(raw: RawProduct, findings: &mut Findings<'_>) -> (Product, Option<ProductKind>) {
    let kind = match raw.kind {
        Field::Absent => Some(ProductKind::Ami),
        given => findings.or(given, None, |text| word(&text).map(Some)),
    };
    let allowed = "A-Z a-z 0-9 - / = : _ . @";
    let code = findings.required(raw.code, ("product.code", raw.line), "write the product code from AWS", |code| {
        characters(code, &limits::PRODUCT_CODE_CHARS, allowed, |c| c.is_ascii_alphanumeric() || "-/=:_.@".contains(c))
    });
    (Product { code: code.unwrap_or_default(), kind: kind.unwrap_or(ProductKind::Ami) }, kind)
}

fn socket(raw: RawSocket, findings: &mut Findings<'_>) -> Socket {
    Socket {
        path: findings.or(raw.path, PathBuf::from(defaults::SOCKET_PATH), |path| socket_path(&path)),
        mode: findings.or(raw.mode, defaults::SOCKET_MODE, |RawMode(text)| {
            let octal = text.len() == 4 && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
            let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| octal && *mode <= limits::SOCKET_MODE_MAX);
            mode.ok_or_else(|| Refusal::new(format!("is {}", quoted(&text)), "allowed: \"0000\" to \"0777\", octal"))
        }),
        allow_users: ids(raw.allow_users, names::Kind::User, findings),
        allow_groups: ids(raw.allow_groups, names::Kind::Group, findings),
        allow_read_users: ids(raw.allow_read_users, names::Kind::User, findings),
    }
}

/// The ids of a list of users or groups.
pub(super) fn ids(list: Items<RawId>, kind: names::Kind, findings: &mut Findings<'_>) -> Vec<u32> {
    let Field::Given(items, place) = list else { return Vec::new() };
    if items.len() > limits::IDS_MAX {
        let refusal = Refusal::new(format!("has {} items", items.len()), format!("allowed: up to {}", limits::IDS_MAX));
        findings.refuse(&place, refusal);
        return Vec::new();
    }
    items.into_iter().filter_map(|item| findings.maybe(item, |entry| names::id(&entry, kind))).collect()
}

fn alert_command(list: Items<String>, findings: &mut Findings<'_>) -> Vec<String> {
    let Field::Given(items, place) = list else { return Vec::new() };
    if items.len() > limits::ALERT_WORDS_MAX {
        let remedy = format!("allowed: up to {}", limits::ALERT_WORDS_MAX);
        findings.refuse(&place, Refusal::new(format!("has {} items", items.len()), remedy));
        return Vec::new();
    }
    let checked = items.into_iter().enumerate().filter_map(|(n, item)| {
        findings.maybe(item, |word| {
            if n == 0 {
                path(&word, limits::PATH_BYTES_MAX)?;
            }
            if word.contains('\0') || word.len() > limits::ALERT_WORD_BYTES_MAX {
                let remedy = format!("allowed: up to {} bytes, none of them zero", limits::ALERT_WORD_BYTES_MAX);
                return Err(Refusal::new(format!("is {}", quoted(&word)), remedy));
            }
            Ok(word)
        })
    });
    checked.collect()
}

fn state(raw: RawState, findings: &mut Findings<'_>) -> State {
    State {
        dir: findings.or(raw.dir, PathBuf::from(defaults::STATE_DIR), |dir| path(&dir, limits::PATH_BYTES_MAX)),
        segment_bytes: findings.or(raw.segment_bytes, defaults::SEGMENT_BYTES, |bytes| {
            let (range, step) = (&limits::SEGMENT_BYTES, limits::SEGMENT_BYTES_STEP);
            let fits = u32::try_from(bytes).ok().filter(|n| range.contains(n) && n.is_multiple_of(step));
            let allowed = || format!("allowed: {} to {}, a multiple of {step}", range.start(), range.end());
            fits.ok_or_else(|| Refusal::new(format!("is {bytes}"), allowed()))
        }),
        retain_days: findings.or(raw.retain_days, defaults::RETAIN_DAYS, |days| {
            let range = &limits::RETAIN_DAYS;
            let fits = u32::try_from(days).ok().filter(|n| range.contains(n));
            let allowed = || format!("allowed: {} to {} days", range.start(), range.end());
            fits.ok_or_else(|| Refusal::new(format!("is {days}"), allowed()))
        }),
        allow_volatile: findings.or(raw.allow_volatile, false, Ok),
    }
}

fn submit(raw: RawSubmit, kind: Option<ProductKind>, findings: &mut Findings<'_>) -> Submit {
    let saas = kind == Some(ProductKind::Saas);
    let (window_default, window_range) = match kind {
        Some(ProductKind::Ami) => (defaults::WINDOW_AMI, &limits::WINDOW_AMI),
        Some(ProductKind::Saas) | None => (defaults::WINDOW_SAAS, &limits::WINDOW_SAAS),
    };
    let fallback = if saas { Credentials::Environment } else { Credentials::Instance };
    let credentials = findings.or(raw.credentials, fallback, |text| word(&text));
    Submit {
        region: findings.maybe(raw.region, |region| {
            characters(region, &limits::REGION_CHARS, "a-z 0-9 -", |c| {
                c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
            })
        }),
        endpoint_url: findings.maybe(raw.endpoint_url, endpoint::check),
        credentials,
        profile: findings.maybe(raw.profile, |profile| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            of_the_chain(credentials)?;
            characters(profile, &limits::PROFILE_CHARS, "A-Z a-z 0-9 . _ -", allowed)
        }),
        role_arn: findings.maybe(raw.role_arn, |arn| {
            of_the_chain(credentials)?;
            role(arn)
        }),
        offset: findings.or(raw.offset, Offset::Auto, |text| match text.0.as_str() {
            "auto" => Ok(Offset::Auto),
            _ => within(text, &limits::OFFSET)
                .map(Offset::Fixed)
                .map_err(|refusal| Refusal::new(refusal.what, format!("{}, or \"auto\"", refusal.remedy))),
        }),
        window: findings.or(raw.window, window_default, |text| within(text, window_range)),
        late: findings.or(raw.late, Late::CarryForward, |text| word(&text)),
        zero_records: findings.or(raw.zero_records, ZeroRecords::Off, |text| word(&text)),
        calls_in_flight: findings.or(raw.calls_in_flight, defaults::CALLS_IN_FLIGHT, |calls| {
            let range = &limits::CALLS_IN_FLIGHT;
            let fits = u32::try_from(calls).ok().filter(|n| range.contains(n));
            let allowed = || format!("allowed: {} to {}", range.start(), range.end());
            fits.ok_or_else(|| Refusal::new(format!("is {calls}"), allowed()))
        }),
    }
}

/// Profiles and roles are of the default chain: what the instance's own role meters is the instance's usage.
fn of_the_chain(credentials: Credentials) -> Result<(), Refusal> {
    if credentials == Credentials::Environment {
        return Ok(());
    }
    let remedy = "leave it out, or set submit.credentials = \"environment\" (the default for kind = \"saas\")";
    Err(Refusal::new("is set, and submit.credentials is \"instance\"", remedy))
}

fn role(arn: String) -> Result<String, Refusal> {
    let is_role = arn.starts_with("arn:aws") && arn.contains(":iam::") && arn.contains(":role/");
    let fits = limits::ROLE_ARN_CHARS.contains(&arn.len()) && arn.bytes().all(|b| b.is_ascii_graphic());
    if is_role && fits {
        return Ok(arn);
    }
    let remedy = "allowed: the ARN of a role, such as \"arn:aws:iam::123456789012:role/metering\"";
    Err(Refusal::new(format!("is {}", quoted(&arn)), remedy))
}

/// One word out of a few.
pub(super) fn word<W: Word>(text: &str) -> Result<W, Refusal> {
    W::from_word(text).ok_or_else(|| {
        let words: Vec<String> = W::WORDS.iter().map(|(_, word)| format!("{word:?}")).collect();
        Refusal::new(format!("is {}", quoted(text)), format!("allowed: {}", words.join(", ")))
    })
}

/// A text of certain characters, so many of them.
pub(super) fn characters(
    text: String,
    count: &std::ops::RangeInclusive<usize>,
    shown: &str,
    allowed: impl Fn(char) -> bool,
) -> Result<String, Refusal> {
    if count.contains(&text.chars().count()) && text.chars().all(allowed) {
        return Ok(text);
    }
    let remedy = format!("allowed: {} to {} characters of {shown}", count.start(), count.end());
    Err(Refusal::new(format!("is {}", quoted(&text)), remedy))
}

fn path(text: &str, bytes_max: usize) -> Result<PathBuf, Refusal> {
    if text.starts_with('/') && text.len() <= bytes_max && !text.contains('\0') {
        return Ok(PathBuf::from(text));
    }
    let remedy = format!("allowed: an absolute path of up to {bytes_max} bytes");
    Err(Refusal::new(format!("is {}", quoted(text)), remedy))
}

/// The path of the socket. `admin.sock` goes beside it and so has to fit as well, under a name of its own.
pub(super) fn socket_path(text: &str) -> Result<PathBuf, Refusal> {
    let checked = path(text, limits::SOCKET_PATH_BYTES_MAX)?;
    let admin = checked.with_file_name("admin.sock");
    let names_a_file = !text.ends_with('/') && checked.file_name().is_some();
    if names_a_file && checked != admin && admin.as_os_str().len() <= limits::SOCKET_PATH_BYTES_MAX {
        return Ok(checked);
    }
    let remedy = format!(
        "allowed: an absolute path of a file of up to {} bytes, also with admin.sock in place of the name",
        limits::SOCKET_PATH_BYTES_MAX
    );
    Err(Refusal::new(format!("is {}", quoted(text)), remedy))
}

fn read_duration(RawDuration(text): &RawDuration, remedy: &str) -> Result<Duration, Refusal> {
    duration::parse(text)
        .ok_or_else(|| Refusal::new(format!("is {}, which is no duration", quoted(text)), remedy.to_owned()))
}

fn within(raw: RawDuration, range: &std::ops::RangeInclusive<Duration>) -> Result<Duration, Refusal> {
    let allowed = format!("allowed: \"{}\" to \"{}\"", duration::text(*range.start()), duration::text(*range.end()));
    let read = read_duration(&raw, &allowed)?;
    if range.contains(&read) { Ok(read) } else { Err(Refusal::new(format!("is {}", quoted(&raw.0)), allowed)) }
}

fn at_least(raw: RawDuration, least: Duration) -> Result<Duration, Refusal> {
    within(raw, &(least..=limits::DURATION_MAX))
}

impl Findings<'_> {
    /// What `check` makes of the value; nothing where there is none or it was refused.
    pub fn maybe<T, U>(&mut self, field: Field<T>, check: impl FnOnce(T) -> Result<U, Refusal>) -> Option<U> {
        let Field::Given(value, place) = field else { return None };
        check(value).map_err(|refusal| self.refuse(&place, refusal)).ok()
    }

    /// What `check` makes of the value, else `default`.
    pub fn or<T, U>(&mut self, field: Field<T>, default: U, check: impl FnOnce(T) -> Result<U, Refusal>) -> U {
        self.maybe(field, check).unwrap_or(default)
    }

    /// What `check` makes of the value, which has to be there.
    pub fn required<T, U>(
        &mut self,
        field: Field<T>,
        (key, line): (&str, u32),
        remedy: &str,
        check: impl FnOnce(T) -> Result<U, Refusal>,
    ) -> Option<U> {
        if matches!(field, Field::Absent) {
            self.add(line, format!("{key} is missing"), remedy);
        }
        self.maybe(field, check)
    }
}
