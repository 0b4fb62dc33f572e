//! Taking over what the global tells (kds-wire 3.3, 3.9, 4.5, 4.8).

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use discovery::kds::receive::{Received, Taker, receive};
use discovery::kds::wire;
use discovery::stream::{Sink, Verdict};
use discovery::subscriber::Update;
use model::{Key, Kind, Resource, Snapshot, labels};
use store::{Batch, Fence, Write};
use tokio::sync::watch;

use super::Zone;
use super::membership::{self, Membership};

/// Tries of one update, when others write the same resources meanwhile.
const TRIES: u32 = 20;
/// Between them, so that the snapshot shows what the others wrote.
const PAUSE: Duration = Duration::from_millis(50);
/// Names in one line of the log.
const NAMED: usize = 20;

/// Writes updates into the store.
pub(crate) struct Receiver<'a> {
    pub zone: &'a Zone,
    pub fence: &'a Fence,
    /// Told with the first update.
    pub stood: &'a watch::Sender<bool>,
    /// Why an update could not be taken.
    pub failure: Option<anyhow::Error>,
}

impl Sink for Receiver<'_> {
    async fn take(&mut self, update: &Update) -> Result<Verdict, String> {
        match self.written(update).await {
            Ok(verdict) => Ok(verdict),
            Err(error) => {
                let text = format!("{error:#}");
                self.failure = Some(error);
                Err(text)
            }
        }
    }
}

impl Receiver<'_> {
    async fn written(&mut self, update: &Update) -> Result<Verdict> {
        let kind: Kind = update.type_url.parse()?;
        let identity = if kind == Kind::Config { Some(self.admitted(update)?) } else { None };
        if !self.stood.send_replace(true) {
            tracing::info!(global = %self.zone.federation.global, "following the global");
            self.zone.metrics.connected();
        }
        let received = self.stored(kind, update, identity).await?;
        let refused = received.refusals.len();
        self.zone.metrics.updated(kind.name(), refused, &self.zone.clock);
        let Some(message) = received.message() else { return Ok(Verdict::Accepted) };
        for refusal in &received.refusals {
            tracing::warn!(resource = %refusal.key, reason = refusal.text, "a resource of the global is refused");
        }
        Ok(Verdict::Refused(message))
    }

    /// Whether this is the global that the zone has joined; what is to be remembered of it, if that is news.
    fn admitted(&self, update: &Update) -> Result<Option<Membership>> {
        let configs: Vec<Resource> =
            update.resources.iter().filter_map(|resource| wire::decode(Kind::Config, resource).ok()).collect();
        let told = membership::cluster_id(&configs);
        if told.is_none() && !update.complete {
            return Ok(None);
        }
        let remembered = Membership::stored(&self.zone.store.configuration().borrow());
        let from = &self.zone.federation.migrate_from;
        let now = membership::admit(remembered.as_ref(), &self.zone.name, told, from)?;
        if remembered.as_ref() == Some(&now) {
            return Ok(None);
        }
        let cluster_id = now.global.as_deref().unwrap_or("unknown");
        match &remembered {
            None => tracing::info!(
                cluster_id,
                "joining a global: meshes and older policies of this zone become the global's"
            ),
            Some(before) => tracing::warn!(?before, cluster_id, "moving, as multizone.zone.migrateFrom says"),
        }
        Ok(Some(now))
    }

    /// Writes an update in one transaction, however often others get in between.
    async fn stored(&self, kind: Kind, update: &Update, identity: Option<Option<Membership>>) -> Result<Received> {
        let store = &self.zone.store;
        let mut snapshots = store.snapshots_of(kind);
        let mut conflict = None;
        for _ in 0..TRIES {
            let stored = snapshots.borrow_and_update().clone();
            let received = receive(Taker::Zone, kind, update, &stored);
            let batch = batch(&received, identity.clone().flatten());
            if batch.is_empty() {
                return Ok(received);
            }
            if conflict.is_none() {
                announce(&received, update.complete, &stored, &store.configuration().borrow());
            }
            match store.apply(batch.fenced(self.fence.clone())).await {
                Ok(_) => return Ok(received),
                Err(error) if error.is_lost_race() => conflict = Some(error),
                Err(error) => return Err(error.into()),
            }
            self.zone.clock.sleep(PAUSE).await;
        }
        let error = conflict.map_or_else(|| anyhow::anyhow!("nothing was tried"), anyhow::Error::from);
        Err(error).context("others write what the global tells, again and again")
    }
}

/// Everything at once: creates, then deletes, then updates, as Kuma does.
fn batch(received: &Received, identity: Option<Membership>) -> Batch {
    let identity = identity.map(|identity| Write::Put { resource: identity.to_resource(), owner: None });
    let creates = received.creates.iter().map(|resource| Write::Create { resource: resource.clone(), owner: None });
    let deletes =
        received.removes.iter().map(|(key, version)| Write::Delete { key: key.clone(), version: Some(*version) });
    let updates = received.updates.iter().map(|resource| Write::Update { resource: resource.clone() });
    identity.into_iter().chain(creates).chain(deletes).chain(updates).collect()
}

/// Says beforehand what a first response takes away from the zone (kds-wire 4.8).
fn announce(received: &Received, complete: bool, stored: &Snapshot, configuration: &Snapshot) {
    if !complete {
        return;
    }
    let own = |resource: &&Resource| {
        let before = stored.get(&resource.meta.key);
        before.is_some_and(|before| before.meta.labels.get(labels::ORIGIN) != Some(labels::ORIGIN_GLOBAL))
    };
    let replaced: Vec<&Key> = received.updates.iter().filter(own).map(|resource| &resource.meta.key).collect();
    if !replaced.is_empty() {
        tracing::warn!(resources = listed(&replaced), "the global's version replaces the zone's own");
    }
    let gone: Vec<&Key> = received.removes.iter().map(|(key, _)| key).collect();
    if gone.is_empty() {
        return;
    }
    let taken_along: usize =
        gone.iter().filter(|key| key.kind == Kind::Mesh).map(|mesh| inside(configuration, mesh)).sum();
    tracing::warn!(resources = listed(&gone), taken_along, "the global does not have these: they are deleted here");
}

/// How many resources a mesh holds.
fn inside(configuration: &Snapshot, mesh: &Key) -> usize {
    Kind::ALL
        .iter()
        .map(|kind| configuration.list_in(*kind, &mesh.name).filter(|r| *r.meta.key.mesh == *mesh.name).count())
        .sum()
}

fn listed(keys: &[&Key]) -> String {
    let mut text = String::new();
    for (at, key) in keys.iter().take(NAMED).enumerate() {
        // A text takes everything.
        let _ = write!(text, "{}{key}", if at == 0 { "" } else { ", " });
    }
    if keys.len() > NAMED {
        let _ = write!(text, " and {} more", keys.len() - NAMED);
    }
    text
}
