//! Any checked configuration, within the bounds of `meterd::config::limits`.

use std::path::PathBuf;
use std::time::Duration;

use meterd::config::{
    Alert, Config, Credentials, Dimension, Gate, HourRules, Included, Instance, Late, Measure, Offset, Period, Product,
    ProductKind, Round, Socket, Source, State, Submit, Word, ZeroRecords, limits,
};
use meterd::decimal::Amount;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const BELOW: i128 = 1_000_000_000_000_000_000;

fn word<W: Word + std::fmt::Debug>() -> impl Strategy<Value = W> {
    select(W::WORDS.iter().map(|(value, _)| *value).collect::<Vec<W>>())
}

fn amount(least: i128) -> impl Strategy<Value = Amount> {
    let edges = select(vec![least, 1, 999_999, 1_000_000, BELOW - 1]);
    prop_oneof![least..BELOW, least..5_000_000, edges].prop_map(Amount::from_millionths)
}

fn span(range: &std::ops::RangeInclusive<Duration>) -> impl Strategy<Value = Duration> + use<> {
    let [start, end] = [range.start(), range.end()].map(|d| u64::try_from(d.as_millis()).unwrap());
    let edges = select(vec![start, end]);
    let seconds = (start / 1000..=end / 1000).prop_map(|s| s * 1000);
    prop_oneof![start..=end, seconds, edges].prop_map(Duration::from_millis)
}

fn ids() -> impl Strategy<Value = Vec<u32>> {
    vec(prop_oneof![0..2000u32, Just(limits::ID_MAX)], 0..3)
}

fn path() -> impl Strategy<Value = PathBuf> {
    "/[a-z \"'\\\\#=é]{0,20}/[a-z]{1,8}".prop_map(PathBuf::from)
}

prop_compose! {
    /// A dimension that stands by itself.
    fn plain(name: String)(
        measure in word::<Measure>(),
        sticky in any::<bool>(),
        unit in amount(1),
        round in word::<Round>(),
        hold_above in option::of(amount(0)),
        included in option::of((amount(0), word::<Period>())),
        price in option::of(amount(0)),
        allow_users in ids(),
        name in Just(name),
    ) -> Dimension {
        let sticky = sticky && measure == Measure::Last;
        let included = included.map(|(quantity, per)| Included { quantity, per });
        Dimension { name, measure, sticky, unit, round, hold_above, included, price, allow_users, from: Vec::new() }
    }
}

/// Up to six dimensions; the last one may be made of those before it.
fn dimensions() -> impl Strategy<Value = Vec<Dimension>> {
    let some = proptest::collection::btree_set("[A-Za-z0-9_]{1,15}", 1..=6)
        .prop_flat_map(|names| names.into_iter().map(plain).collect::<Vec<_>>());
    (some, any::<bool>(), vec(amount(1), 6)).prop_map(|(mut dimensions, made, weights)| {
        if let Some((last, others)) = dimensions.split_last_mut().filter(|_| made) {
            let fit = others.iter_mut().filter(|d| matches!(d.measure, Measure::Sum | Measure::Count));
            for (part, weight) in fit.zip(weights) {
                // What it is made of is not billed itself.
                (part.unit, part.round) = (Amount::from_units(1), Round::Carry);
                (part.hold_above, part.included) = (None, None);
                let weight = weight.min(Amount::from_units(limits::WEIGHT_MAX));
                last.from.push(Source { name: part.name.clone(), weight });
            }
            if !last.from.is_empty() {
                (last.measure, last.sticky) = (Measure::Sum, false);
            }
        }
        dimensions
    })
}

prop_compose! {
    fn socket()(
        path in path(),
        mode in 0..=limits::SOCKET_MODE_MAX,
        allow_users in ids(),
        allow_groups in ids(),
        allow_read_users in ids(),
    ) -> Socket {
        Socket { path, mode, allow_users, allow_groups, allow_read_users }
    }
}

prop_compose! {
    fn state()(
        dir in path(),
        pages in limits::SEGMENT_BYTES.start() / 4096..=limits::SEGMENT_BYTES.end() / 4096,
        retain_days in limits::RETAIN_DAYS,
        allow_volatile in any::<bool>(),
    ) -> State {
        State { dir, segment_bytes: pages * 4096, retain_days, allow_volatile }
    }
}

fn endpoint() -> impl Strategy<Value = String> {
    prop_oneof![
        "https://[a-z]{1,9}(\\.[a-z]{1,5})?(:[1-9][0-9]{0,3})?/?",
        "http://(127\\.0\\.0\\.1|localhost|\\[::1\\]):4000"
    ]
}

fn submit(kind: ProductKind) -> impl Strategy<Value = Submit> {
    let window = if kind == ProductKind::Ami { &limits::WINDOW_AMI } else { &limits::WINDOW_SAAS };
    let offset = prop_oneof![Just(Offset::Auto), span(&limits::OFFSET).prop_map(Offset::Fixed)];
    let places = (option::of("[a-z0-9-]{1,64}"), option::of(endpoint()), word::<Credentials>());
    let role = option::of("arn:aws:iam::[0-9]{12}:role/[a-z/]{1,20}");
    let whose = (option::of("[A-Za-z0-9._-]{1,64}"), role);
    let how = (word::<Late>(), word::<ZeroRecords>(), limits::CALLS_IN_FLIGHT);
    (places, whose, offset, span(window), how).prop_map(
        |(
            (region, endpoint_url, credentials),
            (profile, role_arn),
            offset,
            window,
            (late, zero_records, calls_in_flight),
        )| Submit {
            region,
            endpoint_url,
            credentials,
            // Both are of the default chain.
            profile: profile.filter(|_| credentials == Credentials::Environment),
            role_arn: role_arn.filter(|_| credentials == Credentials::Environment),
            calls_in_flight,
            offset,
            window,
            late,
            zero_records,
        },
    )
}

fn gate() -> impl Strategy<Value = Gate> {
    let longest = Duration::from_secs(30 * 86_400);
    let close = option::of(span(&(limits::CLOSE_AFTER_MIN..=longest)));
    (span(&(limits::WARN_AFTER_MIN..=longest)), close).prop_map(|(warn_after, close_after)| Gate {
        warn_after: warn_after.min(close_after.unwrap_or(warn_after)),
        close_after,
    })
}

/// Any checked configuration.
pub fn any_config() -> impl Strategy<Value = Config> {
    let product = ("[-a-zA-Z0-9/=:_.@]{1,255}", word::<ProductKind>());
    let product = product.prop_map(|(code, kind)| Product { code, kind });
    let rest = product.prop_flat_map(|product| (submit(product.kind), Just(product)));
    let instance = option::of("[A-Za-z0-9._-]{1,64}").prop_map(|id| Instance { id: id.filter(|id| id != "auto") });
    let command = option::of(("/[a-z]{1,9}", vec("[ -~éß\n\t]{0,9}", 0..3)));
    let command = command.prop_map(|words| words.map_or(Vec::new(), |(first, rest)| [vec![first], rest].concat()));
    let grace = span(&limits::GRACE).prop_map(|grace| HourRules { grace });
    (rest, dimensions(), socket(), command, state(), instance, grace, gate()).prop_map(
        |((submit, product), dimensions, socket, command, state, instance, hour, gate)| Config {
            product,
            dimensions,
            socket,
            alert: Alert { command },
            state,
            submit,
            instance,
            hour,
            gate,
        },
    )
}
