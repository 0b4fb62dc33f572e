//! The calls of `config`, which share one file: each is checked with the file that the one before it left.

use std::fs;
use std::sync::Arc;

use crate::Score;
use crate::call::Call;
use crate::server::{Server, World};

pub async fn replay() -> Score {
    let mut calls = Call::of_group("config");
    calls.sort_by_key(|call| call.notes.rsplit(' ').next().and_then(|step| step.parse::<u32>().ok()));
    let server = Server::start(World::recorded()).await;
    let mut score = Score::default();
    let mut before: Option<String> = None;
    for call in &calls {
        // Some steps were not kept. One that changed nothing had the file that it left.
        let changes = call.exit_code == 0
            && ["add", "remove", "switch"].contains(&call.args[call.args.len().min(3) - 1].as_str());
        if before.is_some() && !changes {
            before.clone_from(&call.config_file_after);
        }
        match check(call, before.as_deref(), &server).await {
            Ok(()) => score.passed += 1,
            Err(difference) => {
                score.differ.insert(call.name.clone(), difference);
            }
        }
        before.clone_from(&call.config_file_after);
    }
    score
}

async fn check(call: &Call, before: Option<&str>, server: &Server) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    if let Some(before) = before {
        fs::write(&config, server.to_real(before)).unwrap();
    }
    server.reset(call, &Arc::default(), false);
    let outcome = call.run_in(folder.path(), &config, server, None).await;
    let after = fs::read_to_string(&config).map(|text| server.to_recorded(&text)).ok();
    if after != call.config_file_after {
        return Err(format!("{:?}: the file is\n{after:?}\nrecorded\n{:?}", call.args, call.config_file_after));
    }
    call.agree_or_tell(&outcome)
}
