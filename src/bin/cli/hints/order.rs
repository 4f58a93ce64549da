//! `hints flush` and `hints drop`: one request to each holder.

use std::io::{IsTerminal, Write};

use dynkv::api::{HintOrder, HintsOrdered, StatusReply};
use dynkv::client::{Client, ClientError};
use dynkv::ring::Member;
use dynkv::types::NodeId;
use serde::Serialize;

use super::super::answers::Answers;
use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::orders::{self, Row, unknown};
use super::super::output::count;

#[derive(Debug, clap::Args)]
pub struct FlushArgs {
    /// Only what waits for this node.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Only on this node.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct DropArgs {
    /// The node that never returns: its name, or its id if it has left the ring.
    #[arg(long, value_name = "NAME")]
    target: String,
    /// Only on this node.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl DropArgs {
    /// Whether it is to be asked if that is meant.
    ///
    /// # Errors
    /// Nobody is there to answer.
    fn asks(&self, on_terminal: bool) -> Result<bool, Failure> {
        if !self.yes && !on_terminal {
            return Err(Failure::usage(format!(
                "this loses acknowledged writes if only hints for {} hold them: give --yes to do it all the same",
                self.target
            )));
        }
        Ok(!self.yes)
    }
}

pub async fn flush(context: &Context, args: FlushArgs) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let (members, answers) = (members(&client), client.status_all().await);
    let target = args.target.map(|name| target(&members, &answers, &name)).transpose()?;
    let holders = holders(&members, &answers, target, args.node.as_deref())?;
    carry_out(context, &client, &holders, HintOrder::Flush { target }, "will be replayed").await
}

pub async fn drop(context: &Context, args: DropArgs) -> Result<Exit, Failure> {
    let asks = args.asks(std::io::stdin().is_terminal())?;
    let client = context.connect().await?;
    let (members, answers) = (members(&client), client.status_all().await);
    let target = target(&members, &answers, &args.target)?;
    let holders = holders(&members, &answers, Some(target), args.node.as_deref())?;
    if asks && !is_confirmed(&question(&args.target, target, &answers, &holders))? {
        return Err(Failure::new(Exit::Error, "nothing was dropped"));
    }
    carry_out(context, &client, &holders, HintOrder::Drop { target }, "will be dropped").await
}

/// Asks whether it is meant.
fn is_confirmed(question: &str) -> Result<bool, Failure> {
    let mut stderr = std::io::stderr();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim(), "y" | "Y" | "yes")
}

fn members(client: &Client) -> Vec<Member> {
    client.ring().map_or_else(Vec::new, |view| view.layout().members().to_vec())
}

/// Who is meant: a member, or one that has left and for whom something waits.
fn target(members: &[Member], answers: &Answers, name: &str) -> Result<NodeId, Failure> {
    let is_named = |id: NodeId, known: &str| known == name || id.to_string() == name;
    let member = members.iter().find(|member| is_named(member.id, &member.name)).map(|member| member.id);
    let mut replies = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let waits = || {
        replies.find_map(|reply| {
            let mut targets = reply.hints.iter().map(|kept| kept.target);
            targets.find(|target| is_named(*target, &reply.name_of(*target)))
        })
    };
    let target = member.or_else(waits);
    target.ok_or_else(|| {
        let unsaid = members.iter().filter(|member| said(answers, member.id).is_none());
        let unsaid: Vec<&str> = unsaid.map(|member| member.name.as_str()).collect();
        let failure = unknown("target", name, members);
        if unsaid.is_empty() {
            return failure;
        }
        let known = failure.message();
        Failure::usage(format!(
            "{known}; {} has not said for whom it keeps hints: try again when it has",
            unsaid.join(", ")
        ))
    })
}

/// Whom to ask: the one named, or every member; for a target that has left those who have not said that they keep nothing.
fn holders(
    members: &[Member],
    answers: &Answers,
    target: Option<NodeId>,
    node: Option<&str>,
) -> Result<Vec<(NodeId, String)>, Failure> {
    if let Some(name) = node.filter(|name| members.iter().all(|member| member.name != *name)) {
        return Err(unknown("node", name, members));
    }
    let has_left = target.is_some_and(|target| members.iter().all(|member| member.id != target));
    let may_keep = |member: &Member| {
        said(answers, member.id).is_none_or(|reply| reply.hints.iter().any(|kept| Some(kept.target) == target))
    };
    let wanted = |member: &&Member| node.map_or_else(|| !has_left || may_keep(member), |name| member.name == name);
    Ok(members.iter().filter(wanted).map(|member| (member.id, member.name.clone())).collect())
}

fn reply_of(answers: &Answers, node: NodeId) -> Option<&StatusReply> {
    answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).find(|reply| reply.node == node)
}

/// What a node has said, if it has counted all that it keeps.
fn said(answers: &Answers, node: NodeId) -> Option<&StatusReply> {
    reply_of(answers, node).filter(|reply| reply.hints_counted)
}

/// What is at stake: hints for the target on these holders that acknowledged writes rest on, and who has not said how many.
fn question(name: &str, target: NodeId, answers: &Answers, holders: &[(NodeId, String)]) -> String {
    let kept = holders.iter().filter_map(|(holder, _)| reply_of(answers, *holder)).flat_map(|reply| &reply.hints);
    let counted: u64 = kept.filter(|kept| kept.target == target).map(|kept| kept.counted).sum();
    let unsaid = holders.iter().filter(|(holder, _)| said(answers, *holder).is_none());
    let unsaid: Vec<&str> = unsaid.map(|(_, name)| name.as_str()).collect();
    let but = if unsaid.is_empty() { String::new() } else { format!(", and those of {} unknown", unsaid.join(", ")) };
    format!("Drop all that waits for {name}, {} of acknowledged writes included{but}?", count(counted, "hint"))
}

/// What became of an order.
#[derive(Debug, PartialEq, Serialize)]
struct Document {
    ordered: Vec<Row<HintsOrdered>>,
    hints: u64,
}

impl Document {
    /// # Errors
    /// Nobody took the order.
    fn new(results: Vec<(String, Result<HintsOrdered, ClientError>)>) -> Result<Document, Failure> {
        let ordered = orders::rows(results)?;
        let hints = ordered.iter().filter_map(|row| row.ordered).map(|ordered| ordered.hints).sum();
        Ok(Document { ordered, hints })
    }

    fn exit(&self) -> Exit {
        orders::exit(&self.ordered)
    }
}

async fn carry_out(
    context: &Context,
    client: &Client,
    holders: &[(NodeId, String)],
    order: HintOrder,
    what: &str,
) -> Result<Exit, Failure> {
    let nodes: Vec<NodeId> = holders.iter().map(|(node, _)| *node).collect();
    let answers = client.order_hints(&nodes, order).await;
    let document = Document::new(holders.iter().map(|(_, name)| name.clone()).zip(answers).collect())?;
    context.show(&document, |document, out| {
        document.ordered.iter().try_for_each(|Row { node, ordered, error }| match ordered {
            Some(ordered) => out.line(format!("{node}: {} {what}", count(ordered.hints, "hint"))),
            None => out.line(format!("{node}: {}", error.as_deref().unwrap_or("no answer"))),
        })
    })?;
    Ok(document.exit())
}

#[cfg(test)]
mod tests;
