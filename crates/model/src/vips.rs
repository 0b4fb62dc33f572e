//! Virtual addresses of services by their tag, as Kuma keeps them: JSON in a Config of each mesh, which never leaves its
//! zone (zone-dataplane 8.4). A zone writes them, the configuration of proxies is made of them.

mod pool;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::labels::SERVICE_TAG;
use crate::resource::Key;
use crate::spec::formats::is_dns_name;
use crate::spec::tags::Tags;
use crate::{Kind, Snapshot};

pub use pool::{Pool, PoolError};

/// Key of the Config that holds the addresses of a mesh.
pub fn config_key(mesh: &str) -> Key {
    Key::global(Kind::Config, &format!("kuma-{mesh}-dns-vips"))
}

/// What a name comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A service tag: its name is that of the service, without a domain.
    Service,
    /// The host of a service outside the mesh.
    Host,
    /// A full name that somebody asked for.
    Domain,
}

/// A name and what it comes from: `0:backend` in the Config.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// What it comes from.
    pub origin: Origin,
    /// The name.
    pub name: String,
}

impl Name {
    /// A name.
    pub fn new(origin: Origin, name: &str) -> Self {
        Self { origin, name: name.to_owned() }
    }

    /// Whether it is an address, which needs no other.
    pub fn is_address(&self) -> bool {
        self.origin == Origin::Host && self.name.parse::<IpAddr>().is_ok()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin as u8, self.name)
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (origin, name) = text.split_once(':').ok_or_else(|| format!("{text:?} lacks a colon"))?;
        let origin = match origin {
            "0" => Origin::Service,
            "1" => Origin::Host,
            "2" => Origin::Domain,
            other => return Err(format!("{other:?} is no origin of a name")),
        };
        Ok(Self::new(origin, name))
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A name's address and what it leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualOutbound {
    /// The address; empty while there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Where each port leads, by port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbounds: Vec<Outbound>,
}

/// A port and where it leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Outbound {
    /// Its number; 0 of a service: the usual one alone.
    pub port: u32,
    /// Tags of the destination.
    #[serde(deserialize_with = "or_default")]
    pub tag_set: Tags,
    /// Who asked for it: `service`, or `virtual-outbound:` and a name.
    pub origin: String,
}

/// Go writes `null` for an empty map.
fn or_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tags, D::Error> {
    Ok(Option::<Tags>::deserialize(deserializer)?.unwrap_or_default())
}

/// The names of a mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct View(BTreeMap<Name, VirtualOutbound>);

/// A port that is claimed for two things.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is used for port {port} by {first} already")]
pub struct Taken {
    /// The name.
    pub name: String,
    /// The port.
    pub port: u32,
    /// Who has it.
    pub first: String,
}

/// A place to listen at, and what it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening<'a> {
    /// Virtual address.
    pub address: &'a str,
    /// Port.
    pub port: u32,
    /// Tags of the destination.
    pub tags: &'a Tags,
}

impl View {
    /// The names of a mesh as they are stored; none when there is nothing, or nothing that can be read.
    pub fn stored(snapshot: &Snapshot, mesh: &str) -> Self {
        use kds_proto::kuma::system::v1alpha1::Config;
        let config = snapshot.get(&config_key(mesh)).and_then(|resource| resource.spec.message::<Config>().ok());
        config.and_then(|config| serde_json::from_str(&config.config).ok()).unwrap_or_default()
    }

    /// The JSON of the Config.
    pub fn to_json(&self) -> String {
        // Names and texts: there is always a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and what they lead to, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &VirtualOutbound)> {
        self.0.iter()
    }

    /// Adds a port to a name.
    ///
    /// # Errors
    /// It leads elsewhere already; that stays.
    pub fn add(&mut self, name: Name, outbound: Outbound) -> Result<(), Taken> {
        let address = if name.is_address() { name.name.clone() } else { String::new() };
        let text = name.name.clone();
        let known = self.0.entry(name).or_insert_with(|| VirtualOutbound { address, outbounds: Vec::new() });
        match known.outbounds.iter().find(|other| other.port == outbound.port) {
            Some(other) if *other == outbound => Ok(()),
            Some(other) => Err(Taken { name: text, port: outbound.port, first: other.origin.clone() }),
            None => {
                known.outbounds.push(outbound);
                known.outbounds.sort_by_key(|outbound| outbound.port);
                Ok(())
            }
        }
    }

    /// Gives addresses to names: the one that an earlier view has, else the lowest that is free there.
    ///
    /// # Errors
    /// The pool is empty: what is left has no address.
    pub fn allocate(&mut self, earlier: &Self, mut pool: Pool) -> Result<(), PoolError> {
        let kept = |name: &Name| earlier.0.get(name).map(|known| known.address.as_str()).unwrap_or_default();
        let mut usable: BTreeMap<&Name, &str> = BTreeMap::new();
        for name in earlier.0.keys().filter(|name| !name.is_address()) {
            if pool.reserve(kept(name)) {
                usable.insert(name, kept(name));
            }
        }
        for (name, outbound) in self.0.iter_mut().filter(|(_, outbound)| outbound.address.is_empty()) {
            outbound.address = match usable.get(name) {
                Some(address) => (*address).to_owned(),
                None => pool.allocate()?.to_string(),
            };
        }
        Ok(())
    }

    /// Addresses and the names that DNS is to know for them.
    pub fn domains(&self, top_level: &str) -> Vec<(&str, Vec<String>)> {
        let named = |(name, outbound): (&Name, &VirtualOutbound)| match name.origin {
            Origin::Service => {
                let service = outbound.outbounds.first()?.tag_set.get(SERVICE_TAG)?;
                let plain = format!("{service}.{top_level}");
                let dotted = format!("{}.{top_level}", service.replace('_', "."));
                Some(if dotted == plain { vec![plain] } else { vec![plain, dotted] })
            }
            Origin::Host | Origin::Domain => is_dns_name(&name.name).then(|| vec![name.name.clone()]),
        };
        let addressed = self.0.iter().filter(|(_, outbound)| !outbound.address.is_empty());
        addressed.filter_map(|entry| Some((entry.1.address.as_str(), named(entry)?))).collect()
    }

    /// Where to listen: at each port that was asked for, and at the usual one of services and hosts.
    pub fn listening(&self, usual: u32) -> Vec<Listening<'_>> {
        let mut all = Vec::new();
        for (name, outbound) in self.0.iter().filter(|(_, outbound)| !outbound.address.is_empty()) {
            let at = |port, tags| Listening { address: &outbound.address, port, tags };
            // A service leads to one place, whatever is listed.
            let listed = if name.origin == Origin::Service { 1 } else { outbound.outbounds.len() };
            let listed = &outbound.outbounds[..listed.min(outbound.outbounds.len())];
            all.extend(listed.iter().filter(|entry| entry.port != 0).map(|entry| at(entry.port, &entry.tag_set)));
            let wants_usual = match name.origin {
                Origin::Service => true,
                Origin::Host => is_dns_name(&name.name),
                Origin::Domain => false,
            };
            if let Some(first) =
                listed.first().filter(|_| wants_usual && listed.iter().all(|entry| entry.port != usual))
            {
                all.push(at(usual, &first.tag_set));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, port: u32) -> (Name, Outbound) {
        let tag_set = [(SERVICE_TAG.to_owned(), name.to_owned())].into();
        (Name::new(Origin::Service, name), Outbound { port, tag_set, origin: "service".to_owned() })
    }

    fn view(entries: &[(Name, Outbound)]) -> View {
        let mut view = View::default();
        entries.iter().for_each(|(name, outbound)| view.add(name.clone(), outbound.clone()).unwrap());
        view
    }

    fn pool() -> Pool {
        Pool::new("240.0.0.0/4").unwrap()
    }

    fn addresses(view: &View) -> Vec<(String, String)> {
        view.iter().map(|(name, outbound)| (name.name.clone(), outbound.address.clone())).collect()
    }

    #[test]
    fn the_config_is_kumas() {
        let mut all = view(&[service("web", 0), service("httpbin", 443)]);
        all.allocate(&View::default(), pool()).unwrap();
        let text = r#"{"0:httpbin":{"address":"240.0.0.0","outbounds":[{"Port":443,"TagSet":{"kuma.io/service":"httpbin"},"Origin":"service"}]},"0:web":{"address":"240.0.0.1","outbounds":[{"Port":0,"TagSet":{"kuma.io/service":"web"},"Origin":"service"}]}}"#;
        assert_eq!(all.to_json(), text);
        assert_eq!(serde_json::from_str::<View>(text).unwrap(), all);
        let empty: View =
            serde_json::from_str(r#"{"2:a.b":{"outbounds":[{"Port":1,"TagSet":null,"Origin":""}]}}"#).unwrap();
        assert_eq!(addresses(&empty), [("a.b".to_owned(), String::new())]);
        for wrong in [r#"{"web":{}}"#, r#"{"7:web":{}}"#] {
            assert!(serde_json::from_str::<View>(wrong).is_err(), "{wrong}");
        }
        assert_eq!(config_key("default").to_string(), r#"Config "kuma-default-dns-vips""#);
    }

    #[test]
    fn addresses_stay_while_their_names_do() {
        let mut first = view(&[service("a", 0), service("b", 0), service("c", 0)]);
        first.allocate(&View::default(), pool()).unwrap();
        let mut second = view(&[service("b", 0), service("d", 0)]);
        second.allocate(&first, pool()).unwrap();
        let expected = [("b", "240.0.0.1"), ("d", "240.0.0.3")].map(|(name, ip)| (name.to_owned(), ip.to_owned()));
        assert_eq!(addresses(&second), expected, "an address is not given away with the name's end");
        let mut third = view(&[service("b", 0), service("d", 0), service("e", 0)]);
        third.allocate(&second, pool()).unwrap();
        assert_eq!(addresses(&third)[2].1, "240.0.0.0");
        // Another network: what is outside of it is given anew.
        let mut moved = view(&[service("b", 0)]);
        moved.allocate(&third, Pool::new("10.0.0.8/31").unwrap()).unwrap();
        assert_eq!(addresses(&moved)[0].1, "10.0.0.8");
        let mut many = view(&[service("a", 0), service("b", 0), service("c", 0)]);
        assert!(many.allocate(&View::default(), Pool::new("10.0.0.8/31").unwrap()).is_err());
        assert_eq!(many.listening(80).len(), 2);
    }

    /// DP-58
    #[test]
    fn services_are_found_by_two_names_at_the_usual_port() {
        let mut all = view(&[service("web_demo_svc_8080", 0), service("httpbin", 443), service("plain", 80)]);
        all.allocate(&View::default(), pool()).unwrap();
        let names: Vec<String> = all.domains("mesh").into_iter().flat_map(|(_, names)| names).collect();
        let expected = ["httpbin.mesh", "plain.mesh", "web_demo_svc_8080.mesh", "web.demo.svc.8080.mesh"];
        assert_eq!(names, expected);
        let places: Vec<String> =
            all.listening(80).iter().map(|place| format!("{}:{}", place.address, place.port)).collect();
        assert_eq!(places, ["240.0.0.0:443", "240.0.0.0:80", "240.0.0.1:80", "240.0.0.2:80"]);
    }

    #[test]
    fn hosts_and_domains_listen_where_they_are_asked_to() {
        let outbound = |port, service: &str| Outbound { port, ..service_outbound(service) };
        let mut all = View::default();
        all.add(Name::new(Origin::Host, "httpbin.org"), outbound(443, "h")).unwrap();
        all.add(Name::new(Origin::Host, "192.0.2.7"), outbound(443, "i")).unwrap();
        all.add(Name::new(Origin::Domain, "web.example"), outbound(8080, "w")).unwrap();
        all.add(Name::new(Origin::Domain, "web.example"), outbound(80, "v")).unwrap();
        all.add(Name::new(Origin::Domain, "web.example"), outbound(80, "v")).unwrap();
        let taken = all.add(Name::new(Origin::Domain, "web.example"), outbound(80, "x")).unwrap_err();
        assert_eq!(taken.to_string(), "web.example is used for port 80 by service already");
        all.allocate(&View::default(), pool()).unwrap();
        let places: Vec<String> = all
            .listening(80)
            .iter()
            .map(|place| format!("{}:{} {}", place.address, place.port, place.tags[SERVICE_TAG]))
            .collect();
        let expected = ["192.0.2.7:443 i", "240.0.0.0:443 h", "240.0.0.0:80 h", "240.0.0.1:80 v", "240.0.0.1:8080 w"];
        assert_eq!(places, expected);
        let names: Vec<&str> = all.domains("mesh").iter().map(|(address, _)| *address).collect();
        assert_eq!(names, ["240.0.0.0", "240.0.0.1"], "an address has no name");
    }

    fn service_outbound(name: &str) -> Outbound {
        service(name, 0).1
    }
}
