//! How unlikely a silence is (Hayashibara, Défago, Yared, Katayama, "The phi Accrual Failure Detector", SRDS 2004).
//!
//! Intervals between arrivals are taken as normally distributed, with the mean and deviation of the last so many:
//! `phi(t) = -log10(P(an interval is longer than t))`. Phi 1 is wrong once in 10 intervals if they are distributed so, phi 8
//! once in 10^8.

use std::collections::VecDeque;
use std::time::Duration;

use crate::types::Time;

/// What is assumed of arrivals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expectation {
    /// Intervals that are remembered.
    pub window: usize,
    /// The deviation is taken as no less: arrivals like clockwork must not make the first late one a sign of death.
    pub min_deviation: Duration,
    /// Added to the mean: a silence that is nobody's fault, such as a pause of a process or a lost message.
    pub pause: Duration,
    /// An interval that is as good as the next before any has been seen.
    pub estimate: Duration,
    /// A longer interval is remembered as this: one outage must not blind the detector to the next.
    pub longest: Duration,
}

/// When somebody's signs of life came. Mean and deviation are kept as sums of whole microseconds: exact, whatever has come
/// and gone.
#[derive(Clone, Debug)]
pub struct Arrivals {
    expectation: Expectation,
    /// In microseconds.
    intervals: VecDeque<u32>,
    sum: u64,
    squares: u128,
    /// The last sign of life of any kind.
    last: Time,
    /// The last heartbeat, unless the interval since it is to be forgotten.
    beaten: Option<Time>,
}

impl Arrivals {
    /// Nothing has come yet, and the wait begins. The window starts with half and twice the estimate.
    pub fn new(now: Time, expectation: Expectation) -> Arrivals {
        let mut arrivals =
            Arrivals { expectation, intervals: VecDeque::new(), sum: 0, squares: 0, last: now, beaten: None };
        arrivals.remember(expectation.estimate / 2);
        arrivals.remember(expectation.estimate * 2);
        arrivals
    }

    /// A heartbeat has come.
    pub fn arrive(&mut self, now: Time) {
        if let Some(beaten) = self.beaten {
            self.remember(now.since(beaten).min(self.expectation.longest));
        }
        self.beaten = self.beaten.max(Some(now));
        self.last = self.last.max(now);
    }

    /// Another sign of life than a heartbeat: the wait begins anew, and the interval between heartbeats goes on. Otherwise
    /// whoever is asked in good time would seem more regular than it is, and be asked ever sooner.
    pub fn attest(&mut self, now: Time) {
        self.last = self.last.max(now);
    }

    /// The wait begins anew, and the interval that this cuts says nothing.
    pub fn rebase(&mut self, now: Time) {
        self.last = self.last.max(now);
        self.beaten = None;
    }

    fn remember(&mut self, interval: Duration) {
        let micros = u32::try_from(interval.as_micros()).unwrap_or(u32::MAX);
        self.intervals.push_back(micros);
        self.sum += u64::from(micros);
        self.squares += u128::from(micros) * u128::from(micros);
        while self.intervals.len() > self.expectation.window.max(1) {
            let oldest = self.intervals.pop_front().expect("it holds more than one");
            self.sum -= u64::from(oldest);
            self.squares -= u128::from(oldest) * u128::from(oldest);
        }
    }

    /// When the wait began.
    pub fn last(&self) -> Time {
        self.last
    }

    /// The mean of the intervals, in microseconds.
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.intervals.len() as f64
    }

    /// Their standard deviation, in microseconds: as measured, or the least that is assumed.
    pub fn deviation(&self) -> f64 {
        let count = self.intervals.len() as u128;
        let sum = u128::from(self.sum);
        // never negative: the mean of squares is at least the square of the mean, and the sums are exact
        let variance = (count * self.squares - sum * sum) as f64 / (count * count) as f64;
        variance.sqrt().max(self.expectation.min_deviation.as_micros().max(1) as f64)
    }

    /// What is expected, with the acceptable pause, in microseconds.
    fn expected(&self) -> f64 {
        self.mean() + self.expectation.pause.as_micros() as f64
    }

    /// How unlikely the silence since the last arrival is.
    pub fn phi(&self, now: Time) -> f64 {
        let elapsed = now.since(self.last).as_micros() as f64;
        phi_of((elapsed - self.expected()) / self.deviation())
    }

    /// The moment from which on the silence is `deviations` longer than expected; see [`deviations_of`].
    pub fn reaches(&self, deviations: f64) -> Time {
        let micros = (self.expected() + deviations * self.deviation()).max(0.0).ceil();
        // a float beyond the range becomes the largest number: never
        self.last + Duration::from_micros(micros as u64)
    }
}

/// Phi of an interval that is so many deviations longer than expected: `-log10` of the normal distribution's upper tail.
/// Never negative, never NaN for a number, never falling; finite up to 10^150 deviations.
pub fn phi_of(deviations: f64) -> f64 {
    let x = deviations * std::f64::consts::FRAC_1_SQRT_2;
    // the tail is erfc(x) / 2
    let ln_tail = if x >= 0.0 {
        ln_erfc(x) - std::f64::consts::LN_2
    } else {
        // erfc(x) = 2 - erfc(-x)
        (-0.5 * ln_erfc(-x).exp()).ln_1p()
    };
    (-ln_tail * std::f64::consts::LOG10_E).max(0.0)
}

/// `ln(erfc(x))` for `x >= 0`, with a relative error of erfc under 1.2e-7 everywhere: the Chebyshev fit of Press et al.,
/// "Numerical Recipes", section 6.2. Its logarithm is what it gives by itself, so nothing underflows far out.
fn ln_erfc(x: f64) -> f64 {
    /// Of the powers of t, from the constant on.
    const FIT: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let t = 1.0 / (1.0 + 0.5 * x);
    let fit = FIT.iter().rev().fold(0.0, |sum, coefficient| sum * t + coefficient);
    // at zero the fit is 3e-8 too large, and both sides of it must meet
    (t.ln() - x * x + fit).min(0.0)
}

/// How many deviations beyond the expected a silence has to last for this phi. The inverse of [`phi_of`], by bisection.
pub fn deviations_of(phi: f64) -> f64 {
    let (mut low, mut high) = (-40.0_f64, 1.0_f64);
    while phi_of(high) < phi {
        high *= 2.0;
    }
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if phi_of(middle) < phi {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn expectation() -> Expectation {
        Expectation {
            window: 1000,
            min_deviation: MS * 50,
            pause: Duration::ZERO,
            estimate: MS * 500,
            longest: MS * 5000,
        }
    }

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    fn after(intervals: &[u64], expectation: Expectation) -> (Arrivals, Time) {
        let mut now = at(1000);
        let mut arrivals = Arrivals::new(now, expectation);
        arrivals.arrive(now);
        for ms in intervals {
            now = now + MS * u32::try_from(*ms).unwrap();
            arrivals.arrive(now);
        }
        (arrivals, now)
    }

    /// Values of the upper tail of the normal distribution, from tables (erfc to 16 digits, asymptotic far out).
    #[test]
    fn phi_is_the_logarithm_of_the_normal_tail() {
        let known = [
            (-5.0, 1.244_912_1e-7),
            (-1.0, 0.075_026_013),
            (0.0, std::f64::consts::LOG10_2),
            (1.0, 0.799_545_541),
            (2.0, 1.643_016_080),
            (3.0, 2.869_699_036),
            (3.719_016_485, 4.0),
            (5.612_001_244, 8.0),
            (10.0, 23.118_053_405),
            (20.0, 88.560_095_343),
            (38.0, 315.539_789_7),
            (1000.0, 217_150.640_042),
        ];
        for (deviations, phi) in known {
            let found = phi_of(deviations);
            assert!((found - phi).abs() <= 1e-7, "{deviations}: {found}, not {phi}");
        }
    }

    #[test]
    fn deviations_are_the_inverse_of_phi() {
        for phi in [0.5, 1.0, 4.0, 8.0, 16.0, 100.0] {
            assert!((phi_of(deviations_of(phi)) - phi).abs() < 1e-6, "{phi}");
        }
    }

    #[test]
    fn before_anything_has_come_the_estimate_is_known_badly() {
        let arrivals = Arrivals::new(at(1000), expectation());
        assert_eq!((arrivals.mean(), arrivals.deviation()), (625_000.0, 375_000.0));
    }

    #[test]
    fn one_interval_is_remembered_at_least() {
        let (arrivals, _) = after(&[200, 700], Expectation { window: 0, ..expectation() });
        assert_eq!((arrivals.mean(), arrivals.deviation()), (700_000.0, 50_000.0));
    }

    #[test]
    fn a_late_heartbeat_is_the_more_suspicious_the_more_regular_they_were() {
        let (regular, end) = after(&[500; 100], expectation());
        let (wild, wild_end) = after(&[100, 900].repeat(50), expectation());
        assert!(regular.phi(end + MS * 900) > 12.0);
        assert!(wild.phi(wild_end + MS * 900) < 2.0);
    }

    #[test]
    fn the_least_deviation_and_the_pause_hold_suspicion_back() {
        let lenient = Expectation { min_deviation: MS * 400, ..expectation() };
        let patient = Expectation { pause: MS * 1000, ..expectation() };
        for (expectation, low) in [(expectation(), false), (lenient, true), (patient, true)] {
            let (arrivals, end) = after(&[500; 2000], expectation);
            assert_eq!(arrivals.phi(end + MS * 900) < 1.0, low, "{expectation:?}");
        }
    }

    #[test]
    fn old_intervals_are_forgotten() {
        let short = Expectation { window: 10, ..expectation() };
        let (arrivals, _) = after(&[vec![3000; 50], vec![200; 10]].concat(), short);
        assert_eq!((arrivals.mean(), arrivals.deviation()), (200_000.0, 50_000.0));
    }

    #[test]
    fn a_long_outage_counts_as_the_longest_interval_only() {
        let (mut arrivals, end) = after(&[500; 999], expectation());
        arrivals.arrive(end + Duration::from_secs(3600));
        assert!(arrivals.deviation() < 200_000.0, "{}", arrivals.deviation());
    }

    #[test]
    fn a_rebased_wait_leaves_no_interval_behind() {
        let (mut arrivals, end) = after(&[500; 2000], expectation());
        arrivals.rebase(end + MS * 4000);
        assert!(arrivals.phi(end + MS * 4100) < 1e-6);
        arrivals.arrive(end + MS * 4900);
        arrivals.arrive(end + MS * 5400);
        assert_eq!((arrivals.mean(), arrivals.deviation()), (500_000.0, 50_000.0));
    }

    #[test]
    fn a_sign_of_another_kind_ends_the_wait_and_not_the_interval() {
        let (mut arrivals, end) = after(&[500; 100], expectation());
        arrivals.attest(end + MS * 1900);
        assert!(arrivals.phi(end + MS * 2000) < 1.0);
        let sum = arrivals.sum;
        arrivals.arrive(end + MS * 2000);
        assert_eq!(arrivals.sum - sum, 2_000_000);
    }

    /// Trap 16: an argument that goes back, or leaps, does nothing untoward.
    #[test]
    fn time_that_stands_still_or_goes_back_is_no_arrival_in_the_past() {
        let (mut arrivals, end) = after(&[500; 10], expectation());
        for sign in [Arrivals::arrive, Arrivals::attest, Arrivals::rebase] {
            let mut arrivals = arrivals.clone();
            sign(&mut arrivals, at(0));
            assert_eq!(arrivals.last(), end);
        }
        arrivals.arrive(at(0));
        let sum = arrivals.sum;
        let mut later = arrivals.clone();
        later.arrive(end + MS * 700);
        assert_eq!(later.sum - sum, 700_000, "from the latest heartbeat on");
        assert!(arrivals.phi(at(0)) < 0.1);
        assert!(arrivals.phi(Time::from_micros(u64::MAX)).is_finite());
    }

    proptest! {
        #[test]
        fn phi_never_falls_while_nothing_comes(
            intervals in proptest::collection::vec(0u64..20_000, 0..60),
            window in 1usize..40,
            (deviation, pause) in (0u64..2000, 0u64..2000),
            waits in proptest::collection::vec(prop_oneof![0u64..3, 0u64..10_000_000, any::<u64>()], 2..60),
        ) {
            let ms = |ms: u64| Duration::from_millis(ms);
            let expectation = Expectation { window, min_deviation: ms(deviation), pause: ms(pause), ..expectation() };
            let (arrivals, mut now) = after(&intervals, expectation);
            let mut before = arrivals.phi(now);
            for wait in waits {
                now = now + Duration::from_micros(wait);
                let phi = arrivals.phi(now);
                prop_assert!(phi.is_finite() && phi >= 0.0);
                prop_assert!(phi >= before, "{} after {}", phi, before);
                before = phi;
            }
        }

        #[test]
        fn it_reaches_a_level_just_when_it_says(
            intervals in proptest::collection::vec(0u64..3000, 0..60),
            level in 1.0f64..40.0,
        ) {
            let (arrivals, _) = after(&intervals, expectation());
            let due = arrivals.reaches(deviations_of(level));
            prop_assert!(arrivals.phi(due) >= level - 1e-6);
            prop_assert!(arrivals.phi(Time::from_micros(due.as_micros() - 2)) < level + 1e-6);
        }

        /// What is kept incrementally is what a look at the whole window gives.
        #[test]
        fn mean_and_deviation_are_those_of_the_window(intervals in proptest::collection::vec(0u64..5000, 12..80)) {
            let expectation = Expectation { window: 10, min_deviation: Duration::ZERO, ..expectation() };
            let (arrivals, _) = after(&intervals, expectation);
            let last: Vec<f64> = intervals[intervals.len() - 10..].iter().map(|ms| (ms * 1000) as f64).collect();
            let mean = last.iter().sum::<f64>() / 10.0;
            let variance = last.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 10.0;
            prop_assert!((arrivals.mean() - mean).abs() < 1e-3);
            prop_assert!((arrivals.deviation() - variance.sqrt().max(1.0)).abs() < 1e-2);
        }
    }
}
