//! Detection has to come to an end: whoever is dead for long is held for dead by everybody who lives.

use std::time::Duration;

use super::coverage::Mark;
use super::disk::Disk;
use super::run::Run;
use super::trace::node_name;
use crate::node::Core;

/// A silence is unlikely enough after this time, whatever intervals came before: they are remembered as no longer than ten
/// of gossip's (5 s), of which mean and deviations for phi = 8 make 17 s at most, and a probe takes a second or two.
const BURIED_WITHIN: Duration = Duration::from_secs(30);

impl<D: Disk> Run<'_, D> {
    /// Nothing befalls anybody but one node, which is dead for long. All others hold it for dead, and so do their shards.
    pub(super) fn bury(&mut self) {
        if self.is_broken() {
            return;
        }
        let nodes = self.world.nodes.len();
        let dead = usize::try_from(self.schedule.seed % nodes as u64).expect("it is one of a few");
        self.world.kill(dead);
        self.run_until(self.world.now + BURIED_WITHIN);
        let member = self.world.ids.iter().find(|(_, node)| **node == dead).map(|(id, _)| *id);
        let member = member.expect("the cluster was born and all are members");
        for judge in (0..nodes).filter(|judge| *judge != dead) {
            let Some(process) = &self.world.nodes[judge].process else { continue };
            let convicts = process.control.detector().is_convicted(member);
            let told = process.cores().all(|core: &Core<_>| core.convicted().contains(&member));
            if !convicts || !told {
                let who = if convicts { "is held for dead, and the shards do not know," } else { "is trusted" };
                let evidence =
                    format!("{}, dead for {BURIED_WITHIN:?}, {who} by {}", node_name(dead), node_name(judge));
                self.fail("the dead are convicted", None, evidence);
                return;
            }
        }
        self.world.coverage.hit(Mark::DeadConvicted);
        self.come_together();
    }
}
