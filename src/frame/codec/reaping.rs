//! The messages of reaping as frames. Only [`Reaping`] has a body: for each candidate, the digest of its tombstone's object (16
//! bytes), the length of the key `u16`, and the key.

use bytes::{BufMut, Bytes};
use serde::{Deserialize, Serialize};

use super::super::kind::Kind;
use super::super::raw::RawFrame;
use super::exchange::{put_key, room, take_key};
use super::{DecodeError, frame, header, no_body, parse, split};
use crate::message::{
    AskRounds, Inquired, MAX_CANDIDATES, MAX_MEMBERS, MAX_PARTITIONS, Reaping, ReapingSaid, ReapingStep, Refusal,
    RoundsTold, Vouched,
};
use crate::storage::merkle::TreeId;
use crate::types::RingVersion;
use crate::version::Digest;

#[derive(Serialize, Deserialize)]
struct ReapingHeader {
    ring: RingVersion,
    tree: TreeId,
    step: ReapingStep,
}

pub(super) fn encode_request(id: u64, reaping: &Reaping) -> RawFrame {
    let Reaping { ring, tree, step, candidates } = reaping;
    let mut body = Vec::with_capacity(reaping.carried() + candidates.len() * size_of::<u16>());
    for (key, digest) in candidates {
        body.put_slice(&digest.0);
        put_key(key, &mut body);
    }
    frame(id, Kind::Reaping, header(&ReapingHeader { ring: *ring, tree: *tree, step: *step }), body.into())
}

pub(super) fn decode_request(frame: RawFrame) -> Result<Reaping, DecodeError> {
    let ReapingHeader { ring, tree, step } = parse(&frame)?;
    let (mut body, mut candidates) = (frame.body, Vec::new());
    while !body.is_empty() {
        room(candidates.len(), MAX_CANDIDATES)?;
        let digest = split(&mut body, size_of::<Digest>() as u32)?;
        let digest = Digest(digest[..].try_into().expect("so many bytes were split off"));
        candidates.push((take_key(&mut body)?, digest));
    }
    Ok(Reaping { ring, tree, step, candidates })
}

pub(super) fn encode_answer(id: u64, said: &Result<ReapingSaid, Refusal>) -> RawFrame {
    frame(id, Kind::ReapingSaid, header(said), Bytes::new())
}

pub(super) fn decode_answer(frame: &RawFrame) -> Result<Result<ReapingSaid, Refusal>, DecodeError> {
    no_body(frame)?;
    let said = parse(frame)?;
    let words = match &said {
        Ok(ReapingSaid::Inquired(Inquired { met, .. })) if met.len() > MAX_MEMBERS => {
            let reason = format!("runs of {} members, at most {MAX_MEMBERS} are allowed", met.len());
            return Err(DecodeError::Header { reason });
        }
        Ok(ReapingSaid::Inquired(Inquired { holds, .. })) => holds.len(),
        Ok(ReapingSaid::Vouched(Vouched { yes, .. })) => yes.len(),
        Ok(ReapingSaid::Reaped(_)) | Err(_) => 0,
    };
    if words > MAX_CANDIDATES {
        let reason = format!("a word on each of {words} candidates, at most {MAX_CANDIDATES} are asked about");
        return Err(DecodeError::Header { reason });
    }
    Ok(said)
}

pub(super) fn encode_ask(id: u64, asked: &AskRounds) -> RawFrame {
    frame(id, Kind::AskRounds, header(asked), Bytes::new())
}

pub(super) fn decode_ask(frame: &RawFrame) -> Result<AskRounds, DecodeError> {
    no_body(frame)?;
    let asked: AskRounds = parse(frame)?;
    check(asked.partitions.len(), 1)?;
    Ok(asked)
}

pub(super) fn encode_told(id: u64, told: &RoundsTold) -> RawFrame {
    frame(id, Kind::RoundsTold, header(told), Bytes::new())
}

pub(super) fn decode_told(frame: &RawFrame) -> Result<RoundsTold, DecodeError> {
    no_body(frame)?;
    let told: RoundsTold = parse(frame)?;
    check(told.as_ref().map_or(0, Vec::len), 0)?;
    Ok(told)
}

fn check(partitions: usize, least: usize) -> Result<(), DecodeError> {
    if (least..=MAX_PARTITIONS).contains(&partitions) {
        return Ok(());
    }
    Err(DecodeError::Header { reason: format!("rounds of {partitions} partitions: {least} to {MAX_PARTITIONS}") })
}
