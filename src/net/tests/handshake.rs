//! Who may talk to whom, and what the refused are told.

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Both ends fail, for `reason`, each saying who refused whom.
async fn check_refused(by_dialer: bool, from: &Tls, to: &Tls, expect: Expect, reason: &[&str]) {
    let (from, to) = (bind(from, &limits()), bind(to, &limits()));
    let (dialed, accepted) = meet(&from, &to, expect).await;
    let (dialed, accepted) = (dialed.unwrap_err(), accepted.unwrap_err());
    let sides = if by_dialer {
        [(&dialed, "refused: "), (&accepted, "it refused us: ")]
    } else {
        [(&dialed, "it refused us: "), (&accepted, "refused: ")]
    };
    for (error, side) in sides {
        assert!(matches!(error, NetError::Tls { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with("127.0.0.1:") && text.contains(side), "{text:?} does not say {side:?}");
        for part in reason {
            assert!(text.contains(part), "{text:?} does not say {part:?}");
        }
    }
    assert_eq!(to.counters().failed_handshakes(), 1);
    assert_eq!((from.counters().links(), to.counters().links()), (0, 0));
}

fn expect(role_alpn: Role, name: Option<&str>) -> Expect {
    Expect { role_alpn, name: name.map(str::to_owned) }
}

#[tokio::test]
async fn nodes_and_clients_meet_nodes_by_name_or_unseen() {
    let authority = Authority::new("test");
    let node = bind(&authority.tls("n1.node.test"), &limits());
    let peer = bind(&authority.tls("n2.node.test"), &limits());
    let client = Endpoint::client(&authority.tls("app.client.test"), &limits()).unwrap();
    for (from, expect, whom) in [
        (&peer, expect(Role::Node, None), "n2.node.test"),
        (&peer, expect(Role::Node, Some("n1")), "n2.node.test"),
        (&client, expect(Role::Client, None), "app.client.test"),
        (&client, expect(Role::Client, Some("n1")), "app.client.test"),
    ] {
        let (dialed, accepted) = meet(from, &node, expect).await;
        let (dialed, accepted) = (dialed.unwrap(), accepted.unwrap());
        assert_eq!(dialed.identity().to_string(), "n1.node.test");
        assert_eq!(dialed.remote(), node.local_addr().unwrap());
        assert_eq!(accepted.identity().to_string(), whom);
        assert_eq!(accepted.remote().ip(), Ipv4Addr::LOCALHOST);
        assert!(dialed.rtt() < DEADLINE);

        dialed.close(7, "enough");
        let reason = CloseReason::Peer { code: 7, reason: "enough".to_owned() };
        assert_eq!(soon(accepted.closed()).await, reason);
        assert_eq!(soon(dialed.closed()).await, CloseReason::Local);
    }
    assert_eq!(node.counters().links(), 4);
}

#[tokio::test]
async fn another_authority_of_the_same_name_is_refused() {
    let (ours, others) = (Authority::new("test"), Authority::new("test"));
    let (from, to) = (ours.tls("n1.node.test"), others.tls("n2.node.test"));
    let reason = ["n2.node.test is signed by another authority", "CN=test", "`dynkv certs init`"];
    check_refused(true, &from, &to, SEED, &reason).await;
}

#[tokio::test]
async fn a_dialer_of_another_authority_is_refused_too() {
    let (ours, others) = (Authority::new("test"), Authority::new("other"));
    let trusting = {
        // trusts the node, but is itself of the other authority
        let identity = others.tls("n1.node.test").identity().clone();
        let dir = others.dir.path();
        std::fs::copy(ours.dir.path().join("ca.pem"), dir.join("ca.pem")).unwrap();
        load(dir, &identity)
    };
    let to = ours.tls("n2.node.test");
    check_refused(false, &trusting, &to, SEED, &["n1.node.test is signed by another authority", "CN=other"]).await;
}

#[tokio::test]
async fn certificates_out_of_their_time_are_refused() {
    let authority = Authority::new("test");
    let now = SystemTime::now();
    let good = authority.tls("good.node.test");
    let expired = authority.issue("old.node.test", Validity::days(now - DAY * 30, 20));
    let reason = ["old.node.test has expired at 20", "issue a new one with `dynkv certs node`"];
    check_refused(true, &good, &expired, SEED, &reason).await;
    check_refused(false, &expired, &good, SEED, &reason).await;

    let early = authority.issue("early.node.test", Validity::days(now + DAY * 3, 20));
    let reason = ["early.node.test is not yet valid, only from 20", "set the clocks"];
    check_refused(true, &good, &early, SEED, &reason).await;
    check_refused(false, &early, &good, SEED, &reason).await;
}

#[tokio::test]
async fn a_role_has_its_own_protocol() {
    let authority = Authority::new("test");
    let (node, client) = (authority.tls("n1.node.test"), authority.tls("app.client.test"));
    let reason = ["app.client.test has the wrong role, a node's is needed", "NAME.node.pem"];
    check_refused(false, &client, &node, SEED, &reason).await;
    let reason = ["n1.node.test has the wrong role, a client's is needed", "NAME.client.pem"];
    check_refused(false, &node, &node, expect(Role::Client, None), &reason).await;
    // a client that listens is no node
    let reason = ["app.client.test has the wrong role, a node's is needed"];
    check_refused(true, &node, &client, SEED, &reason).await;
}

#[tokio::test]
async fn another_cluster_under_the_same_authority_is_refused() {
    let authority = Authority::new("test");
    let (ours, theirs) = (authority.tls("n1.node.test"), authority.tls("n2.node.prod"));
    check_refused(true, &ours, &theirs, SEED, &["n2.node.prod is of another cluster than \"test\""]).await;
    let named = expect(Role::Node, Some("n2"));
    check_refused(true, &ours, &theirs, named, &["n2.node.prod is of another cluster than \"test\""]).await;
}

#[tokio::test]
async fn another_node_at_the_address_is_refused() {
    let authority = Authority::new("test");
    let (from, to) = (authority.tls("n1.node.test"), authority.tls("n2.node.test"));
    let reason = ["n2.node.test was shown at the address of node \"n3\"", "advertised"];
    check_refused(true, &from, &to, expect(Role::Node, Some("n3")), &reason).await;
}

#[tokio::test]
async fn a_reload_is_for_the_connections_to_come() {
    let authority = Authority::new("test");
    let from = bind(&authority.tls("n1.node.test"), &limits());
    let to = bind(&authority.tls("n2.node.test"), &limits());
    let (before, _kept) = meet(&from, &to, SEED).await;
    let before = before.unwrap();
    to.reload_tls(&authority.tls("n3.node.test"));
    from.reload_tls(&authority.tls("n4.node.test"));
    let (dialed, accepted) = meet(&from, &to, SEED).await;
    assert_eq!(dialed.unwrap().identity().name, "n3");
    assert_eq!(accepted.unwrap().identity().name, "n4");
    assert_eq!(before.identity().name, "n2");
    assert!(!before.is_closed());
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let authority = Authority::new("test");
    let tls = authority.tls("n1.node.test");
    let first = bind(&tls, &limits());
    let addr = first.local_addr().unwrap();
    let text = Endpoint::bind(addr, Some(&tls), &limits(), None).unwrap_err().to_string();
    assert!(text.contains(&addr.to_string()) && text.contains("another process has this port"), "{text}");
}

#[tokio::test]
async fn nobody_at_home_without_certificates_or_after_the_close() {
    let authority = Authority::new("test");
    let tls = authority.tls("n1.node.test");
    let silent = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    let addr = silent.local_addr().unwrap();
    let endpoint = bind(&tls, &Limits { dial_timeout: Duration::from_millis(50), ..Limits::default() });
    assert!(matches!(soon(endpoint.dial(addr, SEED)).await, Err(NetError::Timeout { .. })));
    let bare = Endpoint::bind(LOOPBACK, None, &limits(), None).unwrap();
    assert!(matches!(soon(bare.dial(addr, SEED)).await, Err(NetError::NoTls)));
    endpoint.close(0, "done");
    assert!(matches!(soon(endpoint.dial(addr, SEED)).await, Err(NetError::Closed)));
    assert!(soon(endpoint.accept()).await.is_none());
    soon(endpoint.wait_closed()).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_before_their_handshake() {
    let authority = Authority::new("test");
    let to = bind(&authority.tls("n1.node.test"), &Limits { max_connections: 1, ..limits() });
    let from = bind(&authority.tls("n2.node.test"), &limits());
    let (_first, _kept) = meet(&from, &to, SEED).await;
    let (addr, listening) = (to.local_addr().unwrap(), to.clone());
    let second = tokio::select! {
        dialed = soon(from.dial(addr, SEED)) => dialed,
        _ = listening.accept() => panic!("a second connection was let in"),
    };
    assert!(matches!(second, Err(NetError::Link { .. })), "{second:?}");
    assert_eq!(to.counters().refused(), 1);
}
