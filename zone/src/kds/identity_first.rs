//! Puts what tells who the global is before everything else (see [`super::membership`]).

use std::collections::VecDeque;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kds_proto::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use model::Kind;
use runtime::Clock;
use tonic::Status;

/// Responses that are held back: more than there are kinds, and each kind has one before it is answered.
const MOST: usize = 100;
/// How long after the first response the global may take to tell who it is.
const LIMIT: Duration = Duration::from_secs(10);

type Told = Result<DeltaDiscoveryResponse, Status>;

/// The responses in their order, but none before the first of [`Kind::Config`].
pub(crate) fn identity_first<S>(responses: S, clock: Clock) -> impl Stream<Item = Told> + Send
where
    S: Stream<Item = Told> + Send + Unpin,
{
    let state = State { responses, clock, held: VecDeque::new(), deadline: None, known: false };
    stream::unfold(state, |mut state| async move {
        let next = state.next().await?;
        Some((next, state))
    })
}

struct State<S> {
    responses: S,
    clock: Clock,
    held: VecDeque<DeltaDiscoveryResponse>,
    /// When patience ends; none before there is something to wait for.
    deadline: Option<Duration>,
    known: bool,
}

impl<S: Stream<Item = Told> + Unpin> State<S> {
    async fn next(&mut self) -> Option<Told> {
        while !self.known {
            let response = match self.deadline {
                None => self.responses.next().await,
                Some(deadline) => tokio::select! {
                    response = self.responses.next() => response,
                    () = self.clock.sleep_until(deadline) => Some(Err(unknown())),
                },
            };
            match response? {
                Ok(response) if response.type_url == Kind::Config.name() => {
                    self.known = true;
                    return Some(Ok(response));
                }
                Ok(response) if self.held.len() < MOST => {
                    self.deadline.get_or_insert(self.clock.elapsed().saturating_add(LIMIT));
                    self.held.push_back(response);
                }
                Ok(_) => return Some(Err(unknown())),
                Err(status) => return Some(Err(status)),
            }
        }
        match self.held.pop_front() {
            Some(held) => Some(Ok(held)),
            None => self.responses.next().await,
        }
    }
}

fn unknown() -> Status {
    Status::failed_precondition(
        "the global tells its resources and not who it is: the Config kuma-cluster-id is missing",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &str) -> Told {
        Ok(DeltaDiscoveryResponse { type_url: kind.to_owned(), ..DeltaDiscoveryResponse::default() })
    }

    async fn order(told: Vec<Told>) -> Vec<String> {
        let ordered = identity_first(stream::iter(told), Clock::system());
        let kinds = ordered.map(|told| told.map_or_else(|status| status.message().to_owned(), |told| told.type_url));
        kinds.collect().await
    }

    #[tokio::test]
    async fn who_the_global_is_comes_first_and_the_rest_keeps_its_order() {
        let told = vec![of("Mesh"), of("Secret"), of("Config"), of("MeshTimeout"), of("Config"), of("Mesh")];
        assert_eq!(order(told).await, ["Config", "Mesh", "Secret", "MeshTimeout", "Config", "Mesh"]);
    }

    #[tokio::test]
    async fn an_end_before_that_takes_everything_along() {
        assert_eq!(order(vec![of("Mesh"), of("Secret")]).await, [""; 0]);
        let failed = order(vec![of("Mesh"), Err(Status::internal("stream failed")), of("Secret")]).await;
        assert_eq!(failed[0], "stream failed");
        let many = order((0..=MOST).map(|_| of("Mesh")).collect()).await;
        assert_eq!(many, [unknown().message()]);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let told = stream::iter([of("Mesh")]).chain(stream::pending());
        let mut ordered = std::pin::pin!(identity_first(told, Clock::system()));
        assert_eq!(ordered.next().await.unwrap().unwrap_err().message(), unknown().message());
    }
}
