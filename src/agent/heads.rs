//! Once a day, and at a start, a line for the journal: the head of the month's [evidence](crate::evidence) through the end of
//! the day before. A journal that is sent elsewhere keeps it where nobody on this machine can change it.
//!
//! Nothing is kept for it: the head follows from the records, so a start says the same as the line before it did. It costs one
//! reading of the records a day, beside the core.

use std::sync::Arc;
use std::time::Duration;

use super::commands::{Command, Gone, Handle};
use crate::clock::Clock;
use crate::evidence::Head;
use crate::hour::Hour;
use crate::view;

/// How soon it is tried again where the day is not sealed yet, or the records cannot be read.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// How often the day is looked at.
const LOOK: Duration = Duration::from_secs(3600);

/// Tells it, until the agent is gone.
pub(super) async fn tell(core: Handle, clock: Arc<dyn Clock>) {
    let mut told = None;
    loop {
        // The last hour of the day before.
        let through = Hour::from_index(clock.now().hour().index() / 24 * 24).previous();
        let mut pause = LOOK;
        if told != Some(through) {
            match head(&core, through).await {
                Err(Gone) => return,
                Ok(None) => pause = TRY_AGAIN,
                Ok(Some(head)) => {
                    told = Some(through);
                    if head.lines > 0 {
                        let Head { month, through, lines, hash } = head;
                        tracing::info!(%month, %through, lines, head = %hash, "evidence");
                    }
                }
            }
        }
        tokio::time::sleep(clock.real(pause).max(Duration::from_millis(100))).await;
    }
}

/// The head, once all hours up to `through` are sealed and the records can be read.
async fn head(core: &Handle, through: Hour) -> Result<Option<Head>, Gone> {
    if core.ask(Command::OpenFrom).await? <= through {
        return Ok(None);
    }
    let Ok((current, history)) = core.ask(Command::Records).await? else { return Ok(None) };
    let made = tokio::task::spawn_blocking(move || {
        let records = view::records(current, history).ok()?;
        Some(Head::of(&records, through))
    });
    Ok(made.await.unwrap_or_default())
}
