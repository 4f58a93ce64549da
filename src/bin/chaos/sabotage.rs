//! Bugs of the suite itself, planted to see that it does not pass over them.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;
use dynkv::sim::oracle::{Ending, Event, History, OpId};
use dynkv::types::WriteId;

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sabotage {
    /// An acknowledged write is kept from the last read
    LoseWrite,
    /// Faults are announced and not carried out
    NoFault,
}

/// Takes an acknowledged write out of the last reads; false if there is none in them. It is one of a key without deletes: of others it could
/// have been reaped.
pub fn lose_write(history: &mut History) -> bool {
    let mut ids: BTreeMap<OpId, WriteId> = BTreeMap::new();
    let mut deleted: BTreeSet<u32> = BTreeSet::new();
    let mut acked: BTreeSet<WriteId> = BTreeSet::new();
    for (_, event) in &history.events {
        match event {
            Event::Write { op, key, write, body, .. } => {
                ids.insert(*op, *write);
                deleted.extend(body.is_none().then_some(key.0));
            }
            Event::Wrote { op, ending: Ending::Acked { .. } } => acked.extend(ids.get(op).copied()),
            _ => {}
        }
    }
    for (_, event) in &mut history.events {
        if let Event::Final { key, siblings } = event
            && !deleted.contains(&key.0)
            && let Some(place) = siblings.iter().position(|shown| acked.contains(&shown.write))
        {
            siblings.remove(place);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dynkv::sim::oracle::{Conflict, Invariant, KeyId, Label, Shown, Sufficiency, Verdict, judge};
    use dynkv::types::Time;

    use super::*;

    /// Two keys with a write each, acknowledged and shown at the end; the first one was deleted since, for all that the client knows.
    fn history() -> History {
        let mut events = Vec::new();
        let mut told = |op: u32, body: Option<Bytes>, key: u32, basis: Option<OpId>, acked: bool| {
            let (op, key, write, label) = (OpId(op), KeyId(key), WriteId(op.into()), Label((1, op.into())));
            let ending = if acked { Ending::Acked { label, by: Vec::new() } } else { Ending::Unknown };
            let shown = Shown { write, label, body: body.clone() };
            events.push((Time::ZERO, Event::Write { op, key, write, body, basis }));
            events.push((Time::ZERO, Event::Wrote { op, ending }));
            Event::Final { key, siblings: vec![shown] }
        };
        let value = || Some(Bytes::from_static(b"v"));
        let first = told(1, value(), 0, None, true);
        told(2, None, 0, Some(OpId(1)), false);
        let second = told(3, value(), 1, None, true);
        events.push((Time::ZERO, Event::Read { op: OpId(4), key: KeyId(0), replicas: 0 }));
        events.push((Time::ZERO, Event::Answered { op: OpId(4), siblings: Vec::new(), stood_in: 0 }));
        events.extend([first, second].map(|event| (Time::ZERO, event)));
        History { keys: vec![Conflict::Siblings; 2], replicas: 3, reaps_unseen: true, events, ..History::default() }
    }

    #[test]
    fn a_write_that_is_kept_from_the_last_read_is_missed() {
        let mut history = history();
        let enough = Sufficiency { acked: 1, under_fault_percent: 0 };
        assert!(matches!(judge(&history, enough), Verdict::Ok(_)));
        assert!(lose_write(&mut history));
        let verdict = judge(&history, enough);
        assert!(matches!(verdict, Verdict::Violation { invariant: Invariant::NoLostWrite, .. }), "{verdict:?}");
        assert!(!lose_write(&mut history), "there is no other one of a key without deletes");
    }
}
