//! Servers that misbehave.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use super::*;

/// Answers every connection with the same bytes; its address.
fn serving(answer: impl Fn(&mut std::net::TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            answer(&mut stream);
        }
    });
    format!("http://{address}")
}

fn client(url: &str, timeout: Option<Duration>) -> Client {
    Client::new(&ApiServer { url: url.to_owned(), ..ApiServer::default() }, timeout).unwrap()
}

fn answering(status: &str, body: &str) -> Client {
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    client(&serving(move |stream| drop(stream.write_all(text.as_bytes()))), None)
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_told_with_its_beginning() {
    let error = answering("200 OK", "<html>hello").get_json(&[], &[]).await.unwrap_err().to_string();
    assert!(error.contains("is this the address of a control plane?") && error.contains("<html>hello"), "{error}");
}

#[tokio::test]
async fn a_refusal_without_our_body_is_told_with_its_status() {
    let error = answering("404 Not Found", "404: Page Not Found").get_json(&["x"], &[]).await.unwrap_err();
    assert_eq!(error.to_string(), "(404): 404: Page Not Found");
    assert!(error.is_not_found());
}

/// API-1: either half of the doubled fields is understood.
#[tokio::test]
async fn a_refusal_of_an_old_server_is_understood() {
    let body = r#"{"title": "No", "details": "bad", "causes": [{"field": "a", "message": "b"}]}"#;
    let error = answering("400 Bad Request", body).get(&[], &[]).await.unwrap_err();
    assert_eq!(error.to_string(), "No (bad)\n* a: b");
    let CallError::Refused(refusal) = error else { panic!("{error:?}") };
    assert_eq!(refusal.on_one_line(), "No (bad);a=b ");
}

#[tokio::test]
async fn a_slow_server_ends_at_the_limit() {
    let url = serving(|_| std::thread::sleep(Duration::from_secs(5)));
    let error = client(&url, Some(Duration::from_millis(50))).get(&[], &[]).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!("Get \"{url}/\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)")
    );
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let url = serving(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 1 << 20]).is_ok() {}
    });
    let error = fetch(&url, Duration::from_secs(20), 1 << 20).await.unwrap_err();
    assert!(error.ends_with("the answer is longer than 1 MiB, which is the most that is read"), "{error}");
}

#[tokio::test]
async fn a_server_that_hangs_up_and_one_that_is_not_there_are_told_apart() {
    let url = serving(|_| {});
    let error = client(&url, None).get(&[], &[]).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("Get \"{url}/\": ")), "{error}");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = client(&format!("http://127.0.0.1:{port}"), None).get(&["meshes"], &[]).await.unwrap_err().to_string();
    let wanted =
        format!("Get \"http://127.0.0.1:{port}/meshes\": dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(error, wanted);
}

#[test]
fn names_cannot_leave_their_place_in_the_path() {
    let client = client("http://cp/base/", None);
    assert_eq!(client.url(&["meshes", "a/../b?c"], &[]).as_str(), "http://cp/base/meshes/a%2F..%2Fb%3Fc");
    assert_eq!(client.url(&[], &[("b", "x y"), ("a", "k:v")]).as_str(), "http://cp/base?a=k%3Av&b=x+y");
}
