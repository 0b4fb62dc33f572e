//! One file a policy: how its rules are looked up, and what they mean for a plan or for what is emitted from it. None
//! knows another.

pub mod circuit_breaker;
pub mod health_check;
pub mod http_route;
pub mod load_balancing;
pub mod retry;
pub mod tcp_route;
pub mod timeout;
pub mod tls;
pub mod traffic_permission;
