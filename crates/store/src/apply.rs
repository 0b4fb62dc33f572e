//! One batch, one transaction: lock, read what it touches, plan, write, raise the revision, commit.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use model::{Key, Kind};

use crate::backend::{Backend, Transaction};
use crate::batch::{Applied, ApplyError, Batch, Write};
use crate::error::StorageError;
use crate::plan::{self, Before, Put};
use crate::record::{Record, Stored};
use crate::seal::Sealer;
use crate::stream::Stream;

/// Removals are remembered for this many revisions; a feed that is further behind reads everything.
const REMEMBERED: u64 = 10_000;
/// Removals are forgotten when the revision is a multiple of this.
const FORGET_EVERY: u64 = 1_000;

/// What a committed batch did, and the streams whose revision it raised.
pub(crate) struct Committed {
    pub applied: Applied,
    pub revisions: Vec<(Stream, u64)>,
    /// Rows created or changed.
    pub written: usize,
}

/// Runs a batch.
///
/// # Errors
/// Nothing was written, except perhaps after a storage error of the commit itself.
pub(crate) async fn apply(
    backend: &Backend,
    sealer: &Sealer,
    batch: &Batch,
    now: DateTime<Utc>,
) -> Result<Committed, ApplyError> {
    plan::check(batch)?;
    let streams = streams(batch);
    let mut transaction = backend.begin(&streams).await?;
    let outcome = run(&mut transaction, sealer, batch, &streams, now).await;
    match &outcome {
        Ok(committed) if !committed.revisions.is_empty() => transaction.commit().await?,
        _ => transaction.rollback().await,
    }
    outcome
}

/// Everything but the end of the transaction.
async fn run(
    transaction: &mut Transaction,
    sealer: &Sealer,
    batch: &Batch,
    streams: &[Stream],
    now: DateTime<Utc>,
) -> Result<Committed, ApplyError> {
    let heads = transaction.lock(streams).await?;
    if let Some(fence) = &batch.fence
        && !transaction.holds(fence).await?
    {
        return Err(ApplyError::Deposed { lease: fence.lease.clone(), token: fence.token });
    }
    let before = read(transaction, sealer, batch).await?;
    let plan = plan::plan(batch, &before, now)?;

    let mut revisions = Vec::new();
    for (stream, head) in &heads {
        let of_stream = |key: &Key| Stream::of(key.kind) == *stream;
        let puts: Vec<&Put> = plan.puts.iter().filter(|put| of_stream(&put.stored.resource.meta.key)).collect();
        let removals: Vec<Key> = plan.removals.iter().filter(|key| of_stream(key)).cloned().collect();
        if !puts.is_empty() || !removals.is_empty() {
            write(transaction, sealer, *stream, head + 1, &puts, &removals).await?;
            revisions.push((*stream, head + 1));
        }
    }
    let own = heads.first().map_or(0, |(stream, head)| {
        revisions.iter().find(|(raised, _)| raised == stream).map_or(*head, |(_, revision)| *revision)
    });
    let written = plan.puts.len();
    let applied =
        Applied { revision: own, resources: plan.resources, removed: plan.removals, published_after: Duration::ZERO };
    Ok(Committed { applied, revisions, written })
}

/// The streams to lock: those written, and both for what may take resources of the other along.
fn streams(batch: &Batch) -> Vec<Stream> {
    let touches = |write: &Write, stream: Stream| {
        let own = Stream::of(write.key().kind);
        own == stream || (own == Stream::Configuration && matches!(write, Write::Delete { .. } | Write::Remove { .. }))
    };
    Stream::ALL.into_iter().filter(|stream| batch.writes.iter().any(|write| touches(write, *stream))).collect()
}

async fn write(
    transaction: &mut Transaction,
    sealer: &Sealer,
    stream: Stream,
    revision: u64,
    puts: &[&Put],
    removals: &[Key],
) -> Result<(), ApplyError> {
    let seal = |put: &&Put| {
        Record::seal(&put.stored, sealer).map_err(|error| ApplyError::Invalid {
            key: put.stored.resource.meta.key.clone(),
            reason: error.to_string(),
        })
    };
    let records = puts.iter().map(seal).collect::<Result<Vec<_>, _>>()?;
    let fresh = puts.iter().filter(|put| put.fresh).map(|put| put.stored.resource.meta.key.clone()).collect::<Vec<_>>();
    transaction.put(stream, revision, records).await?;
    transaction.revive(stream, &fresh).await?;
    transaction.remove(stream, revision, removals).await?;
    transaction.raise(stream, revision).await?;
    if revision.is_multiple_of(FORGET_EVERY) {
        transaction.forget(stream, revision.saturating_sub(REMEMBERED)).await?;
    }
    Ok(())
}

/// Reads everything that the batch can touch. The locks keep it from changing until the commit.
async fn read(transaction: &mut Transaction, sealer: &Sealer, batch: &Batch) -> Result<Before, StorageError> {
    let mut before = Before::default();
    let mut keys: HashSet<Key> = batch.required.iter().cloned().collect();
    for write in &batch.writes {
        keys.insert(write.key().clone());
        keys.extend(write.owner().cloned());
    }
    fetch(transaction, sealer, keys.into_iter().collect(), &mut before).await?;

    let mut doomed: Vec<Key> = Vec::new();
    for write in &batch.writes {
        if let Write::Delete { key, .. } | Write::Remove { key } = write
            && before.stored.contains_key(key)
        {
            doomed.push(key.clone());
        }
    }
    let mut seen: HashSet<Key> = doomed.iter().cloned().collect();
    while !doomed.is_empty() {
        let mut next = Vec::new();
        for (parent, child) in children(transaction, &doomed).await? {
            if seen.insert(child.clone()) {
                next.push(child.clone());
            }
            before.children.entry(parent).or_default().push(child);
        }
        let unknown = next.iter().filter(|child| !before.stored.contains_key(*child)).cloned().collect();
        fetch(transaction, sealer, unknown, &mut before).await?;
        doomed = next;
    }
    Ok(before)
}

/// What goes with these, one level deep.
async fn children(transaction: &mut Transaction, parents: &[Key]) -> Result<Vec<(Key, Key)>, StorageError> {
    let meshes: Vec<Key> = parents.iter().filter(|key| key.kind == Kind::Mesh).cloned().collect();
    let insights: Vec<(Key, Key)> =
        parents.iter().filter_map(|key| Some((key.clone(), plan::insight_key(key)?))).collect();
    let mut found = Vec::new();
    for stream in Stream::ALL {
        found.extend(transaction.owned_by(stream, parents).await?);
        for mesh in &meshes {
            let members = transaction.in_mesh(stream, &mesh.name).await?;
            found.extend(members.into_iter().map(|member| (mesh.clone(), member)));
        }
    }
    found.extend(insights);
    Ok(found)
}

async fn fetch(
    transaction: &mut Transaction,
    sealer: &Sealer,
    keys: Vec<Key>,
    into: &mut Before,
) -> Result<(), StorageError> {
    for stream in Stream::ALL {
        let wanted: Vec<Key> = keys.iter().filter(|key| Stream::of(key.kind) == stream).cloned().collect();
        for record in transaction.fetch(stream, &wanted).await? {
            let key = record.key.clone();
            let stored: Stored = record
                .unseal(sealer)
                .map_err(|error| StorageError::unsealable("reading what a batch changes", error))?;
            into.stored.insert(key, stored);
        }
    }
    Ok(())
}
