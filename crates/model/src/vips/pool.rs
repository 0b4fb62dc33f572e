//! Addresses of a network, given out one after the other.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Gives out the lowest address that was never taken; what was taken stays so as long as the pool lives.
///
/// A name that comes after another is gone has another address: who still sends to the old one must not reach it.
#[derive(Clone, Debug)]
pub struct Pool {
    first: u128,
    last: u128,
    v4: bool,
    taken: HashSet<u128>,
    next: u128,
    network: String,
}

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The text is no network.
    #[error("{0:?} is no network: an address, a slash and the length of its prefix are wanted, such as 240.0.0.0/4")]
    Network(String),
    /// Everything is taken.
    #[error("every address of {0} is taken")]
    Empty(String),
}

impl Pool {
    /// All addresses of a network, `240.0.0.0/4`.
    ///
    /// # Errors
    /// That is none.
    pub fn new(network: &str) -> Result<Self, PoolError> {
        let wrong = || PoolError::Network(network.to_owned());
        let (address, length) = network.split_once('/').ok_or_else(wrong)?;
        let (address, length): (IpAddr, u32) =
            (address.parse().map_err(|_| wrong())?, length.parse().map_err(|_| wrong())?);
        let width = if address.is_ipv4() { 32 } else { 128 };
        let free = u32::checked_sub(width, length).ok_or_else(wrong)?;
        let hosts = if free == 128 { u128::MAX } else { (1 << free) - 1 };
        let first = number(address) & !hosts;
        let v4 = address.is_ipv4();
        Ok(Self { first, last: first | hosts, v4, taken: HashSet::new(), next: first, network: network.to_owned() })
    }

    /// Takes one address; `false` when it is none of the network.
    pub fn reserve(&mut self, address: &str) -> bool {
        let Ok(address) = address.parse::<IpAddr>() else { return false };
        let fits = address.is_ipv4() == self.v4 && (self.first..=self.last).contains(&number(address));
        if fits {
            self.taken.insert(number(address));
        }
        fits
    }

    /// Takes the lowest that is free.
    ///
    /// # Errors
    /// There is none.
    pub fn allocate(&mut self) -> Result<IpAddr, PoolError> {
        while self.next <= self.last {
            let candidate = self.next;
            self.next = candidate.checked_add(1).ok_or_else(|| PoolError::Empty(self.network.clone()))?;
            if self.taken.insert(candidate) {
                return Ok(self.address(candidate));
            }
        }
        Err(PoolError::Empty(self.network.clone()))
    }

    fn address(&self, number: u128) -> IpAddr {
        match u32::try_from(number) {
            Ok(number) if self.v4 => Ipv4Addr::from_bits(number).into(),
            _ => Ipv6Addr::from_bits(number).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_begin_with_that_of_the_network_and_skip_what_is_taken() {
        let mut pool = Pool::new("241.7.7.7/8").unwrap();
        assert!(pool.reserve("241.0.0.1") && !pool.reserve("242.0.0.1") && !pool.reserve("") && !pool.reserve("::1"));
        let got: Vec<String> = (0..3).map(|_| pool.allocate().unwrap().to_string()).collect();
        assert_eq!(got, ["241.0.0.0", "241.0.0.2", "241.0.0.3"]);
        let mut small = Pool::new("fd00::/127").unwrap();
        assert_eq!((small.allocate().unwrap().to_string(), small.allocate().is_ok()), ("fd00::".to_owned(), true));
        assert_eq!(small.allocate(), Err(PoolError::Empty("fd00::/127".to_owned())));
    }

    #[test]
    fn nonsense_is_no_network() {
        for text in ["", "1.2.3.4", "1.2.3.4/33", "a/8", "1.2.3.4/x", "::/129"] {
            assert!(Pool::new(text).is_err(), "{text}");
        }
        assert!(Pool::new("::/0").unwrap().allocate().is_ok());
        assert!(Pool::new("255.255.255.255/32").unwrap().allocate().is_ok());
    }
}
