//! What the last revisions touched, so that two snapshots need not be compared as wholes.

use std::sync::Arc;

use imbl::Vector;

use crate::resource::Key;

/// How many revisions back a difference is found by the log.
const REVISIONS: usize = 1_024;
/// Most keys of one revision that are worth keeping.
const KEYS: usize = 1_024;

/// The keys that each of the last revisions touched; nothing for one that touched too many.
#[derive(Clone, Debug, Default)]
pub(super) struct History(Vector<Arc<Option<Box<[Key]>>>>);

impl History {
    /// Logs a revision.
    pub(super) fn push(&mut self, touched: Vec<Key>) {
        self.0.push_back(Arc::new((touched.len() <= KEYS).then(|| touched.into())));
        if self.0.len() > REVISIONS {
            self.0.pop_front();
        }
    }

    /// Every key touched since an earlier point of the same history; `None` when that is not known, be it that this is
    /// no later point of it, that it lies too far back, or that a revision between touched too many.
    pub(super) fn since(&self, earlier: &Self) -> Option<Vec<Key>> {
        let last_seen = earlier.0.back()?;
        let mut keys = Vec::new();
        for touched in self.0.iter().rev() {
            if Arc::ptr_eq(touched, last_seen) {
                return Some(keys);
            }
            keys.extend_from_slice(touched.as_deref()?);
        }
        None
    }
}
