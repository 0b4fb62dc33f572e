//! Whether the program is ready to serve, as values that are held and dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// What still keeps the program from being ready. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<watch::Sender<Reasons>>);

#[derive(Debug, Default)]
struct Reasons {
    next: u64,
    held: BTreeMap<u64, &'static str>,
}

impl Readiness {
    /// The program is not ready, for this reason, until the value is dropped.
    #[must_use = "dropping it says that the program is ready"]
    pub fn not_ready(&self, reason: &'static str) -> NotReady {
        let mut id = 0;
        self.0.send_modify(|reasons| {
            id = reasons.next;
            reasons.next += 1;
            reasons.held.insert(id, reason);
        });
        NotReady { id, of: self.clone() }
    }

    /// Why the program is not ready, oldest reason first; empty when it is.
    pub fn reasons(&self) -> Vec<&'static str> {
        self.0.borrow().held.values().copied().collect()
    }

    /// Whether nothing keeps it from serving.
    pub fn is_ready(&self) -> bool {
        self.0.borrow().held.is_empty()
    }

    /// Waits until the program is ready.
    pub async fn ready(&self) {
        let waited = self.0.subscribe().wait_for(|reasons| reasons.held.is_empty()).await.is_ok();
        debug_assert!(waited, "self holds the sender");
    }
}

/// While it lives, the program is not ready.
#[derive(Debug)]
pub struct NotReady {
    id: u64,
    of: Readiness,
}

impl Drop for NotReady {
    fn drop(&mut self) {
        self.of.0.send_modify(|reasons| {
            reasons.held.remove(&self.id);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_when_the_last_reason_is_dropped() {
        let readiness = Readiness::default();
        assert!(readiness.is_ready());
        let store = readiness.not_ready("reading the store");
        let zone = readiness.not_ready("waiting for the global");
        assert_eq!(readiness.reasons(), ["reading the store", "waiting for the global"]);
        drop(store);
        assert!(!readiness.is_ready());
        drop(zone);
        readiness.ready().await;
    }
}
