//! `repair start`, `repair scrub`, `repair pause` and `repair resume`: one request to each node.

use std::sync::Arc;

use dynkv::api::{RepairOrder, RepairOrdered};
use dynkv::client::{Client, ClientError};
use dynkv::ring::{Member, RingView};
use dynkv::types::{NodeId, PartitionId};
use serde::Serialize;

use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::orders::{self, Row, unknown};
use super::super::output::count;

#[derive(Debug, clap::Args)]
pub struct NodeArg {
    /// Only on this node.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct StartArgs {
    #[command(flatten)]
    only: NodeArg,
    /// Only this partition: without --node, on all nodes that hold it.
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u16>,
}

pub async fn start(context: &Context, args: StartArgs) -> Result<Exit, Failure> {
    let (client, view) = connect(context).await?;
    let partition = args.partition.map(PartitionId);
    let asked = asked(&view, partition, args.only.node.as_deref())?;
    carry_out(context, &client, asked, RepairOrder::Start { partition }).await
}

pub async fn scrub(context: &Context, args: StartArgs) -> Result<Exit, Failure> {
    let (client, view) = connect(context).await?;
    let partition = args.partition.map(PartitionId);
    let asked = asked(&view, partition, args.only.node.as_deref())?;
    carry_out(context, &client, asked, RepairOrder::Scrub { partition }).await
}

pub async fn reap(context: &Context, args: StartArgs) -> Result<Exit, Failure> {
    let (client, view) = connect(context).await?;
    let partition = args.partition.map(PartitionId);
    let asked = asked(&view, partition, args.only.node.as_deref())?;
    carry_out(context, &client, asked, RepairOrder::Reap { partition }).await
}

pub async fn pause(context: &Context, args: NodeArg) -> Result<Exit, Failure> {
    let (client, view) = connect(context).await?;
    carry_out(context, &client, asked(&view, None, args.node.as_deref())?, RepairOrder::Pause).await
}

pub async fn resume(context: &Context, args: NodeArg) -> Result<Exit, Failure> {
    let (client, view) = connect(context).await?;
    carry_out(context, &client, asked(&view, None, args.node.as_deref())?, RepairOrder::Resume).await
}

async fn connect(context: &Context) -> Result<(Client, Arc<RingView>), Failure> {
    let client = context.connect().await?;
    let view = client.ring().expect("it has just been fetched");
    Ok((client, view))
}

/// Whom to ask: the one named, or every member; for a partition, who holds it.
fn asked(view: &RingView, partition: Option<PartitionId>, node: Option<&str>) -> Result<Vec<Member>, Failure> {
    let members = view.layout().members();
    if let Some(name) = node.filter(|name| members.iter().all(|member| member.name != *name)) {
        return Err(unknown("node", name, members));
    }
    let count = view.layout().partitions().count();
    if let Some(beyond) = partition.filter(|partition| u32::from(partition.0) >= count) {
        return Err(Failure::usage(format!("the ring has no partition {}: it has 0 to {}", beyond.0, count - 1)));
    }
    let primaries = partition.map(|partition| view.primaries(partition));
    let holds = |member: &&Member| primaries.as_ref().is_none_or(|primaries| primaries.contains(&member.id));
    let asked: Vec<Member> =
        members.iter().filter(holds).filter(|member| node.is_none_or(|name| member.name == name)).cloned().collect();
    if let (Some(name), Some(partition), true) = (node, partition, asked.is_empty()) {
        let holders: Vec<&str> = members.iter().filter(holds).map(|member| member.name.as_str()).collect();
        let number = partition.0;
        return Err(Failure::usage(format!("{name} does not hold partition {number}: {} do", holders.join(", "))));
    }
    Ok(asked)
}

/// What became of an order.
#[derive(Debug, PartialEq, Serialize)]
struct Document {
    ordered: Vec<Row<RepairOrdered>>,
    trees: u64,
}

impl Document {
    /// # Errors
    /// Nobody took the order.
    fn new(results: Vec<(String, Result<RepairOrdered, ClientError>)>) -> Result<Document, Failure> {
        let ordered = orders::rows(results)?;
        let trees = ordered.iter().filter_map(|row| row.ordered).map(|ordered| ordered.trees).sum();
        Ok(Document { ordered, trees })
    }
}

/// What a node does about an order that it has taken.
fn what(order: RepairOrder, ordered: RepairOrdered) -> String {
    let trees = count(ordered.trees, "tree");
    match order {
        RepairOrder::Start { .. } if ordered.trees == 0 => {
            "nothing to compare: no other node holds what it holds".into()
        }
        RepairOrder::Start { .. } if ordered.paused => {
            format!("{trees} will be compared once `dynkv-cli repair resume` ends its pause")
        }
        RepairOrder::Start { .. } => format!("{trees} will be compared"),
        RepairOrder::Scrub { .. } if ordered.paused => {
            "all it holds will be read once `dynkv-cli repair resume` ends its pause".into()
        }
        RepairOrder::Scrub { partition: None } => "all it holds will be read".into(),
        RepairOrder::Scrub { partition: Some(partition) } => {
            format!("all it holds of partition {} will be read", partition.0)
        }
        RepairOrder::Reap { .. } if ordered.paused => {
            "its tombstones will be reaped once `dynkv-cli repair resume` ends its pause".into()
        }
        RepairOrder::Reap { .. } => "the tombstones whose rounds it runs will be reaped".into(),
        RepairOrder::Pause => "paused".into(),
        RepairOrder::Resume => "goes on".into(),
    }
}

async fn carry_out(
    context: &Context,
    client: &Client,
    asked: Vec<Member>,
    order: RepairOrder,
) -> Result<Exit, Failure> {
    let nodes: Vec<NodeId> = asked.iter().map(|member| member.id).collect();
    let answers = client.order_repair(&nodes, order).await;
    let document = Document::new(asked.into_iter().map(|member| member.name).zip(answers).collect())?;
    context.show(&document, |document, out| {
        document.ordered.iter().try_for_each(|Row { node, ordered, error }| match ordered {
            Some(ordered) => out.line(format!("{node}: {}", what(order, *ordered))),
            None => out.line(format!("{node}: {}", error.as_deref().unwrap_or("no answer"))),
        })
    })?;
    Ok(orders::exit(&document.ordered))
}

#[cfg(test)]
mod tests {
    use dynkv::ring::{BucketConfig, Layout, Partitions, Weight};
    use dynkv::types::Bucket;

    use super::super::super::status::tests::lost;
    use super::*;

    /// `n1` to `n4`, 16 partitions, n 3.
    fn four() -> RingView {
        let member = |id| Member {
            id: NodeId(id),
            name: format!("n{id}"),
            zone: format!("z{id}"),
            weight: Weight::ONE,
            address: format!("h:{id}"),
        };
        let buckets = [(Bucket::default(), BucketConfig::default())].into();
        let layout = Layout::birth(Partitions::new(16).unwrap(), (1..=4).map(member).collect(), buckets).unwrap();
        let cluster = layout.cluster_id();
        RingView::new(layout, cluster)
    }

    fn names(asked: Result<Vec<Member>, Failure>) -> Result<Vec<String>, (Exit, String)> {
        let names = asked.map(|members| members.into_iter().map(|member| member.name).collect());
        names.map_err(|failure| (failure.exit, failure.message().to_owned()))
    }

    #[test]
    fn every_member_is_asked_and_for_a_partition_who_holds_it() {
        let (view, at) = (four(), Some(PartitionId(7)));
        let all: Vec<String> = (1..=4).map(|id| format!("n{id}")).collect();
        assert_eq!(names(asked(&view, None, None)), Ok(all.clone()));
        assert_eq!(names(asked(&view, None, Some("n2"))), Ok(vec!["n2".to_owned()]));
        let holders = view.primaries(PartitionId(7));
        let (holders, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|name| holders.iter().any(|id| format!("n{}", id.0) == *name));
        assert_eq!((holders.len(), names(asked(&view, at, None))), (3, Ok(holders.clone())));
        assert_eq!(names(asked(&view, at, Some(&holders[1]))), Ok(vec![holders[1].clone()]));
        let said = format!("{} does not hold partition 7: {} do", others[0], holders.join(", "));
        assert_eq!(names(asked(&view, at, Some(&others[0]))), Err((Exit::Usage, said)));
    }

    #[test]
    fn what_is_not_there_is_told_from_what_is() {
        let said = |message: &str| Err((Exit::Usage, message.to_owned()));
        let beyond = Some(PartitionId(16));
        assert_eq!(names(asked(&four(), beyond, None)), said("the ring has no partition 16: it has 0 to 15"));
        let unknown = "node \"n9\" is not known; members are n1, n2, n3, n4";
        assert_eq!(names(asked(&four(), None, Some("n9"))), said(unknown));
    }

    #[test]
    fn a_node_says_what_it_will_do() {
        let start = RepairOrder::Start { partition: None };
        let says = |order, trees, paused| what(order, RepairOrdered { trees, paused });
        assert_eq!(says(start, 96, false), "96 trees will be compared");
        assert_eq!(says(start, 1, true), "1 tree will be compared once `dynkv-cli repair resume` ends its pause");
        assert_eq!(says(start, 0, false), "nothing to compare: no other node holds what it holds");
        let scrub = |partition: Option<u16>| RepairOrder::Scrub { partition: partition.map(PartitionId) };
        assert_eq!(says(scrub(None), 96, false), "all it holds will be read");
        assert_eq!(says(scrub(Some(7)), 1, false), "all it holds of partition 7 will be read");
        assert!(says(scrub(None), 96, true).contains("resume"));
        assert!(says(RepairOrder::Reap { partition: None }, 96, false).contains("will be reaped"));
        assert!(says(RepairOrder::Reap { partition: None }, 96, true).contains("resume"));
        assert_eq!(says(RepairOrder::Pause, 96, true), "paused");
        assert_eq!(says(RepairOrder::Resume, 96, false), "goes on");
    }

    #[test]
    fn an_order_that_some_did_not_take_is_carried_out_in_part_and_one_that_nobody_took_has_failed() {
        let lost = || lost().map(|_| RepairOrdered::default());
        let took = |trees| Ok(RepairOrdered { trees, paused: false });
        let document = |results: Vec<Result<RepairOrdered, ClientError>>| {
            Document::new((1..).zip(results).map(|(id, one): (u32, _)| (format!("n{id}"), one)).collect())
        };
        let whole = document(vec![took(2), took(3)]).unwrap();
        assert_eq!((whole.trees, orders::exit(&whole.ordered)), (5, Exit::Ok));
        let part = document(vec![lost(), took(3)]).unwrap();
        assert_eq!((part.trees, orders::exit(&part.ordered)), (3, Exit::Partly));
        let failure = document(vec![lost()]).unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.message().starts_with("no node took the order; n1: "), "{}", failure.message());
    }
}
