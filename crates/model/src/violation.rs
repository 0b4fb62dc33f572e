//! What is wrong with a document, all of it at once, each fault with the path of its field.

use std::fmt;

/// Path of a field as users write it: `networking.inbound[0].tags["kuma.io/service"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// The document itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// A path that starts with the name of a top-level field.
    pub fn of(field: &str) -> Self {
        Self(field.to_owned())
    }

    /// A member of the object at this path; dotted names go several levels down.
    pub fn field(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An item of the list at this path.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An entry of the map at this path.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key:?}]", self.0))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One fault of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, empty for the document as a whole.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Every fault of one document, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Adds a fault at a path.
    pub fn add(&mut self, at: &Path, reason: impl Into<String>) {
        self.0.push(Violation { field: at.0.clone(), reason: reason.into() });
    }

    /// Adds everything found elsewhere.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.0.iter()
    }

    /// `Ok` when nothing is wrong.
    ///
    /// # Errors
    /// The faults themselves.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl IntoIterator for Violations {
    type Item = Violation;
    type IntoIter = std::vec::IntoIter<Violation>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// `field: reason; field: reason`, as a NACK carries them (kds-wire 3.9).
impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, Violation { field, reason }) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}{field}: {reason}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_users_write_it() {
        let path = Path::of("networking").field("inbound").index(0).field("tags").key("kuma.io/service");
        assert_eq!(path.as_str(), r#"networking.inbound[0].tags["kuma.io/service"]"#);
        assert_eq!(Path::root().field("name").as_str(), "name");
    }

    #[test]
    fn faults_are_joined_in_the_order_found() {
        let mut faults = Violations::default();
        faults.add(&Path::of("spec.to"), "needs at least one item");
        faults.add(&Path::root(), "is bad");
        assert_eq!(faults.to_string(), "spec.to: needs at least one item; : is bad");
    }
}
