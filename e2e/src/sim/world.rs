//! One simulated world: what users do and what goes wrong, as a seed says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use fastrand::Rng;
use kds_proto::kuma::system::v1alpha1::{Zone, ZoneInsight};
use model::{Key, Kind, Labels, Payload, Resource};
use runtime::ManualClock;
use store::Batch;
use store::simulated::{Disk, Faults, Signals};

use super::Outcome;
use super::content::{self, MESH, OF_GLOBAL, OF_ZONE};
use super::machine::{Answer, Machine, Order, Running, hand};
use super::network::{Network, SILENCE};
use super::oracle::{Author, Id, Oracle};
use super::peer::{Known, Peer};
use super::trace::Trace;

/// Simulated time per step.
const TICK: Duration = Duration::from_millis(10);
/// For everybody to agree, once nothing goes wrong any more.
const PATIENCE: Duration = Duration::from_secs(120);
/// Agreement must last so long: more than the stores take to look again by themselves.
const LASTS: Duration = Duration::from_secs(7);
/// Names of each kind and writer.
const NAMES: usize = 4;

/// The simulation of one seed.
pub(crate) struct World {
    sim: turmoil::Sim<'static>,
    rng: Rng,
    machines: Vec<Machine>,
    /// Peers that misbehave, and what they do.
    peers: Vec<(String, Known)>,
    disks: BTreeMap<Author, Site>,
    network: Network,
    running: Running,
    hand: ManualClock,
    oracle: Oracle,
    trace: Trace,
    faults: Vec<(Duration, Fault)>,
    /// Orders without an answer, with the machine that has them.
    orders: BTreeMap<u64, String>,
    /// Among them those that switch a zone on or off.
    switches: BTreeMap<u64, (Author, bool)>,
    last_number: u64,
    /// When users act next, and when something goes wrong next.
    next: [Duration; 2],
    active: Duration,
}

/// A disk, and how many commits of it were looked at.
struct Site {
    disk: Disk,
    seen: u64,
}

/// What goes wrong for a while. Machines are given by their place in the list.
#[derive(Debug)]
enum Fault {
    /// Nothing goes through between two machines.
    Cut {
        between: [usize; 2],
        ends: Vec<u64>,
        reset: Duration,
    },
    /// Nothing goes through in one direction.
    CutOneWay {
        from: usize,
        to: usize,
        ends: Vec<u64>,
        reset: Duration,
    },
    Down(usize),
    /// Something is wrong with the disk of one machine.
    Disk(usize),
}

impl World {
    pub fn new(seed: u64) -> Self {
        // Jitter of the programs comes from here.
        fastrand::seed(seed);
        let mut rng = Rng::with_seed(seed);
        let replicas = if rng.u8(..10) < 6 { 1 } else { 2 };
        let zones = match rng.u8(..20) {
            0 => rng.usize(8..=20),
            1..=4 => rng.usize(4..=7),
            _ => rng.usize(2..=3),
        };
        let mut sim = turmoil::Builder::new()
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(3_600))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(40))
            .tcp_capacity(1 << 16)
            .rng_seed(seed)
            .build();
        let (hand, clock) = hand();
        let (network, running) = (Network::default(), Running::default());
        let globals: Arc<[String]> = (0..replicas).map(|n| format!("global-{n}")).collect();
        let mut authors = vec![Author::Global];
        authors.extend((0..zones).map(|n| Author::Zone(format!("zone-{n}").into())));
        let (mut machines, mut disks, mut oracle) = (Vec::new(), BTreeMap::new(), Oracle::default());
        for of in authors {
            let disk = Disk::new(clock.clone());
            let names: Vec<String> = match &of {
                Author::Global => globals.to_vec(),
                Author::Zone(zone) if rng.u8(..8) == 0 => vec![format!("{zone}-a"), format!("{zone}-b")],
                Author::Zone(zone) => vec![zone.to_string()],
            };
            let keeps_secret = matches!(of, Author::Zone(_)) && rng.bool();
            if keeps_secret {
                oracle.ask(&content::taken(of.clone()), 0, true);
            }
            for name in names {
                let (network, running, globals) = (network.clone(), running.clone(), Arc::clone(&globals));
                let (of, mount) = (of.clone(), disk.mount());
                machines.push(Machine { name, of, mount, network, running, keeps_secret, globals });
            }
            oracle.watch(of.clone());
            disks.insert(of, Site { disk, seen: 0 });
        }
        for machine in &machines {
            let machine = machine.clone();
            sim.host(machine.name.clone(), move || machine.clone().run());
        }
        oracle.answer(0, true);
        let active = Duration::from_secs(rng.u64(10..=25));
        let others: Arc<[String]> = (0..zones).map(|n| format!("zone-{n}")).collect();
        let mut peers = Vec::new();
        for n in 0..rng.usize(0..=2) {
            let (name, known) = (format!("peer-{n}"), Known::default());
            let peer = Peer {
                name: name.clone(),
                others: Arc::clone(&others),
                globals: Arc::clone(&globals),
                network: network.clone(),
                until: active,
                known: known.clone(),
            };
            sim.host(name.clone(), move || peer.clone().run());
            peers.push((name, known));
        }
        let mut world = Self {
            sim,
            rng,
            machines,
            peers,
            disks,
            network,
            running,
            hand,
            oracle,
            trace: Trace::default(),
            faults: Vec::new(),
            orders: BTreeMap::new(),
            switches: BTreeMap::new(),
            last_number: 0,
            next: [Duration::ZERO, Duration::from_secs(2)],
            active,
        };
        world.trace.line("seed", format_args!("{seed}: {replicas} of the global, {zones} zones, {active:?}"));
        world
    }

    pub fn run(mut self) -> Outcome {
        let failure = self.play().err();
        if let Some(failure) = &failure {
            self.trace.line("FAILURE", failure);
        }
        Outcome { trace: self.trace.into_text(), failure }
    }

    fn play(&mut self) -> Result<(), String> {
        while !self.machines.iter().all(|machine| self.running.is_up(&machine.name)) {
            self.step()?;
        }
        let mesh = Id { author: Author::Global, kind: Kind::Mesh, mesh: "".into(), name: MESH.into() };
        self.write(0, &mesh, true);
        while !self.orders.is_empty() {
            self.step()?;
        }
        self.write(0, &content::taken(Author::Global), true);
        while self.now() < self.active {
            self.users();
            self.misfortune()?;
            self.step()?;
        }
        self.heal();
        let quiet = self.now();
        while !self.orders.is_empty() || self.oracle.difference().or_else(|| self.unreported()).is_some() {
            if self.now() - quiet > PATIENCE {
                let difference = self.oracle.difference().or_else(|| self.unreported());
                let difference = difference.unwrap_or_else(|| "a write is not answered".to_owned());
                return Err(format!("{PATIENCE:?} after the last fault, {difference}"));
            }
            self.step()?;
        }
        let took = self.now() - quiet;
        let agreed = self.now();
        while self.now() - agreed < LASTS {
            self.step()?;
            if let Some(difference) = self.oracle.difference() {
                return Err(format!("agreement did not last: {difference}"));
            }
        }
        let (took, count) = (took.as_secs_f64(), self.oracle.count());
        self.trace.line("end", format_args!("agreed {took:.3} s after the last fault on {count} resources"));
        Ok(())
    }

    fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    fn step(&mut self) -> Result<(), String> {
        self.sim.step().map_err(|error| format!("a machine failed: {error}"))?;
        self.hand.advance(TICK);
        self.trace.at(self.sim.elapsed());
        for (peer, known) in &self.peers {
            for deed in known.deeds() {
                self.trace.line(peer, deed);
            }
        }
        self.look()?;
        for (number, answer) in self.running.answers() {
            if self.orders.remove(&number).is_none() {
                continue;
            }
            match answer {
                Answer::Made => {
                    self.trace.line("user", format_args!("#{number} is written"));
                    self.answered(number, Some(true));
                }
                Answer::Refused(reason) => {
                    self.trace.line("user", format_args!("#{number} is refused: {reason}"));
                    self.answered(number, Some(false));
                }
                Answer::Unknown(reason) => {
                    self.trace.line("user", format_args!("#{number} may be written: {reason}"));
                    self.answered(number, None);
                }
            }
        }
        self.pass();
        Ok(())
    }

    /// Looks at every disk that was written.
    fn look(&mut self) -> Result<(), String> {
        for (of, site) in &mut self.disks {
            let commits = site.disk.commits();
            if commits == site.seen {
                continue;
            }
            site.seen = commits;
            let changes = self.oracle.look(of, &site.disk.resources())?;
            for change in changes {
                self.trace.line(&of.to_string(), change);
            }
        }
        Ok(())
    }

    /// A zone that refuses the global's Secret, and of whose refusal the global says nothing.
    fn unreported(&self) -> Option<String> {
        let resources = self.disks.get(&Author::Global)?.disk.resources();
        let refuses = |zone: &str| {
            let insight = resources.iter().find(|of| of.meta.key == Key::global(Kind::ZoneInsight, zone))?;
            let insight = insight.spec.message::<ZoneInsight>().ok()?;
            let status = |at: usize| insight.subscriptions.get(at)?.status.as_ref()?.stat.get(Kind::Secret.name());
            (0..insight.subscriptions.len())
                .any(|at| status(at).is_some_and(|of| of.responses_rejected > 0))
                .then_some(())
        };
        let keeps = self.machines.iter().filter(|machine| machine.keeps_secret).map(|machine| machine.of.to_string());
        let silent = keeps.into_iter().find(|zone| refuses(zone).is_none())?;
        Some(format!("the global counts no refusal of {silent}, which has a Secret of that name"))
    }

    /// What users do.
    fn users(&mut self) {
        if self.now() < self.next[0] {
            return;
        }
        self.next[0] = self.now() + Duration::from_millis(self.rng.u64(20..400));
        let at = self.rng.usize(..self.machines.len());
        if !self.running.is_up(&self.machines[at].name) {
            return;
        }
        if self.rng.u8(..12) == 0 {
            self.write_deposed(at);
        }
        match self.machines[at].of.clone() {
            Author::Global => match self.rng.u8(..20) {
                0..=1 => self.mesh(at),
                2 => self.enable(at),
                _ => self.policy(at),
            },
            zone => self.of_zone(at, zone),
        }
    }

    fn policy(&mut self, at: usize) {
        let mesh = if self.rng.u8(..4) == 0 { format!("mesh-{}", self.rng.u8(..2)) } else { MESH.to_owned() };
        let kind = OF_GLOBAL[self.rng.usize(..OF_GLOBAL.len())];
        let name = format!("g{}", self.rng.usize(..NAMES));
        let id = Id { author: Author::Global, kind, mesh: mesh.as_str().into(), name: name.into() };
        if self.oracle.is_calm(&mesh) {
            self.put_or_delete(at, &id);
        }
    }

    fn mesh(&mut self, at: usize) {
        let name: Arc<str> = format!("mesh-{}", self.rng.u8(..2)).into();
        if self.oracle.is_calm(&name) {
            self.put_or_delete(at, &Id { author: Author::Global, kind: Kind::Mesh, mesh: "".into(), name });
        }
    }

    fn of_zone(&mut self, at: usize, author: Author) {
        let kind = OF_ZONE[self.rng.usize(..OF_ZONE.len())];
        let mesh = if kind == Kind::ZoneIngress { "" } else { MESH };
        let name = format!("z{}", self.rng.usize(..NAMES));
        self.put_or_delete(at, &Id { author, kind, mesh: mesh.into(), name: name.into() });
    }

    fn put_or_delete(&mut self, at: usize, id: &Id) {
        let deletes = self.rng.u8(..10) < 4;
        match self.oracle.settled(id) {
            Some(Some(_)) => self.write(at, id, !deletes),
            Some(None) => self.write(at, id, true),
            None => {}
        }
    }

    /// Hands a write to a machine of its author.
    fn write(&mut self, at: usize, id: &Id, puts: bool) {
        self.last_number += 1;
        let number = self.last_number;
        let key = Key::new(id.kind, &id.mesh, &id.name);
        let batch = if puts { Batch::new().put(content::resource(id, number)) } else { Batch::new().remove(key) };
        let batch = match &*id.mesh {
            "" => batch,
            mesh => batch.require(Key::global(Kind::Mesh, mesh)),
        };
        let what = if puts { "writes" } else { "deletes" };
        let machine = self.machines[at].name.clone();
        self.oracle.ask(id, number, puts);
        self.trace.line(&machine, format_args!("user {what} {id} #{number}"));
        self.send(machine, number, batch);
    }

    /// Has a machine write what a leader before the present one would. Nobody is told of it: it must not be written.
    fn write_deposed(&mut self, at: usize) {
        let Machine { name, of, .. } = &self.machines[at];
        let Some(fence) = self.running.deposed(of) else { return };
        self.last_number += 1;
        let id = Id { author: of.clone(), kind: Kind::MeshTimeout, mesh: MESH.into(), name: "deposed".into() };
        let batch = Batch::new().put(content::resource(&id, self.last_number)).fenced(fence);
        let (name, number) = (name.clone(), self.last_number);
        self.trace.line(&name, format_args!("a deposed leader writes {id} #{number}"));
        self.send(name, number, batch);
    }

    fn send(&mut self, machine: String, number: u64, batch: Batch) {
        if self.running.order(&machine, Order { number, batch }) {
            self.orders.insert(number, machine);
        } else {
            self.answered(number, Some(false));
        }
    }

    /// Switches a zone on or off.
    fn enable(&mut self, at: usize) {
        let zones: Vec<Author> = self.disks.keys().filter(|of| **of != Author::Global).cloned().collect();
        let zone = zones[self.rng.usize(..zones.len())].clone();
        let on = self.rng.bool();
        // One at a time, so that the last one is known.
        if !self.switches.is_empty() {
            return;
        }
        self.last_number += 1;
        let number = self.last_number;
        let spec = Payload::from_message(&Zone { enabled: Some(on) });
        let resource = Resource::new(zone_key(&zone), Labels::default(), spec);
        let machine = self.machines[at].name.clone();
        self.trace.line(&machine, format_args!("user switches {zone} {} #{number}", if on { "on" } else { "off" }));
        self.oracle.doubt(&zone);
        self.switches.insert(number, (zone, on));
        self.send(machine, number, Batch::new().put(resource));
    }

    /// An order has its answer, or will have none (`made` is unknown then).
    fn answered(&mut self, number: u64, made: Option<bool>) {
        match made {
            Some(made) => self.oracle.answer(number, made),
            None => self.oracle.answer_lost(number),
        }
        let Some((zone, on)) = self.switches.remove(&number) else { return };
        let stored = || {
            let resources = self.disks.get(&Author::Global).map(|site| site.disk.resources()).unwrap_or_default();
            let zone = resources.into_iter().find(|resource| resource.meta.key == zone_key(&zone))?;
            zone.spec.message::<Zone>().ok()?.enabled
        };
        match made {
            Some(true) => self.oracle.enable(&zone, on),
            Some(false) => {}
            None => self.oracle.enable(&zone, stored().unwrap_or(true)),
        }
    }

    /// What goes wrong.
    fn misfortune(&mut self) -> Result<(), String> {
        if self.now() < self.next[1] {
            return Ok(());
        }
        self.next[1] = self.now() + Duration::from_millis(self.rng.u64(300..4_000));
        let at = self.rng.usize(..self.machines.len());
        let until = self.now() + Duration::from_millis(self.rng.u64(200..9_000));
        match self.rng.u8(..10) {
            0..=2 => self.cut(at, until),
            3 => self.cut_one_way(at, until),
            4..=6 => self.crash(at, until)?,
            7 => {
                let by = TimeDelta::seconds(self.rng.i64(-7_200..=7_200));
                self.trace.line(&self.machines[at].name, format_args!("clock jumps by {} s", by.num_seconds()));
                self.running.jump(&self.machines[at].name, by);
            }
            _ => self.trouble_disk(at, until),
        }
        Ok(())
    }

    /// A zone and a replica of the global, of which one is `at`.
    fn pair(&mut self, at: usize) -> [usize; 2] {
        let globals: Vec<usize> = self.places(|of| *of == Author::Global);
        let zones: Vec<usize> = self.places(|of| *of != Author::Global);
        let (other, is_global) = match self.machines[at].of {
            Author::Global => (&zones, true),
            Author::Zone(_) => (&globals, false),
        };
        let other = other[self.rng.usize(..other.len())];
        if is_global { [at, other] } else { [other, at] }
    }

    fn places(&self, picks: impl Fn(&Author) -> bool) -> Vec<usize> {
        (0..self.machines.len()).filter(|at| picks(&self.machines[*at].of)).collect()
    }

    /// Whether a fault is between two machines already: turmoil knows one per pair.
    fn is_cut(&self, pair: [usize; 2]) -> bool {
        self.faults.iter().any(|(_, fault)| match fault {
            Fault::Cut { between, .. } => *between == pair,
            Fault::CutOneWay { from, to, .. } => [*from, *to] == pair || [*to, *from] == pair,
            _ => false,
        })
    }

    fn cut(&mut self, at: usize, until: Duration) {
        let pair = self.pair(at);
        if self.is_cut(pair) {
            return;
        }
        let [a, b] = pair.map(|at| self.machines[at].name.clone());
        let ends = self.network.between(&a, &b);
        self.trace.line(&a, format_args!("cut from {b} until {:.3}", until.as_secs_f64()));
        self.sim.hold(a, b);
        self.faults.push((until, Fault::Cut { between: pair, ends, reset: self.now() + SILENCE }));
    }

    fn cut_one_way(&mut self, at: usize, until: Duration) {
        let pair = self.pair(at);
        if self.is_cut(pair) {
            return;
        }
        let [from, to] = if self.rng.bool() { pair } else { [pair[1], pair[0]] };
        let [a, b] = [from, to].map(|at| self.machines[at].name.clone());
        let ends = self.network.between(&a, &b);
        self.trace.line(&a, format_args!("is not heard by {b} until {:.3}", until.as_secs_f64()));
        self.sim.partition_oneway(a, b);
        self.faults.push((until, Fault::CutOneWay { from, to, ends, reset: self.now() + SILENCE }));
    }

    fn crash(&mut self, at: usize, until: Duration) -> Result<(), String> {
        let Machine { name, of, .. } = self.machines[at].clone();
        if !self.running.is_up(&name) {
            return Ok(());
        }
        self.trace.line(&name, format_args!("crashes until {:.3}", until.as_secs_f64()));
        self.sim.crash(name.as_str());
        self.running.gone(&name);
        let alone = self.machines.iter().filter(|machine| machine.of == of).count() == 1;
        if alone && self.rng.bool() {
            self.trace.line(&name, "loses power");
            if let Some(site) = self.disks.get(&of) {
                site.disk.lose_power();
            }
        }
        let lost: Vec<u64> = self.orders.iter().filter(|(_, machine)| **machine == name).map(|(n, _)| *n).collect();
        // What was committed just before is on the disk, told or not.
        self.look()?;
        for number in lost {
            self.orders.remove(&number);
            self.trace.line("user", format_args!("#{number} may be written"));
            self.answered(number, None);
        }
        self.faults.push((until, Fault::Down(at)));
        Ok(())
    }

    fn trouble_disk(&mut self, at: usize, until: Duration) {
        let (what, faults) = match self.rng.u8(..4) {
            0 => ("loses signals", Faults { signals: Signals::Lost, ..Faults::default() }),
            1 => {
                let by = Duration::from_millis(self.rng.u64(10..3_000));
                ("hears signals late", Faults { signals: Signals::Late(by), ..Faults::default() })
            }
            2 => {
                let latency = Duration::from_millis(self.rng.u64(10..150));
                ("has a slow disk", Faults { latency, ..Faults::default() })
            }
            _ => ("does not reach its disk", Faults { out_of_reach: true, ..Faults::default() }),
        };
        let machine = &self.machines[at];
        self.trace.line(&machine.name, format_args!("{what} until {:.3}", until.as_secs_f64()));
        machine.mount.set(faults);
        self.faults.push((until, Fault::Disk(at)));
    }

    /// Ends faults whose time has come, and breaks connections that were cut for too long.
    fn pass(&mut self) {
        let now = self.now();
        for (_, fault) in &mut self.faults {
            if let Fault::Cut { ends, reset, .. } | Fault::CutOneWay { ends, reset, .. } = fault
                && *reset <= now
            {
                self.network.reset(&std::mem::take(ends));
            }
        }
        let (over, on): (Vec<_>, Vec<_>) = self.faults.drain(..).partition(|(until, _)| *until <= now);
        self.faults = on;
        for (_, fault) in over {
            self.end(fault);
        }
    }

    fn end(&mut self, fault: Fault) {
        let name = |at: usize| self.machines[at].name.clone();
        match fault {
            Fault::Cut { between: [a, b], .. } => {
                self.trace.line(&name(a), format_args!("reaches {} again", name(b)));
                self.sim.release(name(a), name(b));
            }
            Fault::CutOneWay { from, to, ends, .. } => {
                self.trace.line(&name(from), format_args!("is heard by {} again", name(to)));
                self.sim.repair_oneway(name(from), name(to));
                // Turmoil does not send again what was dropped.
                self.network.reset(&ends);
                self.network.reset(&self.network.between(&name(from), &name(to)));
            }
            Fault::Down(at) => {
                self.trace.line(&name(at), "starts again");
                self.sim.bounce(name(at));
            }
            Fault::Disk(at) => {
                self.trace.line(&name(at), "has its disk back");
                self.machines[at].mount.set(Faults::default());
            }
        }
    }

    /// Ends everything that is wrong.
    fn heal(&mut self) {
        self.trace.line("quiet", "nothing goes wrong from now on");
        for (_, fault) in std::mem::take(&mut self.faults) {
            self.end(fault);
        }
    }
}

fn zone_key(zone: &Author) -> Key {
    Key::global(Kind::Zone, &zone.to_string())
}
