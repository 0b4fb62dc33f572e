//! One batch, one transaction: lock, read what it touches, plan, write, raise the revision, commit.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use model::{Change, Key, Kind};

use crate::backend::{Backend, Opening, Transaction, Writes, of_stream};
use crate::batch::{Applied, ApplyError, Batch, Write};
use crate::error::StorageError;
use crate::plan::{self, Before, Plan, Put};
use crate::record::{Record, Stored};
use crate::seal::Sealer;
use crate::stream::Stream;

/// Removals are remembered for this many revisions; a feed that is further behind reads everything.
const REMEMBERED: u64 = 10_000;
/// Removals are forgotten when the revision is a multiple of this.
const FORGET_EVERY: u64 = 1_000;

/// What a committed batch did.
pub(crate) struct Committed {
    pub applied: Applied,
    pub raised: Vec<Raised>,
    /// Rows created or changed.
    pub written: usize,
}

/// A stream whose revision a batch raised, and what is different with it.
pub(crate) struct Raised {
    pub stream: Stream,
    pub revision: u64,
    pub changes: Vec<Change>,
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
    let (mut transaction, opening) = backend.open(&streams(batch), batch.fence.as_ref(), &named(batch)).await?;
    match run(&mut transaction, opening, sealer, batch, now).await {
        Ok((committed, writes)) if !writes.is_empty() => {
            transaction.commit_with(writes).await?;
            Ok(committed)
        }
        outcome => {
            transaction.rollback().await;
            outcome.map(|(committed, _)| committed)
        }
    }
}

/// Everything between the beginning and the end of the transaction.
async fn run(
    transaction: &mut Transaction,
    opening: Opening,
    sealer: &Sealer,
    batch: &Batch,
    now: DateTime<Utc>,
) -> Result<(Committed, Vec<Writes>), ApplyError> {
    let Opening { heads, deposed, records } = opening;
    if let Some(fence) = batch.fence.as_ref().filter(|_| deposed) {
        return Err(ApplyError::Deposed { lease: fence.lease.clone(), token: fence.token });
    }
    let before = read(transaction, sealer, batch, records).await?;
    let Plan { puts, removals, resources } = plan::plan(batch, &before, now)?;

    let (mut raised, mut writes) = (Vec::new(), Vec::new());
    for (stream, head) in &heads {
        let (stream, revision) = (*stream, head + 1);
        let puts: Vec<&Put> =
            puts.iter().filter(|put| Stream::of(put.stored.resource.meta.key.kind) == stream).collect();
        let removals = of_stream(stream, &removals);
        if !puts.is_empty() || !removals.is_empty() {
            raised.push(Raised { stream, revision, changes: changes(&puts, &removals) });
            writes.push(to_write(sealer, stream, revision, &puts, removals)?);
        }
    }
    let own = heads.first().map_or(0, |(stream, head)| {
        raised.iter().find(|raised| raised.stream == *stream).map_or(*head, |raised| raised.revision)
    });
    let written = puts.len();
    let applied = Applied { revision: own, resources, removed: removals, published_after: Duration::ZERO };
    Ok((Committed { applied, raised, written }, writes))
}

fn changes(puts: &[&Put], removals: &[Key]) -> Vec<Change> {
    let puts = puts.iter().map(|put| Change::Put(Arc::clone(&put.stored.resource)));
    removals.iter().cloned().map(Change::Remove).chain(puts).collect()
}

/// The streams to lock: those written, and both for what may take resources of the other along.
fn streams(batch: &Batch) -> Vec<Stream> {
    let touches = |write: &Write, stream: Stream| {
        let own = Stream::of(write.key().kind);
        own == stream || (own == Stream::Configuration && matches!(write, Write::Delete { .. } | Write::Remove { .. }))
    };
    Stream::ALL.into_iter().filter(|stream| batch.writes.iter().any(|write| touches(write, *stream))).collect()
}

fn to_write(
    sealer: &Sealer,
    stream: Stream,
    revision: u64,
    puts: &[&Put],
    removals: Vec<Key>,
) -> Result<Writes, ApplyError> {
    let seal = |put: &&Put| {
        Record::seal(&put.stored, sealer).map_err(|error| ApplyError::Invalid {
            key: put.stored.resource.meta.key.clone(),
            reason: error.to_string(),
        })
    };
    let fresh = puts.iter().filter(|put| put.fresh).map(|put| put.stored.resource.meta.key.clone());
    Ok(Writes {
        stream,
        revision,
        records: puts.iter().map(seal).collect::<Result<_, _>>()?,
        fresh: fresh.collect(),
        removals,
        horizon: revision.is_multiple_of(FORGET_EVERY).then(|| revision.saturating_sub(REMEMBERED)),
    })
}

/// Everything that a batch names: what it writes, owners, requirements.
fn named(batch: &Batch) -> Vec<Key> {
    let mut keys: HashSet<Key> = batch.required.iter().cloned().collect();
    for write in &batch.writes {
        keys.insert(write.key().clone());
        keys.extend(write.owner().cloned());
    }
    keys.into_iter().collect()
}

/// Reads everything that the batch can touch beyond what it names.
async fn read(
    transaction: &mut Transaction,
    sealer: &Sealer,
    batch: &Batch,
    named: Vec<Record>,
) -> Result<Before, StorageError> {
    let mut before = Before::default();
    keep(sealer, named, &mut before)?;

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
        let records = transaction.fetch(stream, &of_stream(stream, &keys)).await?;
        keep(sealer, records, into)?;
    }
    Ok(())
}

fn keep(sealer: &Sealer, records: Vec<Record>, into: &mut Before) -> Result<(), StorageError> {
    for record in records {
        let key = record.key.clone();
        let stored: Stored =
            record.unseal(sealer).map_err(|error| StorageError::unsealable("reading what a batch changes", error))?;
        into.stored.insert(key, stored);
    }
    Ok(())
}
