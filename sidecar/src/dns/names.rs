//! Names of the mesh and their addresses.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, PoisonError, RwLock};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use serde::Deserialize;

/// How long an answer holds, in seconds, unless the control plane says.
const LIFE: u32 = 30;

/// What the control plane sends: `/dns`.
#[derive(Debug, Deserialize)]
pub struct Records {
    #[serde(default)]
    records: Vec<Entry>,
    #[serde(default)]
    ttl: u32,
}

#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    ips: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Addresses {
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
}

#[derive(Debug, Default)]
struct Table {
    names: HashMap<String, Addresses>,
    life: u32,
}

/// The names that are known now. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Names(Arc<RwLock<Arc<Table>>>);

impl Names {
    /// Takes others. An address that is none is left out.
    pub fn replace(&self, records: &Records) {
        let mut table = Table { life: if records.ttl == 0 { LIFE } else { records.ttl }, ..Table::default() };
        for entry in &records.records {
            let addresses = table.names.entry(canonical(&entry.name)).or_default();
            for text in &entry.ips {
                match text.parse() {
                    Ok(IpAddr::V4(address)) => addresses.v4.push(address),
                    Ok(IpAddr::V6(address)) => addresses.v6.push(address),
                    Err(_) => tracing::warn!(name = entry.name, address = text, "no address of a name"),
                }
            }
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table().names.len()
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The answer to a question about addresses of a known name.
    pub fn answer(&self, request: &Message) -> Option<Message> {
        let [query] = request.queries.as_slice() else { return None };
        if request.metadata.op_code != OpCode::Query || query.query_class != DNSClass::IN {
            return None;
        }
        let table = self.table();
        let addresses = || table.names.get(&canonical(&query.name.to_ascii()));
        let data: Vec<RData> = match query.query_type {
            RecordType::A => addresses()?.v4.iter().map(|address| RData::A((*address).into())).collect(),
            RecordType::AAAA => addresses()?.v6.iter().map(|address| RData::AAAA((*address).into())).collect(),
            _ => return None,
        };
        let mut answer = Message::new(request.metadata.id, MessageType::Response, OpCode::Query);
        answer.metadata.authoritative = true;
        answer.metadata.recursion_desired = request.metadata.recursion_desired;
        answer.metadata.response_code = ResponseCode::NoError;
        // As it was asked, in its letters.
        answer.add_query(query.clone());
        answer.add_answers(data.into_iter().map(|data| Record::from_rdata(query.name.clone(), table.life, data)));
        Some(answer)
    }
}

/// Names are equal whatever the case of their letters (RFC 4343), with or without the last dot.
fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
pub(crate) mod tests {
    use hickory_proto::op::Query;
    use hickory_proto::rr::Name;

    use super::*;

    /// As recorded, with the last entry spoilt.
    pub fn names() -> Names {
        let text = r#"{"records":[
            {"name":"web.svc.mesh.local","ips":["241.0.0.52","::ffff:f100:34"]},
            {"name":"ext-http.extsvc.mesh.local","ips":["242.0.0.0"]},
            {"name":"odd.svc.mesh.local","ips":["hello"]}]}"#;
        let names = Names::default();
        names.replace(&serde_json::from_str(text).unwrap());
        names
    }

    pub fn question(name: &str, r#type: RecordType) -> Message {
        let mut request = Message::new(7, MessageType::Query, OpCode::Query);
        request.metadata.recursion_desired = true;
        request.add_query(Query::query(Name::from_ascii(name).unwrap(), r#type));
        request
    }

    fn told(name: &str, r#type: RecordType) -> Option<Vec<String>> {
        let answer = names().answer(&question(name, r#type))?;
        assert!(answer.metadata.authoritative && answer.metadata.recursion_desired && answer.metadata.id == 7);
        assert!(answer.answers.iter().all(|record| record.ttl == LIFE && record.name.to_ascii() == name));
        Some(answer.answers.iter().map(|record| record.data.to_string()).collect())
    }

    /// DP-58 in its name server's half, with the recorded answers.
    #[test]
    fn known_names_have_the_recorded_addresses() {
        let one = |text: &str| Some(vec![text.to_owned()]);
        assert_eq!(told("web.svc.mesh.local.", RecordType::A), one("241.0.0.52"));
        assert_eq!(told("web.svc.mesh.local.", RecordType::AAAA), one("::ffff:241.0.0.52"));
        assert_eq!(told("WEB.svc.Mesh.local.", RecordType::A), one("241.0.0.52"));
        assert_eq!(told("ext-http.extsvc.mesh.local.", RecordType::AAAA), Some(vec![]), "no error, and nothing");
        assert_eq!(told("odd.svc.mesh.local.", RecordType::A), Some(vec![]));
        assert_eq!(told("web.svc.mesh.local.", RecordType::TXT), None, "asked elsewhere");
        assert_eq!(told("nope.mesh.", RecordType::A), None);
    }
}
