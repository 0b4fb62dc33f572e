//! What a program has to know about its machine.

use std::net::IpAddr;

/// Name of this machine, as it calls itself.
pub fn name() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// Addresses of this machine that others can use: those of no interface that is down, link-local ones left out; loopback
/// ones last.
pub fn addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot list the addresses of this machine");
        Vec::new()
    });
    let usable = interfaces.into_iter().filter(|interface| !interface.is_link_local()).map(|interface| interface.ip());
    let mut addresses: Vec<IpAddr> = usable.collect();
    addresses.sort_by_key(|address| (address.is_loopback(), address.is_ipv6()));
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_a_name_and_loopback_comes_last() {
        assert!(!name().is_empty());
        let addresses = addresses();
        let first_loopback = addresses.iter().position(IpAddr::is_loopback).unwrap();
        assert!(addresses[first_loopback..].iter().all(IpAddr::is_loopback), "{addresses:?}");
    }
}
