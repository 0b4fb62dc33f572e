//! Tells of those who are turned away, once each: they come back every few seconds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::caller::Caller;
use super::ending::Refusal;

/// Callers that are remembered.
const MOST: usize = 1024;

/// What was last told of whom.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<String, Refusal>>);

impl Refusals {
    /// Logs a refusal, unless the same caller was refused for the same reason before.
    pub fn tell(&self, caller: Option<&Caller>, refusal: &Refusal) {
        let (zone, peer) = (caller.map_or("", |caller| &*caller.zone), caller.and_then(|caller| caller.peer));
        {
            let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if told.get(zone) == Some(refusal) {
                return;
            }
            if told.len() >= MOST {
                told.clear();
            }
            told.insert(zone.to_owned(), refusal.clone());
        }
        let peer = peer.map(tracing::field::display);
        match refusal {
            Refusal::Stopping => {}
            Refusal::NoZone => tracing::warn!(
                peer,
                "a caller names no zone and is turned away: this port is for control planes of zones; proxies dial the \
                 control plane of their zone"
            ),
            Refusal::NotCreated => tracing::warn!(zone, peer, "a zone is turned away: it could not be created"),
            Refusal::BadName(why) | Refusal::Unauthenticated(why) | Refusal::Stranger(why) | Refusal::TooMany(why) => {
                tracing::warn!(zone, peer, reason = why, "a caller is turned away")
            }
        }
    }

    /// A caller was let in: its next refusal is news again.
    pub fn forget(&self, zone: &str) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.is_empty() {
            told.remove(zone);
        }
    }
}
