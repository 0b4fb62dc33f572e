//! The proxies that a policy holds for, or that a service is made of.

use std::sync::Arc;

use model::policy::{self, Proxy, tagged::Selectors};
use model::spec::{MeshService, dataplane};
use model::{Key, Kind, Resource, Snapshot};
use serde_json::{Value, json};

use super::{dataplane_of, meta};
use crate::problem::Problem;
use crate::query::{self, Page};
use crate::serve::Call;
use crate::{Api, resource};

const TITLE: &str = "Could not retrieve policy";

/// `…/<policies>/{name}/_resources/dataplanes`.
pub(super) fn of_policy(api: &Api, call: &Call, kind: Kind) -> Result<Value, Problem> {
    let key = resource::key_of(api, call, kind)?;
    let (page, snapshot) = (Page::from_query(&call.query, TITLE)?, api.configuration());
    let policy = snapshot.get(&key).ok_or_else(|| Problem::not_found(TITLE))?;
    if let Some(selectors) = Selectors::of(policy) {
        let chosen = |proxy: &Resource| dataplane_of(proxy).is_some_and(|dataplane| selectors.choose(&dataplane));
        return Ok(list(call, page, &snapshot, chosen));
    }
    let holds = |proxy: &Resource| {
        let dataplane = dataplane_of(proxy);
        dataplane.is_some_and(|dataplane| {
            policy::holds(&snapshot, policy, Proxy { meta: &proxy.meta, dataplane: &dataplane })
        })
    };
    Ok(list(call, page, &snapshot, holds))
}

/// `…/meshservices/{name}/_resources/dataplanes`, and `…/_dataplanes`.
pub(super) fn of_service(api: &Api, call: &Call) -> Result<Value, Problem> {
    let page = Page::from_query(&call.query, TITLE)?;
    let (snapshot, key) = (api.configuration(), Key::new(Kind::MeshService, call.name("mesh"), call.name("name")));
    let service = snapshot.get(&key).ok_or_else(|| Problem::not_found(TITLE))?;
    let service = service.spec.json::<MeshService>().map_err(|_| Problem::internal(TITLE))?;
    let of_service = |proxy: &Resource| match (&service.selector.dataplane_ref, &service.selector.dataplane_tags) {
        (Some(dataplane), _) => *dataplane.name == *proxy.meta.key.name,
        (None, Some(tags)) => dataplane_of(proxy).is_some_and(|dataplane| dataplane::is_chosen_by(&dataplane, tags)),
        (None, None) => false,
    };
    Ok(list(call, page, &snapshot, of_service))
}

fn list(call: &Call, page: Page, snapshot: &Snapshot, wanted: impl Fn(&Resource) -> bool) -> Value {
    let part = call.query.get("name").unwrap_or_default();
    let named = |proxy: &&Arc<Resource>| proxy.meta.key.name.contains(part);
    let all = snapshot.list_in(Kind::Dataplane, call.name("mesh"));
    let paged = page.cut(all.filter(named).filter(|proxy| wanted(proxy)));
    let items: Vec<Value> = paged.items.iter().map(|proxy| meta(&proxy.meta)).collect();
    let mut shown = json!({"items": items});
    if let Some(offset) = paged.next {
        shown["next"] = query::next_link(&call.origin, &call.path, &call.query, offset).into();
    }
    shown["total"] = paged.total.into();
    shown
}
