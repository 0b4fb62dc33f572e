//! Secrets at rest.

use std::io;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::{Key, Kind, Resource};
use store::{Batch, KeyRing, Settings, Store};

use crate::fixture::{Fixture, content, resource};

const PLAIN: &str = "correct horse battery staple";

fn keys(ids: &[(&str, u8)]) -> Option<KeyRing> {
    let lines: Vec<String> = ids.iter().map(|(id, byte)| format!("{id} {}", STANDARD.encode([*byte; 32]))).collect();
    Some(KeyRing::parse(&lines.join("\n")).unwrap())
}

fn secret() -> Resource {
    resource(Key::new(Kind::Secret, "default", "token"), PLAIN)
}

async fn open(fixture: &Fixture, encryption: Option<KeyRing>) -> Result<Store, store::OpenError> {
    Store::open(Settings { encryption, ..fixture.settings() }).await
}

pub async fn secrets_are_encrypted_and_keys_rotate(fixture: &Fixture) {
    // Plain first: with a key configured later, everything is encrypted.
    let store = open(fixture, None).await.unwrap();
    let before = store.apply(Batch::new().create(secret())).await.unwrap().resources.remove(0);
    assert_eq!(fixture.stored_spec("token").await, PLAIN.as_bytes());
    store.close().await;

    let mut seen = vec![PLAIN.as_bytes().to_vec()];
    for (ring, id) in
        [(keys(&[("one", 1)]), "one"), (keys(&[("two", 2), ("one", 1)]), "two"), (keys(&[("two", 2)]), "two")]
    {
        let store = open(fixture, ring).await.unwrap();
        assert_eq!(store.get(&secret().meta.key).await.unwrap().as_ref(), Some(&before), "nothing changed for readers");
        assert_eq!(store.configuration().borrow().get(&secret().meta.key), Some(&before));
        assert_eq!(fixture.stored_key_id("token").await.as_deref(), Some(id));
        let stored = fixture.stored_spec("token").await;
        assert!(!String::from_utf8_lossy(&stored).contains("horse"));
        seen.push(stored);
        store.close().await;
    }
    assert_ne!(seen[1], seen[2]);
    assert_eq!(seen[2], seen[3], "what has the active key stays");

    for (ring, what) in
        [(None, "not configured"), (keys(&[("one", 1)]), "not configured"), (keys(&[("two", 9)]), "differs")]
    {
        let refused = open(fixture, ring).await.unwrap_err();
        assert!(refused.to_string().contains(what), "{refused}");
        assert!(refused.to_string().contains(r#"Secret "token" in mesh "default""#), "{refused}");
        assert!(!format!("{refused:?} {refused}").contains("horse"));
    }
}

pub async fn plain_secrets_are_warned_of_once_and_never_printed(fixture: &Fixture) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let store = open(fixture, None).await.unwrap();
    let applied = store.apply(Batch::new().create(secret())).await.unwrap();
    let refused = store.apply(Batch::new().create(secret())).await.unwrap_err();
    assert_eq!(content(&applied.resources[0]), PLAIN);
    let said = format!("{applied:?} {refused:?} {refused} {store:?} {}", log.text());
    assert_eq!(log.text().matches("stored unencrypted").count(), 1);
    assert!(!said.contains("horse"), "{said}");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
