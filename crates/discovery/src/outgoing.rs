//! What goes to a peer on one stream: messages, and at the end a status that is never `OK` (KDS-22).

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{FutureExt, Stream};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

/// Messages that wait for the peer to read them. The state machines keep the newest of everything, so that a peer which
/// reads slowly costs no more than these.
const WAITING: usize = 4;

/// The end that tonic reads.
#[derive(Debug)]
pub struct Outgoing<M> {
    messages: mpsc::Receiver<M>,
    end: Option<oneshot::Receiver<Status>>,
}

/// A pair of ends: where messages go in, where the status goes in, and what tonic reads.
pub fn outgoing<M>() -> (mpsc::Sender<M>, oneshot::Sender<Status>, Outgoing<M>) {
    let (sender, messages) = mpsc::channel(WAITING);
    let (end, ended) = oneshot::channel();
    (sender, end, Outgoing { messages, end: Some(ended) })
}

impl<M> Stream for Outgoing<M> {
    type Item = Result<M, Status>;

    /// The end goes before what still waits: who is cut off gets nothing more.
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        if let Poll::Ready(status) = end.poll_unpin(context) {
            self.end = None;
            return Poll::Ready(Some(Err(status.unwrap_or_else(|_| Status::internal("stream failed")))));
        }
        match self.messages.poll_recv(context) {
            Poll::Ready(Some(message)) => Poll::Ready(Some(Ok(message))),
            // The end has been registered above and wakes this task.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn the_status_comes_last_and_goes_before_what_waits() {
        let (messages, end, mut outgoing) = outgoing::<u32>();
        messages.send(1).await.unwrap();
        assert_eq!(outgoing.next().await.unwrap().unwrap(), 1);
        messages.send(2).await.unwrap();
        end.send(Status::unavailable("stream unavailable")).unwrap();
        assert_eq!(outgoing.next().await.unwrap().unwrap_err().code(), Code::Unavailable);
        assert!(outgoing.next().await.is_none());
    }

    /// KDS-22: even when the task of the stream dies.
    #[tokio::test]
    async fn a_stream_whose_task_died_fails() {
        let (messages, end, mut outgoing) = outgoing::<u32>();
        drop((messages, end));
        assert_eq!(outgoing.next().await.unwrap().unwrap_err().code(), Code::Internal);
    }
}
