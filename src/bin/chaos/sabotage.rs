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

/// Takes an acknowledged write out of the last reads; false if there is none in them.
pub fn lose_write(history: &mut History) -> bool {
    let mut ids: BTreeMap<OpId, WriteId> = BTreeMap::new();
    let mut acked: BTreeSet<WriteId> = BTreeSet::new();
    for (_, event) in &history.events {
        match event {
            Event::Write { op, write, .. } => {
                ids.insert(*op, *write);
            }
            Event::Wrote { op, ending: Ending::Acked { .. } } => acked.extend(ids.get(op).copied()),
            _ => {}
        }
    }
    for (_, event) in &mut history.events {
        if let Event::Final { siblings, .. } = event
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
    use dynkv::sim::oracle::{Invariant, KeyId, Label, Shown, Sufficiency, Verdict, judge};
    use dynkv::types::Time;

    use super::*;

    #[test]
    fn a_write_that_is_kept_from_the_last_read_is_missed() {
        let (op, key, write, label) = (OpId(1), KeyId(0), WriteId(7), Label((1, 1)));
        let ending = Ending::Acked { label, by: Vec::new() };
        let shown = Shown { write, label, body: None };
        let events = [
            Event::Write { op, key, write, body: None, basis: None },
            Event::Wrote { op, ending },
            Event::Read { op: OpId(2), key, replicas: 0 },
            Event::Answered { op: OpId(2), siblings: vec![shown.clone()], stood_in: 0 },
            Event::Final { key, siblings: vec![shown] },
        ];
        let mut history = History {
            keys: vec![dynkv::sim::oracle::Conflict::Siblings],
            replicas: 3,
            events: events.into_iter().map(|event| (Time::ZERO, event)).collect(),
            ..History::default()
        };
        let enough = Sufficiency { acked: 1, under_fault_percent: 0 };
        assert!(matches!(judge(&history, enough), Verdict::Ok(_)));
        assert!(lose_write(&mut history));
        let verdict = judge(&history, enough);
        assert!(matches!(verdict, Verdict::Violation { invariant: Invariant::NoLostWrite, .. }), "{verdict:?}");
        assert!(!lose_write(&mut history), "there is no other one");
    }
}
