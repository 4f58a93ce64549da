//! `ring`

use dynkv::ring::{Conflict, RingView};
use dynkv::types::{Bucket, PartitionId};
use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::{Columns, Out};

/// Show who owns which part of the ring, and the buckets.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli ring
  dynkv-cli ring --tokens -b carts        # each partition's first token, owner and preference list")]
pub struct Args {
    /// Each partition: its first token, its owner, its preference list.
    #[arg(long)]
    tokens: bool,
    /// The bucket whose preference lists are shown.
    #[arg(short, long, default_value = Bucket::DEFAULT, value_name = "BUCKET")]
    bucket: Bucket,
}

#[derive(Serialize)]
struct Document {
    cluster: String,
    version: u64,
    partitions: u32,
    digest: String,
    members: Vec<MemberRow>,
    buckets: Vec<BucketRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Vec<TokenRow>>,
}

#[derive(Serialize)]
struct MemberRow {
    name: String,
    zone: String,
    address: String,
    weight: f64,
    partitions: usize,
    owned_percent: f64,
    id: String,
}

#[derive(Serialize)]
struct BucketRow {
    name: String,
    n: u8,
    conflict: &'static str,
}

#[derive(Serialize)]
struct TokenRow {
    partition: u16,
    first: String,
    owner: String,
    preference: Vec<String>,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let view = context.connect().await?.ring().expect("it has just been fetched");
    if args.tokens && view.layout().bucket(&args.bucket).is_none() {
        let known: Vec<_> = view.layout().buckets().keys().map(Bucket::as_str).collect();
        return Err(Failure::usage(format!(
            "there is no bucket {:?}; this cluster has: {}",
            args.bucket,
            known.join(", ")
        )));
    }
    let document = document(&view, args.tokens.then_some(&args.bucket));
    context.show(&document, print)?;
    Ok(Exit::Ok)
}

fn document(view: &RingView, tokens_of: Option<&Bucket>) -> Document {
    let layout = view.layout();
    let mut members: Vec<_> = layout
        .members()
        .iter()
        .map(|member| MemberRow {
            name: member.name.clone(),
            zone: member.zone.clone(),
            address: member.address.clone(),
            weight: member.weight.as_f64(),
            partitions: layout.owners().iter().filter(|owner| **owner == member.id).count(),
            owned_percent: view.owned_share(member.id) * 100.0,
            id: member.id.to_string(),
        })
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let buckets = layout.buckets().iter().map(|(name, config)| BucketRow {
        name: name.to_string(),
        n: config.n,
        conflict: match config.conflict {
            Conflict::Siblings => "siblings",
            Conflict::Lww => "lww",
        },
    });
    Document {
        cluster: view.cluster().to_string(),
        version: view.version().0,
        partitions: layout.partitions().count(),
        digest: data_encoding::HEXLOWER.encode(&view.digest()),
        members,
        buckets: buckets.collect(),
        tokens: tokens_of.map(|bucket| layout.partitions().iter().map(|part| token(view, bucket, part)).collect()),
    }
}

fn token(view: &RingView, bucket: &Bucket, partition: PartitionId) -> TokenRow {
    let layout = view.layout();
    let name = |id| layout.member(id).map_or_else(|| id.to_string(), |member| member.name.clone());
    let list = view.preference(partition, bucket);
    TokenRow {
        partition: partition.0,
        first: format!("{:016x}", layout.partitions().range(partition).0.0),
        owner: layout.owner(partition).map(name).unwrap_or_default(),
        preference: list.map_or_else(Vec::new, |list| list.slots().iter().map(|node| name(*node)).collect()),
    }
}

fn print(document: &Document, out: &mut Out) -> Result<(), Failure> {
    let Document { cluster, version, partitions, digest, .. } = document;
    out.line(format!("cluster {cluster}  version {version}  {partitions} partitions  digest {}", &digest[..8]))?;
    out.line("")?;
    if let Some(tokens) = &document.tokens {
        let mut columns = Columns::new(&["PARTITION", "FIRST TOKEN", "OWNER", "PREFERENCE LIST"]).right(&[0]);
        for row in tokens {
            columns.row([row.partition.to_string(), row.first.clone(), row.owner.clone(), row.preference.join(" ")]);
        }
        return columns.print(out);
    }
    let mut columns = Columns::new(&["NAME", "ZONE", "ADDRESS", "WEIGHT", "PARTITIONS", "OWNED"]).right(&[3, 4, 5]);
    for row in &document.members {
        let (weight, owned) = (row.weight.to_string(), format!("{:.1} %", row.owned_percent));
        columns.row([
            row.name.clone(),
            row.zone.clone(),
            row.address.clone(),
            weight,
            row.partitions.to_string(),
            owned,
        ]);
    }
    columns.print(out)?;
    out.line("")?;
    let mut columns = Columns::new(&["BUCKET", "N", "CONFLICT"]).right(&[1]);
    document.buckets.iter().for_each(|row| columns.row([row.name.clone(), row.n.to_string(), row.conflict.to_owned()]));
    columns.print(out)
}
