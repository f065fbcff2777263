//! What AWS refused is fixed anew where the configuration in force mends it.

use super::Engine;
use crate::disk::Disk;
use crate::entry::{Entry, FixedAnew};
use crate::hour::Timestamp;
use crate::wal::LogError;
use crate::wal::spares::Need;

impl<D: Disk> Engine<D> {
    /// Puts refused records under the product code in force. It is looked at whenever something is due, so that a crash
    /// after a change of the configuration makes no difference, and also what is refused only later is mended.
    pub(super) fn fix_anew_due(&mut self, now: Timestamp) -> Result<(), LogError> {
        for record in self.state.fix_anew(now) {
            tracing::info!(record = %record.key, product = record.request.product_code, "fixed anew for this product");
            self.record(&Entry::FixedAnew(FixedAnew { at: now, record }), Need::Control, now)?;
        }
        Ok(())
    }
}
