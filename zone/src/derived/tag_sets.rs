//! Running counts of sets of tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::spec::tags::Tags;

/// How often each set of tags occurs in each mesh, in the order in which Kuma lists them: by mesh, then by the tags as text.
///
/// What was added can be taken out again, so a change costs what it touches.
#[derive(Clone, Debug, Default)]
pub(super) struct TagSets(BTreeMap<(Arc<str>, String), (Tags, u32)>);

impl TagSets {
    /// Counts one more; `true` when the set is new.
    pub fn add(&mut self, mesh: &Arc<str>, tags: Tags) -> bool {
        let (_, count) = self.0.entry((Arc::clone(mesh), text(&tags))).or_insert((tags, 0));
        *count = count.saturating_add(1);
        *count == 1
    }

    /// Counts one less; `true` when the set is gone.
    pub fn take(&mut self, mesh: &Arc<str>, tags: &Tags) -> bool {
        let place = (Arc::clone(mesh), text(tags));
        let Some((_, count)) = self.0.get_mut(&place) else { return false };
        *count = count.saturating_sub(1);
        let gone = *count == 0;
        if gone {
            self.0.remove(&place);
        }
        gone
    }

    /// Meshes, sets and counts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tags, u32)> {
        self.0.iter().map(|((mesh, _), (tags, count))| (&**mesh, tags, *count))
    }
}

/// `a=1,b=2`: what Kuma sorts by.
fn text(tags: &Tags) -> String {
    let pairs: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}
