//! A global, its zones, and what can happen between them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use store::test_support::{Setup, TestPostgres};

use crate::network::{self, Cut, Network, TEST};
use crate::node::Node;
use crate::relay::Relay;
use crate::wait::eventually;
use crate::{programs, scenario};

/// Port of a global for its zones.
const KDS: u16 = 5685;
/// Machines that a certificate is made out to.
const MACHINES: u8 = 20;
/// For a zone to be in sync with its global after both are up, unoptimised and on a busy machine.
const JOIN: Duration = Duration::from_secs(30);

/// Everything, until it is dropped.
#[derive(Debug)]
pub struct World {
    network: Network,
    nodes: Vec<Node>,
    folder: PathBuf,
    relays: u16,
}

/// A PostgreSQL server that machines reach.
#[derive(Debug)]
pub struct Database {
    /// The server itself.
    pub server: TestPostgres,
    _way: Relay,
}

impl World {
    /// A network without machines, and a certificate for those to come.
    pub fn empty() -> Self {
        let folder = scenario::folder();
        let hosts: Vec<String> = (1..=MACHINES).map(|last| Ipv4Addr::new(10, 0, 0, last).to_string()).collect();
        let made = Command::new(programs::path("kumactl"))
            .args(["generate", "tls-certificate", "--type", "server", "--key-type", "ecdsa"])
            .args(["--hostname", &hosts.join(","), "--key-file", "key.pem", "--cert-file", "cert.pem"])
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Self { network: Network::new(), nodes: Vec::new(), folder, relays: 0 }
    }

    /// A global with these zones, all connected.
    pub async fn with_zones(zones: &[&str]) -> Self {
        let mut world = Self::empty();
        world.add_global("global", &[]);
        world.node_mut("global").start().await;
        for zone in zones {
            world.add_zone(zone, "global", &[]);
            world.give_token(zone, "global").await;
            world.node_mut(zone).start().await;
        }
        for zone in zones {
            world.wait_for_zone(zone, "global").await;
            world.wait_for_mesh(zone).await;
        }
        world
    }

    /// A machine for a global, which is not started.
    pub fn add_global(&mut self, name: &str, settings: &[&str]) {
        let certificate = ["Cert", "Key"].map(|part| {
            let file = self.folder.join(format!("{}.pem", part.to_lowercase()));
            format!("general.tls{part}File={}", file.display())
        });
        self.add(name, "kuma-global", &[&certificate.each_ref().map(String::as_str)[..], settings].concat());
    }

    /// A machine for a zone of the same name, which follows a global and is not started.
    pub fn add_zone(&mut self, name: &str, global: &str, settings: &[&str]) {
        let address = SocketAddr::from((self.node(global).address(), KDS));
        let zone = [
            format!("multizone.zone.name={name}"),
            format!("multizone.zone.globalAddress=grpcs://{address}"),
            format!("multizone.zone.kds.rootCaFile={}", self.folder.join("cert.pem").display()),
        ];
        self.add(name, "kuma-zone", &[&zone.each_ref().map(String::as_str)[..], settings].concat());
    }

    /// A machine for a zone that follows nobody, which is not started.
    pub fn add_zone_alone(&mut self, name: &str) {
        self.add(name, "kuma-zone", &[&format!("multizone.zone.name={name}")]);
    }

    fn add(&mut self, name: &str, program: &'static str, settings: &[&str]) {
        let address = self.network.machine(name);
        let mut node = Node::new(name, program, address, self.folder.join(name));
        node.set(settings);
        self.nodes.push(node);
    }

    /// Issues a token for a zone, which reads it at each connect.
    pub async fn give_token(&mut self, zone: &str, global: &str) {
        let arguments = ["generate", "zone-token", "--zone", zone, "--scope", "cp", "--valid-for", "24h"];
        let mut told = None;
        // The key to sign with is made after the first start, beside everything else.
        eventually(JOIN, &format!("{global} signs tokens"), async || {
            told = Some(self.node(global).kumactl(&arguments).await);
            told.as_ref().is_some_and(|told| told.code == 0)
        })
        .await;
        self.put_token(zone, &told.unwrap().ok());
    }

    /// Gives a zone a token, whatever it is.
    pub fn put_token(&mut self, zone: &str, token: &str) {
        let file = self.node(zone).folder().join("token");
        fs::write(&file, token).unwrap();
        self.node_mut(zone).set([format!("multizone.zone.kds.auth.cpTokenPath={}", file.display())]);
    }

    /// Has a zone follow a global, from its next start.
    pub fn follow(&mut self, zone: &str, global: SocketAddr) {
        let certificate = self.folder.join("cert.pem");
        self.node_mut(zone).set([
            format!("multizone.zone.globalAddress=grpcs://{global}"),
            format!("multizone.zone.kds.rootCaFile={}", certificate.display()),
        ]);
    }

    /// Where a global waits for zones.
    pub fn kds_of(&self, global: &str) -> SocketAddr {
        (self.node(global).address(), KDS).into()
    }

    /// A database server, and the settings with which globals use it.
    ///
    /// # Errors
    /// Why there can be none here.
    pub async fn database(&self) -> Result<(Database, Vec<String>), String> {
        let server = TestPostgres::start(Setup { fsync: true, inside: None })
            .map_err(|error| format!("PostgreSQL cannot run in here: {error}"))?;
        let settings = server.settings("postgres");
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, settings.port));
        let way = Relay::start(settings.port, vec![local]).await;
        let keys = vec![
            "store.type=postgres".to_owned(),
            format!("store.postgres.host={TEST}"),
            format!("store.postgres.port={}", settings.port),
            format!("store.postgres.user={}", settings.user),
            "store.postgres.password=none".to_owned(),
            format!("store.postgres.dbName={}", settings.db_name),
        ];
        Ok((Database { server, _way: way }, keys))
    }

    /// A relay to globals, of which the first that answers is taken.
    pub async fn relay(&mut self, globals: &[&str]) -> Relay {
        self.relays += 1;
        Relay::start(KDS + self.relays, globals.iter().map(|global| self.kds_of(global)).collect()).await
    }

    /// The global of a world that has one.
    pub fn global(&self) -> &Node {
        self.node("global")
    }

    /// A zone by the name of its machine.
    pub fn zone(&self, name: &str) -> &Node {
        self.node(name)
    }

    /// A machine.
    #[track_caller]
    pub fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name() == name).unwrap_or_else(|| panic!("no machine {name}"))
    }

    /// A machine, to start, stop or set it.
    #[track_caller]
    pub fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.name() == name).unwrap_or_else(|| panic!("no machine {name}"))
    }

    /// Packets of a machine vanish.
    pub fn cut(&self, machine: &str, cut: Cut) {
        network::cut(machine, cut);
    }

    /// So many of a hundred packets vanish, in each direction.
    pub fn loss(&self, machine: &str, percent: u8) {
        network::loss(machine, percent);
    }

    /// All packets pass again.
    pub fn heal(&self, machine: &str) {
        network::heal(machine);
    }

    /// The power of a machine fails: its program and all its connections are gone, and nobody is told. Then it is back,
    /// with its disk.
    pub fn power_fails(&mut self, machine: &str) {
        self.network.pull_out(machine);
        self.node_mut(machine).kill();
        self.network.plug_in(machine);
    }

    /// Whether a global has a zone on record as connected.
    pub async fn is_online(&self, zone: &str, global: &str) -> bool {
        let insight = self.node(global).get(&format!("/zone-insights/{zone}")).await.body;
        let subscriptions = insight["subscriptions"].as_array();
        subscriptions.into_iter().flatten().any(|subscription| subscription["disconnectTime"] == Value::Null)
    }

    /// Whether a zone takes updates.
    pub async fn is_connected(&self, zone: &str) -> bool {
        self.node(zone).metric("kds_zone_connected", &[]).await > 0.0
    }

    /// Waits until both ends of a zone's connection see it.
    pub async fn wait_for_zone(&self, zone: &str, global: &str) {
        eventually(JOIN, &format!("{zone} and {global} are connected"), async || {
            self.is_connected(zone).await && self.is_online(zone, global).await
        })
        .await;
    }

    /// Waits until a node has the mesh that a global makes at its first start.
    pub async fn wait_for_mesh(&self, node: &str) {
        let what = format!("{node} has a mesh");
        eventually(JOIN, &what, async || self.node(node).get("/meshes/default").await.status == 200).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.nodes.iter().for_each(Node::print_log);
        }
    }
}
