//! Delta discovery, both ends: a [publisher](publisher::Publisher) tells a peer what changed in its [`View`], a
//! [subscriber](subscriber::Subscriber) is the mirror of that. KDS between control planes speaks it, and so does Envoy.
//!
//! Both ends are state machines: a message in, messages out. [`stream`] alone reads and writes a socket. What flows where
//! is said by [`kds::rules`], under which name and in which bytes by [`kds::wire`].
//!
//! A publisher keeps no copy of what it sent. It keeps, for each type, the [moment](View::Moment) that it last sent: a
//! snapshot, which shares with later ones all that did not change. So a stream costs a pointer for each type, and a
//! change costs the change.

mod delay;
mod fault;
pub mod kds;
pub mod outgoing;
pub mod publisher;
pub mod sotw;
pub mod stream;
pub mod subscriber;
mod told;
mod view;

pub use fault::Fault;
pub use view::{Changes, Encoded, Interest, View};
