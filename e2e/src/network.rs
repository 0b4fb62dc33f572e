//! Machines on one switch: a network namespace each, whose packets can be dropped on the way.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

/// Address of the test itself, on the switch.
pub(crate) const TEST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Directions in which nothing passes. Nobody is told: packets vanish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Both.
    Both,
    /// What the machine sends.
    Outgoing,
    /// What it is sent.
    Incoming,
}

/// The switch; it goes with the scenario.
#[derive(Debug)]
pub(crate) struct Network {
    machines: Vec<String>,
}

impl Network {
    pub fn new() -> Self {
        ip("link set lo up");
        ip("link add switch type bridge");
        ip(&format!("addr add {TEST}/24 dev switch"));
        ip("link set switch up");
        Self { machines: Vec::new() }
    }

    /// A new machine and its address.
    pub fn machine(&mut self, name: &str) -> Ipv4Addr {
        self.machines.push(name.to_owned());
        self.plug_in(name)
    }

    /// Takes a machine off the switch, with all that its kernel knows of connections: nobody hears another word of them.
    pub fn pull_out(&self, name: &str) {
        ip(&format!("link del port{}", self.number(name)));
        ip(&format!("netns del {name}"));
    }

    /// Puts a machine on the switch, under the address that is its own.
    pub fn plug_in(&self, name: &str) -> Ipv4Addr {
        let number = self.number(name);
        let address = Ipv4Addr::new(10, 0, 0, 1 + number);
        ip(&format!("netns add {name}"));
        ip(&format!("link add port{number} type veth peer name eth0 netns {name}"));
        ip(&format!("link set port{number} master switch up"));
        ip(&format!("-n {name} addr add {address}/24 dev eth0"));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {name} link set lo up"));
        address
    }

    fn number(&self, name: &str) -> u8 {
        let position = self.machines.iter().position(|known| known == name).expect("a machine");
        u8::try_from(position + 1).unwrap()
    }
}

/// Drops all packets of a machine in these directions.
pub(crate) fn cut(machine: &str, cut: Cut) {
    let (incoming, outgoing) = (cut != Cut::Outgoing, cut != Cut::Incoming);
    filter(machine, incoming.then_some("drop"), outgoing.then_some("drop"));
}

/// Drops so many of a hundred packets in each direction.
pub(crate) fn loss(machine: &str, percent: u8) {
    let rule = format!("numgen random mod 100 < {percent} drop");
    filter(machine, Some(&rule), Some(&rule));
}

/// Drops nothing any more.
pub(crate) fn heal(machine: &str) {
    filter(machine, None, None);
}

fn filter(machine: &str, incoming: Option<&str>, outgoing: Option<&str>) {
    let rule = |side: &str, rule: Option<&str>| rule.map_or(String::new(), |rule| format!("{side} \"eth0\" {rule}"));
    let (incoming, outgoing) = (rule("iifname", incoming), rule("oifname", outgoing));
    let rules = format!(
        "table inet e2e\ndelete table inet e2e\ntable inet e2e {{\n\
         chain incoming {{ type filter hook input priority 0; {incoming}\n}}\n\
         chain outgoing {{ type filter hook output priority 0; {outgoing}\n}}\n}}\n"
    );
    let mut command = Command::new("ip");
    command.args(["netns", "exec", machine, "nft", "-f", "-"]).stdin(Stdio::piped());
    let mut nft = command.spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "nft refuses {rules}");
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}
