//! An item of `to` or `from`, whatever the kind.

use std::borrow::Cow;

use crate::policy::Merge;
use crate::spec::target_ref::{Item, TargetRef};
use crate::spec::{mesh_access_log, mesh_http_route, mesh_tcp_route};

/// A reference and what holds for it.
pub trait Entry {
    /// What holds.
    type Conf: Merge;

    /// What it holds for.
    fn target_ref(&self) -> &TargetRef;

    /// What holds.
    fn conf(&self) -> Cow<'_, Self::Conf>;
}

impl<C: Merge> Entry for Item<C> {
    type Conf = C;

    fn target_ref(&self) -> &TargetRef {
        &self.target_ref
    }

    fn conf(&self) -> Cow<'_, C> {
        Cow::Borrowed(&self.default)
    }
}

impl Entry for mesh_access_log::Item {
    type Conf = mesh_access_log::Conf;

    fn target_ref(&self) -> &TargetRef {
        &self.target_ref
    }

    fn conf(&self) -> Cow<'_, Self::Conf> {
        Cow::Borrowed(&self.default)
    }
}

impl Entry for mesh_http_route::To {
    type Conf = mesh_http_route::Rules;

    fn target_ref(&self) -> &TargetRef {
        &self.target_ref
    }

    fn conf(&self) -> Cow<'_, Self::Conf> {
        let hostnames = self.hostnames.clone().unwrap_or_default();
        Cow::Owned(mesh_http_route::Rules { rules: self.rules.clone(), hostnames })
    }
}

/// A TCP route has one rule; more are not looked at.
impl Entry for mesh_tcp_route::To {
    type Conf = mesh_tcp_route::Rule;

    fn target_ref(&self) -> &TargetRef {
        &self.target_ref
    }

    fn conf(&self) -> Cow<'_, Self::Conf> {
        match self.rules.first() {
            Some(rule) => Cow::Borrowed(rule),
            None => Cow::Owned(mesh_tcp_route::Rule::default()),
        }
    }
}
