//! What waits for an answer, found by request id.

/// Values under ids that are never used twice, each found in constant time.
///
/// An id is a place and the count of insertions before it, so that the id of a value taken long ago finds nothing.
#[derive(Debug)]
pub(super) struct Slots<T> {
    places: Vec<Option<(u64, T)>>,
    free: Vec<u32>,
    inserted: u32,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Slots<T> {
        Slots { places: Vec::new(), free: Vec::new(), inserted: 0 }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Keeps a value; returns its id, which is not 0.
    pub(super) fn insert(&mut self, value: T) -> u64 {
        // 0 is what an opening frame is called
        self.inserted = self.inserted.wrapping_add(1).max(1);
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            u32::try_from(self.places.len() - 1).expect("the callers' permits bound the values held")
        });
        let id = u64::from(self.inserted) << 32 | u64::from(place);
        self.places[place as usize] = Some((id, value));
        id
    }

    /// Takes the value with this id, if it is still there.
    pub(super) fn take(&mut self, id: u64) -> Option<T> {
        let place = id as u32;
        let held = self.places.get_mut(place as usize)?;
        let (_, value) = held.take_if(|(known, _)| *known == id)?;
        self.free.push(place);
        Some(value)
    }

    /// Takes everything.
    pub(super) fn drain(&mut self) -> Vec<T> {
        self.free.clear();
        self.places.drain(..).flatten().map(|(_, value)| value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_taken_once_and_its_place_is_used_again() {
        let mut slots = Slots::new();
        let (a, b) = (slots.insert('a'), slots.insert('b'));
        assert_eq!(slots.len(), 2);
        assert_eq!(slots.take(a), Some('a'));
        assert_eq!(slots.take(a), None);
        let c = slots.insert('c');
        assert_ne!(a, c);
        assert_eq!(slots.places.len(), 2);
        assert_eq!(slots.take(a), None, "an old id does not find the place's new value");
        assert_eq!((slots.take(c), slots.take(b)), (Some('c'), Some('b')));
        assert_eq!((slots.len(), slots.take(99)), (0, None));
    }

    #[test]
    fn draining_empties_it() {
        let mut slots = Slots::new();
        let a = slots.insert(1);
        slots.insert(2);
        slots.take(a);
        slots.insert(3);
        let mut all = slots.drain();
        all.sort_unstable();
        assert_eq!((all, slots.len()), (vec![2, 3], 0));
    }
}
