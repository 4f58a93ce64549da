//! What Control tells people.

use super::Control;
use crate::api::{MemberStatus, Phase, StatusReply};
use crate::gossip::MemberState;
use crate::types::NodeId;

impl Control {
    /// What this node knows, for `status`; the driver adds what it knows of the disk.
    pub fn status(&self) -> StatusReply {
        let own = self.members.own();
        let members = match &self.view {
            Some(view) => {
                let share = |node| view.layout().owners().iter().filter(|owner| **owner == node).count();
                view.layout()
                    .members()
                    .iter()
                    .map(|member| {
                        let state = self.members.get(member.id);
                        let mut status = self.member_status(member.id, state);
                        status.name = member.name.clone();
                        status.zone = member.zone.clone();
                        status.address = state.map_or(&member.address, |state| &state.address).clone();
                        status.partitions =
                            u32::try_from(share(member.id)).expect("a ring has at most 32768 partitions");
                        status
                    })
                    .collect()
            }
            None => self.members.iter().map(|state| self.member_status(state.node, Some(state))).collect(),
        };
        StatusReply {
            node: own.node,
            name: own.name.clone(),
            cluster: self.cluster,
            cluster_name: self.config.terms.cluster.clone(),
            ring_version: self.view.as_ref().map(|view| view.version()),
            phase: if self.view.is_some() { Phase::Serving } else { Phase::Joining },
            waiting_for: self.waiting_for.clone(),
            uptime_s: 0,
            keys: 0,
            disk_bytes: 0,
            free_bytes: 0,
            capacity_bytes: 0,
            members,
            hints: Vec::new(),
            hints_counted: false,
            repair: None,
        }
    }

    fn member_status(&self, node: NodeId, state: Option<&MemberState>) -> MemberStatus {
        MemberStatus {
            node,
            name: state.map(|state| state.name.clone()).unwrap_or_default(),
            zone: state.map(|state| state.zone.clone()).unwrap_or_default(),
            address: state.map(|state| state.address.clone()).unwrap_or_default(),
            up: node == self.node() || self.route_to(node).is_some(),
            rebuilding: state.is_some_and(|state| state.rebuilding),
            generation: state.map(|state| state.generation),
            disk: state.map(|state| state.disk),
            partitions: 0,
            convicted: self.detector.is_convicted(node),
            phi: self.detector.phi(self.now, node),
            heartbeat_age_ms: self
                .detector
                .heard(node)
                .map(|heard| u64::try_from(self.now.since(heard).as_millis()).expect("a time in microseconds fits")),
            ring: state.and_then(|state| state.ring).map(|(_, digest)| data_encoding::HEXLOWER.encode(&digest)),
        }
    }
}
