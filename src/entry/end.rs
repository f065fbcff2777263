//! The end of an instance, and an end that does not come.

use serde::{Deserialize, Serialize};

use super::Peer;
use crate::hour::Timestamp;

/// This instance ends: the hour that goes on is sealed before it is over, by the seals that follow, and nothing more is
/// taken. Any start of the agent calls it off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// Who asked for it; none where instance metadata announced it.
    pub by: Option<Peer>,
    /// What for, in words.
    pub why: String,
}

/// The end does not come: usage is taken again, into the hour after the one that was sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalledOff {
    /// When.
    pub at: Timestamp,
    /// Who called it off; none where instance metadata no longer announces it.
    pub by: Option<Peer>,
}

#[cfg(test)]
mod tests {
    use super::super::{Entry, kind};
    use super::*;

    /// These bytes stand in logs.
    #[test]
    fn keeps_its_layout() {
        let (at, by) = (Timestamp::from_millis(0x0102_0304), Peer { uid: 7, gid: 8, pid: 9 });
        let moment = [4, 3, 2, 1, 0, 0, 0, 0];
        let asked = [1, 7, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0];
        let cases = [
            (
                kind::END,
                Entry::End(End { at, by: Some(by), why: "off".into() }),
                [&moment[..], &asked, &[3, 0, 0, 0, 0, 0, 0, 0], b"off"].concat(),
            ),
            (kind::CALLED_OFF, Entry::CalledOff(CalledOff { at, by: None }), [&moment[..], &[0]].concat()),
        ];
        for (kind, entry, bytes) in cases {
            assert_eq!((entry.kind(), entry.encode().unwrap()), (kind, bytes.clone()));
            assert_eq!(Entry::decode(kind, &bytes).unwrap(), entry);
        }
    }
}
