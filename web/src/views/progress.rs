//! How far a study is, and how long it will still take.

use search::fidelity::Ladder;
use serde::Serialize;
use spaces::protocol::TrialState;
use store::{StudyState, Trial};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Counts, Resolved};

/// How far a study is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
// a trial's progress has the same name in the protocol
#[schema(as = StudyProgress)]
pub struct Progress {
    /// Trials that have ended, however they did, or rest at a part of their training.
    pub finished: u32,
    /// Trials asked for.
    pub wanted: u32,
    /// Training done, in trainings of full length, as far as results tell.
    pub trained: f64,
    /// Training that may be done altogether, where the study limits it.
    pub full_trials: Option<f64>,
    /// Seconds of search, without pauses and hours in which no server ran; null before the first trial.
    pub elapsed_s: Option<f64>,
    /// When it will be over; null while nothing is known.
    pub eta: Option<Eta>,
}

/// Seconds until a study ends, as a range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Eta {
    /// It hardly ends sooner.
    pub low_s: f64,
    /// It hardly takes longer.
    pub high_s: f64,
}

impl Progress {
    /// How far a study is that will not go on, or whose trials were not read: without the time left.
    pub fn of_counts(study: &Resolved, counts: &Counts) -> Progress {
        let finished = counts.paused
            + counts.done
            + counts.pruned
            + counts.infeasible
            + counts.failed
            + counts.cancelled;
        Progress {
            finished: u32::try_from(finished).unwrap_or(u32::MAX),
            wanted: wanted(study),
            trained: 0.0,
            full_trials: study.row.spec.search.full_trials,
            elapsed_s: elapsed_s(&study.row),
            eta: None,
        }
    }
}

/// How far the study is at `now`.
pub fn progress<'t>(
    study: &Resolved,
    trials: impl Iterator<Item = &'t Trial>,
    now: OffsetDateTime,
) -> Progress {
    let mut durations = vec![];
    let mut running = vec![];
    let (mut finished, mut trained) = (0, 0.0);
    for trial in trials {
        let since = |end: OffsetDateTime| {
            trial
                .started_at
                .map(|start| (end - start).as_seconds_f64().max(0.0))
        };
        trained += trial.reached;
        match trial.state {
            TrialState::Queued => continue,
            TrialState::Running => {
                running.extend(since(now));
                continue;
            }
            TrialState::Done | TrialState::Pruned => durations.extend(trial.finished_at.and_then(since)),
            TrialState::Paused | TrialState::Infeasible | TrialState::Failed | TrialState::Cancelled => {}
        }
        finished += 1;
    }
    let row = &study.row;
    let elapsed_s = elapsed_s(row);
    let wanted = wanted(study);
    let eta = match row.state {
        StudyState::Running if row.spec.search.fidelity.is_some() => {
            in_parts(&row.spec.search, trained, elapsed_s.unwrap_or(0.0))
        }
        StudyState::Running => {
            let left = f64::from(wanted.saturating_sub(finished)).max(running.len() as f64);
            let slots = match running.len() {
                0 => row.spec.search.parallel.max(1) as usize,
                n => n,
            };
            let wall = study.study().and_then(|s| s.wall_s).zip(elapsed_s);
            estimate(
                &durations,
                &running,
                left,
                slots,
                wall.map(|(wall, spent)| (wall - spent).max(0.0)),
            )
        }
        _ => None,
    };
    Progress {
        finished,
        wanted,
        trained,
        full_trials: row.spec.search.full_trials,
        elapsed_s,
        eta,
    }
}

/// Trials that the study can come to.
fn wanted(study: &Resolved) -> u32 {
    let search = &study.row.spec.search;
    match search.full_trials {
        Some(most) if search.fidelity.is_none() => search.trials.min(most as u32),
        _ => search.trials,
    }
}

/// The range of the time that training in parts still takes, by the time that training took so far.
fn in_parts(spec: &spaces::study::SearchSpec, trained: f64, elapsed_s: f64) -> Option<Eta> {
    let fidelity = spec.fidelity.as_ref()?;
    if trained <= 0.0 {
        return None;
    }
    let ladder = Ladder {
        steps: fidelity.steps.clone(),
        eta: fidelity.eta,
    };
    let (least, most) = search::fidelity::rule(&fidelity.rule)?.share(&ladder);
    let (low, high) = (f64::from(spec.trials) * least, f64::from(spec.trials) * most);
    let most = spec.full_trials.unwrap_or(f64::INFINITY);
    let left = |total: f64| (total.min(most) - trained).max(0.0) * elapsed_s / trained;
    // a small part costs more than its share, since measuring takes as long as after a full training
    Some(Eta {
        low_s: 0.7 * left(low),
        high_s: 1.1 * left(high),
    })
}

fn elapsed_s(study: &store::Study) -> Option<f64> {
    study.started_at.map(|_| study.searched_s)
}

/// The range of the time that `left` trials take on `slots` workers, two standard deviations to each side.
///
/// The sum of n durations with mean m and deviation s spreads by s sqrt(n); that m itself is known only from k trials
/// adds n s / sqrt(k). `wall_left_s` is the time until no further trial begins: then only the running ones end.
fn estimate(
    durations: &[f64],
    running: &[f64],
    left: f64,
    slots: usize,
    wall_left_s: Option<f64>,
) -> Option<Eta> {
    let known = durations.len() as f64;
    if durations.is_empty() {
        return None;
    }
    let mean = durations.iter().sum::<f64>() / known;
    let deviation = match durations.len() {
        // a single trial says nothing of the spread: take half of it
        1 => 0.5 * mean,
        _ => (durations.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (known - 1.0)).sqrt(),
    };
    let spent: f64 = running.iter().map(|r| r.min(mean)).sum();
    let work = (left * mean - spent).max(0.0);
    let width = 2.0 * deviation * (left + left * left / known).sqrt();
    let slots = slots as f64;
    let (mut low, mut high) = (((work - width) / slots).max(0.0), (work + width) / slots);
    if let Some(wall) = wall_left_s {
        low = low.min(wall);
        high = high.min(wall + mean + 2.0 * deviation);
    }
    Some(Eta {
        low_s: low,
        high_s: high,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_shrinks_with_what_is_known_and_with_more_slots() {
        assert_eq!(estimate(&[], &[], 10.0, 1, None), None);
        let eta = |durations: &[f64], slots| estimate(durations, &[], 10.0, slots, None).unwrap();
        let even = eta(&[10.0, 10.0, 10.0], 1);
        assert_eq!((even.low_s, even.high_s), (100.0, 100.0));
        assert_eq!(eta(&[10.0, 10.0], 2).high_s, 50.0);
        let few = eta(&[5.0, 15.0], 1);
        let many = eta(&[5.0, 15.0].repeat(50), 1);
        assert!(
            few.low_s < many.low_s && many.low_s < 100.0 && 100.0 < many.high_s && many.high_s < few.high_s
        );
        let single = eta(&[10.0], 1);
        assert!(single.low_s < 100.0 && single.high_s > 100.0);
    }

    #[test]
    fn running_trials_and_the_wall_shorten_it() {
        let half_way = estimate(&[10.0, 10.0], &[5.0, 5.0], 2.0, 2, None).unwrap();
        assert_eq!((half_way.low_s, half_way.high_s), (5.0, 5.0));
        let walled = estimate(&[10.0, 10.0], &[], 1000.0, 1, Some(30.0)).unwrap();
        assert_eq!((walled.low_s, walled.high_s), (30.0, 40.0));
    }
}
