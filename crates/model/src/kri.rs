//! Identifiers of resources that are the same in every control plane (api-and-kumactl 1.6).

use std::fmt;
use std::str::FromStr;

use crate::kind::Kind;
use crate::labels;
use crate::resource::Meta;

/// `kri_<short name>_<mesh>_<zone>_<namespace>_<name>_<section>`; parts that a resource lacks are empty.
///
/// Sorted as their texts are only within one kind; nothing relies on more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kri {
    /// A kind that has a short name.
    pub kind: Kind,
    /// Mesh of the resource.
    pub mesh: String,
    /// Zone that owns it.
    pub zone: String,
    /// Its namespace on Kubernetes.
    pub namespace: String,
    /// The name that users gave it.
    pub name: String,
    /// A part of it, for instance a port's name or number.
    pub section: String,
}

impl Kri {
    /// The identifier of a resource as a whole; kinds without a short name have none.
    pub fn of(meta: &Meta) -> Option<Self> {
        meta.key.kind.info().short_name?;
        let label = |key| meta.labels.get(key).unwrap_or_default().to_owned();
        Some(Self {
            kind: meta.key.kind,
            mesh: meta.key.mesh.to_string(),
            zone: label(labels::ZONE),
            namespace: label(labels::NAMESPACE),
            name: meta.display_name().to_owned(),
            section: String::new(),
        })
    }

    /// The identifier of a part of the same resource; an empty section means the whole.
    #[must_use]
    pub fn with_section(&self, section: impl fmt::Display) -> Self {
        Self { section: section.to_string(), ..self.clone() }
    }
}

impl fmt::Display for Kri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mesh, zone, namespace, name, section } = self;
        let short = kind.info().short_name.unwrap_or_default();
        write!(f, "kri_{short}_{mesh}_{zone}_{namespace}_{name}_{section}")
    }
}

/// Text that is no identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KriError {
    /// Fewer parts than there are.
    #[error("invalid identifier string: {0:?}")]
    Parts(String),
    /// Enough parts, and the first is another.
    #[error("identifier must start with 'kri': {0:?}")]
    Prefix(String),
    /// No kind has this short name.
    #[error("unknown short name of resource type: {0:?}")]
    ShortName(String),
}

impl FromStr for Kri {
    type Err = KriError;

    /// Underscores in the section are dropped, as Kuma drops them.
    fn from_str(text: &str) -> Result<Self, KriError> {
        let mut parts = text.splitn(7, '_');
        let mut next = || parts.next().ok_or_else(|| KriError::Parts(text.to_owned()));
        let [prefix, short, mesh, zone, namespace, name, section] =
            [next()?, next()?, next()?, next()?, next()?, next()?, next()?];
        if prefix != "kri" {
            return Err(KriError::Prefix(text.to_owned()));
        }
        let kind = Kind::from_short_name(short).ok_or_else(|| KriError::ShortName(short.to_owned()))?;
        let [mesh, zone, namespace, name] = [mesh, zone, namespace, name].map(str::to_owned);
        Ok(Self { kind, mesh, zone, namespace, name, section: section.replace('_', "") })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resource::Key;

    fn kri_of(kind: Kind, name: &str, labels: &[(&str, &str)]) -> Option<String> {
        let meta = Meta::new(Key::new(kind, "default", name), labels.iter().copied().collect());
        Kri::of(&meta).map(|kri| kri.to_string())
    }

    #[test]
    fn an_identifier_names_owner_and_display_name() {
        let east = (labels::ZONE, "east");
        assert_eq!(kri_of(Kind::Mesh, "default", &[]).as_deref(), Some("kri_m____default_"));
        assert_eq!(kri_of(Kind::ZoneIngress, "zi", &[east]).as_deref(), Some("kri_zi__east__zi_"));
        assert_eq!(
            kri_of(Kind::MeshTimeout, "mt-x", &[(labels::DISPLAY_NAME, "mt"), (labels::NAMESPACE, "ns"), east])
                .as_deref(),
            Some("kri_mt_default_east_ns_mt_")
        );
        assert_eq!(kri_of(Kind::Zone, "east", &[]), None);
        assert_eq!(kri_of(Kind::Secret, "s", &[]), None);
    }

    #[test]
    fn what_is_no_identifier_is_refused() {
        let error = |text: &str| text.parse::<Kri>().unwrap_err().to_string();
        assert_eq!(error("kri_bad"), r#"invalid identifier string: "kri_bad""#);
        assert_eq!(error("notakri"), r#"invalid identifier string: "notakri""#);
        assert_eq!(error(""), r#"invalid identifier string: """#);
        assert_eq!(error("kr_mt_____"), r#"identifier must start with 'kri': "kr_mt_____""#);
        assert_eq!(error("kri_xx____a_"), r#"unknown short name of resource type: "xx""#);
        assert_eq!(error("kri_______"), r#"unknown short name of resource type: """#);
        assert_eq!("kri_mt_____a_b".parse::<Kri>().unwrap().section, "ab");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(
            kind in proptest::sample::select(Kind::ALL),
            parts in proptest::array::uniform5("[-a-z0-9.]{0,12}"),
        ) {
            prop_assume!(kind.info().short_name.is_some());
            let [mesh, zone, namespace, name, section] = parts;
            let kri = Kri { kind, mesh, zone, namespace, name, section };
            prop_assert_eq!(kri.to_string().parse(), Ok(kri));
        }

        #[test]
        fn any_text_is_an_identifier_or_an_error(text in ".{0,40}", tail in "(_[a-z]{0,2}){0,9}") {
            let _ = text.parse::<Kri>();
            if let Ok(kri) = format!("kri{tail}").parse::<Kri>() {
                prop_assert_eq!(kri.to_string().parse(), Ok(kri));
            }
        }
    }
}
