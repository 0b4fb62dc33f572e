//! `get .. --watch`: the table, then a line for everything that changes.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use serde_json::Value;

use super::{Wanted, columns, items};
use crate::client::Client;
use crate::failure::Failure;
use crate::io::Io;

/// How often the control plane is asked.
const PAUSE: Duration = Duration::from_secs(2);

/// Shows a list and then its changes, until the user has seen enough.
pub(super) async fn run(wanted: &Wanted, client: &Client, list: Value, wide: bool, io: &mut Io) -> Result<(), Failure> {
    let table = columns::table(wanted.kind, items(&list), io.clock.now(), wide);
    write!(io.stdout, "{table}")?;
    io.stdout.flush()?;
    let mut known = by_name(&list);
    let mut lost = false;
    loop {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = io.clock.sleep(PAUSE) => {}
        }
        // A control plane that restarts is no reason to stop watching.
        match wanted.list(client).await {
            Ok(list) => {
                let now = by_name(&list);
                for change in changes(&known, &now) {
                    show(&change, wanted, wide, io)?;
                }
                (known, lost) = (now, false);
            }
            Err(failure) if !lost => {
                lost = true;
                writeln!(io.stderr, "WARNING: {}; still watching", failure.text().unwrap_or_default())?;
            }
            Err(_) => {}
        }
    }
}

/// Resources by mesh and name.
type Known = BTreeMap<(String, String), Value>;

fn by_name(list: &Value) -> Known {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    items(list).iter().map(|resource| ((text(&resource["mesh"]), text(&resource["name"])), resource.clone())).collect()
}

/// What happened to a resource.
#[derive(Debug, PartialEq)]
struct Change<'a> {
    what: &'static str,
    resource: &'a Value,
}

fn changes<'a>(before: &'a Known, now: &'a Known) -> Vec<Change<'a>> {
    let seen = now.iter().filter_map(|(name, resource)| match before.get(name) {
        None => Some(Change { what: "added", resource }),
        Some(old) if old != resource => Some(Change { what: "changed", resource }),
        Some(_) => None,
    });
    let gone = before.iter().filter(|(name, _)| !now.contains_key(*name));
    seen.chain(gone.map(|(_, resource)| Change { what: "deleted", resource })).collect()
}

/// `19:00:05 changed   default   a   0s`.
fn show(change: &Change<'_>, wanted: &Wanted, wide: bool, io: &mut Io) -> Result<(), Failure> {
    let now = io.clock.now();
    let row = columns::table(wanted.kind, std::slice::from_ref(change.resource), now, wide).rows.concat();
    let time = io.wall(now).format("%H:%M:%S");
    writeln!(io.stdout, "{time} {:<9} {}", change.what, row.join("   "))?;
    io.stdout.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_comes_changes_and_goes_is_told() {
        let before = by_name(&json!({"items": [{"name": "a", "v": 1}, {"name": "b"}, {"name": "c"}]}));
        let now = by_name(&json!({"items": [{"name": "a", "v": 2}, {"name": "b"}, {"name": "d"}]}));
        let told: Vec<_> =
            changes(&before, &now).iter().map(|c| (c.what, c.resource["name"].as_str().unwrap())).collect();
        assert_eq!(told, [("changed", "a"), ("added", "d"), ("deleted", "c")]);
    }
}
