//! How long changes wait before they are sent, on one stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What waits since when. Times are those at which the moments of a view were [made](crate::view::View::made).
#[derive(Debug, Default)]
pub struct Delays {
    /// The newest moment that the stream knows.
    newest: Option<Duration>,
    /// The first moment that no offer was made of.
    since: Option<Duration>,
    /// Types whose last response is not answered.
    unanswered: BTreeSet<Arc<str>>,
    /// Of these, since when there is something newer.
    held_back: BTreeMap<Arc<str>, Duration>,
}

impl Delays {
    /// A moment is the newest. The first one is not news: it is what the stream begins with.
    pub fn moment(&mut self, made: Option<Duration>) {
        if self.newest != made && self.newest.is_some() {
            self.since = self.since.or(made);
        }
        self.newest = made;
    }

    /// The peer answered a response of a type.
    pub fn answered(&mut self, type_url: &str) {
        self.unanswered.remove(type_url);
    }

    /// Responses of these types are offered. For each: when the first of the changes in it was made, if it holds changes
    /// of a later moment than those before; what else changed while an answer was due counts too.
    pub fn offered<'t>(&mut self, types: impl IntoIterator<Item = &'t str>) -> Vec<Option<Duration>> {
        let since = self.since.take();
        let mut held_back = std::mem::take(&mut self.held_back);
        for type_url in &self.unanswered {
            if let Some(since) = held_back.get(type_url).copied().or(since) {
                self.held_back.insert(Arc::clone(type_url), since);
            }
        }
        let mut due = Vec::new();
        for type_url in types {
            due.push(held_back.remove(type_url).or(since));
            self.held_back.remove(type_url);
            self.unanswered.insert(type_url.into());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Option<Duration> {
        Some(Duration::from_secs(second))
    }

    #[test]
    fn what_waits_for_an_answer_is_as_old_as_its_first_change() {
        let mut delays = Delays::default();
        delays.moment(at(1));
        assert_eq!(delays.offered(["Mesh", "Secret"]), [None, None], "what a stream begins with is no change");
        delays.answered("Mesh");
        delays.moment(at(2));
        delays.moment(at(3));
        assert_eq!(delays.offered(["Mesh"]), [at(2)]);
        delays.moment(at(4));
        assert_eq!(delays.offered([]), []);
        delays.answered("Secret");
        delays.answered("Mesh");
        assert_eq!(delays.offered(["Mesh", "Secret"]), [at(4), at(2)]);
        delays.answered("Secret");
        assert_eq!(delays.offered(["Secret"]), [None], "asked for again");
    }

    #[test]
    fn what_did_not_differ_is_forgotten() {
        let mut delays = Delays::default();
        delays.moment(at(1));
        delays.offered(["Mesh"]);
        delays.moment(at(2));
        delays.offered([]);
        delays.answered("Mesh");
        delays.offered([]);
        delays.moment(at(5));
        assert_eq!(delays.offered(["Mesh"]), [at(5)]);
    }

    #[test]
    fn a_view_without_times_has_no_delays() {
        let mut delays = Delays::default();
        delays.moment(None);
        delays.offered(["Mesh"]);
        delays.moment(None);
        delays.answered("Mesh");
        assert_eq!(delays.offered(["Mesh"]), [None]);
    }
}
