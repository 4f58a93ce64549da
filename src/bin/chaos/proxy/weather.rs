//! What becomes of a datagram: pure.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How one direction between two nodes behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weather {
    /// How long a datagram takes at least, and at most; drawn evenly, so that datagrams overtake one another.
    pub delay: (Duration, Duration),
    /// How likely one is lost, 0 to 1.
    pub loss: f64,
    /// How likely one comes twice, 0 to 1.
    pub duplication: f64,
}

/// What becomes of one datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The way is cut.
    Cut,
    /// It gets lost.
    Lost,
    /// Copies arrive after these times.
    Arrives(Vec<Duration>),
}

/// All directions between `nodes` nodes, by sender and receiver.
#[derive(Debug)]
pub struct Climate {
    nodes: usize,
    weather: Vec<Weather>,
    /// How many faults cut a direction: it is open at 0.
    cuts: Vec<u32>,
    rng: StdRng,
}

impl Climate {
    /// Fair weather everywhere; the same seed and datagrams draw the same fates.
    pub fn new(nodes: usize, seed: u64) -> Climate {
        let ways = nodes * nodes;
        let weather = vec![Weather::default(); ways];
        Climate { nodes, weather, cuts: vec![0; ways], rng: StdRng::seed_from_u64(seed) }
    }

    fn way(&self, from: usize, to: usize) -> usize {
        from * self.nodes + to
    }

    /// Cuts one direction, once more.
    pub fn cut(&mut self, from: usize, to: usize) {
        let way = self.way(from, to);
        self.cuts[way] += 1;
    }

    /// Takes one cut of a direction back.
    pub fn mend(&mut self, from: usize, to: usize) {
        let way = self.way(from, to);
        self.cuts[way] = self.cuts[way].saturating_sub(1);
    }

    /// Sets the weather of one direction.
    pub fn set(&mut self, from: usize, to: usize, weather: Weather) {
        let way = self.way(from, to);
        self.weather[way] = weather;
    }

    /// Draws the fate of a datagram.
    pub fn fate(&mut self, from: usize, to: usize) -> Fate {
        let way = self.way(from, to);
        let Weather { loss, duplication, .. } = self.weather[way];
        if self.cuts[way] > 0 {
            return Fate::Cut;
        }
        if loss > 0.0 && self.rng.random_bool(loss) {
            return Fate::Lost;
        }
        let twice = duplication > 0.0 && self.rng.random_bool(duplication);
        Fate::Arrives((0..1 + u8::from(twice)).map(|_| self.draw_delay(way)).collect())
    }

    fn draw_delay(&mut self, way: usize) -> Duration {
        let (least, most) = self.weather[way].delay;
        if most > least { self.rng.random_range(least..=most) } else { least }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn fair_weather_changes_nothing() {
        let mut climate = Climate::new(3, 1);
        for (from, to) in [(0, 1), (2, 0)] {
            assert_eq!(climate.fate(from, to), Fate::Arrives(vec![Duration::ZERO]));
        }
    }

    #[test]
    fn a_cut_is_of_one_direction_and_lasts_until_all_who_cut_have_mended() {
        let mut climate = Climate::new(3, 1);
        climate.cut(0, 1);
        climate.cut(0, 1);
        assert_eq!(climate.fate(0, 1), Fate::Cut);
        assert_eq!(climate.fate(1, 0), Fate::Arrives(vec![Duration::ZERO]));
        climate.mend(0, 1);
        assert_eq!(climate.fate(0, 1), Fate::Cut);
        climate.mend(0, 1);
        climate.mend(0, 1);
        assert_eq!(climate.fate(0, 1), Fate::Arrives(vec![Duration::ZERO]));
    }

    #[test]
    fn chances_and_delays_are_those_of_the_direction() {
        let mut climate = Climate::new(2, 7);
        climate.set(1, 0, Weather { delay: (20 * MS, 40 * MS), loss: 0.25, duplication: 0.5 });
        let (mut lost, mut doubled, mut copies) = (0, 0, 0);
        for _ in 0..4000 {
            match climate.fate(1, 0) {
                Fate::Lost => lost += 1,
                Fate::Arrives(delays) => {
                    doubled += u32::from(delays.len() == 2);
                    copies += delays.len();
                    assert!(delays.iter().all(|delay| (20 * MS..=40 * MS).contains(delay)), "{delays:?}");
                }
                Fate::Cut => panic!("nothing is cut"),
            }
        }
        assert!((900..1100).contains(&lost), "{lost}");
        assert!((1400..1600).contains(&doubled), "{doubled}");
        assert_eq!(copies as u32, 4000 - lost + doubled);
        assert_eq!(climate.fate(0, 1), Fate::Arrives(vec![Duration::ZERO]));
    }

    #[test]
    fn equal_seeds_draw_equal_fates() {
        let fates = |seed| {
            let mut climate = Climate::new(2, seed);
            climate.set(0, 1, Weather { delay: (MS, 9 * MS), loss: 0.3, duplication: 0.3 });
            (0..50).map(|_| climate.fate(0, 1)).collect::<Vec<_>>()
        };
        assert_eq!(fates(3), fates(3));
        assert_ne!(fates(3), fates(4));
    }
}
