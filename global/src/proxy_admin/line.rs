//! The streams of one operation, a seat for each, and the questions that wait for their answer.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::proxy_admin::Question;
use bytes::Bytes;
use model::Key;
use runtime::Clock;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::Exchange;

/// How long an answer may take. The zone itself gives its proxy ten seconds.
const LIMIT: Duration = Duration::from_secs(15);

/// Questions that wait at one zone at a time.
const MOST_WAITING: usize = 256;

/// Questions whose answer may still come though nobody waits any more, as far back as they are remembered.
const MOST_ABANDONED: usize = 1024;

/// Streams of all zones for one operation. Cheap to clone; clones are one.
#[derive(Debug)]
pub(crate) struct Line<E: Exchange>(Arc<Shared<E>>);

impl<E: Exchange> Clone for Line<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Shared<E: Exchange> {
    clock: Clock,
    zones: Mutex<BTreeMap<Arc<str>, Vec<Desk<E>>>>,
}

/// One stream of a zone. Of several the newest is used.
#[derive(Debug)]
struct Desk<E: Exchange> {
    id: Uuid,
    requests: mpsc::Sender<E::Request>,
    waiting: HashMap<String, oneshot::Sender<Result<Bytes, String>>>,
    abandoned: VecDeque<String>,
    _exchange: PhantomData<E>,
}

/// The place of a stream on its line. Dropping it gives it up; who waits for an answer is told.
#[derive(Debug)]
pub(crate) struct Seat<E: Exchange> {
    line: Line<E>,
    zone: Arc<str>,
    id: Uuid,
}

/// An answer to a question that was never asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unasked;

impl<E: Exchange> Line<E> {
    /// No streams yet.
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Shared { clock, zones: Mutex::default() }))
    }

    /// A zone's stream, on which requests go out.
    pub fn join(&self, zone: &Arc<str>, requests: mpsc::Sender<E::Request>) -> Seat<E> {
        let id = Uuid::new_v4();
        let desk = Desk { id, requests, waiting: HashMap::new(), abandoned: VecDeque::new(), _exchange: PhantomData };
        self.zones().entry(Arc::clone(zone)).or_default().push(desk);
        Seat { line: self.clone(), zone: Arc::clone(zone), id }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// The zone has no stream here, does not answer in time, or could not find out; the text says which.
    pub async fn ask(&self, zone: &str, proxy: &Key, name: &str, question: Question) -> Result<Bytes, String> {
        let id = Uuid::new_v4().to_string();
        let (answer, answered) = oneshot::channel();
        {
            let mut zones = self.zones();
            let desk = zones.get_mut(zone).and_then(|desks| desks.last_mut());
            let desk = desk.ok_or_else(|| format!("client {zone} is not connected"))?;
            if desk.waiting.len() >= MOST_WAITING {
                return Err(format!("client {zone} has {MOST_WAITING} questions to answer already, try again"));
            }
            let request = E::request(id.clone(), proxy, name, question);
            match desk.requests.try_send(request) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    return Err(format!("client {zone} does not take questions fast enough, try again"));
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(format!("client {zone} is not connected")),
            }
            desk.waiting.insert(id.clone(), answer);
        }
        let waiting = Waiting { line: self, zone, id };
        let answer = self.0.clock.timeout(LIMIT, answered).await;
        drop(waiting);
        match answer {
            Some(Ok(answer)) => answer,
            Some(Err(_)) => Err(format!("client {zone} went away before it answered")),
            None => Err(format!("client {zone} gave no answer within {} s", LIMIT.as_secs())),
        }
    }

    fn zones(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Vec<Desk<E>>>> {
        self.0.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody waits. When it is given up, its answer may still come and is no fault of the zone.
struct Waiting<'a, E: Exchange> {
    line: &'a Line<E>,
    zone: &'a str,
    id: String,
}

impl<E: Exchange> Drop for Waiting<'_, E> {
    fn drop(&mut self) {
        let mut zones = self.line.zones();
        for desk in zones.get_mut(self.zone).into_iter().flatten() {
            if desk.waiting.remove(&self.id).is_some() {
                desk.abandoned.push_back(std::mem::take(&mut self.id));
                if desk.abandoned.len() > MOST_ABANDONED {
                    desk.abandoned.pop_front();
                }
                return;
            }
        }
    }
}

impl<E: Exchange> Seat<E> {
    /// Hands an answer to who waits for it.
    ///
    /// # Errors
    /// The question was never asked on this stream.
    pub fn answered(&self, response: E::Response) -> Result<(), Unasked> {
        let (id, answer) = E::read(response);
        let mut zones = self.line.zones();
        let desk = zones.get_mut(&self.zone).and_then(|desks| desks.iter_mut().find(|desk| desk.id == self.id));
        let desk = desk.ok_or(Unasked)?;
        if let Some(waiting) = desk.waiting.remove(&id) {
            // Who waited may have gone this very moment.
            let _ = waiting.send(answer);
            return Ok(());
        }
        let late = desk.abandoned.iter().position(|abandoned| *abandoned == id).ok_or(Unasked)?;
        desk.abandoned.remove(late);
        Ok(())
    }
}

impl<E: Exchange> Drop for Seat<E> {
    fn drop(&mut self) {
        let mut zones = self.line.zones();
        if let Some(desks) = zones.get_mut(&self.zone) {
            desks.retain(|desk| desk.id != self.id);
            if desks.is_empty() {
                zones.remove(&self.zone);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use api::proxy_admin::Format;
    use kds_proto::kuma::mesh::v1alpha1::{StatsRequest, StatsResponse, stats_response};
    use model::Kind;
    use runtime::clock::ManualClock;

    use super::*;
    use crate::proxy_admin::Stats;

    const QUESTION: Question = Question::Stats { format: Format::Json, used_only: true };

    fn response(request: &StatsRequest, text: &str) -> StatsResponse {
        let result = Some(stats_response::Result::Stats(text.as_bytes().to_vec().into()));
        StatsResponse { request_id: request.request_id.clone(), result }
    }

    fn ask(line: &Line<Stats>) -> tokio::task::JoinHandle<Result<Bytes, String>> {
        let (line, proxy) = (line.clone(), Key::new(Kind::Dataplane, "default", "web-hashed"));
        tokio::spawn(async move { line.ask("east", &proxy, "web", QUESTION).await })
    }

    /// Requests are pipelined and answered in any order.
    #[tokio::test]
    async fn answers_find_their_questions() {
        let line = Line::<Stats>::new(Clock::system());
        assert_eq!(ask(&line).await.unwrap().unwrap_err(), "client east is not connected");
        let (requests, mut asked) = mpsc::channel(4);
        let seat = line.join(&"east".into(), requests);
        let (first, second) = (ask(&line), ask(&line));
        let (one, other) = (asked.recv().await.unwrap(), asked.recv().await.unwrap());
        assert_eq!((&*one.resource_type, &*one.resource_name, &*one.resource_mesh), ("Dataplane", "web", "default"));
        assert_eq!((one.format, one.used_only), (1, true));
        seat.answered(response(&other, "2")).unwrap();
        seat.answered(response(&one, "1")).unwrap();
        let mut answers = [first.await.unwrap().unwrap(), second.await.unwrap().unwrap()];
        answers.sort();
        assert_eq!(answers, [Bytes::from("1"), Bytes::from("2")]);
        assert_eq!(seat.answered(response(&one, "1")), Err(Unasked));
    }

    #[tokio::test]
    async fn an_answer_that_comes_too_late_is_no_fault() {
        let hand = ManualClock::at(chrono::DateTime::UNIX_EPOCH);
        let line = Line::<Stats>::new(hand.clock());
        let (requests, mut asked) = mpsc::channel(4);
        let seat = line.join(&"east".into(), requests);
        let waiting = ask(&line);
        let request = asked.recv().await.unwrap();
        while hand.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        hand.advance(LIMIT);
        assert_eq!(waiting.await.unwrap().unwrap_err(), "client east gave no answer within 15 s");
        assert_eq!(seat.answered(response(&request, "late")), Ok(()));
        assert_eq!(seat.answered(response(&request, "again")), Err(Unasked));
    }

    #[tokio::test]
    async fn the_newest_stream_is_used_and_who_waits_hears_of_its_end() {
        let line = Line::<Stats>::new(Clock::system());
        let (old, mut old_asked) = mpsc::channel(4);
        let (new, mut new_asked) = mpsc::channel(4);
        let _old_seat = line.join(&"east".into(), old);
        let seat = line.join(&"east".into(), new);
        let waiting = ask(&line);
        new_asked.recv().await.unwrap();
        drop(seat);
        assert_eq!(waiting.await.unwrap().unwrap_err(), "client east went away before it answered");
        let waiting = ask(&line);
        old_asked.recv().await.unwrap();
        waiting.abort();
    }
}
