//! What is said of a key, its values, and who answered: the same words in all verbs.

use std::time::{Duration, UNIX_EPOCH};

use dynkv::api::{Ack, HintKept, SiblingMeta};
use dynkv::client::{Client, Value};
use serde::Serialize;

use super::encoding::{KeyFormat, show_context};

/// A value or tombstone.
#[derive(Debug, Serialize)]
pub struct SiblingRecord {
    /// Whether it is the tombstone of a delete.
    pub deleted: bool,
    /// The value; absent for a tombstone and where values were not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// "base64" if the value is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<&'static str>,
    /// Bytes of the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// The node that coordinated the write.
    pub node: String,
    /// When, by that node's clock.
    pub written: String,
    /// The event of that write.
    pub dot: String,
    /// The client's id of it.
    pub write_id: String,
}

impl SiblingRecord {
    pub fn new(client: &Client, sibling: &Value) -> SiblingRecord {
        let SiblingMeta { dot, write_id, node, wall_ms, len } = sibling.meta;
        let text = sibling.bytes.as_deref().map(|bytes| KeyFormat::Utf8.encode(bytes));
        let (value, encoding) = text.map_or((None, None), |text| (Some(text.text), text.encoding));
        SiblingRecord {
            deleted: len.is_none(),
            value,
            encoding,
            size: len,
            node: client.name_of(node),
            written: time(wall_ms),
            dot: format!("{}:{}", dot.actor, dot.counter),
            write_id: write_id.to_string(),
        }
    }
}

/// A key and its siblings.
#[derive(Debug, Serialize)]
pub struct KeyRecord {
    /// The key, in the format of `--key-format`.
    pub key: String,
    /// "hex" or "base64", if the key is not printed as UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_encoding: Option<&'static str>,
    /// Values and tombstones that no other supersedes.
    pub siblings: Vec<SiblingRecord>,
    /// For the next write of the key.
    pub context: Option<String>,
}

impl KeyRecord {
    pub fn new(
        client: &Client,
        format: KeyFormat,
        key: &[u8],
        siblings: &[Value],
        context: Option<&[u8]>,
    ) -> KeyRecord {
        let key = format.encode(key);
        KeyRecord {
            key: key.text,
            key_encoding: key.encoding,
            siblings: siblings.iter().map(|sibling| SiblingRecord::new(client, sibling)).collect(),
            context: context.map(show_context),
        }
    }
}

/// A replica that was counted.
#[derive(Debug, Serialize)]
pub struct AckRecord {
    /// The node.
    pub node: String,
    /// The slot of the preference list.
    pub slot: u8,
    /// Of a write: it is on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synced: Option<bool>,
}

/// A note that a node has missed a write.
#[derive(Debug, Serialize)]
pub struct HintRecord {
    /// Who keeps it.
    pub holder: String,
    /// Whom it is for.
    pub target: String,
}

impl HintRecord {
    pub fn new(client: &Client, hint: &HintKept) -> HintRecord {
        HintRecord { holder: client.name_of(hint.holder), target: client.name_of(hint.target) }
    }
}

/// The replicas counted, by slot.
pub fn acks(client: &Client, acks: &[Ack], write: bool) -> Vec<AckRecord> {
    let mut records: Vec<_> = acks
        .iter()
        .map(|ack| AckRecord { node: client.name_of(ack.node), slot: ack.slot, synced: write.then_some(ack.synced) })
        .collect();
    records.sort_by_key(|record| record.slot);
    records
}

/// "n1,n4".
pub fn names(records: &[AckRecord]) -> String {
    records.iter().map(|record| record.node.as_str()).collect::<Vec<_>>().join(",")
}

/// How durable the copies of a write are.
pub fn durability(records: &[AckRecord]) -> String {
    let synced = records.iter().filter(|record| record.synced == Some(true)).count();
    match synced {
        0 => "buffered".to_owned(),
        all if all == records.len() => "synced".to_owned(),
        some => format!("{some} synced"),
    }
}

/// A node's wall clock, in UTC.
pub fn time(wall_ms: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(wall_ms));
    // a wild clock may lie beyond the years that have four digits
    let shown =
        time.filter(|_| wall_ms < 253_402_300_800_000).map(|time| humantime::format_rfc3339_millis(time).to_string());
    shown.unwrap_or_else(|| format!("{wall_ms} ms after 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_is_said_as_it_is() {
        let ack = |synced| AckRecord { node: "n1".into(), slot: 0, synced: Some(synced) };
        assert_eq!(durability(&[ack(true), ack(true)]), "synced");
        assert_eq!(durability(&[ack(true), ack(false)]), "1 synced");
        assert_eq!(durability(&[ack(false)]), "buffered");
    }

    #[test]
    fn wild_clocks_do_not_end_the_program() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(u64::MAX), "18446744073709551615 ms after 1970");
    }
}
