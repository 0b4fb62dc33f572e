//! From the events of a YAML or JSON reader to a value, counting what it costs and watching for keys given twice.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Limits;

/// Key under which YAML takes the members of other maps over.
const MERGE: &str = "<<";

/// What is said of a document that costs too much.
pub(super) const TOO_MUCH: &str = "has more content than is read at once; are aliases repeated many times?";

/// What is wrong at which field.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) path: String,
    pub(super) reason: String,
}

impl Fault {
    pub(super) fn here(reason: &str) -> Self {
        Self { path: String::new(), reason: reason.to_owned() }
    }
}

/// What a document may still cost, and what was wrong with it.
#[derive(Debug)]
pub(super) struct Budget(RefCell<State>);

#[derive(Debug)]
struct State {
    values: usize,
    bytes: usize,
    path: Vec<Step>,
    fault: Option<Fault>,
}

#[derive(Debug)]
enum Step {
    Key(String),
    Index(usize),
}

impl Budget {
    pub(super) fn new(limits: Limits) -> Self {
        // Aliases may repeat texts; twice the longest document is more than anybody writes.
        let bytes = limits.size.saturating_mul(2);
        Self(RefCell::new(State { values: limits.values, bytes, path: Vec::new(), fault: None }))
    }

    pub(super) fn into_fault(self) -> Option<Fault> {
        self.0.into_inner().fault
    }

    fn spend<E: Error>(&self, bytes: usize) -> Result<(), E> {
        let mut state = self.0.borrow_mut();
        let left = state.values.checked_sub(1).zip(state.bytes.checked_sub(bytes));
        match left {
            Some((values, bytes)) => {
                (state.values, state.bytes) = (values, bytes);
                Ok(())
            }
            None => {
                drop(state);
                Err(self.fail(TOO_MUCH))
            }
        }
    }

    /// Notes the first fault with its path; the error only carries the place.
    fn fail<E: Error>(&self, reason: impl Into<String>) -> E {
        let mut state = self.0.borrow_mut();
        let reason = reason.into();
        let error = E::custom(&reason);
        if state.fault.is_none() {
            let path = path_of(&state.path);
            state.fault = Some(Fault { path, reason });
        }
        error
    }

    fn enter(&self, step: Step) {
        self.0.borrow_mut().path.push(step);
    }

    fn leave(&self) {
        self.0.borrow_mut().path.pop();
    }
}

fn path_of(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Key(key) if is_plain(key) && path.is_empty() => path.push_str(key),
            Step::Key(key) if is_plain(key) => path.push_str(&format!(".{key}")),
            Step::Key(key) => path.push_str(&format!("[{:?}]", shortened(key))),
        }
    }
    path
}

fn is_plain(key: &str) -> bool {
    key.len() <= 64 && !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

/// The beginning of a key, so that a message stays one line.
fn shortened(key: &str) -> String {
    match key.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &key[..end]),
        None => key.to_owned(),
    }
}

/// Reads one value.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a Budget);

impl<'a> Reader<'a> {
    pub(super) fn at_root(budget: &'a Budget) -> Self {
        Self(budget)
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.0.spend(0)?;
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.0.spend(0)?;
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.0.spend(0)?;
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.0.spend(0)?;
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.0.spend(0)?;
        let number = Number::from_f64(value).ok_or_else(|| self.0.fail::<E>("has to be a finite number"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.0.spend(value.len())?;
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        self.0.spend(value.len())?;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.0.spend(0)?;
        let mut list = Vec::new();
        loop {
            self.0.enter(Step::Index(list.len()));
            let item = items.next_element_seed(self)?;
            self.0.leave();
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.0.spend(0)?;
        let mut members = Map::new();
        while let Some(key) = entries.next_key_seed(KeyReader { budget: self.0, seen: &members })? {
            self.0.enter(Step::Key(key.clone()));
            let value = entries.next_value_seed(self)?;
            self.0.leave();
            members.insert(key, value);
        }
        if let Some(merged) = members.shift_remove(MERGE) {
            merge(&mut members, merged).map_err(|reason| self.0.fail::<A::Error>(reason))?;
        }
        Ok(Value::Object(members))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(self.0.fail("has a tag that means nothing here"))
    }
}

/// Takes the members of a map, or of several, over; what a map says itself counts more.
fn merge(members: &mut Map<String, Value>, merged: Value) -> Result<(), &'static str> {
    let sources = match merged {
        Value::Array(sources) => sources,
        one => vec![one],
    };
    for source in sources {
        let Value::Object(source) = source else { return Err("\"<<\" takes a map, or a list of maps") };
        for (key, value) in source {
            members.entry(key).or_insert(value);
        }
    }
    Ok(())
}

/// Reads a key, which nobody may have given before in the same map. Scalars of YAML that are no texts count as such.
struct KeyReader<'a> {
    budget: &'a Budget,
    seen: &'a Map<String, Value>,
}

impl KeyReader<'_> {
    fn take<E: Error>(self, key: String) -> Result<String, E> {
        self.budget.spend(key.len())?;
        if self.seen.contains_key(&key) {
            return Err(self.budget.fail(format!("key {:?} is given twice", shortened(&key))));
        }
        Ok(key)
    }
}

impl<'de> DeserializeSeed<'de> for KeyReader<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for KeyReader<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text as key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        self.take(key.to_owned())
    }

    fn visit_bool<E: Error>(self, key: bool) -> Result<String, E> {
        self.take(key.to_string())
    }

    fn visit_u64<E: Error>(self, key: u64) -> Result<String, E> {
        self.take(key.to_string())
    }

    fn visit_i64<E: Error>(self, key: i64) -> Result<String, E> {
        self.take(key.to_string())
    }

    fn visit_f64<E: Error>(self, key: f64) -> Result<String, E> {
        self.take(key.to_string())
    }

    fn visit_unit<E: Error>(self) -> Result<String, E> {
        self.take("null".to_owned())
    }
}
