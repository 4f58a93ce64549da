//! `nodes`

use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::{Columns, Format, Out};

/// List the cluster's members as the ring names them.
///
/// Only the ring is asked, not the members: `status` says how they are. Raw output is one address a line.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli nodes
  dynkv-cli nodes -o raw | paste -sd,     # for DYNKV_ENDPOINTS")]
pub struct Args {}

#[derive(Serialize)]
struct Document {
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct Node {
    name: String,
    zone: String,
    address: String,
    id: String,
}

pub async fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let view = context.connect().await?.ring().expect("it has just been fetched");
    let members = view.layout().members().iter();
    let mut nodes: Vec<_> = members
        .map(|member| Node {
            name: member.name.clone(),
            zone: member.zone.clone(),
            address: member.address.clone(),
            id: member.id.to_string(),
        })
        .collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let raw = context.table_format() == Format::Raw;
    context.show(&Document { nodes }, |document, out| print(document, raw, out))?;
    Ok(Exit::Ok)
}

fn print(Document { nodes }: &Document, raw: bool, out: &mut Out) -> Result<(), Failure> {
    if raw {
        return nodes.iter().try_for_each(|node| out.line(&node.address));
    }
    let mut columns = Columns::new(&["NAME", "ZONE", "ADDRESS", "NODE ID"]);
    nodes.iter().for_each(|node| columns.row([&node.name, &node.zone, &node.address, &node.id]));
    columns.print(out)
}
