//! Whose turn it is. A client that asks for one thing and waits for the answer costs a turn next to nothing, and to it
//! a millisecond is much. One that pipelines megabytes waits for none of its answers. So the first kind, the *prompt*,
//! has its turn at once, always; the others, the *bulk*, have slices, and what those cost beside a prompt client is
//! bounded: after each of their passes they rest for [`RESTS`] times as long as it took. Accepting connections, and what
//! other threads ask, is paced in the same way.
//!
//! Nobody says which kind it is: it shows. A turn is light if it reads little, leaves nothing behind and a line of it is
//! taken. Heavy turns make a client bulk at once; turns that bring nothing of use (garbage, or lines byte by byte) do
//! after a few; and some light ones in a row make it prompt again. Where no prompt client has asked for a while, the bulk
//! has all there is.

use std::time::{Duration, Instant};

use mio::Token;

use crate::ingest::connection::{Brought, READ_BYTES_PER_TURN};

/// A light turn reads less, and a slice beside a prompt client is no longer: some twenty-five lines, 10 us.
pub(super) const LIGHT_BYTES: usize = 1024;
/// Light turns in a row that make a client prompt again.
const LIGHT_TURNS: u8 = 8;
/// Turns without anything of use that make it bulk.
const USELESS_TURNS: u8 = 8;
/// A prompt client that has not asked for so long is not waited for: the bulk is to lose little to one that asks now and then.
const PROMPT_FOR: Duration = Duration::from_millis(10);
/// How long a pass of the bulk takes beside a prompt client, unless a single line takes longer.
const PASS: Duration = Duration::from_micros(50);
/// How long a pass takes when nobody prompt is there.
const PASS_ALONE: Duration = Duration::from_millis(2);
/// So many times as long as its pass took the bulk rests then.
const RESTS: u32 = 3;
/// And no longer: a machine that was asleep in a pass is not slept through once more.
const REST_MAX: Duration = Duration::from_millis(20);

/// What kind of client it is.
#[derive(Debug)]
pub(super) struct Manners {
    bulk: bool,
    light: u8,
    useless: u8,
}

impl Manners {
    /// A newcomer's: it can wait until it has had its first light turn, so that nobody gains by coming anew each time.
    pub(super) fn of_newcomer() -> Self {
        Manners { bulk: true, light: LIGHT_TURNS - 1, useless: 0 }
    }

    /// Whether it can wait.
    pub(super) fn is_bulk(&self) -> bool {
        self.bulk
    }

    /// Takes in a turn.
    pub(super) fn note(&mut self, brought: Brought) {
        if brought == Brought::default() {
            // A look for nothing is the loop's doing.
            return;
        }
        let heavy = brought.bytes >= LIGHT_BYTES;
        if heavy || brought.refused > 0 || brought.taken == 0 {
            self.light = 0;
            // A long line comes in slices, none of which is of use alone.
            self.useless = self.useless.saturating_add(u8::from(!heavy));
            self.bulk |= heavy || self.useless >= USELESS_TURNS;
            return;
        }
        self.useless = 0;
        self.light = self.light.saturating_add(1);
        self.bulk &= self.light < LIGHT_TURNS;
    }
}

/// Whether prompt clients are about.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Who asked last, and when.
    prompted: Option<(Token, Instant)>,
}

impl Pace {
    /// A prompt client has asked.
    pub(super) fn prompted(&mut self, by: Token) {
        self.prompted = Some((by, Instant::now()));
    }

    /// A client has turned out to be bulk: if it was the one who asked last, it need not make way for itself.
    pub(super) fn turned_bulk(&mut self, token: Token) {
        self.prompted = self.prompted.filter(|(by, _)| *by != token);
    }

    /// Whether prompt clients are about.
    pub(super) fn is_beside(&self) -> bool {
        self.prompted.is_some_and(|(_, at)| at.elapsed() < PROMPT_FOR)
    }
}

/// Work that can wait, and when it may go on.
#[derive(Debug, Default)]
pub(super) struct Passes {
    rests_until: Option<Instant>,
}

/// One pass of it.
#[derive(Debug)]
pub(super) struct Pass {
    begun: Instant,
    /// Whether prompt clients are about.
    beside: bool,
}

impl Passes {
    /// How long it rests still.
    pub(super) fn rest(&self) -> Duration {
        self.rests_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Begins a pass, unless it rests.
    pub(super) fn begin(&mut self, pace: &Pace) -> Option<Pass> {
        self.rest().is_zero().then(|| Pass { begun: Instant::now(), beside: pace.is_beside() })
    }

    /// Ends it.
    pub(super) fn end(&mut self, pass: &Pass) {
        let rest = (pass.begun.elapsed() * RESTS).min(REST_MAX);
        self.rests_until = pass.beside.then(|| Instant::now() + rest);
    }
}

impl Pass {
    /// Bytes that one client may have read before the next has its turn.
    pub(super) fn slice(&self) -> usize {
        if self.beside { LIGHT_BYTES } else { READ_BYTES_PER_TURN }
    }

    /// Whether it has taken long enough.
    pub(super) fn is_over(&self) -> bool {
        self.begun.elapsed() >= if self.beside { PASS } else { PASS_ALONE }
    }
}
