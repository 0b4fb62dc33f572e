//! Which endpoint a new connection goes to.
//!
//! The order of a cluster is laid out once per update: every endpoint stands in it as often as its weight says, spread
//! evenly. One counter, shared by all threads, walks through it. So shares are exact over every round, and no prefix is
//! off by more than about one connection.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Longest order. Weights that would need a longer one are scaled to it; no share is then off by more than one in this
/// many.
const MAX_ORDER: u64 = 1 << 16;

/// Indexes of endpoints, each as often as its weight says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order(Box<[u16]>);

impl Order {
    /// Lays out weights; an endpoint of weight 0 gets nothing. Endpoints beyond the 65,536th get nothing either.
    pub fn new(weights: &[u32]) -> Self {
        let weights = scaled(&weights[..weights.len().min(1 << 16)]);
        let total: u64 = weights.iter().sum();
        // The n-th turn of an endpoint is due at (2n + 1) / (2 weight) of the round, earliest first.
        let mut due = BinaryHeap::with_capacity(weights.len());
        let turn = |at: usize, n: u64| Reverse(Turn { numerator: 2 * n + 1, weight: weights[at], at });
        due.extend((0..weights.len()).filter(|at| weights[*at] > 0).map(|at| turn(at, 0)));
        let mut order = Vec::with_capacity(usize::try_from(total).unwrap_or_default());
        while let Some(Reverse(Turn { numerator, weight, at })) = due.pop() {
            order.push(u16::try_from(at).unwrap_or(u16::MAX));
            let taken = numerator.div_ceil(2);
            if taken < weight {
                due.push(turn(at, taken));
            }
        }
        Self(order.into_boxed_slice())
    }

    /// The endpoint of the n-th connection; `None` when no endpoint has a weight.
    pub fn at(&self, n: usize) -> Option<usize> {
        let len = self.0.len();
        if len == 0 { None } else { Some(usize::from(self.0[n % len])) }
    }

    /// Connections of one round.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no endpoint has a weight.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// When an endpoint is due next, as a share of the round; equal ones in the order of their indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    numerator: u64,
    weight: u64,
    at: usize,
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Both below 2^17: the products fit.
        let (own, theirs) = (self.numerator * other.weight, other.numerator * self.weight);
        own.cmp(&theirs).then(self.at.cmp(&other.at))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The same shares in the smallest whole numbers, or as near as [`MAX_ORDER`] allows.
fn scaled(weights: &[u32]) -> Vec<u64> {
    let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, u64::from(*weight))).max(1);
    let exact: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) / divisor).collect();
    let total: u64 = exact.iter().sum();
    if total <= MAX_ORDER {
        return exact;
    }
    // Whoever has a weight keeps a turn.
    exact.iter().map(|weight| if *weight == 0 { 0 } else { (weight * MAX_ORDER / total).max(1) }).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Percentages of connections that go to each priority, from the shares of it that are healthy: as much as the first can
/// take when each can take 140 % of its healthy share, the rest to the next (Envoy's overprovisioning rule). All zero
/// when nobody is healthy.
///
/// `healthy` is (healthy, all) of each priority; `factor` in percent, 140 unless configured.
pub fn priority_loads(healthy: &[(usize, usize)], factor: u32) -> Vec<u32> {
    let capacity = |(healthy, all): &(usize, usize)| match all {
        0 => 0,
        all => u32::try_from(healthy * factor as usize / all).unwrap_or(u32::MAX).min(100),
    };
    let capacities: Vec<u32> = healthy.iter().map(capacity).collect();
    let total = capacities.iter().sum::<u32>().min(100);
    if total == 0 {
        return vec![0; healthy.len()];
    }
    let mut left = 100;
    let mut loads: Vec<u32> = Vec::with_capacity(capacities.len());
    for capacity in capacities {
        // Where all together cannot take everything, each takes more than it should, in proportion.
        let load = (capacity * 100 / total).min(left);
        left -= load;
        loads.push(load);
    }
    // What rounding left over goes to the first that takes anything.
    if let Some(first) = loads.iter_mut().find(|load| **load > 0) {
        *first += left;
    }
    loads
}

/// The priority of the n-th connection, given [`priority_loads`].
pub fn priority_of(loads: &[u32], n: usize) -> Option<usize> {
    // 61 has no factor in common with 100: the percents come in an order that spreads each priority over the round.
    let percent = u32::try_from(n % 100 * 61 % 100).unwrap_or_default();
    let mut up_to = 0;
    loads.iter().position(|load| {
        up_to += load;
        percent < up_to
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(order: &Order, endpoints: usize, connections: usize) -> Vec<usize> {
        let mut counts = vec![0; endpoints];
        for n in 0..connections {
            counts[order.at(n).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn shares_are_exact_and_spread() {
        let order = Order::new(&[2, 1, 5]);
        assert_eq!(order.len(), 8);
        assert_eq!(counts(&order, 3, 10_000), [2_500, 1_250, 6_250]);
        assert_eq!(Order::new(&[200, 100, 500]), order, "only the ratio counts");
        let mut run = 0;
        for n in 0..16 {
            run = if order.at(n) == Some(2) { run + 1 } else { 0 };
            assert!(run <= 3, "never more than three in a row: {order:?}");
        }
    }

    #[test]
    fn nobody_without_weight_is_chosen() {
        assert_eq!(Order::new(&[]).at(7), None);
        assert_eq!(Order::new(&[0, 0]).at(7), None);
        assert_eq!(counts(&Order::new(&[0, 3]), 2, 30), [0, 30]);
    }

    #[test]
    fn great_weights_are_scaled() {
        let order = Order::new(&[u32::MAX, 1, u32::MAX]);
        assert!(order.len() <= 1 << 16 | 1, "{}", order.len());
        let counts = counts(&order, 3, order.len());
        assert_eq!(counts[1], 1);
        assert!(counts[0].abs_diff(counts[2]) <= 1, "{counts:?}");
    }

    /// As Envoy's documentation of priority levels shows it.
    #[test]
    fn a_priority_takes_140_percent_of_what_is_healthy() {
        let loads = |healthy: &[(usize, usize)]| priority_loads(healthy, 140);
        assert_eq!(loads(&[(100, 100), (100, 100)]), [100, 0]);
        assert_eq!(loads(&[(72, 100), (72, 100)]), [100, 0]);
        assert_eq!(loads(&[(71, 100), (71, 100)]), [99, 1]);
        assert_eq!(loads(&[(50, 100), (50, 100)]), [70, 30]);
        assert_eq!(loads(&[(25, 100), (100, 100)]), [35, 65]);
        assert_eq!(loads(&[(25, 100), (25, 100)]), [50, 50]);
        assert_eq!(loads(&[(0, 100), (0, 100)]), [0, 0]);
        assert_eq!(loads(&[(0, 0), (1, 2)]), [0, 100]);
    }

    #[test]
    fn percents_are_spread_over_a_round() {
        let loads = [70, 30];
        let second = |from: usize, to: usize| (from..to).filter(|n| priority_of(&loads, *n) == Some(1)).count();
        assert_eq!(second(0, 100), 30);
        assert!((2..=4).contains(&second(0, 10)), "{}", second(0, 10));
        assert_eq!(priority_of(&[0, 0], 5), None);
    }

    proptest! {
        #[test]
        fn every_prefix_is_within_its_share(weights in prop::collection::vec(0_u32..50, 1..12)) {
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            let order = Order::new(&weights);
            let mut counts = vec![0_u32; weights.len()];
            for n in 0..order.len() {
                counts[order.at(n).unwrap()] += 1;
                for (count, weight) in counts.iter().zip(&weights) {
                    let share = f64::from(*weight) / f64::from(total) * (n + 1) as f64;
                    prop_assert!((f64::from(*count) - share).abs() < weights.len() as f64 / 2.0 + 0.5);
                }
            }
            let exact = weights.iter().zip(&counts).all(|(weight, count)| weight * u32::try_from(order.len()).unwrap() == count * total);
            prop_assert!(exact);
        }

        #[test]
        fn loads_make_up_everything(healthy in prop::collection::vec((0_usize..20, 0_usize..20), 1..6)) {
            let healthy: Vec<_> = healthy.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
            let loads = priority_loads(&healthy, 140);
            let sum: u32 = loads.iter().sum();
            let anybody = healthy.iter().any(|(healthy, all)| healthy * 140 / (*all).max(1) > 0);
            prop_assert_eq!(sum, if anybody { 100 } else { 0 });
        }
    }
}
