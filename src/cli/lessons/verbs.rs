//! The list. A command that prints a secret, an address of this machine or the like has no place in an example.

use super::super::exit;
use super::{Group, Lesson};

const CONFIG: (&str, &str) =
    ("/etc/meterd/meterd.toml", "the configuration; --config or METERD_CONFIG names another one");
const SOCKET: (&str, &str) =
    ("/run/meterd/meterd.sock", "the agent's socket; --socket, METERD_SOCKET or the configuration names another one");
const ADMIN: (&str, &str) =
    ("/run/meterd/admin.sock", "the operator's socket, beside the other one: root and the agent's own user");
const STATE: (&str, &str) = ("/var/lib/meterd", "the state directory, unless the configuration names another one");

const DONE: (u8, &str) = (exit::FINE, "done");
const BAD_CONFIG: (u8, &str) = (exit::CONFIG, "the configuration is wrong, or cannot be read");
const NO_AGENT: (u8, &str) = (exit::UNREACHABLE, "no agent answers");
const DECIDED: [(u8, &str); 4] = [DONE, (exit::REFUSED, "the agent refuses, and says why"), NO_AGENT, BAD_CONFIG];

/// Every verb's lesson, in the order in which they are shown within their group.
pub const LESSONS: &[Lesson] = &[
    Lesson {
        verb: "demo",
        group: Group::Trying,
        exits: &[
            (exit::FINE, "acknowledged = billed + remainder for every dimension"),
            (exit::REFUSED, "they differ, or the demo could not be played"),
            (exit::INTERRUPTED, "interrupted"),
        ],
        examples: &[
            ("Watch it", "meterd demo"),
            ("The same kills and the same usage once more, and keep the files", "meterd demo --seed 7 --dir ./demo"),
        ],
        files: &[],
    },
    Lesson {
        verb: "simulate-aws",
        group: Group::Trying,
        exits: &[(exit::FINE, "stopped by SIGTERM or SIGINT"), (exit::REFUSED, "it cannot listen there")],
        examples: &[
            ("On a free port, which it prints", "meterd simulate-aws --listen 127.0.0.1:0"),
            (
                "Only these dimensions exist, so that a mistyped one is refused",
                "meterd simulate-aws --dimension requests --dimension gigabytes",
            ),
        ],
        files: &[],
    },
    Lesson {
        verb: "run",
        group: Group::Agent,
        exits: &[
            (exit::FINE, "stopped in order, by SIGTERM"),
            (exit::REFUSED, "the socket cannot be made, or the system refuses a thread or the like"),
            (exit::IN_USE, "the state directory is in use, not this user's, of another format, or volatile"),
            (exit::DISK, "the disk failed while running; the next start goes through recovery"),
            BAD_CONFIG,
        ],
        examples: &[
            ("As the service does", "meterd run"),
            ("For a try: an hour in 20 seconds, a simulated AWS, all of it in ./meterd-dev", "meterd run --dev"),
            ("Slower, and elsewhere", "meterd run --dev --speed 60 --dir /tmp/meterd-try"),
        ],
        files: &[
            CONFIG,
            SOCKET,
            ADMIN,
            STATE,
            ("meterd-dev", "with --dev: state and socket, in the working directory"),
        ],
    },
    Lesson {
        verb: "add",
        group: Group::Agent,
        exits: &[
            (exit::FINE, "durable, all of it"),
            (exit::REFUSED, "the agent refuses it, or one of the lines, and says why"),
            NO_AGENT,
            (exit::RETRY, "not taken, or nobody knows; worth a retry, which with the same key adds nothing twice"),
            BAD_CONFIG,
            (exit::INTERRUPTED, "interrupted; it says how many lines are durable and how to go on"),
        ],
        examples: &[
            ("One increment, which may be repeated because of its key", "meterd add requests 1 --key order-4711"),
            ("With tags, for usage allocations", "meterd add gigabytes 0.25 --tag team=blue --tag env=prod"),
            (
                "Many, as DIMENSION QUANTITY [KEY], with a progress display on a terminal",
                "printf 'requests 1 order-1\\nrequests 2 order-2\\n' | meterd add -",
            ),
            (
                "Many, as the socket takes them",
                "echo '{\"dimension\":\"requests\",\"quantity\":1}' | meterd add - --json",
            ),
        ],
        files: &[SOCKET, CONFIG],
    },
    Lesson {
        verb: "status",
        group: Group::Asking,
        exits: &[
            (exit::FINE, "metering works"),
            (exit::REFUSED, "something needs a person: it says what, and what to do; or this user may not read here"),
            (exit::UNREACHABLE, "no agent answers: it shows what the state directory holds"),
            BAD_CONFIG,
            (exit::INTERRUPTED, "--watch was ended"),
        ],
        examples: &[("For people", "meterd status"), ("For programs", "meterd status --json")],
        files: &[SOCKET, CONFIG, STATE],
    },
    Lesson {
        verb: "records",
        group: Group::Asking,
        exits: &[
            (exit::FINE, "shown"),
            (exit::REFUSED, "this user may not read here, or standard output cannot be written"),
            NO_AGENT,
            BAD_CONFIG,
        ],
        examples: &[
            ("All of them", "meterd records"),
            ("What waits for a person", "meterd records --state held"),
            ("One hour's, for a spreadsheet", "meterd records --csv --hour 2026-11-21T11:00:00Z"),
        ],
        files: &[SOCKET, CONFIG],
    },
    Lesson {
        verb: "reconcile",
        group: Group::Asking,
        exits: &[
            (exit::FINE, "the books agree"),
            (exit::REFUSED, "they differ: it says where; or a file cannot be read, and nothing was compared"),
            NO_AGENT,
            BAD_CONFIG,
        ],
        examples: &[
            ("The files that a trail has delivered", "meterd reconcile --cloudtrail trail.json --month 2026-11"),
            ("AWS Marketplace's usage report", "meterd reconcile --seller-report usage.csv"),
            (
                "Elsewhere, from a copy of the records",
                "meterd reconcile --records records.jsonl --cloudtrail trail.json",
            ),
        ],
        files: &[SOCKET, CONFIG],
    },
    Lesson {
        verb: "import",
        group: Group::Agent,
        exits: &[
            (exit::FINE, "durable, all of it; with --dry-run: all of it is right"),
            (exit::REFUSED, "a line is wrong: it says which and why, and nothing was taken; or the agent refuses one"),
            NO_AGENT,
            (exit::RETRY, "the agent broke off; worth a retry, which adds nothing twice"),
            BAD_CONFIG,
        ],
        examples: &[
            ("Is it right, and what does it come to?", "meterd import usage.csv --dry-run"),
            ("Take it", "meterd import usage.csv"),
        ],
        files: &[SOCKET, CONFIG],
    },
    Lesson {
        verb: "export",
        group: Group::Asking,
        exits: &[
            (exit::FINE, "written"),
            (exit::REFUSED, "this user may not read here, or it cannot be written"),
            NO_AGENT,
            BAD_CONFIG,
        ],
        examples: &[("A month, into a file", "meterd export --month 2026-11 -o november.csv")],
        files: &[SOCKET, CONFIG],
    },
    Lesson {
        verb: "evidence",
        group: Group::Asking,
        exits: &[
            (exit::FINE, "written; with check: it holds, and every head fits"),
            (exit::REFUSED, "with check: it was changed, and where; or it cannot be written or read"),
            NO_AGENT,
            BAD_CONFIG,
        ],
        examples: &[
            ("A month, into a file", "meterd evidence --month 2026-11 -o november.jsonl"),
            ("Does it hold?", "meterd evidence check november.jsonl"),
            (
                "Does it fit what the agent wrote into the journal day by day?",
                "meterd evidence check november.jsonl --anchor journal.txt",
            ),
        ],
        files: &[SOCKET, STATE, CONFIG],
    },
    Lesson {
        verb: "report",
        group: Group::Asking,
        exits: &[
            (exit::FINE, "shown, or written"),
            (exit::REFUSED, "a file cannot be written"),
            (exit::UNSAFE_LOG, "there is no log that could be read"),
            BAD_CONFIG,
        ],
        examples: &[
            ("A month in short", "meterd report --month 2026-11"),
            ("For finance, to read and to print", "meterd report --month 2026-11 --html november.html"),
            (
                "For a spreadsheet and for programs, from a copy of the state",
                "meterd report --month 2026-11 --csv a.csv --json a.json /var/lib/meterd",
            ),
        ],
        files: &[STATE, CONFIG],
    },
    Lesson {
        verb: "preview",
        group: Group::Asking,
        exits: &[(exit::FINE, "shown"), (exit::UNSAFE_LOG, "there is no log that could be read"), BAD_CONFIG],
        examples: &[("Before the hour ends", "meterd preview"), ("For programs", "meterd preview --json")],
        files: &[STATE, CONFIG],
    },
    Lesson {
        verb: "settle",
        group: Group::Operating,
        exits: &DECIDED,
        examples: &[
            ("AWS has it after all", "meterd settle 2026-11-21T11:00:00Z requests accepted"),
            (
                "AWS does not have it: bill its units with the next record",
                "meterd settle 2026-11-21T11:00:00Z requests carry",
            ),
            (
                "The dimension was mistyped: bill its units with the next record of another one",
                "meterd settle 2026-11-21T11:00:00Z gigabyte carry --to gigabytes",
            ),
        ],
        files: &[ADMIN, CONFIG],
    },
    Lesson {
        verb: "release",
        group: Group::Operating,
        exits: &DECIDED,
        examples: &[
            ("Send it as it is", "meterd release 2026-11-21T11:00:00Z requests"),
            ("Send 500 billed units, give the rest up", "meterd release 2026-11-21T11:00:00Z requests --at-most 500"),
        ],
        files: &[ADMIN, CONFIG],
    },
    Lesson {
        verb: "reload",
        group: Group::Operating,
        exits: &[
            (exit::FINE, "it is in force"),
            (exit::REFUSED, "this user may not, or the agent stops"),
            NO_AGENT,
            (exit::CONFIG, "it is refused, and the one from before stays in force: it says what is wrong, and where"),
        ],
        examples: &[("After a change of the file; `systemctl reload meterd` does the same", "meterd reload")],
        files: &[CONFIG, ADMIN],
    },
    Lesson {
        verb: "customers",
        group: Group::Operating,
        exits: &[
            DONE,
            (exit::REFUSED, "the agent or AWS refuses it, or a message is not known, and it says why"),
            NO_AGENT,
            (exit::RETRY, "AWS was not reached; worth a retry"),
            BAD_CONFIG,
        ],
        examples: &[
            ("Who there is", "meterd customers list"),
            ("One that has subscribed", "meterd customers add 123456789012"),
            ("Whom a registration token stands for", "echo \"$TOKEN\" | meterd customers resolve -"),
            ("One whose subscription has ended", "meterd customers end 123456789012"),
            (
                "What AWS told through a queue",
                "aws sqs receive-message --queue-url \"$QUEUE\" | meterd customers notify",
            ),
        ],
        files: &[ADMIN, CONFIG],
    },
    Lesson {
        verb: "adopt",
        group: Group::Operating,
        exits: &DECIDED,
        examples: &[
            ("The only other instance's", "meterd adopt"),
            ("One of several, as `meterd status` names it", "meterd adopt i-0123456789abcdef0"),
        ],
        files: &[ADMIN, CONFIG],
    },
    Lesson {
        verb: "discard",
        group: Group::Operating,
        exits: &DECIDED,
        examples: &[
            ("The only other instance's", "meterd discard"),
            ("One of several, as `meterd status` names it", "meterd discard i-0123456789abcdef0"),
        ],
        files: &[ADMIN, CONFIG],
    },
    Lesson {
        verb: "seal",
        group: Group::Operating,
        exits: &[
            (exit::FINE, "AWS has answered for every record; with --cancel: called off"),
            (exit::REFUSED, "this user may not, or the request is wrong"),
            NO_AGENT,
            (exit::RETRY, "something waits still: it stays on disk and goes out when it can"),
            BAD_CONFIG,
        ],
        examples: &[
            ("This instance ends now", "meterd seal --final --why 'replaced by a larger one'"),
            ("It does not after all", "meterd seal --cancel"),
        ],
        files: &[ADMIN, CONFIG],
    },
    Lesson {
        verb: "check-config",
        group: Group::BeforeGoingLive,
        exits: &[(exit::FINE, "it holds"), (exit::DISK, "standard output cannot be written"), BAD_CONFIG],
        examples: &[
            ("The one that the agent reads", "meterd check-config"),
            ("For programs", "meterd check-config --json"),
        ],
        files: &[CONFIG],
    },
    Lesson {
        verb: "doctor",
        group: Group::BeforeGoingLive,
        exits: &[
            (exit::FINE, "nothing fails; what is unknown does not fail"),
            (exit::REFUSED, "something fails: it says what, and what to do"),
            BAD_CONFIG,
        ],
        examples: &[("Where the product will run, as root", "meterd doctor"), ("For programs", "meterd doctor --json")],
        files: &[CONFIG, SOCKET, STATE],
    },
    Lesson {
        verb: "attribution",
        group: Group::BeforeGoingLive,
        exits: &[
            (exit::FINE, "AWS credits you, by product code or tag; with tag: every resource carries it"),
            (exit::REFUSED, "it does not, or credits another partner: it says what to do"),
            (exit::RETRY, "with tag: AWS does not answer, or not now; worth a retry"),
            BAD_CONFIG,
        ],
        examples: &[
            ("On the instance: all three methods", "meterd attribution"),
            ("Set the tag where it is absent", "meterd attribution tag"),
            ("Lines for your own software", "meterd attribution --lines"),
        ],
        files: &[CONFIG],
    },
    Lesson {
        verb: "verify",
        group: Group::Offline,
        exits: &[
            (exit::FINE, "every checksum and every sum holds"),
            (exit::REFUSED, "damage, or sums that differ: it says where, and what to do"),
            (exit::UNSAFE_LOG, "there is no log that could be read"),
            BAD_CONFIG,
        ],
        examples: &[
            ("The configured state directory, also beside a running agent", "meterd verify"),
            ("A copy", "meterd verify /var/lib/meterd"),
        ],
        files: &[STATE, CONFIG],
    },
    Lesson {
        verb: "inspect",
        group: Group::Offline,
        exits: &[
            (exit::FINE, "shown, with the damage that there is in its place"),
            (exit::UNSAFE_LOG, "there is no log that could be read"),
            BAD_CONFIG,
        ],
        examples: &[
            ("All of it", "meterd inspect"),
            ("What AWS said, for programs", "meterd inspect --kind answered --json"),
            ("The first ten entries of a copy", "meterd inspect --limit 10 /var/lib/meterd"),
        ],
        files: &[STATE, CONFIG],
    },
    Lesson {
        verb: "scrub",
        group: Group::Offline,
        exits: &[
            DONE,
            (exit::REFUSED, "usage that was not sent is there: it says how much"),
            (exit::IN_USE, "an agent runs there, or the directory is not this user's"),
            (exit::UNSAFE_LOG, "what is unsent cannot be told, for the log cannot be read"),
            BAD_CONFIG,
        ],
        examples: &[
            ("Before a machine becomes an image, the agent stopped", "meterd scrub"),
            ("Give up what was not sent", "meterd scrub --discard-unsent"),
        ],
        files: &[STATE, CONFIG],
    },
    Lesson {
        verb: "bench",
        group: Group::BeforeGoingLive,
        exits: &[
            (exit::FINE, "measured, whatever goals are reached"),
            (exit::REFUSED, "it cannot be measured there, or the agent's count differs from the load's"),
            (exit::INTERRUPTED, "interrupted; nothing is left behind"),
        ],
        examples: &[
            ("The disk of this directory", "meterd bench"),
            ("A rough look", "meterd bench --quick"),
            ("Another disk, JSON lines only, for programs", "meterd bench --json --dir /var/lib lines"),
        ],
        files: &[],
    },
    Lesson {
        verb: "completions",
        group: Group::Shell,
        exits: &[(exit::FINE, "printed"), (exit::REFUSED, "standard output cannot be written")],
        examples: &[
            ("bash, for this session", ". <(meterd completions bash)"),
            ("zsh, for this session", ". <(meterd completions zsh)"),
            ("fish, for this session", "meterd completions fish | source"),
        ],
        files: &[],
    },
];
