//! Progress on stderr: a bar on a terminal, a line now and then elsewhere.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use spaces::{Measurement, protocol::Progress};

/// Between two lines where stderr is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// Progress of something counted.
pub(crate) struct Bar {
    bar: ProgressBar,
    plain: bool,
    last_line: Option<Instant>,
    loss: Option<f64>,
}

/// The progress of one trial.
pub(crate) fn trial_bar() -> Bar {
    Bar::new("{prefix:>8} {bar:30} {pos}/{len} {msg}")
}

/// The progress of a study.
pub(crate) fn study_bar() -> Bar {
    Bar::new("{bar:30} {pos}/{len} trials  {msg}")
}

/// The progress of proposals that are drawn again.
pub(crate) fn replay_bar() -> Bar {
    Bar::new("{bar:30} {pos}/{len} proposals  {msg}")
}

/// The progress of questions to a teacher.
pub(crate) fn request_bar() -> Bar {
    Bar::new("{bar:30} {pos}/{len} requests  {msg}")
}

/// The progress of studies of benchmarks.
pub(crate) fn bench_bar() -> Bar {
    Bar::new("{bar:30} {pos}/{len} studies  {msg}")
}

impl Bar {
    fn new(template: &str) -> Bar {
        let plain = !std::io::stderr().is_terminal();
        let bar = if plain {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(0)
        };
        bar.set_style(
            ProgressStyle::with_template(template)
                .expect("a fixed template")
                .progress_chars("=> "),
        );
        Bar {
            bar,
            plain,
            last_line: None,
            loss: None,
        }
    }

    /// Sets how much of how much is done, with a message.
    pub(crate) fn set(&mut self, done: u64, of: u64, message: &str) {
        self.bar.set_length(of);
        self.bar.set_position(done);
        self.bar.set_message(message.to_owned());
        if self.plain && of > 0 && self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
            self.line(&format!("{done}/{of} {message}"));
        }
    }

    /// Shows a trial's progress.
    pub(crate) fn progress(&mut self, p: &Progress) {
        self.bar.set_prefix(p.phase.clone());
        let eta = p
            .eta_s
            .map_or_else(String::new, |s| format!("  {} left", duration(s)));
        let loss = self
            .loss
            .map_or_else(String::new, |l| format!("  validation loss {l:.4}"));
        let message = if self.plain {
            format!("{}{loss}{eta}", p.phase)
        } else {
            format!("{loss}{eta}")
        };
        self.set(p.step, p.steps, &message);
    }

    /// Notes the last loss.
    pub(crate) fn report(&mut self, measurements: &[Measurement]) {
        self.loss = measurements
            .iter()
            .rev()
            .find(|m| m.metric == "validation_loss")
            .map(|m| m.value)
            .or(self.loss);
    }

    /// Prints a line above the bar.
    pub(crate) fn line(&mut self, text: &str) {
        self.last_line = Some(Instant::now());
        if self.plain {
            use std::io::Write;
            // whoever closed stderr does not want to hear more
            let _ = writeln!(std::io::stderr(), "{text}");
        } else {
            self.bar.println(text);
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A time in the two largest units: `3 min 20 s`.
pub(crate) fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_short() {
        assert_eq!(super::duration(59.4), "59 s");
        assert_eq!(super::duration(200.0), "3 min 20 s");
        assert_eq!(super::duration(7265.0), "2 h 1 min");
    }
}
