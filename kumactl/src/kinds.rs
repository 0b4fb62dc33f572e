//! Kinds by the names that the command line gives them; the table itself is the model's.

use model::kind::{Kind, Scope};

/// Every kind that the command line has names for, with those of one and of many.
pub fn named() -> impl Iterator<Item = Kind> {
    Kind::ALL.iter().copied().filter(|kind| !kind.info().singular.is_empty())
}

/// The kind of a name for one resource.
pub fn of_one(name: &str) -> Option<Kind> {
    named().find(|kind| kind.info().singular.contains(&name))
}

/// Every name for one resource, sorted.
pub fn names_of_one() -> Vec<&'static str> {
    let mut names: Vec<&str> = named().flat_map(|kind| kind.info().singular).copied().collect();
    names.sort_unstable();
    names
}

/// Segments of the path of a kind's collection.
pub fn collection(kind: Kind, mesh: &str) -> Vec<&str> {
    match kind.info().scope {
        Scope::Global => vec![kind.info().path],
        Scope::Mesh => vec!["meshes", mesh, kind.info().path],
    }
}

/// Segments of the path of one resource.
pub fn item<'a>(kind: Kind, mesh: &'a str, name: &'a str) -> Vec<&'a str> {
    let mut path = collection(kind, mesh);
    path.push(name);
    path
}

/// The candidate that a misspelt word most likely meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |candidate: &str| strsim::damerau_levenshtein(&word.to_lowercase(), candidate);
    let best = candidates.into_iter().min_by_key(|candidate| distance(candidate))?;
    (distance(best) <= 1 + word.chars().count() / 3).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_its_path() {
        assert_eq!(item(Kind::MeshTimeout, "demo", "a"), ["meshes", "demo", "meshtimeouts", "a"]);
        assert_eq!(collection(Kind::Mesh, "demo"), ["meshes"]);
        assert_eq!(of_one("globalsecret"), Some(Kind::GlobalSecret));
        assert_eq!(of_one("meshinsight"), None);
    }

    #[test]
    fn a_slip_is_understood_and_nonsense_is_not() {
        assert_eq!(nearest("meshtimout", names_of_one()), Some("meshtimeout"));
        assert_eq!(nearest("MeshTimeout", names_of_one()), Some("meshtimeout"));
        assert_eq!(nearest("banana", names_of_one()), None);
    }
}
