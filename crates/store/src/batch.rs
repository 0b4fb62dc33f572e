//! What a writer asks for, and the answers.

use std::sync::Arc;
use std::time::Duration;

use model::{Key, Resource};

use crate::error::StorageError;
use crate::lease::Fence;

/// One change of one resource. Times are the store's; those of the resource are not looked at.
#[derive(Clone, Debug)]
pub enum Write {
    /// A new resource, version 1.
    Create {
        /// What to store; its version is not looked at.
        resource: Resource,
        /// What takes it along when it goes; must exist.
        owner: Option<Key>,
    },
    /// New content of the resource that has version `meta.version`.
    Update {
        /// What to store.
        resource: Resource,
    },
    /// The resource shall be so: created if missing, left alone (same version and times) if equal.
    Put {
        /// What to store; its version is not looked at.
        resource: Resource,
        /// As for [`Write::Create`]; `None` leaves the owner of a stored resource as it is.
        owner: Option<Key>,
    },
    /// An existing resource goes, with all that it owns.
    Delete {
        /// Which.
        key: Key,
        /// The version that it must have.
        version: Option<u64>,
    },
    /// The resource shall not be, nor what it owns; no error when it is missing.
    Remove {
        /// Which.
        key: Key,
    },
}

impl Write {
    /// The resource that is written.
    pub fn key(&self) -> &Key {
        match self {
            Self::Create { resource, .. } | Self::Update { resource } | Self::Put { resource, .. } => {
                &resource.meta.key
            }
            Self::Delete { key, .. } | Self::Remove { key } => key,
        }
    }

    /// The owner that is named.
    pub(crate) fn owner(&self) -> Option<&Key> {
        match self {
            Self::Create { owner, .. } | Self::Put { owner, .. } => owner.as_ref(),
            _ => None,
        }
    }
}

/// Changes that are made together or not at all, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(crate) writes: Vec<Write>,
    pub(crate) required: Vec<Key>,
    pub(crate) fence: Option<Fence>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds any write.
    #[must_use]
    pub fn with(mut self, write: Write) -> Self {
        self.writes.push(write);
        self
    }

    /// Adds a [`Write::Create`] without an owner.
    #[must_use]
    pub fn create(self, resource: Resource) -> Self {
        self.with(Write::Create { resource, owner: None })
    }

    /// Adds a [`Write::Update`].
    #[must_use]
    pub fn update(self, resource: Resource) -> Self {
        self.with(Write::Update { resource })
    }

    /// Adds a [`Write::Put`] without an owner.
    #[must_use]
    pub fn put(self, resource: Resource) -> Self {
        self.with(Write::Put { resource, owner: None })
    }

    /// Adds a [`Write::Delete`] of any version.
    #[must_use]
    pub fn delete(self, key: Key) -> Self {
        self.with(Write::Delete { key, version: None })
    }

    /// Adds a [`Write::Remove`].
    #[must_use]
    pub fn remove(self, key: Key) -> Self {
        self.with(Write::Remove { key })
    }

    /// Refuses the batch when this resource, say the mesh of what is created, does not exist before it.
    #[must_use]
    pub fn require(mut self, key: Key) -> Self {
        self.required.push(key);
        self
    }

    /// Refuses the batch when its writer is no longer the leader.
    #[must_use]
    pub fn fenced(mut self, fence: Fence) -> Self {
        self.fence = Some(fence);
        self
    }

    /// What it asks for, in order.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// How many writes it holds.
    pub fn len(&self) -> usize {
        self.writes.len()
    }
}

impl FromIterator<Write> for Batch {
    fn from_iter<I: IntoIterator<Item = Write>>(writes: I) -> Self {
        Self { writes: writes.into_iter().collect(), ..Self::default() }
    }
}

/// What a batch did.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Revision of the configuration stream after the batch; of the insight stream if it wrote insights alone.
    pub revision: u64,
    /// The resources as stored, one per create, update and put, in their order.
    pub resources: Vec<Arc<Resource>>,
    /// Everything that is gone: what was deleted and what that owned.
    pub removed: Vec<Key>,
    /// From the end of the commit until the local snapshots held it.
    pub published_after: Duration,
}

/// Why a batch changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A create of what exists.
    #[error("{0} already exists")]
    AlreadyExists(Key),
    /// An update or delete of another version than the stored one.
    #[error("{key} was changed by someone else: version {expected} was expected, {actual} is stored")]
    Conflict {
        /// The resource.
        key: Key,
        /// The version that the writer knew.
        expected: u64,
        /// The stored version.
        actual: u64,
    },
    /// An update or delete of what does not exist.
    #[error("{0} does not exist")]
    NotFound(Key),
    /// What the batch [requires](Batch::require) does not exist; for a mesh-scoped resource its mesh.
    #[error("{0} is required and does not exist")]
    RequirementMissing(Key),
    /// The owner of a new resource does not exist.
    #[error("{owner}, which is to own {key}, does not exist")]
    OwnerMissing {
        /// The new resource.
        key: Key,
        /// Its owner.
        owner: Key,
    },
    /// A resource that no database can hold.
    #[error("{key} cannot be stored: {reason}")]
    Invalid {
        /// The resource, its name cut short.
        key: Key,
        /// What is wrong with it.
        reason: String,
    },
    /// The writer has lost its lease to another.
    #[error("lease {lease:?} has passed on: token {token} is no longer valid")]
    Deposed {
        /// Name of the lease.
        lease: String,
        /// The token that the writer has.
        token: u64,
    },
    /// The database failed. After [`Fault::Unavailable`](crate::Fault::Unavailable) the batch may have been applied.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl ApplyError {
    /// Whether somebody else was faster: what a writer looked at had changed by the time of the write.
    pub fn is_lost_race(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::AlreadyExists(_) | Self::NotFound(_))
    }
}
