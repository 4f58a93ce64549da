//! Frames on lanes: order, sizes, bounds, and every way a lane ends.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::*;
use crate::frame::raw::{FrameError, FrameLimits};

#[tokio::test]
async fn frames_go_both_ways_in_order_and_from_any_thread() {
    let pair = pair(&limits()).await;
    let [(ours, answers), (theirs, requests)] = pair.lane(QUEUE).await;
    let sender = ours.clone();
    let sent = std::thread::spawn(move || {
        for batch in 0..100 {
            sender.try_send((0..50).map(|i| frame(batch * 50 + i, &[7; 100])).collect()).unwrap();
        }
    });
    let got = requests.frames(5000).await;
    sent.join().unwrap();
    assert!(got.iter().map(|frame| frame.id).eq(0..5000));
    assert!(got.iter().all(|got| *got == frame(got.id, &[7; 100])));
    for frame in got {
        theirs.try_send_one(frame).unwrap();
    }
    assert!(answers.frames(5000).await.iter().map(|frame| frame.id).eq(0..5000));
    assert_eq!((ours.queued_bytes(), theirs.queued_bytes()), (0, 0));
}

#[tokio::test]
async fn bodies_of_a_mebibyte_arrive_whole() {
    let pair = pair(&limits()).await;
    let [(ours, _), (_, requests)] = pair.lane(QUEUE).await;
    let body = |id: u64| (0..1 << 20).map(|i| (i as u64 * 31 + id) as u8).collect::<Vec<_>>();
    for id in 0..8 {
        ours.try_send(vec![frame(id, &body(id)), frame(100 + id, b"small")]).unwrap();
    }
    let got = requests.frames(16).await;
    for id in 0..8 {
        assert_eq!(got[2 * id as usize], frame(id, &body(id)));
        assert_eq!(got[2 * id as usize + 1], frame(100 + id, b"small"));
    }
}

#[tokio::test]
async fn a_full_lane_refuses_and_recovers_once_the_peer_reads() {
    let limits = Limits { lane_window: 16 << 10, send_window: 16 << 10, ..limits() };
    let pair = pair(&limits).await;
    let queue = QueueLimits { max_bytes: 64 << 10, max_frames: 1000 };
    let lane = soon(pair.dialed.open_lane(frame(0, b"opening"), 0, queue, Recorder::default().sink())).await.unwrap();
    // the peer has not accepted the lane: the windows fill, then the queue
    let mut sent = 0;
    while lane.try_send_one(frame(sent, &[1; 4000])) != Err(SendError::Full) {
        sent += 1;
        assert!(sent < 100, "the lane never fills");
        tokio::task::yield_now().await;
    }
    assert!(lane.queued_bytes() <= queue.max_bytes);
    assert_eq!(lane.try_send(vec![frame(0, &[1; 4000]), frame(1, b"")]), Err(SendError::Full));

    let requests = Recorder::default();
    let _theirs = soon(pair.accepted.accept_lane()).await.unwrap().start(queue, requests.sink());
    assert!(requests.frames(sent as usize).await.iter().map(|frame| frame.id).eq(0..sent));
    assert_eq!(lane.try_send_one(frame(sent, &[1; 4000])), Ok(()));
    requests.frames(sent as usize + 1).await;
}

#[tokio::test]
async fn a_frame_that_the_peer_would_refuse_is_not_sent() {
    let frame_limits = FrameLimits { max_header: 100, max_frame: 10_000 };
    let pair = pair(&Limits { frame: frame_limits, ..limits() }).await;
    let [(ours, _), (_, requests)] = pair.lane(QUEUE).await;
    let long = frame(1, &[0; 10_000]);
    let error = FrameError::TooLong { len: long.encoded_len(), max: 10_000 };
    assert_eq!(ours.try_send_one(long.clone()), Err(SendError::TooLong(error)));
    assert_eq!(ours.try_send(vec![frame(1, b""), long.clone()]), Err(SendError::TooLong(error)));
    let opened = soon(pair.dialed.open_lane(long, 0, QUEUE, Recorder::default().sink())).await;
    assert!(matches!(opened, Err(NetError::Frame(_))));
    ours.try_send_one(frame(2, b"")).unwrap();
    assert_eq!(requests.frames(1).await, [frame(2, b"")]);
}

#[tokio::test]
async fn a_closed_lane_delivers_what_was_queued_and_ends_at_both_ends() {
    let pair = pair(&limits()).await;
    let [(ours, answers), (theirs, requests)] = pair.lane(QUEUE).await;
    ours.try_send((0..1000).map(|id| frame(id, &[3; 3000])).collect()).unwrap();
    ours.close();
    assert_eq!(ours.try_send_one(frame(0, b"")), Err(SendError::Closed));
    assert!(ours.is_closed());
    let (got, reason) = requests.closed().await;
    assert!(got.iter().map(|frame| frame.id).eq(0..1000));
    assert_eq!(reason, LaneClosed::Peer);
    assert_eq!(answers.closed().await, (vec![], LaneClosed::Local));
    assert!(theirs.is_closed());
    assert!(!pair.dialed.is_closed());
}

#[tokio::test]
async fn a_closed_lane_does_not_wait_for_ever() {
    let pair = pair(&Limits { linger: Duration::from_millis(50), ..limits() }).await;
    let answers = Recorder::default();
    let lane = soon(pair.dialed.open_lane(frame(0, b"opening"), 0, QUEUE, answers.sink())).await.unwrap();
    // a peer that never finishes its direction
    let (_send, _recv) = soon(pair.accepted.connection().accept_bi()).await.unwrap();
    lane.close();
    assert_eq!(answers.closed().await, (vec![], LaneClosed::Local));
}

#[tokio::test]
async fn the_end_of_a_link_ends_its_lanes() {
    let pair = pair(&limits()).await;
    let [(ours, answers), (_, requests)] = pair.lane(QUEUE).await;
    pair.accepted.close(9, "leaving");
    let reason = CloseReason::Peer { code: 9, reason: "leaving".to_owned() };
    assert_eq!(answers.closed().await.1, LaneClosed::Link(reason));
    assert_eq!(requests.closed().await.1, LaneClosed::Link(CloseReason::Local));
    assert_eq!(ours.try_send_one(frame(0, b"")), Err(SendError::Closed));
    let error = soon(pair.dialed.accept_lane()).await.unwrap_err();
    assert!(matches!(error, NetError::Link { .. }));
    for endpoint in [&pair.endpoints.0, &pair.endpoints.1] {
        endpoint.close(0, "");
        soon(endpoint.wait_closed()).await;
    }
}

/// Opens a lane by hand and writes `bytes` after its opening frame; returns what the other end made of them.
async fn write_raw(pair: &Pair, bytes: &[u8]) -> (Vec<RawFrame>, LaneClosed) {
    let (mut send, mut recv) = soon(pair.dialed.connection().open_bi()).await.unwrap();
    let opening = [&frame(0, b"").encode_prefix()[..], b"header"].concat();
    soon(send.write_all(&[&opening, bytes].concat())).await.unwrap();
    let _ = send.finish();
    let requests = Recorder::default();
    let incoming = soon(pair.accepted.accept_lane()).await.unwrap();
    let lane = incoming.start(QUEUE, requests.sink());
    let closed = requests.closed().await;
    assert!(lane.is_closed());
    if matches!(closed.1, LaneClosed::BadFrame(_)) {
        let reset = soon(recv.read_chunk(1, true)).await.unwrap_err();
        assert!(matches!(reset, quinn::ReadError::Reset(_)), "{reset:?}");
    }
    closed
}

#[tokio::test]
async fn bytes_that_are_not_frames_close_only_their_lane() {
    let pair = pair(&limits()).await;
    let [(ours, _), (_, requests)] = pair.lane(QUEUE).await;
    let good = [&frame(1, b"body").encode_prefix()[..], b"headerbody"].concat();

    let (frames, reason) = write_raw(&pair, &good).await;
    assert_eq!((frames, reason), (vec![frame(1, b"body")], LaneClosed::Peer));
    let (frames, reason) = write_raw(&pair, &[&good[..], &good[..good.len() - 1]].concat()).await;
    assert_eq!(frames, [frame(1, b"body")], "whole frames before the fault are delivered");
    assert_eq!(reason, LaneClosed::BadFrame(FrameError::Truncated { have: good.len() - 1 }));
    let (_, reason) = write_raw(&pair, &[0xff; 100]).await;
    assert!(matches!(reason, LaneClosed::BadFrame(FrameError::TooLong { .. })), "{reason}");
    assert_eq!(pair.endpoints.1.counters().bad_frames(), 2);

    ours.try_send_one(frame(5, b"still here")).unwrap();
    assert_eq!(requests.frames(1).await, [frame(5, b"still here")]);
}

#[tokio::test]
async fn random_bytes_close_only_their_lane() {
    let pair = pair(&limits()).await;
    let [(ours, _), (_, requests)] = pair.lane(QUEUE).await;
    let byte = proptest::prop_oneof![3 => proptest::strategy::Just(0u8), 1 => proptest::arbitrary::any::<u8>()];
    let bytes = proptest::collection::vec(byte, 1..300);
    let mut runner = TestRunner::deterministic();
    for _ in 0..100 {
        write_raw(&pair, &bytes.new_tree(&mut runner).unwrap().current()).await;
    }
    assert!(pair.endpoints.1.counters().bad_frames() > 90);
    ours.try_send_one(frame(5, b"still here")).unwrap();
    requests.frames(1).await;
}

#[tokio::test]
async fn a_sender_is_told_that_its_lane_was_broken_off() {
    let pair = pair(&limits()).await;
    let answers = Recorder::default();
    let lane = soon(pair.dialed.open_lane(frame(0, b"opening"), 0, QUEUE, answers.sink())).await.unwrap();
    let (mut send, mut recv) = soon(pair.accepted.connection().accept_bi()).await.unwrap();
    send.reset(9u32.into()).unwrap();
    recv.stop(9u32.into()).unwrap();
    assert_eq!(answers.closed().await.1, LaneClosed::Aborted { code: 9 });
    assert!(lane.is_closed());
}

#[tokio::test]
async fn lanes_without_a_good_opening_are_skipped() {
    let pair = pair(&Limits { opening_timeout: Duration::from_millis(200), ..limits() }).await;
    let mut stalled = Vec::new();
    for opening in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x20half"] {
        let (mut send, recv) = soon(pair.dialed.connection().open_bi()).await.unwrap();
        send.write_all(opening).await.unwrap();
        stalled.push((send, recv));
    }
    let (mut send, _) = soon(pair.dialed.connection().open_bi()).await.unwrap();
    send.write_all(b"\0\0").await.unwrap();
    send.finish().unwrap();
    let [_, (_, requests)] = pair.lane(QUEUE).await;
    assert_eq!(pair.endpoints.1.counters().bad_openings(), 3);
    drop(requests);
}

#[tokio::test]
async fn a_peer_opens_no_more_lanes_than_allowed() {
    let pair = pair(&Limits { max_lanes: 3, opening_timeout: Duration::from_millis(100), ..limits() }).await;
    let mut lanes = Vec::new();
    let refused = loop {
        assert!(lanes.len() < 4, "no limit");
        match soon(pair.dialed.open_lane(frame(0, b"opening"), 0, QUEUE, Recorder::default().sink())).await {
            Ok(lane) => lanes.push(lane),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, NetError::Timeout { .. }), "{refused}");
    assert_eq!(lanes.len(), 3);
}
