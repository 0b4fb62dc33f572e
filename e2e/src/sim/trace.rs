//! What happened, a line each.

use std::fmt::Write as _;
use std::time::Duration;

/// Lines with the simulated time before them.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    text: String,
    now: Duration,
}

impl Trace {
    /// Sets the time of the next lines.
    pub fn at(&mut self, now: Duration) {
        self.now = now;
    }

    /// Adds a line: who, and what.
    pub fn line(&mut self, who: &str, what: impl std::fmt::Display) {
        // A text takes everything.
        let _ = writeln!(self.text, "{:9.3} {who:10} {what}", self.now.as_secs_f64());
    }

    /// All lines.
    pub fn into_text(self) -> String {
        self.text
    }
}
