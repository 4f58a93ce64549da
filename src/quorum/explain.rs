//! What a read and a write of a key would come to now, as one node sees its replicas. Pure.
//!
//! The *margin* of a forecast is how many more nodes may fail, chosen by the worst of luck, before it turns. Where every
//! node that helps counts for one slot, no choice is worse than another: the margin is what there is beyond what is needed,
//! and for PR and PW, which stand-ins do not help, what there is of primaries. The lesser of the two holds.

use serde::{Deserialize, Serialize};

use super::{ReadQuorum, WriteQuorum};
use crate::types::NodeId;

/// How a node is, as the asked one sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// The asked node itself.
    Itself,
    /// It can be reached.
    Up,
    /// There is no link to it.
    NoLink,
    /// It has left requests unanswered for so long that it is left alone for a while.
    Silent,
    /// It is held for dead.
    Convicted,
    /// The asked node itself, whose disk takes no writes.
    ReadOnly,
}

impl Condition {
    /// Whether it is relied on for a write.
    pub fn takes_writes(self) -> bool {
        matches!(self, Condition::Itself | Condition::Up)
    }

    /// Whether it is relied on for a read.
    pub fn answers(self) -> bool {
        matches!(self, Condition::Itself | Condition::Up | Condition::ReadOnly)
    }
}

/// One node of a preference list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Who.
    pub node: NodeId,
    /// The slot that it is the primary of; none for a stand-in.
    pub slot: Option<u8>,
    /// How it is.
    pub condition: Condition,
    /// It is known to have lost its disk: its answers are merged and not counted.
    pub rebuilding: bool,
}

/// What an operation would come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// Whether it would succeed.
    pub succeeds: bool,
    /// Why not, or on what condition, for people; else empty.
    pub reason: String,
    /// Nodes that may fail besides, whichever they are, before it would not.
    pub margin: u8,
    /// Who would be asked at first: the slot, and its primary or who stands in for it.
    pub asked: Vec<(u8, NodeId)>,
}

impl Forecast {
    fn new(needs: &[Need], asked: Vec<(u8, NodeId)>) -> Forecast {
        let short = needs.iter().find(|need| need.have < need.wanted);
        let asked_for = needs.iter().filter(|need| need.wanted > 0);
        let margin = asked_for.map(|need| need.have.saturating_sub(need.wanted)).min().unwrap_or(0);
        let reason = short.map_or_else(String::new, |Need { what, wanted, have }| {
            format!("unavailable: {wanted} {what} are needed, {have} can be reached")
        });
        Forecast { succeeds: short.is_none(), reason, margin, asked }
    }
}

/// How many of a kind there are, and how many there must be.
struct Need {
    what: &'static str,
    wanted: u8,
    have: u8,
}

fn count(nodes: impl Iterator) -> u8 {
    u8::try_from(nodes.count()).unwrap_or(u8::MAX)
}

/// Fills the slots of those that are away, the first first, until so many are filled.
fn fill(asked: &mut Vec<(u8, NodeId)>, away: &[u8], wanted: u8, mut spare: impl Iterator<Item = NodeId>) -> u8 {
    let mut filled = 0;
    for slot in away {
        if asked.len() >= usize::from(wanted) {
            break;
        }
        let Some(node) = spare.next() else { break };
        asked.push((*slot, node));
        filled += 1;
    }
    filled
}

/// What a write would come to. `candidates` in the order of the preference list, primaries first.
pub fn explain_write(candidates: &[Candidate], quorum: WriteQuorum) -> Forecast {
    let able = |candidate: &&Candidate| candidate.condition.takes_writes();
    let slot = |candidate: &Candidate| Some((candidate.slot?, candidate.node));
    let mut asked: Vec<(u8, NodeId)> = candidates.iter().filter(able).filter_map(slot).collect();
    let away: Vec<u8> = candidates.iter().filter(|candidate| !able(candidate)).filter_map(|known| known.slot).collect();
    let primaries = count(asked.iter());
    let is_spare = |candidate: &&Candidate| candidate.slot.is_none() && !quorum.is_strict();
    let spare = candidates.iter().filter(is_spare).filter(able).map(|candidate| candidate.node);
    let holders = primaries.saturating_add(count(spare.clone()));
    let wanted = quorum.w().max(quorum.dw());
    fill(&mut asked, &away, wanted, spare);
    asked.sort_unstable_by_key(|(slot, _)| *slot);
    let needs = [
        Need { what: "primaries", wanted: quorum.pw(), have: primaries },
        Need { what: "replicas", wanted, have: holders },
    ];
    Forecast::new(&needs, asked)
}

/// What a read would come to. `candidates` in the order in which they are asked, primaries first; without `sloppy` nobody
/// stands in. A stand-in counts only if it holds the key, which the asked node cannot know: the margin leaves them out.
pub fn explain_read(candidates: &[Candidate], quorum: ReadQuorum, sloppy: bool) -> Forecast {
    let able = |candidate: &&Candidate| candidate.condition.answers();
    let counts = |candidate: &&Candidate| able(candidate) && !candidate.rebuilding;
    let primaries = candidates.iter().filter(|candidate| candidate.slot.is_some());
    let mut asked: Vec<(u8, NodeId)> =
        primaries.clone().filter(counts).filter_map(|candidate| Some((candidate.slot?, candidate.node))).collect();
    let here = count(asked.iter());
    asked.truncate(usize::from(quorum.needed()));
    let away: Vec<u8> = primaries.filter(|candidate| !counts(candidate)).filter_map(|known| known.slot).collect();
    let is_spare = |candidate: &&Candidate| candidate.slot.is_none() && sloppy;
    let spare = candidates.iter().filter(is_spare).filter(counts).map(|candidate| candidate.node);
    let stood_in = fill(&mut asked, &away, quorum.r(), spare);
    let needs = [
        Need { what: "primaries", wanted: quorum.pr(), have: here },
        Need { what: "replicas", wanted: quorum.r(), have: here.saturating_add(stood_in) },
    ];
    let mut forecast = Forecast::new(&needs, asked);
    if forecast.succeeds && stood_in > 0 {
        forecast.reason = "only if those who stand in hold the key".to_owned();
    }
    forecast
}

#[cfg(test)]
mod tests {
    use super::Condition::{Convicted, Itself, NoLink, ReadOnly, Silent, Up};
    use super::*;
    use crate::quorum::Level;

    /// Three slots, and whoever else there is.
    fn candidates(conditions: &[Condition]) -> Vec<Candidate> {
        let candidate = |(index, condition): (u8, &Condition)| {
            let slot = Some(index).filter(|slot| *slot < 3);
            Candidate { node: NodeId(u64::from(index) + 1), slot, condition: *condition, rebuilding: false }
        };
        (0..).zip(conditions).map(candidate).collect()
    }

    fn asked(forecast: &Forecast) -> Vec<(u8, u64)> {
        forecast.asked.iter().map(|(slot, node)| (*slot, node.0)).collect()
    }

    #[track_caller]
    fn check_write(conditions: &[Condition], w: u8, pw: u8, margin: Option<u8>, holders: &[(u8, u64)]) {
        let quorum = WriteQuorum::new(3, Level::Number(w), Some(Level::Number(pw)), None, true).unwrap();
        let forecast = explain_write(&candidates(conditions), quorum);
        let found = (forecast.succeeds, forecast.margin, asked(&forecast));
        assert_eq!(found, (margin.is_some(), margin.unwrap_or(0), holders.to_vec()));
        assert_eq!(forecast.reason.is_empty(), margin.is_some());
    }

    #[test]
    fn a_write_goes_to_primaries_and_to_as_many_stand_ins_as_w_needs() {
        check_write(&[Itself, Up, Up], 2, 0, Some(1), &[(0, 1), (1, 2), (2, 3)]);
        check_write(&[Itself, Up, NoLink], 2, 0, Some(0), &[(0, 1), (1, 2)]);
        check_write(&[Itself, Up, NoLink], 3, 0, None, &[(0, 1), (1, 2)]);
        check_write(&[Itself, Up, NoLink, Up, Up], 3, 0, Some(1), &[(0, 1), (1, 2), (2, 4)]);
        check_write(&[NoLink, Up, Itself, Up], 3, 0, Some(0), &[(0, 4), (1, 2), (2, 3)]);
        check_write(&[Itself, Silent, Convicted, NoLink, Up], 2, 0, Some(0), &[(0, 1), (1, 5)]);
        check_write(&[ReadOnly, Silent, Convicted, Up, Up], 2, 0, Some(0), &[(0, 4), (1, 5)]);
        check_write(&[NoLink, NoLink, NoLink, Up, Itself, Up], 2, 0, Some(1), &[(0, 4), (1, 5)]);
    }

    #[test]
    fn primaries_that_are_asked_for_are_not_made_up_for() {
        check_write(&[Up, NoLink, NoLink, Up, Itself], 2, 2, None, &[(0, 1)]);
        check_write(&[Up, NoLink, NoLink, Up, Itself], 2, 1, Some(0), &[(0, 1), (1, 4)]);
        check_write(&[Up, Up, NoLink, Up, Itself], 2, 2, Some(0), &[(0, 1), (1, 2)]);
        check_write(&[Up, Up, Up, Up, Itself], 2, 2, Some(1), &[(0, 1), (1, 2), (2, 3)]);
    }

    #[test]
    fn copies_on_disk_are_made_by_as_many_nodes() {
        let quorum = WriteQuorum::new(3, Level::One, None, Some(3), true).unwrap();
        let forecast = explain_write(&candidates(&[Itself, Up, NoLink, Up, Up]), quorum);
        assert_eq!((forecast.succeeds, forecast.margin, asked(&forecast)), (true, 1, vec![(0, 1), (1, 2), (2, 4)]));
        let forecast = explain_write(&candidates(&[Itself, Up, NoLink]), quorum);
        assert_eq!(forecast.reason, "unavailable: 3 replicas are needed, 2 can be reached");
    }

    #[track_caller]
    fn check_read(all: &[Candidate], r: u8, sloppy: bool, margin: Option<u8>, of: &[(u8, u64)], reason: &str) {
        let quorum = ReadQuorum::new(3, Level::Number(r), None).unwrap();
        let forecast = explain_read(all, quorum, sloppy);
        let found = (forecast.succeeds, forecast.margin, asked(&forecast));
        assert_eq!(found, (margin.is_some(), margin.unwrap_or(0), of.to_vec()));
        assert_eq!(forecast.reason, reason);
    }

    #[test]
    fn a_read_asks_as_many_as_it_needs_and_counts_who_has_a_disk() {
        let mut all = candidates(&[Itself, Up, ReadOnly, Up]);
        check_read(&all, 2, true, Some(1), &[(0, 1), (1, 2)], "");
        all[1].rebuilding = true;
        check_read(&all, 2, true, Some(0), &[(0, 1), (2, 3)], "");
        all[2].condition = Silent;
        let condition = "only if those who stand in hold the key";
        check_read(&all, 2, true, Some(0), &[(0, 1), (1, 4)], condition);
        let short = "unavailable: 2 replicas are needed, 1 can be reached";
        check_read(&all, 2, false, None, &[(0, 1)], short);
        let short = "unavailable: 3 replicas are needed, 2 can be reached";
        check_read(&all, 3, true, None, &[(0, 1), (1, 4)], short);
        all[3].rebuilding = true;
        let short = "unavailable: 2 replicas are needed, 1 can be reached";
        check_read(&all, 2, true, None, &[(0, 1)], short);
    }

    #[test]
    fn a_read_of_primaries_needs_them() {
        let quorum = ReadQuorum::new(3, Level::One, Some(Level::Number(2))).unwrap();
        let forecast = explain_read(&candidates(&[Itself, NoLink, NoLink, Up]), quorum, true);
        assert_eq!(forecast.reason, "unavailable: 2 primaries are needed, 1 can be reached");
        let forecast = explain_read(&candidates(&[Itself, Up, Up, Up]), quorum, true);
        assert_eq!((forecast.succeeds, forecast.margin, asked(&forecast)), (true, 1, vec![(0, 1), (1, 2)]));
    }
}
