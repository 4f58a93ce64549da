//! `status --views`: what every node says of every other one.

use dynkv::api::{MemberStatus, StatusReply};
use dynkv::client::ClientError;
use serde::Serialize;

use super::super::answers::Answers;
use super::super::exit::Failure;
use super::super::output::{Columns, Out};
use super::natural;

/// What one node holds of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opinion {
    /// It is the node itself.
    Itself,
    /// It has a live link to it.
    Up,
    /// It has none.
    NoLink,
    /// It holds it for dead.
    Convicted,
    /// It does not know it.
    Unknown,
}

impl Opinion {
    fn of(from: &str, member: &MemberStatus) -> Opinion {
        match member {
            _ if member.name == from => Opinion::Itself,
            member if member.convicted => Opinion::Convicted,
            member if member.up => Opinion::Up,
            _ => Opinion::NoLink,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Opinion::Itself => "-",
            Opinion::Up => "up",
            Opinion::NoLink => "no link",
            Opinion::Convicted => "dead",
            Opinion::Unknown => "unknown",
        }
    }
}

/// One node's opinions, in the order of the members.
#[derive(Debug, PartialEq, Serialize)]
struct View {
    from: String,
    /// Of each member, if the node has answered.
    of: Option<Vec<Opinion>>,
    /// How unlikely it finds each one's silence, in the same order.
    phi: Option<Vec<Option<f64>>>,
    /// Why it has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl View {
    /// What it says of one of the members.
    fn said(&self, index: usize) -> String {
        let phi = self.phi.as_ref().and_then(|phi| phi[index]);
        match (self.of.as_ref().map(|of| of[index]), phi) {
            (None, _) => "?".to_owned(),
            (Some(opinion), None) => opinion.word().to_owned(),
            (Some(Opinion::Itself), _) => Opinion::Itself.word().to_owned(),
            (Some(opinion), Some(phi)) => format!("{} (phi {phi:.1})", opinion.word()),
        }
    }
}

/// The matrix of opinions.
#[derive(Debug, PartialEq, Serialize)]
pub struct Views {
    members: Vec<String>,
    views: Vec<View>,
    /// Whether all have answered and hold each other to be up.
    agree: bool,
}

impl Views {
    /// What the answers say.
    pub fn of(answers: &Answers) -> Views {
        let replies = || answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
        let all = replies().flat_map(|reply| reply.members.iter().map(|member| (&member.name, &member.address)));
        let mut named: Vec<(String, String)> = all.map(|(name, address)| (name.clone(), address.clone())).collect();
        named.sort_by_key(|(name, _)| natural(name));
        named.dedup_by(|a, b| a.0 == b.0);
        let view = |(address, answer): &(String, Result<StatusReply, ClientError>)| match answer {
            Ok(reply) => {
                let known = |name: &String| reply.members.iter().find(|member| &member.name == name);
                let opinion = |member| Opinion::of(&reply.name, member);
                let of = |(name, _): &(String, String)| known(name).map_or(Opinion::Unknown, opinion);
                let phi = |(name, _): &(String, String)| known(name).and_then(|member| member.phi);
                let (of, phi) = (named.iter().map(of).collect(), named.iter().map(phi).collect());
                View { from: reply.name.clone(), of: Some(of), phi: Some(phi), reason: None }
            }
            Err(error) => {
                let name = named.iter().find(|(_, known)| known == address).map_or(address, |(name, _)| name);
                View { from: name.clone(), of: None, phi: None, reason: Some(error.to_string()) }
            }
        };
        let mut views: Vec<View> = answers.iter().map(view).collect();
        views.sort_by_key(|view| natural(&view.from));
        let is_good = |opinion: &Opinion| matches!(opinion, Opinion::Itself | Opinion::Up);
        let agree = views.iter().all(|view| view.of.as_ref().is_some_and(|of| of.iter().all(is_good)));
        Views { members: named.into_iter().map(|(name, _)| name).collect(), views, agree }
    }

    /// A row for who says it, a column for whom it is about.
    pub fn print(&self, out: &mut Out) -> Result<(), Failure> {
        let headings: Vec<&str> =
            std::iter::once("SAYS \\ OF").chain(self.members.iter().map(String::as_str)).collect();
        let mut columns = Columns::new(&headings);
        for view in &self.views {
            let said = (0..self.members.len()).map(|index| view.said(index));
            columns.row(std::iter::once(view.from.clone()).chain(said).collect::<Vec<_>>());
        }
        columns.print(out)?;
        for view in &self.views {
            if let Some(reason) = &view.reason {
                out.line(format!("no answer from {}: {reason}", view.from))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lost, member, reply};
    use super::*;

    #[test]
    fn each_row_is_what_one_node_says() {
        use Opinion::{Convicted, Itself, NoLink, Unknown, Up};
        let one = reply(1, vec![member(1, true, "aa"), member(2, false, "aa"), member(10, true, "aa")]);
        let dead = MemberStatus { convicted: true, phi: Some(9.5), ..member(1, true, "aa") };
        let ten = reply(10, vec![dead, member(10, true, "aa")]);
        let answers = vec![("h:10".to_owned(), Ok(ten)), ("h:2".to_owned(), lost()), ("h:1".to_owned(), Ok(one))];
        let views = Views::of(&answers);
        assert_eq!(views.members, ["n1", "n2", "n10"]);
        let rows: Vec<_> = views.views.iter().map(|view| (&*view.from, view.of.clone())).collect();
        assert_eq!(
            rows,
            [("n1", Some(vec![Itself, NoLink, Up])), ("n2", None), ("n10", Some(vec![Convicted, Unknown, Itself]))]
        );
        assert_eq!(views.views[2].phi, Some(vec![Some(9.5), None, Some(0.25)]));
        assert!(!views.agree);
    }

    #[test]
    fn nodes_that_all_reach_each_other_agree() {
        let members = || vec![member(1, true, "aa"), member(2, true, "aa")];
        let answers = vec![("h:1".to_owned(), Ok(reply(1, members()))), ("h:2".to_owned(), Ok(reply(2, members())))];
        assert!(Views::of(&answers).agree);
    }

    #[test]
    fn who_does_not_answer_agrees_with_nobody() {
        let one = || ("h:1".to_owned(), Ok(reply(1, vec![member(1, true, "aa"), member(2, true, "aa")])));
        assert!(Views::of(&[one()]).agree);
        assert!(!Views::of(&[one(), ("h:2".to_owned(), lost())]).agree);
    }

    #[test]
    fn a_cell_is_an_opinion_and_how_unlikely_the_silence_is() {
        let dead = MemberStatus { convicted: true, phi: Some(9.54), ..member(1, true, "aa") };
        let unheard = MemberStatus { phi: None, ..member(2, false, "aa") };
        let known = vec![dead, unheard, member(3, true, "aa"), member(4, true, "aa")];
        let answers = [("h:3".to_owned(), Ok(reply(3, known))), ("h:4".to_owned(), lost())];
        let views = Views::of(&answers).views;
        let row = |view: &View| (0..4).map(|index| view.said(index)).collect::<Vec<_>>();
        assert_eq!(row(&views[0]), ["dead (phi 9.5)", "no link", "-", "up (phi 0.2)"]);
        assert_eq!(row(&views[1]), ["?"; 4]);
    }
}
