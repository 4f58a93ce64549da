//! The first exchange on a link: who is there, and may they speak.

use std::sync::Arc;
use std::time::Duration;

use super::{Control, ControlEffects, Fatal, LinkId, Route};
use crate::message::{ControlMessage, Hello, HelloAnswer, HelloRefusal, PROTOCOL};
use crate::node::startup::grant_record;
use crate::ring::RingView;
use crate::types::{Generation, NodeId, NodeRun};

/// How long a seed is not dialed at which somebody has answered who is no member. Members have addresses of their own.
const SHUNNED_FOR: Duration = Duration::from_secs(5);

impl Control {
    /// This node's own hello.
    pub(super) fn hello(&self) -> Hello {
        let (identity, run) = (&self.start.identity, &self.start.run);
        Hello {
            protocol: PROTOCOL,
            cluster: self.cluster,
            node: identity.node,
            name: identity.name.clone(),
            disk: identity.disk,
            stored: self.start.stored,
            generation: run.generation,
            nonce: run.nonce,
            recovered: self.start.recovered,
            rebuilding: identity.rebuilding,
            took_over: identity.took_over,
        }
    }

    /// A peer has dialed this node: grants it its run, durably, or says why not.
    pub(super) fn on_hello(&mut self, link: LinkId, id: u64, hello: &Hello, fx: &mut ControlEffects) {
        let answer = match self.admit(link, hello, fx) {
            Ok(()) => {
                let own = self.members.own();
                HelloAnswer::Welcome {
                    node: own.node,
                    name: own.name.clone(),
                    disk: own.disk,
                    generation: own.generation,
                    rebuilding: own.rebuilding,
                }
            }
            Err(refusal) => {
                fx.close.push((link, refusal.to_string()));
                HelloAnswer::Refused(refusal)
            }
        };
        fx.sends.push((link, id, ControlMessage::HelloAnswer(answer)));
    }

    fn admit(&mut self, link: LinkId, hello: &Hello, fx: &mut ControlEffects) -> Result<(), HelloRefusal> {
        let known = self.links.get_mut(&link).expect("messages are handled on known links only");
        if hello.protocol != PROTOCOL {
            return Err(HelloRefusal::Protocol { theirs: hello.protocol, ours: PROTOCOL });
        }
        if hello.name != known.certified {
            return Err(HelloRefusal::WrongName { claimed: hello.name.clone(), certified: known.certified.clone() });
        }
        if (hello.node, hello.nonce) == (self.start.identity.node, self.start.run.nonce) {
            return Err(HelloRefusal::Yourself);
        }
        if let (Some(theirs), Some(ours)) = (hello.cluster, self.cluster)
            && theirs != ours
        {
            return Err(HelloRefusal::OtherCluster { theirs, ours });
        }
        if let Some(view) = &self.view {
            if view.layout().departed().contains(&hello.node) {
                return Err(HelloRefusal::Departed);
            }
            match view.layout().member_named(&hello.name) {
                None => return Err(HelloRefusal::NotAMember { name: hello.name.clone() }),
                Some(member) if member.id != hello.node => {
                    // Granted here, or heard to have been granted elsewhere.
                    let granted = self.grants.get(member.id).map_or(Generation(0), |grant| grant.generation);
                    let heard = self.members.get(member.id).map_or(Generation(0), |state| state.generation);
                    return Err(HelloRefusal::BoundTo { node: member.id, generation: granted.max(heard) });
                }
                Some(_) => {}
            }
        }
        if let Some(grant) = self.grants.grant(hello, self.members.get(hello.node))? {
            fx.persist.push(grant_record(hello.node, grant));
        }
        if let Some(state) = self.members.get(hello.node) {
            self.grants.saw(state);
        }
        let run = NodeRun { node: hello.node, generation: hello.generation };
        known.peer = Some(run);
        fx.met.push(run);
        fx.admit.push((link, run));
        self.part_from_earlier(run, fx);
        self.met(hello.node, fx);
        Ok(())
    }

    /// Closes links with earlier runs of a node: nobody listens to those any more.
    fn part_from_earlier(&self, run: NodeRun, fx: &mut ControlEffects) {
        let is_earlier = |peer: NodeRun| peer.node == run.node && peer.generation < run.generation;
        let earlier = self.links.iter().filter(|(_, link)| link.peer.is_some_and(is_earlier));
        fx.close.extend(earlier.map(|(link, _)| (*link, "a later run of the node has said hello".into())));
    }

    /// A peer that this node has dialed answers.
    pub(super) fn on_hello_answer(&mut self, link: LinkId, answer: HelloAnswer, fx: &mut ControlEffects) {
        match answer {
            HelloAnswer::Welcome { node, name, generation, rebuilding, .. } => {
                self.on_welcome(link, NodeRun { node, generation }, &name, rebuilding, fx);
            }
            HelloAnswer::Refused(refusal) => self.on_refused(link, refusal, fx),
        }
    }

    fn on_welcome(&mut self, link: LinkId, run: NodeRun, name: &str, rebuilding: bool, fx: &mut ControlEffects) {
        let node = run.node;
        let already = self.route_to(node).is_some();
        let own = self.node();
        let known = self.links.get_mut(&link).expect("messages are handled on known links only");
        if name != known.certified {
            fx.close.push((link, format!("it welcomes as {name:?}, its certificate says {:?}", known.certified)));
            return;
        }
        // A certificate says who may speak as whom, and not who belongs to the ring: a node that has left it, or is of another
        // cluster under the same authority, grants nothing here, is no route, and is heard of by nobody.
        let bound = self.view.as_ref().map(|view| view.layout().member_named(name));
        if bound == Some(None) {
            let why = format!("{name:?} welcomes this node, and is no member of its ring");
            return self.turn_away(link, why, fx);
        }
        if let Some(address) = &known.dialed {
            self.aliases.insert(address.clone(), node);
            self.addresses_changed = true;
        }
        if node == own {
            fx.close.push((link, format!("{name:?} welcomes this node as this node")));
            return;
        }
        if already {
            fx.close.push((link, "a second link to the same node".into()));
            return;
        }
        if bound.flatten().is_some_and(|member| member.id != node) {
            fx.close.push((link, format!("{name:?} has not learnt its identity yet")));
            return;
        }
        if self.grants.get(node).is_some_and(|grant| grant.generation > run.generation) {
            fx.close.push((link, format!("a later run of {name:?} has said hello")));
            return;
        }
        let known = self.links.get_mut(&link).expect("messages are handled on known links only");
        self.refusals.remove(&known.certified);
        known.peer = Some(run);
        let granted = if rebuilding { &mut self.granted_by_rebuilding } else { &mut self.granted_by };
        granted.insert(node);
        fx.routes.push(Route::Up { peer: run, link });
        self.met(node, fx);
        // at once: both have news after a cut, and have heard nothing of one another for as long as it lasted
        self.ask(link, fx);
    }

    /// Closes a link with one who is no member of the ring. A seed where such a one answers is left alone for a while.
    pub(super) fn turn_away(&mut self, link: LinkId, why: String, fx: &mut ControlEffects) {
        let known = self.links.get(&link).expect("the caller has found this link");
        fx.close.push((link, why));
        self.strangers += 1;
        if let Some(address) = &known.dialed {
            self.shunned.insert(address.clone(), self.now + SHUNNED_FOR);
            self.addresses_changed = true;
        }
    }

    /// Seeds that have been left alone for long enough are dialed again.
    pub(super) fn forgive(&mut self) {
        let before = self.shunned.len();
        self.shunned.retain(|_, until| *until > self.now);
        self.addresses_changed |= self.shunned.len() < before;
    }

    fn on_refused(&mut self, link: LinkId, refusal: HelloRefusal, fx: &mut ControlEffects) {
        let known = self.links.get(&link).expect("messages are handled on known links only");
        let peer = known.certified.clone();
        // Whoever is not of this ring has no say in who is; but a node that is all of its ring was meant for the other one.
        let is_stranger = |view: &Arc<RingView>| {
            let layout = view.layout();
            layout.members().len() > 1 && layout.member_named(&peer).is_none()
        };
        if self.view.as_ref().is_some_and(is_stranger) {
            let why = format!("{peer:?}, no member of this node's ring, refuses it: {refusal}");
            return self.turn_away(link, why, fx);
        }
        let born = self.view.is_some();
        match refusal {
            HelloRefusal::Yourself => {
                if let Some(address) = known.dialed.clone() {
                    self.aliases.insert(address, self.node());
                    self.addresses_changed = true;
                }
            }
            // A new directory learns which ring slot its name is bound to, and starts above the lost disk's last run.
            HelloRefusal::BoundTo { node, generation } if !born => self.raise(node, generation, fx),
            HelloRefusal::RaiseGeneration { granted } if self.may_rise_late() => self.raise(self.node(), granted, fx),
            // The directory itself is at fault: it is not to be started again either.
            reason @ (HelloRefusal::OldCopy { .. } | HelloRefusal::Twin { .. }) => {
                self.condemn(Fatal::Refused { peer, reason }, fx);
            }
            reason @ HelloRefusal::Departed => fx.fatal = Some(Fatal::Refused { peer, reason }),
            reason => self.on_contradicted(peer, reason, fx),
        }
        fx.close.push((link, "refused".into()));
    }

    /// The directory is an old copy, or one of two. Each start raises its generation, so it is marked, lest it be started
    /// until its generation is beyond doubt.
    pub(super) fn condemn(&mut self, fatal: Fatal, fx: &mut ControlEffects) {
        self.start.identity.refused = Some(fatal.to_string());
        fx.persist.extend(self.start.identity_records());
        fx.fatal = Some(fatal);
    }

    /// A peer sees this node's cluster, name or protocol otherwise. One alone may be the one that is wrong; a node that
    /// nobody welcomes, and that more peers contradict than half of its own cluster has, is wrong itself.
    fn on_contradicted(&mut self, peer: String, reason: HelloRefusal, fx: &mut ControlEffects) {
        let Some(view) = &self.view else {
            self.refusals.insert(peer, reason);
            return;
        };
        let others = view.layout().members().len() - 1;
        self.refusals.insert(peer.clone(), reason.clone());
        if self.granted_by.is_empty() && self.refusals.len() > others / 2 {
            fx.fatal = Some(Fatal::Refused { peer, reason });
        }
    }

    /// Whether this directory is a replacement that still has to find its place above the lost one.
    pub(super) fn may_rise(&self) -> bool {
        self.is_blank() || self.start.identity.rebuilding
    }

    /// Whether the directory held nothing of any ring when this process began.
    fn is_blank(&self) -> bool {
        self.start.stored.0 == 0 || self.start.layout.is_none()
    }

    /// Whether it may rise above a lost one of which it had not heard before: a peer asks that only of the later of two.
    pub(super) fn may_rise_late(&self) -> bool {
        self.may_rise() || self.start.identity.took_over.0 > 0
    }

    /// Takes the ring slot `node` with a new disk, above all that was granted to the one before.
    pub(super) fn raise(&mut self, node: NodeId, granted: Generation, fx: &mut ControlEffects) {
        let generation = Generation(granted.0.max(self.start.run.generation.0) + 1);
        let is_blank = self.is_blank();
        let identity = &mut self.start.identity;
        if node != identity.node || granted.0 > 0 {
            identity.rebuilding = true;
            // Only what has never been in a ring can be sure to be the latest.
            if is_blank {
                identity.took_over = generation;
            }
        }
        identity.node = node;
        let rebuilding = identity.rebuilding;
        self.start.run.generation = generation;
        self.start.run.trusted_since = generation;
        self.granted_by.clear();
        self.granted_by_rebuilding.clear();
        // Whoever is linked knows this node by what it no longer is.
        fx.close.extend(self.links.keys().map(|link| (*link, "this node has taken another identity".into())));
        self.members.rename_own(node, generation);
        self.addresses_changed = true;
        self.members.update_own(|own| own.rebuilding = rebuilding);
        fx.persist.extend(self.start.identity_records());
    }
}
