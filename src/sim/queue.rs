//! What is to happen, in the order of time; what falls on the same moment comes in an order that the seed decides.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::types::Time;

/// See the module.
#[derive(Debug)]
pub(super) struct EventQueue<T> {
    /// Time, tie-break, number of the event, its place.
    order: BinaryHeap<Reverse<(Time, u32, u64, u32)>>,
    places: Vec<Option<T>>,
    free: Vec<u32>,
    next: u64,
}

impl<T> Default for EventQueue<T> {
    fn default() -> EventQueue<T> {
        EventQueue { order: BinaryHeap::new(), places: Vec::new(), free: Vec::new(), next: 0 }
    }
}

impl<T> EventQueue<T> {
    /// `event` is to happen at `at`; of those at one moment, in the order of `tie` and then of the calls.
    pub(super) fn push(&mut self, at: Time, tie: u32, event: T) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            u32::try_from(self.places.len() - 1).expect("no run has four billion events waiting")
        });
        self.places[place as usize] = Some(event);
        self.next += 1;
        self.order.push(Reverse((at, tie, self.next, place)));
    }

    /// The next event, if it is due by `end`.
    pub(super) fn pop(&mut self, end: Time) -> Option<(Time, T)> {
        let Reverse((at, _, _, place)) = *self.order.peek()?;
        if at > end {
            return None;
        }
        self.order.pop();
        self.free.push(place);
        Some((at, self.places[place as usize].take().expect("an ordered event is in its place")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_then_tie_then_order_of_the_calls() {
        let mut queue = EventQueue::default();
        for (at, tie, event) in [(20, 0, 'd'), (10, 7, 'b'), (10, 7, 'c'), (10, 1, 'a')] {
            queue.push(Time::from_micros(at), tie, event);
        }
        let due = |queue: &mut EventQueue<char>, end| {
            std::iter::from_fn(|| queue.pop(Time::from_micros(end)).map(|(_, event)| event)).collect::<String>()
        };
        assert_eq!(due(&mut queue, 19), "abc");
        queue.push(Time::from_micros(15), 0, 'x');
        assert_eq!(due(&mut queue, 20), "xd");
    }
}
