//! What is compared is measured in turns: the machine's pace drifts by more than what is looked for.

use std::fmt;

/// How often.
pub const ROUNDS: usize = 5;

/// The same two figures, of each round. Shown as their ratios, the lowest first.
#[derive(Default)]
pub struct Rounds(Vec<[f64; 2]>);

impl Rounds {
    /// A figure, and what it is compared with.
    pub fn push(&mut self, figure: f64, with: f64) {
        self.0.push([figure, with]);
    }

    /// The middle ratio.
    pub fn middle(&self) -> f64 {
        middle(&self.ratios())
    }

    /// The middle figure over the middle one of those that it is compared with: what held up one side once moves neither. Infinite
    /// where any of the figures is.
    pub fn of_middles(&self) -> f64 {
        let [figures, with] = [0, 1].map(|side| sorted(self.0.iter().map(|round| round[side]).collect()));
        if figures.iter().all(|figure| figure.is_finite()) { middle(&figures) / middle(&with) } else { f64::INFINITY }
    }

    /// The ratio of what all rounds come to together: what only some of them meet counts, as a compaction does.
    pub fn of_sums(&self) -> f64 {
        let [figures, with] = [0, 1].map(|side| self.0.iter().map(|round| round[side]).sum::<f64>());
        figures / with
    }

    fn ratios(&self) -> Vec<f64> {
        sorted(self.0.iter().map(|[figure, with]| figure / with).collect())
    }
}

fn sorted(mut figures: Vec<f64>) -> Vec<f64> {
    figures.sort_by(f64::total_cmp);
    figures
}

fn middle(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

impl fmt::Display for Rounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratios: Vec<String> = self.ratios().iter().map(|ratio| format!("{ratio:.2}")).collect();
        write!(f, "rounds {}", ratios.join(" "))
    }
}
