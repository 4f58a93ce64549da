//! Looks at the nodes from outside while things happen to them: what they say, and what /proc says of their processes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynkv::local::probe;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::effect::{Effect, Effects};
use super::load::{Record, Shared};
use super::node::Place;

/// Between two looks at a node.
const LOOK: Duration = Duration::from_millis(150);
/// A node that is stopped takes connections and says nothing.
const ONE_ANSWER: Duration = Duration::from_millis(500);

/// A loop for each node, until it is dropped.
pub struct Watch {
    seen_down: Arc<Mutex<Vec<Duration>>>,
    _loops: JoinSet<()>,
}

impl Watch {
    /// Begins to look.
    pub fn start(places: &[Place], shared: &Shared) -> Watch {
        let seen_down = Arc::<Mutex<Vec<Duration>>>::default();
        let mut loops = JoinSet::new();
        for place in places {
            let (place, seen_down, shared) = (place.clone(), seen_down.clone(), shared.clone());
            loops.spawn(async move {
                loop {
                    look(&place, &seen_down, &shared.record, &shared.effects).await;
                    sleep(LOOK).await;
                }
            });
        }
        Watch { seen_down, _loops: loops }
    }

    /// When a node first said, at `since` or later, that another one is down; times of the record's clock.
    pub fn first_down(&self, since: Duration) -> Option<Duration> {
        let seen_down = self.seen_down.lock().expect("nobody panics while noting");
        seen_down.iter().filter(|at| **at >= since).min().copied()
    }
}

async fn look(place: &Place, seen_down: &Mutex<Vec<Duration>>, record: &Record, effects: &Effects) {
    let pid = place.pid.load(Ordering::Relaxed);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    effects.add(Effect::SeenStopped, u64::from(is_stopped(&stat)));
    let Some(status) = status(place).await else { return };
    if names_one_down(&status) {
        effects.saw(Effect::SeenDown);
        seen_down.lock().expect("nobody panics while noting").push(record.elapsed());
    }
    effects.add(Effect::SeenHints, u64::from(hints_of(&status).is_some_and(|hints| hints > 0)));
    effects.add(Effect::SeenFull, u64::from(status["phase"] == "readonly"));
}

/// A node's status, if it tells it.
pub async fn status(place: &Place) -> Option<Value> {
    let answer = timeout(ONE_ANSWER, probe::get(place.http, "/status")).await.ok()?.ok()?;
    serde_json::from_str(&answer.body).ok()
}

/// Tombstones that a node has deleted since it started, if it tells.
pub async fn reaped_by(place: &Place) -> Option<u64> {
    let answer = timeout(ONE_ANSWER, probe::get(place.http, "/metrics")).await.ok()?.ok()?;
    probe::metric(&answer.body, "dynkv_tombstones_deleted_total")
}

/// Whether a status shows a member as down.
pub fn names_one_down(status: &Value) -> bool {
    status["members"].as_array().is_some_and(|members| members.iter().any(|member| member["up"] == false))
}

/// Whether a node serves and sees all others.
pub fn is_whole(status: &Value) -> bool {
    status["phase"] == "serving" && status["members"].is_array() && !names_one_down(status)
}

/// Hints that a node keeps for others; none while it counts them.
pub fn hints_of(status: &Value) -> Option<u64> {
    if status["hints_counted"] == true { status["hints"].as_u64() } else { None }
}

/// By the third field of /proc/PID/stat; the second, in parentheses, may hold anything.
fn is_stopped(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stopped_process_is_told_by_its_state() {
        assert!(is_stopped("17 (dynkv) T 1 17 17"));
        assert!(!is_stopped("17 (dynkv) S 1 17 17"));
        assert!(!is_stopped("17 (a) T) S 1"), "the name is not the state");
        assert!(!is_stopped(""));
    }

    #[test]
    fn a_status_tells_who_is_down_and_how_many_hints_wait() {
        let status = |up: bool| json!({"phase": "serving", "members": [{"up": true}, {"up": up}]});
        assert!(names_one_down(&status(false)) && !names_one_down(&status(true)));
        assert!(is_whole(&status(true)) && !is_whole(&status(false)) && !is_whole(&json!({})));
        assert_eq!(hints_of(&status(true)), None);
        assert_eq!(hints_of(&json!({"hints": 3, "hints_counted": true})), Some(3));
        assert_eq!(hints_of(&json!({"hints": 3, "hints_counted": false})), None);
    }
}
