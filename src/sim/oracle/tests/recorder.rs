//! A history that cannot have happened is a fault of its recorder, and panics.

use super::*;

/// One test that panics with a message.
macro_rules! cannot_happen {
    ($($name:ident: $message:literal, $story:expr;)*) => {$(
        #[test]
        #[should_panic(expected = $message)]
        fn $name() {
            let mut story = Story::siblings();
            let tell: fn(&mut Story) = $story;
            tell(&mut story);
            story.holds();
        }
    )*};
}

cannot_happen! {
    a_basis_that_never_was: "carries the context of op 99, which gave none by then", |story| {
        story.begin(1, Some(OpId(99)));
    };
    a_basis_without_an_acknowledgement: "carries the context of op 2, which gave none", |story| {
        let unknown = story.begin(1, None);
        story.begin(2, Some(unknown));
    };
    a_basis_without_an_answer: "carries the context of op 2, which gave none", |story| {
        let (op, key) = (story.op(), story.key);
        story.event(Event::Read { op, key, replicas: 0 }).begin(1, Some(op));
    };
    a_basis_of_another_key: "op 3 on key 1 carries the context of op 2 on key 0", |story| {
        let basis = story.put(1, 11, None);
        story.key = KeyId(1);
        story.begin(2, Some(basis));
    };
    a_retry_of_another_key: "with another key, body or basis", |story| {
        story.begin(1, None);
        story.key = KeyId(1);
        story.begin(1, None);
    };
    a_retry_of_another_body: "with another key, body or basis", |story| {
        story.begin(1, None);
        let (op, key) = (story.op(), story.key);
        story.event(Event::Write { op, key, write: WriteId(1), body: None, basis: None });
    };
    a_retry_of_another_basis: "with another key, body or basis", |story| {
        let basis = story.read(&[]);
        story.begin(1, None);
        story.begin(1, Some(basis));
    };
    a_key_without_an_end: "key 0 has acknowledged writes and no final event", |story| {
        story.put(1, 11, None);
    };
    a_key_that_ends_twice: "key 0 ends twice", |story| {
        story.end(&[]).end(&[]);
    };
    a_write_after_the_end: "writes key 0 after the key's final event", |story| {
        story.end(&[]).begin(1, None);
    };
    an_acknowledgement_after_the_end: "writes key 0 after the key's final event", |story| {
        let late = story.begin(1, None);
        story.end(&[]).ack(late, 11, SYNCED);
    };
    a_key_that_is_not_listed: "the history has no key 7", |story| {
        story.key = KeyId(7);
        story.begin(1, None);
    };
    an_operation_that_begins_twice: "op 1 begins twice", |story| {
        story.event(Event::Read { op: OpId(1), key: KeyId(0), replicas: 0 });
    };
    a_read_that_is_answered_twice: "op 1 was answered and is no read that waits", |story| {
        story.event(Event::Answered { op: OpId(1), siblings: Vec::new(), stood_in: 0 });
    };
    a_write_that_is_answered_like_a_read: "op 2 was answered and is no read that began", |story| {
        let op = story.begin(1, None);
        story.event(Event::Answered { op, siblings: Vec::new(), stood_in: 0 });
    };
    a_write_that_ends_twice: "op 2 ended and is no attempt at a write that runs", |story| {
        let op = story.begin(1, None);
        story.refuse(op).refuse(op);
    };
    a_fault_that_never_began: "a fault ends after it began", |story| {
        story.event(Event::FaultEnded);
    };
    time_that_runs_back: "event 2 at 0.000 s comes after one at 0.001 s", |story| {
        story.history.events.push((Time::ZERO, Event::FaultBegan));
    };
}
